"""What a flow leaves behind that ends before the notary has decided: its transactions in flight, followed by others."""

from collections.abc import Callable, Sequence
from hashlib import sha256

from p2pet.flows.v1.arguments_pb2 import LedgerSettleArguments
from p2pet.flows.v1.flows_pb2 import FlowStatus
from p2pet.store.v1.store_pb2 import FlowRow

from p2petd.errors import NodeError
from p2petd.flows.flow_in_flight import InFlight
from p2petd.flows.registry import FlowDefinition, FlowRegistry
from p2petd.flows.run import Run
from p2petd.store.changes import Changes, Reader
from p2petd.store.tables import FLOW_ID_BYTES
from p2petd.units import TimeNs
from p2petd.vault.locks import SoftLocks

SETTLE = "ledger.settle"


class Settling:
    """Starts a flow of the node's own for each transaction that a flow has signed and that may still become final."""

    def __init__(self, store: Reader, registry: FlowRegistry, locks: SoftLocks, clock: Callable[[], TimeNs]) -> None:
        self._store = store
        self._registry = registry
        self._locks = locks
        self._clock = clock

    def take_over(
        self, changes: Changes, run: Run, begin: Callable[[bytes, FlowRow, FlowDefinition], Run]
    ) -> list[bytes]:
        """The ids of the run's transactions in flight; each is followed by a flow from now on, which holds what is
        reserved for it.

        Whose flow that is follows from the transaction, so that it is begun once. Raises UnknownFlow when there is no
        such flow, FlowCodeChanged when the network parameters of the run are not here; nothing has changed then.
        """
        in_flight = changes.in_flight(self._store, run.flow_id)
        if not in_flight:
            return []
        definition = self._registry.get(SETTLE, 0)
        for key, row in in_flight.items():
            heir = settle_flow_id(key)
            inputs = InFlight.read(row).draft.inputs
            # First: it may refuse, and then nothing has changed hands.
            begin(heir, self._row(run, definition, key), definition)
            self._locks.hand_over(changes, run.flow_id, heir, [ref.encode() for ref in inputs])
        return [key[FLOW_ID_BYTES:] for key in in_flight]

    def has_left(self, changes: Changes, flow_id: bytes) -> bool:
        """Whether something that a flow has signed, which has ended, is not decided yet."""
        return bool(changes.in_flight(self._store, flow_id))

    def is_undecided(self, changes: Changes, run: Run) -> bool:
        """Whether the run is one of these flows and still does not know what became of its transaction."""
        if run.row.flow != SETTLE or run.is_responder:
            return False
        key = LedgerSettleArguments.FromString(run.row.input).in_flight
        return key in changes.in_flight(self._store, key[:FLOW_ID_BYTES])

    def _row(self, run: Run, definition: FlowDefinition, key: bytes) -> FlowRow:
        return FlowRow(
            flow=definition.name,
            version=definition.version,
            input=LedgerSettleArguments(in_flight=key).SerializeToString(),
            entropy=sha256(b"settle" + run.row.entropy + key).digest(),
            started_at_ns=self._clock(),
            status=FlowStatus.FLOW_STATUS_RUNNING,
            parameters_hash=run.row.parameters_hash,
        )


def settle_flow_id(key: bytes) -> bytes:
    """The id of the flow that follows a transaction in flight, by its key in the table."""
    return sha256(b"settle" + key).digest()[:FLOW_ID_BYTES]


def in_words(error: NodeError, in_flight: Sequence[bytes]) -> str:
    """Why a flow has failed, and what may happen all the same: who reads it must not take that for undone."""
    if not in_flight:
        return error.message
    left = ", ".join(transaction_id.hex() for transaction_id in in_flight)
    return f"{error.message}; what it has signed may still become final: {left}"
