"""A flow's side of the vault: reserving what it spends, recording what became final."""

from collections.abc import Callable, Sequence

from p2pet.store.v1.store_pb2 import StateRow, TransactionRow

from p2petd import native
from p2petd.errors import FlowError, TransactionNotFound
from p2petd.flows.flow_history import FlowHistory
from p2petd.flows.requests import LocalStep
from p2petd.flows.services import FlowServices, RunView
from p2petd.ledger.proposal import Proposal
from p2petd.ledger.refs import StateRef
from p2petd.ledger.transaction import Draft
from p2petd.store.changes import Latest, Reader
from p2petd.store.tables import Table
from p2petd.vault.locks import SoftLocks
from p2petd.vault.parties import takes_part
from p2petd.vault.recording import record_final
from p2petd.vault.selection import Coin, select


class FlowVault:
    """Changes go into the batch that is running; reservations end with the flow."""

    def __init__(self, services: FlowServices, run: RunView, history: FlowHistory) -> None:
        self._services = services
        self._run = run
        self._history = history

    async def lock(self, name: str, bucket: bytes, amount: int, what: str, notary: bytes = b"") -> tuple[Coin, ...]:
        """Reserve unconsumed states of `bucket` worth at least `amount`, all guarded by one notary, until the flow
        ends; all or none. With a `notary` only those that it guards.

        `name` is the step's in the journal. Raises InsufficientFunds naming the shortfall of `what`.
        """
        inputs_max = self._services.parameters.inputs_max
        return await self.lock_chosen(
            name, lambda store, locks: select(store, locks, bucket, amount, inputs_max, what, notary)
        )

    async def lock_chosen(self, name: str, choose: Callable[[Reader, SoftLocks], Sequence[Coin]]) -> tuple[Coin, ...]:
        """Reserve what `choose` picks of the unreserved states, until the flow ends. Raises what it raises."""

        chosen: list[Coin] = []

        def hold() -> bytes:
            services = self._services
            chosen.extend(choose(services.store, services.locks))
            services.locks.lock(self._run.changes(), self._run.flow_id, [coin.ref for coin in chosen])
            return b"".join(coin.ref.encode() for coin in chosen)

        refs = await LocalStep(name, hold)
        return tuple(chosen) or self._load(refs)

    async def lock_state(self, name: str, ref: StateRef) -> Coin:
        """Reserve this one state until the flow ends. Raises FlowError when it is not held, consumed or reserved."""

        def choose(store: Reader, locks: SoftLocks) -> Sequence[Coin]:
            row = store.get(Table.STATE, ref.encode())
            if row is None:
                raise FlowError(f"this node does not hold the state {ref}")
            if StateRow.FromString(row).consumed_by:
                raise FlowError(f"the state {ref} is consumed")
            if locks.is_locked(ref.encode()):
                raise FlowError(f"another flow has reserved the state {ref}; try again when it has ended")
            return (Coin.load(store, ref),)

        (coin,) = await self.lock_chosen(name, choose)
        return coin

    async def known(self, name: str, choose: Callable[[Reader], Sequence[Coin]]) -> tuple[Coin, ...]:
        """States to refer to, as `choose` picks them, without reserving them; a replay gets the same."""

        chosen: list[Coin] = []

        def find() -> bytes:
            chosen.extend(choose(self._services.store))
            return b"".join(coin.ref.encode() for coin in chosen)

        refs = await LocalStep(name, find)
        return tuple(chosen) or self._load(refs)

    def _load(self, refs: bytes) -> tuple[Coin, ...]:
        store = self._services.store
        return tuple(Coin.load(store, StateRef.decode(refs[at : at + 36])) for at in range(0, len(refs), 36))

    async def reserve(self, name: str, refs: Sequence[StateRef]) -> None:
        """Reserve states of somebody else that this flow was offered, until it ends.

        Raises FlowError when another flow was offered one of them: a coin pays once.
        """

        def hold() -> bytes:
            locks = self._services.locks
            if len(set(refs)) != len(refs) or any(locks.is_locked(ref.encode()) for ref in refs):
                raise FlowError("an offered state stands in another offer that is still open")
            locks.lock(self._run.changes(), self._run.flow_id, refs)
            return b""

        await LocalStep(name, hold)

    def record(self, transaction_id: bytes, groups: Sequence[Sequence[bytes]], signed: bytes, proof: bytes) -> None:
        """Put a final transaction into the vault with this batch; recording it again changes nothing.

        Raises HistoryMissing under a uniqueness-only notary, when what stands behind it is not verified here.
        """
        services = self._services
        self._history.record(transaction_id, groups)
        record_final(
            self._run.changes(),
            services.store,
            services.identity,
            transaction_id,
            groups,
            signed,
            proof,
            services.clock(),
        )

    def has_recorded(self, transaction_id: bytes) -> bool:
        """Whether the vault holds the transaction, also when this batch records it."""
        services = self._services
        return Latest(services.store, self._run.changes()).get(Table.TRANSACTION, transaction_id) is not None

    def final(self, transaction_id: bytes) -> tuple[bytes, bytes]:
        """The signed transaction and the finality proof of a recorded transaction, also when this batch records it.

        Raises TransactionNotFound.
        """
        row = Latest(self._services.store, self._run.changes()).get(Table.TRANSACTION, transaction_id)
        if row is None:
            raise TransactionNotFound(f"the vault holds no transaction {transaction_id.hex()}")
        kept = TransactionRow.FromString(row)
        return kept.signed_transaction, kept.finality_proof

    def has_all_signatures(self, draft: Draft) -> bool:
        """Whether the recorded transaction is kept with all signatures that it needs. Raises TransactionNotFound."""
        signed = [signature.key for signature in Proposal.decode(self.final(draft.id)[0]).signatures]
        return all(native.key_is_satisfied(key, signed) for key in draft.signer_keys.values())

    def takes_part(self, groups: Sequence[Sequence[bytes]]) -> bool:
        """Whether a transaction is for this vault (`p2petd.vault.parties`). Raises MalformedTransaction."""
        services = self._services
        return takes_part(groups, services.identity, Latest(services.store, self._run.changes()))

    def holds(self, ref: StateRef) -> bool:
        """Whether this vault has, or had, the state."""
        return self._services.store.get(Table.STATE, ref.encode()) is not None

    def input_proof(self, ref: StateRef) -> bytes:
        """The `ledger.v1.InputProof` of a state that this vault holds, also when this batch has added it."""
        latest = Latest(self._services.store, self._run.changes())
        return Coin.load(latest, ref).proof(latest)
