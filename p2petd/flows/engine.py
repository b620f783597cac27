"""The engine: takes a batch of events, lets the runner run what they wake, and says what to commit and do after."""

import contextlib
import logging
import secrets
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence

from p2pet.flows.v1.flows_pb2 import FlowInfo, FlowStatus
from p2pet.peer.v1.peer_pb2 import SessionMessage
from p2pet.store.v1.store_pb2 import FlowRow, MailRow

from p2petd import native
from p2petd.errors import (
    FlowArgumentsInvalid,
    FlowError,
    FlowNotFound,
    FlowsExhausted,
    NodeDraining,
    NodeError,
    UnknownFlow,
)
from p2petd.flows.delivery import Delivery
from p2petd.flows.effects import Effects, PeerPort, Watcher
from p2petd.flows.events import (
    Acknowledged,
    Arrived,
    CallAnswered,
    Drain,
    Event,
    LookForSilence,
    Operation,
    RetryCall,
    Start,
    TimerFired,
    Unwatch,
    Watch,
)
from p2petd.flows.journal import UNFINISHED, FlowJournal
from p2petd.flows.operations import Operations
from p2petd.flows.outgoing import Outgoing
from p2petd.flows.registry import FlowDefinition, FlowRegistry
from p2petd.flows.run import MAIL_DATA, MAIL_ERROR, Run, info_of, outcome_of, responder_flow_id
from p2petd.flows.runner import Runner
from p2petd.flows.services import FlowServices
from p2petd.flows.sessions import PROBE_ID_BYTES, Probes
from p2petd.flows.settling import Settling
from p2petd.flows.waiting import waiting_words
from p2petd.store.changes import Changes

log = logging.getLogger(__name__)

CLIENT_ID_BYTES_MAX = 256
# Flows that this node's clients have started; flows that answer peers, in all and for one peer; those that wait.
STARTED_MAX = 10_000
RESPONDERS_MAX = 10_000
RESPONDERS_PER_PEER_MAX = 256
WAITING_PER_PEER_MAX = 100_000
WAITING_BYTES_PER_PEER_MAX = 256 * 1024 * 1024
OWN = b""


def _talks(row: FlowRow, peer: bytes) -> bool:
    """Whether a flow that does not run may hear this peer; with whom an initiator talks may not be known."""
    return peer == row.counterparty if row.counterparty else not row.opened or peer in row.opened


class Engine:
    """One node's flows. Called from one thread only."""

    def __init__(
        self,
        services: FlowServices,
        versions: Mapping[bytes, FlowServices],
        registry: FlowRegistry,
        rules: native.Rules,
        peers: PeerPort,
        entropy: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """`services` are for new flows; `versions` for each known version of the network parameters, by its hash.

        `entropy` answers so many bytes that nobody can guess: the ids of flows, and what each draws its own from.
        """
        self._entropy = entropy
        self._services = services
        self._registry = registry
        self._name = services.network_map.by_identity(services.identity).name
        self._delivery = Delivery(services.store, peers)
        self._journal = FlowJournal(services.store)
        self._outgoing = Outgoing(self._delivery)
        settling = Settling(services.store, registry, services.locks, services.clock)
        self._runner = Runner(services, versions, rules, peers, self._journal, self._outgoing, settling)
        # Responders that wait until their peer has fewer under way; durable, in the order of their opening.
        self._turns: dict[bytes, deque[tuple[bytes, int]]] = {}
        self._turn_bytes: Counter[bytes] = Counter()
        self._operations = Operations(self._journal, self._runner, registry, settling)
        self._probes = Probes(self._runner, self._delivery, peers, services.network_map)
        # Whom to tell that no flow is under way any more, while none is begun.
        self._drained: Callable[[], None] | None = None
        self._batches = self._events = 0

    def recover(self) -> tuple[Changes, Effects]:
        """Run every unfinished flow again up to where it waits."""
        for flow_id, row in self._journal.unfinished():
            if row.waiting:
                self._turns.setdefault(row.counterparty, deque()).append((flow_id, 0))
                continue
            # Parked flows are tried once more: what they lacked may be here now.
            with contextlib.suppress(NodeError):
                self._operations.resume(flow_id, row)
        self._runner.run_until_waiting()
        return self._runner.end_batch()

    def handle(self, events: list[Event]) -> tuple[Changes, Effects]:
        """Everything that these events cause, up to what must be durable before anything else may happen."""
        for event in events:
            if isinstance(event, Operation):
                self._operations.handle(event)
        self._take_turns()
        for event in events:
            self._dispatch(event)
        self._runner.run_until_waiting()
        if self._drained is not None and not self._runner.runs:
            self._runner.effects.add(self._drained)
        self._batches += 1
        self._events += len(events)
        return self._runner.end_batch()

    def look(self, events: Sequence[Watch | Unwatch]) -> Effects:
        """What those who watch are answered; no flow runs and nothing changes. Only between batches."""
        for event in events:
            self._dispatch(event)
        return self._runner.take_effects()

    def committed(self) -> None:
        """The last batch is durable and in the view."""
        self._runner.committed()

    def leftovers(self) -> Changes:
        """What waited for a record that would be written anyway; a node that stops writes it after all."""
        return self._runner.end_batch()[0]

    def has_turns(self) -> bool:
        """Whether a batch without events would still do something."""
        return any(self._may_begin(peer) for peer in self._turns)

    def next_timer_ns(self) -> int | None:
        return min(
            (at for at in (self._runner.timers.next_ns(), self._probes.next_ns()) if at is not None), default=None
        )

    def due_timers(self, now_ns: int) -> list[Event]:
        due: list[Event] = [TimerFired(flow_id, serial) for flow_id, serial in self._runner.timers.due(now_ns)]
        return [*due, LookForSilence(now_ns)] if self._probes.is_due(now_ns) else due

    def counters(self) -> dict[str, int]:
        running = {
            "flows_running": len(self._runner.runs),
            "flows_waiting": sum(len(turns) for turns in self._turns.values()),
            "flows_standing": len(self._journal.parked),
            "batches": self._batches,
            "events": self._events,
        }
        return {**self._runner.counters, **running}

    def _dispatch(self, event: Event) -> None:
        runner = self._runner
        match event:
            case Start():
                self._start(event)
            case Arrived(peer, epoch, messages):
                for session in self._delivery.take_in(runner.changes, runner.effects, peer, epoch, messages):
                    self._deliver(peer, session)
            case CallAnswered(call_id, payload) if len(call_id) == PROBE_ID_BYTES:
                self._probes.answered(call_id, payload)
            case CallAnswered(call_id, payload):
                runner.answer_call(call_id, payload)
            case Acknowledged(peer, first, last, token):
                self._delivery.acknowledged(runner.changes, peer, first, last, token)
            case RetryCall(call_id) if len(call_id) == PROBE_ID_BYTES:
                self._probes.refused(call_id)
            case RetryCall(call_id):
                runner.retry_call(call_id)
            case TimerFired(flow_id, serial):
                runner.fire(flow_id, serial)
            case LookForSilence(now_ns):
                self._probes.look(now_ns)
            case Drain():
                self._drain(event)
            case Watch():
                self._watch(event)
            case Unwatch(flow_id, watcher):
                watchers = runner.watchers.get(flow_id, [])
                if watcher in watchers:
                    watchers.remove(watcher)

    def _drain(self, event: Drain) -> None:
        self._drained = None if event.undo else event.drained
        counts, answer = (len(self._runner.runs), len(self._journal.parked)), event.answer
        self._runner.effects.add(lambda: answer(counts))

    def _start(self, event: Start) -> None:
        effects, answer = self._runner.effects, event.answer
        try:
            known = self._journal.flow_of_client(event.start.client_id) if event.start.client_id else None
            flow_id = self._begin(event).flow_id if known is None else known
        except NodeError as error:
            refusal = error
            effects.add(lambda: answer(refusal))
            return
        effects.add(lambda: answer(flow_id))
        self._watch_outcome(flow_id, event.watcher)

    def _begin(self, event: Start) -> Run:
        start = event.start
        if self._drained is not None:
            raise NodeDraining("the node finishes what is under way and stops; it accepts no new flow")
        if self._runner.active[OWN] >= STARTED_MAX:
            raise FlowsExhausted(f"{STARTED_MAX} flows are running, the most that this node permits; try later")
        if len(start.client_id.encode()) > CLIENT_ID_BYTES_MAX:
            raise FlowArgumentsInvalid(f"a client id has at most {CLIENT_ID_BYTES_MAX} bytes")
        definition = self._registry.get(start.flow, start.version)
        if definition.internal:
            raise UnknownFlow(f"{definition.name} is started by the node itself, not by clients")
        row = self._new_row(definition)
        row.client_id, row.input = start.client_id, start.arguments
        return self._runner.begin(self._entropy(16), row, definition)

    def _new_row(self, definition: FlowDefinition) -> FlowRow:
        return FlowRow(
            flow=definition.name,
            version=definition.version,
            entropy=self._entropy(32),
            started_at_ns=self._services.clock(),
            status=FlowStatus.FLOW_STATUS_RUNNING,
            parameters_hash=self._services.parameters_hash,
        )

    def _deliver(self, peer: bytes, message: SessionMessage) -> None:
        if len(message.flow_id) != 16:
            log.warning("peer %s sent a session message without a flow id", peer.hex()[:16])
            return
        flow_id = message.flow_id if message.to_initiator else responder_flow_id(peer, message.flow_id)
        run = self._runner.runs.get(flow_id)
        opens = message.kind == SessionMessage.KIND_OPEN and not message.to_initiator
        if run is None and opens and self._journal.row(flow_id) is None:
            run = self._open(peer, flow_id, message)
        mail = MailRow(
            peer=peer,
            kind=MAIL_ERROR if message.kind == SessionMessage.KIND_ERROR else MAIL_DATA,
            payload=message.payload,
            error_code=message.error_code,
            error_message=message.error_message,
        )
        if run is None:
            row = self._journal.row(flow_id)
            if row is not None and row.status in UNFINISHED and _talks(row, peer):
                self._journal.keep_mail(self._runner.changes, flow_id, mail)
        elif peer in run.opened or peer == run.row.counterparty:
            self._runner.post(run, mail)

    def _open(self, peer: bytes, flow_id: bytes, message: SessionMessage) -> Run | None:
        try:
            definition = self._registry.get(message.flow, message.flow_version, self._name)
            if definition.responder is None:
                raise FlowError(f"{message.flow} is not a flow that a peer can open")
            waiting = len(self._turns.get(peer, ()))
            if waiting >= WAITING_PER_PEER_MAX or self._turn_bytes[peer] >= WAITING_BYTES_PER_PEER_MAX:
                raise FlowsExhausted("the counterparty has too many flows of this node waiting; try again later")
        except NodeError as error:
            self._outgoing.refuse(self._runner.changes, self._runner.effects, peer, message.flow_id, error)
            return None
        row = self._new_row(definition)
        row.counterparty, row.initiator_flow_id = peer, message.flow_id
        if not self._may_begin(peer):
            # Most responders end at once: that may be all that is needed.
            self._runner.run_until_waiting()
        if peer in self._turns or not self._may_begin(peer):
            row.waiting = True
            self._journal.begin(self._runner.changes, flow_id, row)
            self._turns.setdefault(peer, deque()).append((flow_id, len(message.payload)))
            self._turn_bytes[peer] += len(message.payload)
            return None
        return self._runner.begin(flow_id, row, definition)

    def _may_begin(self, peer: bytes) -> bool:
        """One peer cannot take all places, and all peers together leave room for the node's own flows."""
        if self._drained is not None:
            return False
        active = self._runner.active
        return active[peer] < RESPONDERS_PER_PEER_MAX and len(self._runner.runs) - active[OWN] < RESPONDERS_MAX

    def _take_turns(self) -> None:
        """Begin responders that waited. Only between batches: what they have been sent stands in the view."""
        for peer, turns in list(self._turns.items()):
            while turns and self._may_begin(peer):
                flow_id, size = turns.popleft()
                self._turn_bytes[peer] -= size
                row = self._journal.row(flow_id)
                if row is None or not row.waiting:
                    # An operator has ended it.
                    continue
                try:
                    self._runner.resume(flow_id, row, self._registry.get(row.flow, row.version), replaying=False)
                except NodeError as error:
                    self._operations.park_row(flow_id, row, error)
                    continue
                self._journal.set_going(self._runner.changes, flow_id, row)
            if not turns:
                del self._turns[peer]

    @property
    def is_draining(self) -> bool:
        return self._drained is not None

    def live(self, flow_id: bytes) -> FlowInfo | None:
        """A flow that is under way, with what it waits for. From any thread."""
        run = self._runner.runs.get(flow_id)
        if run is None:
            return None
        info = info_of(flow_id, run.row)
        info.waiting_for = waiting_words(run.waiting, self._services.network_map)
        return info

    def _watch(self, event: Watch) -> None:
        run = self._runner.runs.get(event.flow_id)
        row = run.row if run else self._journal.row(event.flow_id)
        effects, answer = self._runner.effects, event.answer
        if row is None:
            unknown = FlowNotFound(f"no flow {event.flow_id.hex()} is known to this node")
            effects.add(lambda: answer(unknown))
            return
        steps = run.progress_steps() if run else self._runner.ended_steps.of(event.flow_id)
        seen = (self.live(event.flow_id) or info_of(event.flow_id, row), steps)
        effects.add(lambda: answer(seen))
        self._watch_outcome(event.flow_id, event.watcher)

    def _watch_outcome(self, flow_id: bytes, watcher: Watcher | None) -> None:
        """The watcher hears the outcome now, or when there is one."""
        if watcher is None:
            return
        if flow_id in self._runner.runs:
            self._runner.watchers.setdefault(flow_id, []).append(watcher)
            return
        row = self._journal.row(flow_id)
        if row is not None:
            outcome = outcome_of(row)
            self._runner.effects.add(lambda: watcher.on_outcome(outcome))
