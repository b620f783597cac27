"""A flow's side of the vault: reserving what it spends, recording what became final."""

from collections.abc import Sequence

from p2petd.errors import FlowError
from p2petd.flows.requests import LocalStep
from p2petd.flows.services import FlowServices, RunView
from p2petd.ledger.refs import StateRef
from p2petd.store.tables import Table
from p2petd.vault.recording import record_final
from p2petd.vault.selection import Coin, select


class FlowVault:
    """Changes go into the batch that is running; reservations end with the flow."""

    def __init__(self, services: FlowServices, run: RunView) -> None:
        self._services = services
        self._run = run

    async def lock(self, name: str, bucket: bytes, amount: int, what: str) -> tuple[Coin, ...]:
        """Reserve unconsumed states of `bucket` worth at least `amount`, all or none, until the flow ends.

        `name` is the step's in the journal. Raises InsufficientFunds naming the shortfall of `what`.
        """

        def choose() -> bytes:
            services = self._services
            coins = select(services.store, services.locks, bucket, amount, services.parameters.inputs_max, what)
            services.locks.lock(self._run.changes(), self._run.flow_id, [coin.ref for coin in coins])
            return b"".join(coin.ref.encode() for coin in coins)

        refs = await LocalStep(name, choose)
        return tuple(
            Coin.load(self._services.store, StateRef.decode(refs[at : at + 36])) for at in range(0, len(refs), 36)
        )

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
        """Put a final transaction into the vault with this batch; recording it again changes nothing."""
        services = self._services
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

    def holds(self, ref: StateRef) -> bool:
        """Whether this vault has, or had, the state."""
        return self._services.store.get(Table.STATE, ref.encode()) is not None

    def input_proof(self, ref: StateRef) -> bytes:
        """The `ledger.v1.InputProof` of a state that this vault holds."""
        return Coin.load(self._services.store, ref).proof(self._services.store)
