"""One flow under way: its coroutine, its journal, and what it waits for."""

from collections import OrderedDict, deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from p2pet.flows.v1.flows_pb2 import FlowInfo, FlowOutcome, FlowStatus, ProgressStep
from p2pet.store.v1.store_pb2 import FlowRow, MailRow, ParkedAt, StepRow

from p2petd.errors import CounterpartyFailed, FlowError, FlowTimeout, NodeError, all_errors, error_from_code, spoken
from p2petd.flows.requests import Request

# MailRow.kind beyond the kinds of SessionMessage: the deadline of a receive has passed.
MAIL_TIMEOUT = 100
# What a peer may say of its own failure; any other code becomes flow.refused.
PEER_CODES = frozenset(error.code for error in all_errors() if error.code.startswith("flow."))
PEER_WORDS_MAX = 500

ENDED_STEPS_MAX = 1000

MAIL_DATA = 2
MAIL_ERROR = 3


def responder_flow_id(peer: bytes, initiator_flow_id: bytes) -> bytes:
    """The id of the flow that answers a peer's flow; the same however often the opening message is handled."""
    return sha256(b"responder" + peer + initiator_flow_id).digest()[:16]


async def _nothing() -> bytes | None:
    return None


def ended_coroutine() -> Coroutine[Request, Any, bytes | None]:
    """Stands in the place of a flow's code that does not run any more."""
    coroutine: Coroutine[Request, Any, bytes | None] = _nothing()
    coroutine.close()
    return coroutine


@dataclass(eq=False)
class Run:
    """Changed by the engine only, on the engine's thread."""

    flow_id: bytes
    row: FlowRow
    coroutine: Coroutine[Request, Any, bytes | None]
    replaying: bool = False
    steps: dict[int, StepRow] = field(default_factory=dict)
    steps_taken: int = 0
    mail: deque[MailRow] = field(default_factory=deque)
    # What came when it did not run, and is no part of what it repeats; read when it has repeated all.
    late: deque[MailRow] = field(default_factory=deque)
    mail_count: int = 0
    # So much of the mail is part of what it repeats.
    mail_repeated: int = 0
    read: int = 0
    sent: int = 0
    # Of what it sends, so much was sent before it was parked.
    sent_before: int = 0
    # Where it was parked: from there on it does not repeat itself any more.
    parked_at: ParkedAt | None = None
    # The sequence of the last message to each peer, or a later one where the message was sent before this start.
    last_sequence: dict[bytes, int] = field(default_factory=dict)
    opened: set[bytes] = field(default_factory=set)
    # Peers whose half of the session has failed; they wait for nothing more.
    closed: set[bytes] = field(default_factory=set)
    waiting: Request | None = None
    # Counts suspensions, so that a timer of an earlier one is recognised.
    wait_serial: int = 0
    # The call of a service that it waits for.
    call_id: bytes = b""
    # The question to the peer whether its half still runs, while it is not answered.
    probe_id: bytes = b""
    # Of which wait, and for how many looks, it has been found waiting; and after how many the peer is asked.
    watched_serial: int = -1
    looks: int = 0
    looks_to_probe: int = 0
    # Sub-flows that it is inside of.
    depth: int = 0
    # (name, UTC nanoseconds, depth) of what the flow has said of itself since it was started or resumed.
    progress: list[tuple[str, int, int]] = field(default_factory=list)

    @property
    def is_responder(self) -> bool:
        return bool(self.row.counterparty)

    def progress_steps(self) -> list[ProgressStep]:
        return _steps(self.progress)

    def last_step(self) -> ProgressStep:
        name, at_ns, depth = self.progress[-1]
        return ProgressStep(step=len(self.progress) - 1, name=name, at_ns=at_ns, depth=depth)

    def load(self, steps: dict[int, StepRow], mail: deque[MailRow]) -> None:
        """Give it what its journal holds."""
        rows, self.steps, self.mail_count = list(mail), steps, len(mail)
        self.mail_repeated = self.row.mail_repeated if self.row.HasField("mail_repeated") else len(rows)
        self.mail, self.late = deque(rows[: self.mail_repeated]), deque(rows[self.mail_repeated :])
        self.closed = {one.peer for one in mail if one.kind == MAIL_ERROR}
        self.opened = set(self.row.opened)
        if self.row.HasField("parked_at"):
            self.parked_at = ParkedAt(sent=self.row.parked_at.sent, read=self.row.parked_at.read)
            self.sent_before = self.parked_at.sent

    def go_on(self) -> None:
        """End the repetition of what it had done before."""
        self.replaying = False
        if self.late:
            self.mail.extend(self.late)
            self.late.clear()

    def catch_up(self) -> None:
        """End the repetition of a flow that was parked as soon as it has read again all that it had."""
        if self.parked_at is not None and self.steps_taken >= len(self.steps) and self.read >= self.parked_at.read:
            self.parked_at = None
            self.go_on()

    def take_mail(self, peer: bytes) -> MailRow | None:
        """The oldest unread message of this peer."""
        for position, mail in enumerate(self.mail):
            if mail.peer == peer:
                del self.mail[position]
                self.read += 1
                return mail
        return None


def _steps(said: list[tuple[str, int, int]]) -> list[ProgressStep]:
    return [ProgressStep(step=n, name=name, at_ns=at, depth=depth) for n, (name, at, depth) in enumerate(said)]


class EndedSteps:
    """What the flows that ended last have said of themselves: who starts a short one to watch it comes too late."""

    def __init__(self) -> None:
        self._said: OrderedDict[bytes, list[tuple[str, int, int]]] = OrderedDict()

    def keep(self, run: Run) -> None:
        self._said[run.flow_id] = run.progress
        if len(self._said) > ENDED_STEPS_MAX:
            self._said.popitem(last=False)

    def of(self, flow_id: bytes) -> list[ProgressStep]:
        return _steps(self._said.get(flow_id, []))


def mail_outcome(mail: MailRow) -> bytes | NodeError:
    """What a receive answers, or the error that it raises."""
    if mail.kind == MAIL_DATA:
        return mail.payload
    if mail.kind == MAIL_TIMEOUT:
        return FlowTimeout("the counterparty did not answer before the deadline")
    if mail.error_code:
        refused = FlowError(spoken(mail.error_message, PEER_WORDS_MAX))
        refused.code = mail.error_code if mail.error_code in PEER_CODES else FlowError.code
        return refused
    return CounterpartyFailed("the counterparty ended the session without an answer")


def step_outcome(row: StepRow) -> bytes | NodeError:
    return error_from_code(row.error_code, row.error_message) if row.error_code else row.result


def outcome_of(row: FlowRow) -> FlowOutcome:
    return FlowOutcome(
        status=FlowStatus.ValueType(row.status),
        transaction_id=row.transaction_id,
        error_code=row.error_code,
        error_message=row.error_message,
    )


def status_word(row: FlowRow) -> str:
    """Such as `completed`."""
    return FlowStatus.Name(FlowStatus.ValueType(row.status)).removeprefix("FLOW_STATUS_").lower()


def info_of(flow_id: bytes, row: FlowRow) -> FlowInfo:
    return FlowInfo(
        flow_id=flow_id,
        client_id=row.client_id,
        flow=row.flow,
        version=row.version,
        initiator=not row.counterparty,
        counterparty=row.counterparty,
        started_at_ns=row.started_at_ns,
        ended_at_ns=row.ended_at_ns,
        current_step=row.current_step,
        outcome=outcome_of(row),
    )
