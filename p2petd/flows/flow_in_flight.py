"""What a flow has signed and the notary has not decided yet: rows that outlive the flow, if somebody ends it."""

from dataclasses import dataclass

from p2pet.notary.v1.notary_pb2 import NotarisationRequest
from p2pet.store.v1.store_pb2 import InFlightRow

from p2petd.flows.services import FlowServices, RunView
from p2petd.ledger.proposal import Proposal
from p2petd.ledger.transaction import Draft
from p2petd.store.changes import Latest
from p2petd.store.tables import Table


@dataclass(frozen=True)
class InFlight:
    """A transaction in flight, read back. `signed` has no input proofs, and the signatures that are here."""

    draft: Draft
    signed: Proposal
    row: InFlightRow

    @staticmethod
    def read(data: bytes) -> "InFlight":
        """Raises MalformedTransaction."""
        row = InFlightRow.FromString(data)
        signed = row.signed_transaction or NotarisationRequest.FromString(row.request).proposal
        proposal = Proposal.decode(signed)
        return InFlight(Draft.decode(proposal.transaction), Proposal(proposal.transaction, proposal.signatures), row)


class FlowInFlight:
    """Changes go into the batch that is running; a replay, which has made them before, makes none."""

    def __init__(self, services: FlowServices, run: RunView) -> None:
        self._services = services
        self._run = run
        self._begun: set[bytes] = set()

    def begin(self, transaction_id: bytes, row: InFlightRow) -> None:
        """From the batch on that is running, only the notary decides what becomes of this transaction."""
        self._begun.add(transaction_id)
        if not self._run.replaying():
            row.since_ns = self._services.clock()
            # Not `make`: a flow that was parked just after this does it again.
            self._run.changes().put(Table.IN_FLIGHT, self._run.flow_id + transaction_id, row.SerializeToString())

    def resume(self, transaction_id: bytes) -> InFlight | None:
        """What `begin` has put down, in this run or before a restart; None when that has ended since."""
        found = self._get(self._run.flow_id + transaction_id)
        if found is not None:
            self._begun.add(transaction_id)
        return found

    def end(self, transaction_id: bytes) -> None:
        """It is recorded, or never will be final. Nothing for a transaction that this flow has not begun."""
        if transaction_id in self._begun:
            self._begun.discard(transaction_id)
            self._drop(self._run.flow_id + transaction_id)

    def left_by(self, key: bytes) -> bytes:
        """The row that an ended flow has left under this key; empty when there is none."""
        return Latest(self._services.store, self._run.changes()).get(Table.IN_FLIGHT, key) or b""

    def settled(self, key: bytes) -> None:
        """`end` for what an ended flow has left."""
        self._drop(key)

    def _get(self, key: bytes) -> InFlight | None:
        row = self._latest().get(Table.IN_FLIGHT, key)
        return None if row is None else InFlight.read(row)

    def _latest(self) -> Latest:
        return Latest(self._services.store, self._run.changes())

    def _drop(self, key: bytes) -> None:
        if not self._run.replaying():
            self._run.changes().delete(Table.IN_FLIGHT, key)
