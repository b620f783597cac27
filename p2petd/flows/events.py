"""What reaches the engine from outside: clients, peers, services, time."""

from collections.abc import Callable
from dataclasses import dataclass

from p2pet.flows.v1.flows_pb2 import FlowInfo, FlowStart, ProgressStep
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


Event = Start | Arrived | Acknowledged | CallAnswered | Watch | Unwatch | TimerFired | RetryCall
