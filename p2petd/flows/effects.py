"""What a batch wants done in the world; handed out only after the batch is durable."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from p2pet.flows.v1.flows_pb2 import FlowOutcome, ProgressStep


class PeerPort(Protocol):
    """The transport as the engine sees it. All methods are called on the event loop's thread."""

    def send(self, peer: bytes, sequence: int, message: bytes) -> None:
        """Transmit a durable message until it is acknowledged."""

    def acknowledge(self, peer: bytes, epoch: bytes, sequence: int, token: bytes) -> None:
        """Everything up to `sequence`, of that epoch of the peer, is durable here; the last message held `token`."""

    def call(self, peer: bytes, call_id: bytes, service: str, payload: bytes) -> None:
        """Ask until answered; asking again with one call id replaces the first."""

    def forget_call(self, peer: bytes, call_id: bytes) -> None:
        """Ask no more; repeating it, or for a call that was answered, does nothing."""


class Watcher(Protocol):
    """Somebody who follows one flow."""

    # Whether `on_progress` is called at all.
    wants_progress: bool

    def on_progress(self, step: ProgressStep) -> None: ...

    def on_outcome(self, outcome: FlowOutcome) -> None: ...


@dataclass
class Effects:
    """In the order in which they arose."""

    actions: list[Callable[[], None]] = field(default_factory=list)

    def add(self, action: Callable[[], None]) -> None:
        self.actions.append(action)
