"""One flow under way: its coroutine, its journal, and what it waits for."""

from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from p2pet.flows.v1.flows_pb2 import FlowInfo, FlowOutcome, FlowStatus, ProgressStep
from p2pet.store.v1.store_pb2 import FlowRow, MailRow, StepRow

from p2petd.errors import CounterpartyFailed, FlowError, FlowTimeout, NodeError, all_errors, error_from_code, spoken
from p2petd.flows.requests import Request

# MailRow.kind beyond the kinds of SessionMessage: the deadline of a receive has passed.
MAIL_TIMEOUT = 100
# What a peer may say of its own failure; any other code becomes flow.refused.
PEER_CODES = frozenset(error.code for error in all_errors() if error.code.startswith("flow."))
PEER_WORDS_MAX = 500

MAIL_DATA = 2
MAIL_ERROR = 3


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
    mail_count: int = 0
    sent: int = 0
    opened: set[bytes] = field(default_factory=set)
    # Peers whose half of the session has failed; they wait for nothing more.
    closed: set[bytes] = field(default_factory=set)
    waiting: Request | None = None
    # Counts suspensions, so that a timer of an earlier one is recognised.
    wait_serial: int = 0
    # (name, UTC nanoseconds) of what the flow has said of itself since it was started or resumed.
    progress: list[tuple[str, int]] = field(default_factory=list)

    @property
    def is_responder(self) -> bool:
        return bool(self.row.counterparty)

    def progress_steps(self) -> list[ProgressStep]:
        return [ProgressStep(step=n, name=name, at_ns=at_ns) for n, (name, at_ns) in enumerate(self.progress)]

    def take_mail(self, peer: bytes) -> MailRow | None:
        """The oldest unread message of this peer."""
        for position, mail in enumerate(self.mail):
            if mail.peer == peer:
                del self.mail[position]
                return mail
        return None


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
