"""Runs flows: answers what they await from the journal or the world, until all of them wait.

Deterministic replay: a flow is an `async` function whose awaits are answered from durable rows (steps and mail). All
changes that one event causes are in one record, messages to peers included; so when a restart runs a flow again from
its top, everything that it sent before the first await without a durable answer was already sent, and is not repeated.
"""

import logging
from collections import Counter, deque
from collections.abc import Mapping
from functools import partial
from typing import Any

from p2pet.flows.v1.flows_pb2 import FlowStatus
from p2pet.store.v1.store_pb2 import FlowRow, MailRow, StepRow

from p2petd import native
from p2petd.errors import FlowCodeChanged, InternalError, NodeError, UnknownFlow
from p2petd.flows.checks import Checks
from p2petd.flows.context import FlowContext
from p2petd.flows.effects import Effects, PeerPort, Watcher
from p2petd.flows.journal import MAIL_UNREAD_BYTES_MAX, MAIL_UNREAD_MAX, FlowJournal
from p2petd.flows.outgoing import Outgoing
from p2petd.flows.registry import FlowDefinition
from p2petd.flows.requests import CallService, CheckFinal, CheckProposal, LocalStep, Pause, Receive, Request
from p2petd.flows.run import (
    MAIL_ERROR,
    MAIL_TIMEOUT,
    EndedSteps,
    Run,
    ended_coroutine,
    mail_outcome,
    outcome_of,
    step_outcome,
)
from p2petd.flows.services import FlowServices, RunView
from p2petd.flows.settling import Settling, in_words
from p2petd.flows.timers import Timers
from p2petd.observe import failpoints
from p2petd.observe.failpoints import Failpoint
from p2petd.observe.log import log_unexpected, place_of
from p2petd.store.changes import Changes
from p2petd.units import TimeNs

log = logging.getLogger(__name__)

Answer = Any
PENDING = object()


class Runner:
    """All runs of a node and the changes and effects of the batch under way. Called from one thread only."""

    def __init__(
        self,
        services: FlowServices,
        versions: Mapping[bytes, FlowServices],
        rules: native.Rules,
        peers: PeerPort,
        journal: FlowJournal,
        outgoing: Outgoing,
        settling: Settling,
    ) -> None:
        """`versions` holds the services under each known version of the network parameters, by its hash."""
        self._services = services
        self._versions = versions
        self._checks = Checks(rules)
        self._peers = peers
        self._journal = journal
        self._outgoing = outgoing
        self._settling = settling
        self.timers = Timers()
        self.runs: dict[bytes, Run] = {}
        # How many runs answer each peer; those that this node itself started are under the empty key.
        self.active: Counter[bytes] = Counter()
        self.watchers: dict[bytes, list[Watcher]] = {}
        self.ended_steps = EndedSteps()
        self.changes = Changes()
        self.effects = Effects()
        self.counters = {"flows_started": 0, "flows_completed": 0, "flows_failed": 0, "flows_parked": 0}
        self._calls: dict[bytes, Run] = {}
        self._ready: deque[tuple[Run, Answer]] = deque()
        self._unlocked: list[bytes] = []

    # What the engine asks for.

    def begin(self, flow_id: bytes, row: FlowRow, definition: FlowDefinition) -> Run:
        """A new durable run, ready to go. Raises FlowArgumentsInvalid."""
        run = self._make(flow_id, row, definition)
        self._journal.begin(self.changes, flow_id, row)
        failpoints.pass_(Failpoint.FLOW_BEGUN)
        self._ready.append((run, None))
        self.counters["flows_started"] += 1
        return run

    def resume(self, flow_id: bytes, row: FlowRow, definition: FlowDefinition, *, replaying: bool) -> Run:
        """Run a flow with what its journal holds: again, or for the first time when it had to wait for its turn."""
        run = self._make(flow_id, row, definition)
        run.replaying = replaying
        run.load(*self._journal.rows_of(flow_id))
        if row.status == FlowStatus.FLOW_STATUS_PARKED:
            self._journal.set_going(self.changes, flow_id, row)
        self._ready.append((run, None))
        return run

    def at_rest(self, flow_id: bytes, row: FlowRow) -> Run:
        """An unfinished flow that does not run, with what its journal holds; good for being ended."""
        run = Run(flow_id=flow_id, row=row, coroutine=ended_coroutine())
        run.load(*self._journal.rows_of(flow_id))
        return run

    def end_by_operator(self, run: Run, error: NodeError) -> list[bytes]:
        """`fail` of a run that is under way or at rest; its coroutine ends and nothing more is asked for it."""
        in_flight = self.fail(run, error)
        self._forget_calls(run)
        try:
            run.coroutine.close()
        except Exception:  # noqa: BLE001 - the boundary between a bug in one flow and all others
            log_unexpected(log, f"ending {run.row.flow} {run.flow_id.hex()}")
        return in_flight

    def run_until_waiting(self) -> None:
        while self._ready or self._checks:
            while self._ready:
                run, answer = self._ready.popleft()
                # Unless an operator has ended it since.
                if self.runs.get(run.flow_id) is run:
                    self._advance(run, answer)
            if self._checks:
                self._ready.extend(self._checks.take())

    def post(self, run: Run, mail: MailRow) -> None:
        """Journal a message for a run, and wake the run when it waits for it."""
        # Of each peer so many, so that none can crowd out another, nor a deadline: who is waited for has none unread.
        unread = [len(one.payload) for one in (*run.mail, *run.late) if one.peer == mail.peer]
        if len(unread) >= MAIL_UNREAD_MAX or sum(unread) + len(mail.payload) > MAIL_UNREAD_BYTES_MAX:
            log.warning("flow %s has %d unread messages; a further one is dropped", run.flow_id.hex(), len(unread))
            return
        self._journal.add_mail(self.changes, run, mail)
        failpoints.pass_(Failpoint.FLOW_RECEIVED)
        (run.late if run.replaying else run.mail).append(mail)
        if mail.kind == MAIL_ERROR:
            run.closed.add(mail.peer)
        if isinstance(run.waiting, Receive) and run.waiting.peer == mail.peer:
            taken = run.take_mail(mail.peer)
            assert taken is not None
            self._wake(run, mail_outcome(taken))

    def answer_call(self, call_id: bytes, payload: bytes) -> None:
        run = self._calls.pop(call_id, None)
        if run is None or not isinstance(run.waiting, CallService):
            return
        run.call_id = b""
        self._journal.add_step(self.changes, run, StepRow(name=f"call {run.waiting.service}", result=payload))
        self._wake(run, payload)

    def retry_call(self, call_id: bytes) -> None:
        run = self._calls.get(call_id)
        if run is not None and isinstance(run.waiting, CallService):
            self._call(run.waiting, call_id)

    def fire(self, flow_id: bytes, wait_serial: int) -> None:
        run = self.runs.get(flow_id)
        if run is None or run.wait_serial != wait_serial:
            return
        if isinstance(run.waiting, Receive):
            self.post(run, MailRow(peer=run.waiting.peer, kind=MAIL_TIMEOUT))
        elif isinstance(run.waiting, Pause):
            self._journal.add_step(self.changes, run, StepRow(name="pause"))
            self._wake(run, None)

    def end_batch(self) -> tuple[Changes, Effects]:
        changes, effects = self.changes, self.effects
        self.changes, self.effects = changes.next_batch(), Effects()
        self._journal.batch_ended()
        return changes, effects

    def take_effects(self) -> Effects:
        """Those without changes: they need no record."""
        effects, self.effects = self.effects, Effects()
        return effects

    def committed(self) -> None:
        """The view shows the last batch: what it consumed need not be held in memory any more."""
        self._services.locks.forget(self._unlocked)
        self._unlocked = []

    # One run.

    def _make(self, flow_id: bytes, row: FlowRow, definition: FlowDefinition) -> Run:
        view = RunView(
            flow_id=flow_id,
            entropy=row.entropy,
            started_at_ns=TimeNs(row.started_at_ns),
            changes=lambda: self.changes,
            flow=row.flow,
            send=lambda peer, payload: self._outgoing.send(self.changes, self.effects, run, peer, payload),
            progress=lambda name: self._progress(run, name),
            nest=lambda levels: setattr(run, "depth", run.depth + levels),
            counterparty=row.counterparty,
            replaying=lambda: run.replaying,
            backlog=self._outgoing.backlog,
        )
        services = self._versions.get(row.parameters_hash)
        if services is None:
            raise FlowCodeChanged(
                f"the network parameters {row.parameters_hash.hex()} of the flow are not here any more"
            )
        run = Run(flow_id=flow_id, row=row, coroutine=definition.coroutine(FlowContext(services, view), row))
        self.runs[flow_id] = run
        self.active[row.counterparty] += 1
        return run

    def _leave(self, run: Run) -> None:
        if self.runs.get(run.flow_id) is not run:
            return
        del self.runs[run.flow_id]
        self.active[run.row.counterparty] -= 1
        if not self.active[run.row.counterparty]:
            del self.active[run.row.counterparty]

    def _forget_calls(self, run: Run) -> None:
        if isinstance(run.waiting, CallService) and self._calls.pop(run.call_id, None) is not None:
            self.effects.add(partial(self._peers.forget_call, run.waiting.peer, run.call_id))
        if isinstance(run.waiting, Receive) and run.probe_id:
            self.effects.add(partial(self._peers.forget_call, run.waiting.peer, run.probe_id))
            run.probe_id = b""

    def _wake(self, run: Run, answer: Answer) -> None:
        if run.probe_id:
            self._forget_calls(run)
        run.waiting = None
        run.wait_serial += 1
        self._ready.append((run, answer))

    def _advance(self, run: Run, answer: Answer) -> None:
        """Feed answers to the run until it must wait or ends."""
        while answer is not PENDING:
            failpoints.pass_(Failpoint.FLOW_AFTER_STEP)
            try:
                if run.parked_at is not None:
                    run.catch_up()
                resume = run.coroutine.throw if isinstance(answer, NodeError) else run.coroutine.send
                answer = self._serve(run, resume(answer))
            except StopIteration as done:
                self._complete(run, done.value)
                return
            except FlowCodeChanged as error:
                self.park(run, error)
                return
            except NodeError as error:
                self._fail_or_park(run, error)
                return
            except Exception as error:  # noqa: BLE001 - the boundary between a bug in one flow and all others
                self._park_unexpected(run, error)
                return

    def _fail_or_park(self, run: Run, error: NodeError) -> None:
        try:
            if not self._settling.is_undecided(self.changes, run):
                self.fail(run, error)
                return
        except UnknownFlow:
            log.error("no flow is installed here that follows what %s leaves in flight", run.flow_id.hex())
        # Nobody would follow what is in flight: rather keep all that it holds.
        self.park(run, error)

    def _serve(self, run: Run, request: Request) -> Answer:
        """The answer, an error to raise inside the flow, or PENDING."""
        failpoints.pass_(Failpoint.FLOW_BEFORE_STEP)
        match request:
            case LocalStep(name, compute):
                known = self._next_step(run, name)
                if known is not None:
                    return step_outcome(known)
                run.go_on()
                try:
                    row = StepRow(name=name, result=compute())
                except NodeError as error:
                    row = StepRow(name=name, error_code=error.code, error_message=error.message)
                self._journal.add_step(self.changes, run, row)
                return step_outcome(row)
            case Receive(peer, deadline_ns):
                mail = run.take_mail(peer)
                if mail is not None:
                    return mail_outcome(mail)
                if run.late:
                    run.go_on()
                    return self._serve(run, request)
                return self._suspend(run, request, deadline_ns)
            case CallService(_, service, _):
                known = self._next_step(run, f"call {service}")
                if known is not None:
                    return step_outcome(known)
                call_id = run.flow_id + run.steps_taken.to_bytes(4)
                self._calls[call_id] = run
                run.call_id = call_id
                self._call(request, call_id)
                return self._suspend(run, request, None)
            case Pause(until_ns):
                known = self._next_step(run, "pause")
                return None if known is not None else self._suspend(run, request, until_ns)
            case CheckProposal() | CheckFinal():
                self._checks.add(run, request)
                return PENDING
        raise TypeError(f"a flow awaited {type(request).__name__}, which is not a request")

    def _suspend(self, run: Run, request: Request, deadline_ns: int | None) -> object:
        run.go_on()
        run.waiting = request
        run.wait_serial += 1
        if deadline_ns is not None:
            self.timers.at(deadline_ns, run.flow_id, run.wait_serial)
        return PENDING

    def _next_step(self, run: Run, name: str) -> StepRow | None:
        """Take the run's next numbered step. Raises FlowCodeChanged when the journal has another one there."""
        row = run.steps.get(run.steps_taken)
        if row is not None and row.name != name:
            raise FlowCodeChanged(
                f"step {run.steps_taken} of {run.row.flow} {run.flow_id.hex()} was {row.name!r} when it was journaled "
                f"and is {name!r} now; install the version that started it"
            )
        run.steps_taken += 1
        return row

    def _call(self, request: CallService, call_id: bytes) -> None:
        if not request.peer:
            log.warning("a call of %s waits for a node that is not in the network map", request.service)
            return
        self.effects.add(lambda: self._peers.call(request.peer, call_id, request.service, request.payload))

    # What a run causes.

    def _progress(self, run: Run, name: str) -> None:
        run.row.current_step = name
        run.progress.append((name, self._services.clock(), run.depth))
        for watcher in self.watchers.get(run.flow_id, ()):
            if watcher.wants_progress:
                self.effects.add(partial(watcher.on_progress, run.last_step()))

    def _complete(self, run: Run, transaction_id: bytes | None) -> None:
        run.row.status = FlowStatus.FLOW_STATUS_COMPLETED
        run.row.transaction_id = transaction_id or b""
        self.counters["flows_completed"] += 1
        self._end(run)

    def fail(self, run: Run, error: NodeError) -> list[bytes]:
        """End a run, which need not be under way, and tell its peers; the transactions that it leaves in flight.

        These are followed by flows of the node's own, which inherit what is reserved for them. Raises UnknownFlow when
        there is no such flow; nothing has changed then.
        """
        in_flight = self._settling.take_over(self.changes, run, self.begin)
        self._journal.wake(run.flow_id, run.row)
        run.row.status = FlowStatus.FLOW_STATUS_FAILED
        run.row.error_code, run.row.error_message = error.code, in_words(error, in_flight)
        self.counters["flows_failed"] += 1
        log.info("flow %s %s failed: %s: %s", run.row.flow, run.flow_id.hex(), error.code, error.message)
        self._outgoing.tell_failure(self.changes, self.effects, run, error)
        self._end(run)
        return in_flight

    def _end(self, run: Run) -> None:
        run.row.ended_at_ns = self._services.clock()
        self._leave(run)
        self.ended_steps.keep(run)
        self._unlocked.extend(self._services.locks.unlock(self.changes, run.flow_id))
        self._journal.end(self.changes, run)
        failpoints.pass_(Failpoint.FLOW_ENDED)
        self._tell_outcome(run)

    def _park_unexpected(self, run: Run, error: Exception) -> None:
        """A bug in a flow ends nothing here. Its peers must not wait for an operator of somebody else's: they are told
        at once that it failed, without a word of why. But a flow with something in flight needs no peer any more to
        come to its end, and theirs need only the notary."""
        error_id = log_unexpected(log, f"running {run.row.flow} {run.flow_id.hex()}")
        cause = InternalError(f"{type(error).__name__} {place_of(error)}; the node's log has error id {error_id}")
        if not self.changes.in_flight(self._services.store, run.flow_id):
            for peer in self._outgoing.tell_failure(self.changes, self.effects, run, cause):
                # When it runs again it finds the session ended, and does not wait.
                self._journal.add_mail(self.changes, run, MailRow(peer=peer, kind=MAIL_ERROR))
                run.closed.add(peer)
        self.park(run, cause)

    def park(self, run: Run, error: NodeError) -> None:
        """Keep its journal and its locks, so that nothing is lost until an operator has looked."""
        run.row.status = FlowStatus.FLOW_STATUS_PARKED
        run.row.error_code, run.row.error_message = error.code, error.message
        log.error("flow %s %s parked: %s", run.row.flow, run.flow_id.hex(), error.message)
        self._leave(run)
        self._journal.park(self.changes, run)
        self.counters["flows_parked"] += 1
        failpoints.pass_(Failpoint.FLOW_PARKED)
        self._tell_outcome(run)

    def _tell_outcome(self, run: Run) -> None:
        outcome = outcome_of(run.row)
        for watcher in self.watchers.pop(run.flow_id, ()):
            self.effects.add(partial(watcher.on_outcome, outcome))
