"""A flow under uniqueness-only notaries: locks and their keys, and the histories that stand for a notary's checks."""

from collections.abc import Sequence

from p2petd import native
from p2petd.contracts.registry import installed
from p2petd.errors import FlowError, HistoryMissing, HistoryUnavailable
from p2petd.flows.backchain import RESOLVE, read_outcome, resolve_request
from p2petd.flows.chain_check import Link, check_locks
from p2petd.flows.requests import CallService, LocalStep, Pause
from p2petd.flows.services import FlowServices, RunView
from p2petd.ledger.groups import DIGEST_BYTES, Group
from p2petd.ledger.proposal import Proposal
from p2petd.ledger.refs import StateRef
from p2petd.ledger.resolved import OutputState
from p2petd.ledger.transaction import Draft, TransactionBuilder
from p2petd.network.parameters import NotaryMode
from p2petd.store.changes import Latest
from p2petd.store.tables import Table
from p2petd.units import SECOND_NS
from p2petd.vault.ancestry import grant_key, mark_verified

RETRY_NS = 5 * SECOND_NS


class FlowHistory:
    """What a party does where the notary does not see what a transaction says."""

    def __init__(self, services: FlowServices, run: RunView) -> None:
        self._services = services
        self._run = run
        self._ancestry = services.chains.ancestry

    def is_unseen(self, groups: Sequence[Sequence[bytes]]) -> bool:
        """Whether a uniqueness-only notary decides the transaction."""
        return self._ancestry.is_unseen(groups)

    def build(self, builder: TransactionBuilder, salt: bytes) -> Draft:
        """The draft, with the locks of its outputs' owners where its notary is uniqueness-only.

        Raises what the builder raises, MalformedTransaction for an owner that can have no lock.
        """
        if not self._is_unseeing(builder.notary):
            return builder.build(salt)
        owners = [installed().parties(OutputState.decode(component))[0] for component in builder.outputs]
        return builder.build(salt, owners)

    # Sending.

    def grant(self, peer: bytes, root: bytes, heads: Sequence[bytes]) -> None:
        """From the batch on that is running, `peer` may ask for these transactions and all behind them."""
        if not self._run.replaying():
            self._run.changes().put(Table.GRANT, grant_key(peer, root), b"".join(heads))

    def grant_proposal(self, peer: bytes, groups: Sequence[Sequence[bytes]], root: bytes) -> None:
        """The same for what stands behind a transaction that is not final; nothing under a verifying notary."""
        if self.is_unseen(groups):
            self.grant(peer, root, self._ancestry.parents_of(groups))

    def grant_states(self, peer: bytes, notary: bytes, refs: Sequence[StateRef]) -> None:
        """The same for what made these states, which stand in an offer; nothing under a verifying notary."""
        if self._is_unseeing(notary):
            for creator in {ref.transaction_id for ref in refs}:
                self.grant(peer, creator, (creator,))

    def unlocks(self, draft: Draft) -> list[bytes]:
        """For each input a signature by the key of its lock; empty for one that this node does not own."""
        services = self._services
        signatures = []
        for ref in draft.inputs:
            final, component = self._final(ref.transaction_id), self._ancestry.output(ref.encode(), self._vault())
            if component is None or installed().parties(OutputState.decode(component))[0] != services.identity:
                signatures.append(b"")
                continue
            salt = native.Transaction.decode(Proposal.decode(final[0]).transaction).salt
            signatures.append(services.key.unlock(services.network_id, salt, ref.index, draft.id))
        return signatures

    def uniqueness_proposal(self, draft: Draft, theirs: Sequence[bytes]) -> bytes:
        """What the notary gets. `theirs` are the other parties' unlock signatures, as `unlocks` gives them.

        Raises FlowError when an input stays locked.
        """
        signatures = [own or other for own, other in zip(self.unlocks(draft), _padded(theirs, draft), strict=True)]
        if not all(signatures):
            raise FlowError("an input of the transaction is not unlocked by its owner")
        proofs = []
        for ref in (*draft.inputs, *draft.references):
            signed, proof = self._final(ref.transaction_id)
            proofs.append(native.lock_proof(Proposal.decode(signed).transaction, ref.index, proof))
        return native.uniqueness_proposal(draft.transaction, proofs, signatures)

    # Receiving.

    async def resolve(self, peer: bytes, root: bytes, wanted: Sequence[bytes], *, patient: bool = False) -> None:
        """The wanted transactions and all behind them are verified here afterwards; `peer` hands out what lacks.

        Journaled. Raises HistoryError; a patient one waits for a peer that does not answer.
        """
        ancestry = self._ancestry
        vault = self._vault()
        # What is missing is decided once, so that a replay takes the same steps when it is here at last.
        missing = await LocalStep("history", lambda: b"".join(i for i in wanted if not ancestry.knows(i, vault)))
        identifiers = [missing[at : at + DIGEST_BYTES] for at in range(0, len(missing), DIGEST_BYTES)]
        if not identifiers:
            return
        self._run.progress("verifying the history")
        request = resolve_request(peer, root, identifiers)
        while True:
            try:
                read_outcome(await CallService(self._services.identity, RESOLVE, request))
                return
            except HistoryUnavailable:
                if not patient:
                    raise
            until = await LocalStep("ask again at", lambda: (self._services.clock() + RETRY_NS).to_bytes(8))
            await Pause(int.from_bytes(until))

    async def resolve_states(self, peer: bytes, notary: bytes, refs: Sequence[StateRef]) -> None:
        """`resolve` for states that `peer` has offered; nothing under a verifying notary."""
        if self._is_unseeing(notary):
            for creator in sorted({ref.transaction_id for ref in refs}):
                await self.resolve(peer, creator, (creator,))

    async def check_proposal(self, proposal: bytes, draft: Draft, peer: bytes, *, complete: bool) -> native.Checked:
        """Like a verifying notary's checks of a proposal, for what stands behind it: resolved from `peer`.

        Raises HistoryError, TransactionRefused.
        """
        await self.resolve(peer, draft.id, self._ancestry.parents_of(draft.groups))
        return self._services.chains.check_proposal(proposal, draft.groups, complete)

    def check_locks(self, draft: Draft) -> None:
        """Every output that has a lock has its owner's. Raises LockWrong."""
        check_locks(draft.groups, native.Transaction.decode(draft.transaction).salt)

    async def check_final(self, peer: bytes, checked: native.Checked, signed: bytes, proof: bytes) -> None:
        """A final transaction under a uniqueness-only notary, with its whole history. Raises HistoryError."""
        parents = self._ancestry.parents_of(checked.groups)
        await self.resolve(peer, checked.id, parents, patient=True)
        if not self._run.replaying():
            link = Link(checked.id, parents, tuple(checked.groups[Group.ATTACHMENTS]), signed, proof)
            self._services.chains.verify([link], self._vault())

    def record(self, transaction_id: bytes, groups: Sequence[Sequence[bytes]]) -> None:
        """Mark a transaction that this node records as verified with its history. Raises HistoryMissing."""
        if not self.is_unseen(groups) or self._services.store.get(Table.PARENTS, transaction_id) is not None:
            return
        parents, vault = self._ancestry.parents_of(groups), self._vault()
        for parent in parents:
            if not self._ancestry.knows(parent, vault):
                raise HistoryMissing(f"the transaction {parent.hex()} behind {transaction_id.hex()} is not verified")
        mark_verified(self._run.changes(), transaction_id, parents, groups[Group.INPUTS])

    def _is_unseeing(self, notary: bytes) -> bool:
        return self._services.parameters.mode_of(notary) is NotaryMode.UNIQUENESS_ONLY

    def _final(self, transaction_id: bytes) -> tuple[bytes, bytes]:
        row = self._ancestry.final(transaction_id, self._vault())
        if row is None:
            raise HistoryMissing(f"the transaction {transaction_id.hex()} is not verified here")
        return row.signed_transaction, row.finality_proof

    def _vault(self) -> Latest:
        return Latest(self._services.store, self._run.changes())


def _padded(theirs: Sequence[bytes], draft: Draft) -> Sequence[bytes]:
    return theirs if theirs else [b""] * len(draft.inputs)
