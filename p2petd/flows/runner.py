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

from google.protobuf.message import DecodeError
from p2pet.flows.v1.flows_pb2 import FlowStatus
from p2pet.peer.v1.peer_pb2 import SessionMessage
from p2pet.store.v1.store_pb2 import FlowRow, MailRow, StepRow

from p2petd import native
from p2petd.errors import (
    FlowArgumentsInvalid,
    FlowCodeChanged,
    FlowError,
    InternalError,
    NodeError,
    TransactionRefused,
    spoken,
)
from p2petd.flows.context import FlowContext
from p2petd.flows.delivery import Delivery
from p2petd.flows.effects import Effects, PeerPort, Watcher
from p2petd.flows.journal import MAIL_UNREAD_BYTES_MAX, MAIL_UNREAD_MAX, FlowJournal
from p2petd.flows.registry import FlowDefinition
from p2petd.flows.requests import CallService, CheckFinal, CheckProposal, LocalStep, Pause, Receive, Request
from p2petd.flows.run import MAIL_ERROR, MAIL_TIMEOUT, PEER_WORDS_MAX, Run, mail_outcome, outcome_of, step_outcome
from p2petd.flows.services import FlowServices, RunView
from p2petd.flows.timers import Timers
from p2petd.observe.log import log_unexpected
from p2petd.store.changes import Changes
from p2petd.units import TimeNs

log = logging.getLogger(__name__)

MESSAGE_BYTES_MAX = 960 * 1024

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
        delivery: Delivery,
    ) -> None:
        """`versions` holds the services under each known version of the network parameters, by its hash."""
        self._services = services
        self._versions = versions
        self._rules = rules
        self._peers = peers
        self._journal = journal
        self._delivery = delivery
        self.timers = Timers()
        self.runs: dict[bytes, Run] = {}
        # How many runs answer each peer; those that this node itself started are under the empty key.
        self.active: Counter[bytes] = Counter()
        self.watchers: dict[bytes, list[Watcher]] = {}
        self.changes = Changes()
        self.effects = Effects()
        self.counters = {"flows_started": 0, "flows_completed": 0, "flows_failed": 0}
        self._calls: dict[bytes, Run] = {}
        self._ready: deque[tuple[Run, Answer]] = deque()
        self._to_check: list[tuple[Run, CheckProposal | CheckFinal]] = []
        self._unlocked: list[bytes] = []

    # What the engine asks for.

    def begin(self, flow_id: bytes, row: FlowRow, definition: FlowDefinition) -> Run:
        """A new durable run, ready to go. Raises FlowArgumentsInvalid."""
        run = self._make(flow_id, row, definition)
        self._journal.begin(self.changes, flow_id, row)
        self._ready.append((run, None))
        self.counters["flows_started"] += 1
        return run

    def resume(self, flow_id: bytes, row: FlowRow, definition: FlowDefinition, *, replaying: bool) -> Run:
        """Run a flow with what its journal holds: again, or for the first time when it had to wait for its turn."""
        run = self._make(flow_id, row, definition)
        run.replaying = replaying
        run.steps, run.mail = self._journal.rows_of(flow_id)
        run.mail_count = len(run.mail)
        self._ready.append((run, None))
        return run

    def run_until_waiting(self) -> None:
        while self._ready or self._to_check:
            while self._ready:
                run, answer = self._ready.popleft()
                self._advance(run, answer)
            if self._to_check:
                self._check_all()

    def post(self, run: Run, mail: MailRow) -> None:
        """Journal a message for a run, and wake the run when it waits for it."""
        unread = sum(len(waiting.payload) for waiting in run.mail)
        if len(run.mail) >= MAIL_UNREAD_MAX or unread + len(mail.payload) > MAIL_UNREAD_BYTES_MAX:
            log.warning("flow %s has %d unread messages; a further one is dropped", run.flow_id.hex(), len(run.mail))
            return
        self._journal.add_mail(self.changes, run, mail)
        run.mail.append(mail)
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
            send=lambda peer, payload: self._send(run, peer, payload),
            progress=lambda name: self._progress(run, name),
            counterparty=row.counterparty,
            replaying=lambda: run.replaying,
        )
        services = self._versions.get(row.parameters_hash)
        if services is None:
            raise FlowCodeChanged(
                f"the network parameters {row.parameters_hash.hex()} of the flow are not here any more"
            )
        context = FlowContext(services, view)
        if row.counterparty:
            if definition.responder is None:
                raise FlowCodeChanged(f"{row.flow} version {row.version} has no responding half any more")
            coroutine = definition.responder(context, row.counterparty)
        else:
            try:
                arguments = definition.arguments.FromString(row.input)
            except DecodeError:
                wanted = definition.arguments.DESCRIPTOR.full_name
                raise FlowArgumentsInvalid(f"the arguments of {definition.name} are no {wanted} message") from None
            coroutine = definition.initiator(context, arguments)
        run = Run(flow_id=flow_id, row=row, coroutine=coroutine)
        self.runs[flow_id] = run
        self.active[row.counterparty] += 1
        return run

    def _leave(self, run: Run) -> None:
        del self.runs[run.flow_id]
        self.active[run.row.counterparty] -= 1
        if not self.active[run.row.counterparty]:
            del self.active[run.row.counterparty]

    def _wake(self, run: Run, answer: Answer) -> None:
        run.waiting = None
        run.wait_serial += 1
        self._ready.append((run, answer))

    def _advance(self, run: Run, answer: Answer) -> None:
        """Feed answers to the run until it must wait or ends."""
        while answer is not PENDING:
            try:
                resume = run.coroutine.throw if isinstance(answer, NodeError) else run.coroutine.send
                answer = self._serve(run, resume(answer))
            except StopIteration as done:
                self._complete(run, done.value)
                return
            except FlowCodeChanged as error:
                self._park(run, error)
                return
            except NodeError as error:
                self._fail(run, error)
                return
            except Exception:  # noqa: BLE001 - the boundary that turns a bug in one flow into that flow's failure
                error_id = log_unexpected(log, f"running {run.row.flow} {run.flow_id.hex()}")
                self._fail(run, InternalError(f"the flow failed unexpectedly; the node's log has error id {error_id}"))
                return

    def _serve(self, run: Run, request: Request) -> Answer:
        """The answer, an error to raise inside the flow, or PENDING."""
        match request:
            case LocalStep(name, compute):
                known = self._next_step(run, name)
                if known is not None:
                    return step_outcome(known)
                run.replaying = False
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
                return self._suspend(run, request, deadline_ns)
            case CallService(_, service, _):
                known = self._next_step(run, f"call {service}")
                if known is not None:
                    return step_outcome(known)
                call_id = run.flow_id + run.steps_taken.to_bytes(4)
                self._calls[call_id] = run
                self._call(request, call_id)
                return self._suspend(run, request, None)
            case Pause(until_ns):
                known = self._next_step(run, "pause")
                return None if known is not None else self._suspend(run, request, until_ns)
            case CheckProposal() | CheckFinal():
                self._to_check.append((run, request))
                return PENDING
        raise TypeError(f"a flow awaited {type(request).__name__}, which is not a request")

    def _suspend(self, run: Run, request: Request, deadline_ns: int | None) -> object:
        run.replaying = False
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

    def _check_all(self) -> None:
        """One batch of signatures for all flows that wait for a verdict."""
        waiting, self._to_check = self._to_check, []
        for complete in (False, True):
            some = [(r, q) for r, q in waiting if isinstance(q, CheckProposal) and q.require_all_signatures == complete]
            if some:
                verdicts = self._rules.check_proposals([q.proposal for _, q in some], complete)
                self._answer_checks([r for r, _ in some], verdicts)
        for signers in (False, True):
            finals = [(r, q) for r, q in waiting if isinstance(q, CheckFinal) and q.signers == signers]
            if finals:
                pairs = [(q.signed_transaction, q.finality_proof) for _, q in finals]
                self._answer_checks([r for r, _ in finals], self._rules.check_finals(pairs, verify_signers=signers))

    def _answer_checks(self, runs: list[Run], verdicts: list[native.Checked | native.Refusal]) -> None:
        for run, verdict in zip(runs, verdicts, strict=True):
            if isinstance(verdict, native.Refusal):
                refused = TransactionRefused(verdict.code, verdict.message, tuple(verdict.missing_keys))
                self._ready.append((run, refused))
            else:
                self._ready.append((run, verdict))

    # What a run causes.

    def _send(self, run: Run, peer: bytes, payload: bytes) -> None:
        if len(payload) > MESSAGE_BYTES_MAX:
            raise FlowError(f"a message of {len(payload)} bytes is over the limit of {MESSAGE_BYTES_MAX}")
        responds = peer == run.row.counterparty
        opens = not responds and peer not in run.opened
        run.opened.add(peer)
        run.sent += 1
        if run.replaying:
            return
        message = SessionMessage(
            kind=SessionMessage.KIND_OPEN if opens else SessionMessage.KIND_DATA,
            flow_id=run.row.initiator_flow_id if responds else run.flow_id,
            to_initiator=responds,
            step=run.sent,
            payload=payload,
        )
        if opens:
            message.flow, message.flow_version = run.row.flow, run.row.version
        self._delivery.queue(self.changes, self.effects, peer, message)

    def refuse_session(self, peer: bytes, initiator_flow_id: bytes, error: NodeError) -> None:
        """Tell the initiator why nobody here answers it."""
        message = SessionMessage(
            kind=SessionMessage.KIND_ERROR,
            flow_id=initiator_flow_id,
            to_initiator=True,
            error_code=error.code,
            error_message=spoken(error.message, PEER_WORDS_MAX),
        )
        self._delivery.queue(self.changes, self.effects, peer, message)

    def _progress(self, run: Run, name: str) -> None:
        run.row.current_step = name
        run.progress.append((name, self._services.clock()))
        for watcher in self.watchers.get(run.flow_id, ()):
            if watcher.wants_progress:
                self.effects.add(partial(watcher.on_progress, run.progress_steps()[-1]))

    def _complete(self, run: Run, transaction_id: bytes | None) -> None:
        run.row.status = FlowStatus.FLOW_STATUS_COMPLETED
        run.row.transaction_id = transaction_id or b""
        self.counters["flows_completed"] += 1
        self._end(run)

    def _fail(self, run: Run, error: NodeError) -> None:
        run.row.status = FlowStatus.FLOW_STATUS_FAILED
        run.row.error_code, run.row.error_message = error.code, error.message
        self.counters["flows_failed"] += 1
        log.info("flow %s %s failed: %s: %s", run.row.flow, run.flow_id.hex(), error.code, error.message)
        self._tell_counterparties(run, error)
        self._end(run)

    def _tell_counterparties(self, run: Run, error: NodeError) -> None:
        """A business refusal crosses with its words; anything else crosses as a bare failure."""
        code, text = (error.code, error.message) if isinstance(error, FlowError) else ("", "")
        peers = run.opened | ({run.row.counterparty} if run.is_responder else set())
        for peer in sorted(peers - run.closed):
            responds = peer == run.row.counterparty
            message = SessionMessage(
                kind=SessionMessage.KIND_ERROR,
                flow_id=run.row.initiator_flow_id if responds else run.flow_id,
                to_initiator=responds,
                step=run.sent,
                error_code=code,
                error_message=text,
            )
            self._delivery.queue(self.changes, self.effects, peer, message)

    def _end(self, run: Run) -> None:
        run.row.ended_at_ns = self._services.clock()
        self._leave(run)
        self._unlocked.extend(self._services.locks.unlock(self.changes, run.flow_id))
        self._journal.end(self.changes, run)
        outcome = outcome_of(run.row)
        for watcher in self.watchers.pop(run.flow_id, ()):
            self.effects.add(partial(watcher.on_outcome, outcome))

    def _park(self, run: Run, error: NodeError) -> None:
        """Keep its journal and its locks, so that nothing is lost until an operator has looked."""
        run.row.status = FlowStatus.FLOW_STATUS_PARKED
        run.row.error_code, run.row.error_message = error.code, error.message
        log.error("flow %s %s parked: %s", run.row.flow, run.flow_id.hex(), error.message)
        self._leave(run)
        run.coroutine.close()
        self._journal.park(self.changes, run)
        outcome = outcome_of(run.row)
        for watcher in self.watchers.pop(run.flow_id, ()):
            self.effects.add(partial(watcher.on_outcome, outcome))
