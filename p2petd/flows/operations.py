"""What an operator does with flows: kill, drop, retry, remove. Between batches only, when the view shows everything."""

import logging
from functools import partial

from p2pet.flows.v1.flows_pb2 import FlowStatus
from p2pet.store.v1.store_pb2 import FlowRow

from p2petd.errors import FlowError, FlowKilled, FlowNotFound, FlowNotParked, NodeError
from p2petd.flows.events import Answered, Drop, Ended, Kill, Operation, Remove, Retry
from p2petd.flows.journal import UNFINISHED, FlowJournal
from p2petd.flows.registry import FlowRegistry
from p2petd.flows.run import Run, outcome_of, status_word
from p2petd.flows.runner import Runner
from p2petd.flows.settling import Settling

log = logging.getLogger(__name__)


class Operations:
    """Every operation checks first and changes then; repeating one is refused, and says what the flow is now."""

    def __init__(self, journal: FlowJournal, runner: Runner, registry: FlowRegistry, settling: Settling) -> None:
        self._settling = settling
        self._journal = journal
        self._runner = runner
        self._registry = registry

    def handle(self, event: Operation) -> None:
        """The answer goes out when what was done is durable."""
        effects, answer = self._runner.effects, event.answer
        done: Answered
        try:
            done = self._do(event)
        except NodeError as error:
            done = error
        effects.add(partial(answer, done))

    def _do(self, event: Operation) -> Ended | None:
        row = self._row(event.flow_id)
        match event:
            case Kill(flow_id):
                return self.end(flow_id, row)
            case Drop(flow_id):
                self._need_parked(flow_id, row, "dropped")
                return self.end(flow_id, row)
            case Retry(flow_id):
                self._need_parked(flow_id, row, "retried")
                log.info("flow %s %s is retried", row.flow, flow_id.hex())
                self.resume(flow_id, row)
            case Remove(flow_id):
                if row.status in UNFINISHED:
                    raise FlowNotParked(f"the flow {flow_id.hex()} is {status_word(row)}; only an ended one is removed")
                if self._settling.has_left(self._runner.changes, flow_id):
                    # Its client id must not begin the same a second time.
                    raise FlowNotParked(
                        f"what the flow {flow_id.hex()} has signed may still become final; it is removed after that"
                    )
                self._journal.forget(self._runner.changes, flow_id, row)
        return None

    def end(self, flow_id: bytes, row: FlowRow) -> Ended:
        """Fail the flow, tell its peers, free what it has reserved and what is not in flight.

        Raises FlowNotParked for one that has ended, FlowError for one of the node's own, UnknownFlow when nothing could
        follow what it has in flight.
        """
        if row.status not in UNFINISHED:
            raise FlowNotParked(f"the flow {flow_id.hex()} is {status_word(row)} already")
        if self._is_internal(row):
            raise FlowError(f"{row.flow} follows what was signed here until the notary has decided; it cannot be ended")
        run = self._runner.runs.get(flow_id)
        if run is None:
            run = self._runner.at_rest(flow_id, row)
        in_flight = self._runner.end_by_operator(run, FlowKilled("an operator has ended the flow"))
        return Ended(outcome_of(run.row), tuple(in_flight))

    def resume(self, flow_id: bytes, row: FlowRow) -> Run:
        """Run it again from its journal; one that cannot be is parked with its cause. Raises that."""
        try:
            definition = self._registry.get(row.flow, row.version)
            # One that waits for its turn has done nothing yet.
            return self._runner.resume(flow_id, row, definition, replaying=not row.waiting)
        except NodeError as error:
            self.park_row(flow_id, row, error)
            raise

    def park_row(self, flow_id: bytes, row: FlowRow, error: NodeError) -> None:
        """Park a flow that could not even be begun or resumed here."""
        log.error("flow %s %s stands still: %s", row.flow, flow_id.hex(), error.message)
        row.status = FlowStatus.FLOW_STATUS_PARKED
        row.error_code, row.error_message = error.code, error.message
        self._journal.park_row(self._runner.changes, flow_id, row)

    def _row(self, flow_id: bytes) -> FlowRow:
        run = self._runner.runs.get(flow_id)
        row = run.row if run is not None else self._journal.row(flow_id)
        if row is None:
            raise FlowNotFound(f"no flow {flow_id.hex()} is known to this node")
        return row

    def _need_parked(self, flow_id: bytes, row: FlowRow, done: str) -> None:
        if row.status != FlowStatus.FLOW_STATUS_PARKED:
            raise FlowNotParked(f"the flow {flow_id.hex()} is {status_word(row)}; only a parked one is {done}")

    def _is_internal(self, row: FlowRow) -> bool:
        return any(one.internal for one in self._registry.all() if one.name == row.flow)
