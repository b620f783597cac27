"""What reaches the engine from outside: clients, peers, services, time."""

from collections.abc import Callable
from dataclasses import dataclass

from p2pet.flows.v1.flows_pb2 import FlowInfo, FlowOutcome, FlowStart, ProgressStep
from p2pet.peer.v1.peer_pb2 import Message

from p2petd.errors import NodeError
from p2petd.flows.effects import Watcher


@dataclass(frozen=True)
class Start:
    """Start a flow for a client. `answer` gets the flow id, or the error, once that is durable."""

    start: FlowStart
    answer: Callable[[bytes | NodeError], None]
    watcher: Watcher | None


@dataclass(frozen=True)
class Arrived:
    """Messages of one peer, in sequence, none of them seen before."""

    peer: bytes
    epoch: bytes
    messages: tuple[Message, ...]


@dataclass(frozen=True)
class Acknowledged:
    """The peer holds the messages `first` to `last`; `token` proves later that it said so, when it gave one."""

    peer: bytes
    first: int
    last: int
    token: bytes


@dataclass(frozen=True)
class CallAnswered:
    call_id: bytes
    payload: bytes


@dataclass(frozen=True)
class Watch:
    """Follow a flow: `answer` gets its info and steps so far, `watcher` what follows. Also used for a single look."""

    flow_id: bytes
    answer: Callable[[tuple[FlowInfo, list[ProgressStep]] | NodeError], None]
    watcher: Watcher | None


@dataclass(frozen=True)
class Unwatch:
    flow_id: bytes
    watcher: Watcher


@dataclass(frozen=True)
class TimerFired:
    flow_id: bytes
    wait_serial: int


@dataclass(frozen=True)
class RetryCall:
    """Ask a service again that was too busy to answer."""

    call_id: bytes


@dataclass(frozen=True)
class Ended:
    """What became of a flow that an operator has ended, and what it had signed that is followed on its own."""

    outcome: FlowOutcome
    in_flight: tuple[bytes, ...]


Answered = Ended | NodeError | None


@dataclass(frozen=True)
class Kill:
    """End a flow that is under way, parked, or waits for its turn."""

    flow_id: bytes
    answer: Callable[[Answered], None]


@dataclass(frozen=True)
class Drop:
    """End a parked flow."""

    flow_id: bytes
    answer: Callable[[Answered], None]


@dataclass(frozen=True)
class Retry:
    """Run a parked flow again from its journal."""

    flow_id: bytes
    answer: Callable[[Answered], None]


@dataclass(frozen=True)
class Remove:
    """Forget an ended flow."""

    flow_id: bytes
    answer: Callable[[Answered], None]


@dataclass(frozen=True)
class Drain:
    """Begin no flow any more, and call `drained` when none is under way; with `undo` begin flows again.

    `answer` gets how many are under way and how many are parked.
    """

    undo: bool
    answer: Callable[[tuple[int, int]], None]
    drained: Callable[[], None]


@dataclass(frozen=True)
class LookForSilence:
    """Look which flows have waited long for a peer, and ask it whether it is still there."""

    now_ns: int


Operation = Kill | Drop | Retry | Remove
FromPeers = Arrived | Acknowledged | CallAnswered
FromTime = TimerFired | RetryCall | LookForSilence
Event = Start | FromPeers | Watch | Unwatch | FromTime | Operation | Drain
