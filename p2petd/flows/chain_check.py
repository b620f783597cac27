"""Verifying transactions under uniqueness-only notaries, which vouch for nothing but that a state is consumed once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError
from p2pet.ledger.v1.chain_pb2 import ChainTransaction
from p2pet.ledger.v1.transaction_pb2 import Proposal as ProposalMessage
from p2pet.store.v1.store_pb2 import TransactionRow

from p2petd import native
from p2petd.contracts.registry import installed
from p2petd.contracts.registry import verify as verify_contracts
from p2petd.errors import (
    HistoryCyclic,
    HistoryForged,
    HistoryForked,
    HistoryMissing,
    LockWrong,
    NodeError,
    TransactionRefused,
)
from p2petd.ledger.groups import Group, TransactionType
from p2petd.ledger.parameters import ContractParameters
from p2petd.ledger.refs import StateRef
from p2petd.ledger.resolved import AttachmentReader, LedgerTransaction, OutputState, transaction_type
from p2petd.store.changes import Reader
from p2petd.vault.ancestry import Ancestry, Row, ancestor_rows


@dataclass(frozen=True, slots=True)
class Link:
    """A transaction of a history with its proof; nothing is verified, but that `id` is the id of these bytes.

    `parents` are the transactions whose history its own rests on.
    """

    id: bytes
    parents: tuple[bytes, ...]
    attachments: tuple[bytes, ...]
    signed_transaction: bytes
    finality_proof: bytes

    @staticmethod
    def read(entry: ChainTransaction, ancestry: Ancestry) -> "Link":
        """Raises HistoryForged for bytes that are no transaction."""
        try:
            decoded = native.Transaction.decode(ProposalMessage.FromString(entry.signed_transaction).transaction)
            groups = decoded.groups
            parents = ancestry.parents_of(groups)
        except (DecodeError, native.MalformedError) as error:
            raise HistoryForged(f"a transaction of the history does not decode: {error}") from error
        return Link(
            decoded.id, parents, tuple(groups[Group.ATTACHMENTS]), entry.signed_transaction, entry.finality_proof
        )


@dataclass(frozen=True)
class ChainVerifier:
    """What verifying a history takes. From any thread."""

    rules: native.Rules
    ancestry: Ancestry
    parameters: Mapping[bytes, ContractParameters]
    in_force: Callable[[bytes, int], bool]
    attachment: AttachmentReader

    def verify(self, links: Sequence[Link], vault: Reader | None = None) -> list[Row]:
        """The rows to keep of these transactions, each of which comes after its parents.

        1. Each is final: steps 2 to 7 of docs/protocol.md, section 6; the parameters that it cites were in force when
           it was decided, unless it is a notary change. Else HistoryForged.
        2. The states that it consumes and reads are outputs of verified transactions; else HistoryMissing.
        3. No other verified transaction consumes one of them; else HistoryForked.
        4. Under a uniqueness-only notary it passes the platform checks for these states, and all contracts accept it;
           a verifying notary has seen to that. Else HistoryForged.
        5. Every output lock is the one of the output's owner; else LockWrong.
        """
        checked = [self._final(link, verdict) for link, verdict in zip(links, self._finals(links), strict=True)]
        made = {entry.id: entry.groups[Group.OUTPUTS] for entry in checked}
        spent: dict[bytes, bytes] = {}
        unseen = []
        for link, entry in zip(links, checked, strict=True):
            if self.ancestry.is_unseen(entry.groups):
                inputs, references = (
                    [self._output(ref, made, vault) for ref in entry.groups[group]]
                    for group in (Group.INPUTS, Group.REFERENCES)
                )
                self._check_unspent(entry, spent)
                unseen.append((link.signed_transaction, inputs, references))
        for verdict in self.rules.check_resolved(unseen, True):
            self._accept(_passed(verdict))
        rows: list[Row] = []
        for link, entry in zip(links, checked, strict=True):
            check_locks(entry.groups, _salt(link.signed_transaction))
            row = TransactionRow(signed_transaction=link.signed_transaction, finality_proof=link.finality_proof)
            inputs = entry.groups[Group.INPUTS] if self.ancestry.is_unseen(entry.groups) else []
            rows += ancestor_rows(entry.id, link.parents, inputs, row)
        return rows

    def check_proposal(self, proposal: bytes, groups: Sequence[Sequence[bytes]], complete: bool) -> native.Checked:
        """The platform checks and signatures of a proposal whose history is verified. Raises TransactionRefused."""
        states = [[self._output(ref, {}, None) for ref in groups[g]] for g in (Group.INPUTS, Group.REFERENCES)]
        (verdict,) = self.rules.check_resolved([(proposal, states[0], states[1])], complete)
        if isinstance(verdict, native.Refusal):
            raise TransactionRefused(verdict.code, verdict.message, tuple(verdict.missing_keys))
        return verdict

    def _finals(self, links: Sequence[Link]) -> Sequence[native.Checked | native.Refusal]:
        return self.rules.check_finals([(link.signed_transaction, link.finality_proof) for link in links])

    def _final(self, link: Link, verdict: native.Checked | native.Refusal) -> native.Checked:
        entry = _passed(verdict)
        assert entry.id == link.id
        decided_at_ns = native.finality_summary(link.finality_proof)[4]
        general = transaction_type(entry.groups) is TransactionType.GENERAL
        if general and not self.in_force(entry.groups[Group.PARAMETERS][0], decided_at_ns):
            raise HistoryForged(f"the transaction {link.id.hex()} cites parameters that were not in force")
        return entry

    def _output(self, ref: bytes, made: Mapping[bytes, Sequence[bytes]], vault: Reader | None) -> bytes:
        state = StateRef.decode(ref)
        outputs = made.get(state.transaction_id)
        if outputs is None:
            component = self.ancestry.output(ref, vault)
        else:
            component = outputs[state.index] if state.index < len(outputs) else None
        if component is None:
            raise HistoryMissing(f"the state {state} is no output of a verified transaction")
        return component

    def _check_unspent(self, entry: native.Checked, spent: dict[bytes, bytes]) -> None:
        for ref in entry.groups[Group.INPUTS]:
            other = spent.setdefault(ref, entry.id)
            consumer = self.ancestry.consumer(ref) if other == entry.id else other
            if consumer not in (None, entry.id):
                raise HistoryForked(
                    f"the state {StateRef.decode(ref)} is consumed by {entry.id.hex()} and by {(consumer or b'').hex()}"
                )

    def _accept(self, entry: native.Checked) -> None:
        cited = entry.groups[Group.PARAMETERS][0]
        try:
            verify_contracts(LedgerTransaction.from_checked(entry, self.parameters[cited], self.attachment))
        except NodeError as error:
            raise HistoryForged(f"{entry.id.hex()}: {error.code}: {error.message}") from error


def check_locks(groups: Sequence[Sequence[bytes]], salt: bytes) -> None:
    """Returns when every lock is its output's owner's; that there are as many as there must be is checked elsewhere.

    Raises LockWrong.
    """
    for index, (component, lock) in enumerate(zip(groups[Group.OUTPUTS], groups[Group.OUTPUT_LOCKS], strict=False)):
        try:
            owner, _ = installed().parties(OutputState.decode(component))
            expected = native.lock_of(owner, salt, index)
        except (NodeError, native.NativeError) as error:
            raise LockWrong(f"output {index} has no owner with an Ed25519 key: {error}") from error
        if lock != expected:
            raise LockWrong(f"the lock of output {index} is not its owner's")


def _passed(verdict: native.Checked | native.Refusal) -> native.Checked:
    if isinstance(verdict, native.Refusal):
        raise HistoryForged(f"a transaction of the history is refused: {verdict.code}: {verdict.message}")
    return verdict


def _salt(signed_transaction: bytes) -> bytes:
    return native.Transaction.decode(ProposalMessage.FromString(signed_transaction).transaction).salt


def oldest_first(links: Mapping[bytes, Link]) -> list[Link]:
    """The links with every one after its parents among them. Raises HistoryCyclic when they name each other."""
    waiting = {link.id: sum(parent in links for parent in link.parents) for link in links.values()}
    children: dict[bytes, list[bytes]] = {}
    for link in links.values():
        for parent in link.parents:
            children.setdefault(parent, []).append(link.id)
    ready = [identifier for identifier, count in waiting.items() if count == 0]
    ordered = []
    while ready:
        identifier = ready.pop()
        ordered.append(links[identifier])
        for child in children.get(identifier, ()):
            waiting[child] -= 1
            if waiting[child] == 0:
                ready.append(child)
    if len(ordered) < len(links):
        count = len(links) - len(ordered)
        raise HistoryCyclic(f"{count} transactions of the history name each other in a circle")
    return ordered
