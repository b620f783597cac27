"""A flow's talk with other nodes: sessions, which are durable, and calls of services, which are repeated."""

from collections.abc import Mapping
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from p2petd.errors import FlowError, NodeError
from p2petd.flows.requests import CallService, Receive
from p2petd.flows.services import RunView

M = TypeVar("M", bound=Message)


class FlowSessions:
    """The part of a flow's context that reaches peers."""

    def __init__(self, run: RunView) -> None:
        self._run = run

    def send(self, peer: bytes, message: Message) -> None:
        """Queue a message; it leaves when the step that caused it is durable, and arrives exactly once."""
        self._run.send(peer, message.SerializeToString(deterministic=True))

    async def receive(self, peer: bytes, message_type: type[M], deadline_ns: int | None = None) -> M:
        """The peer's next message. Raises FlowTimeout, CounterpartyFailed, or the FlowError that the peer raised."""
        payload: bytes = await Receive(peer, deadline_ns)
        try:
            return message_type.FromString(payload)
        except DecodeError:
            raise FlowError(f"the counterparty sent no valid {message_type.DESCRIPTOR.name}") from None

    async def ask(self, peer: bytes, message: Message, answer_type: type[M], deadline_ns: int | None = None) -> M:
        """`send`, then `receive`."""
        self.send(peer, message)
        return await self.receive(peer, answer_type, deadline_ns)

    async def ask_all(
        self, messages: Mapping[bytes, Message], answer_type: type[M], deadline_ns: int
    ) -> dict[bytes, M | NodeError]:
        """Send each peer its message, all at once, and wait for all answers: what each answered, or its error.

        An error is what `receive` would have raised. One that is slow or fails costs its own entry only; the deadline
        is of all together. A peer whose entry is FlowTimeout may still answer: its next message is that answer then.
        """
        peers = sorted(messages)
        for peer in peers:
            self.send(peer, messages[peer])
        answers: dict[bytes, M | NodeError] = {}
        for peer in peers:
            try:
                answers[peer] = await self.receive(peer, answer_type, deadline_ns)
            except NodeError as error:
                answers[peer] = error
        return answers

    async def call(self, peer: bytes, service: str, payload: bytes) -> bytes:
        """The answer of an idempotent service of another node; asked again until it comes.

        An empty peer stands for one that is not in the network map: a start with a map that has it asks it.
        """
        answer: bytes = await CallService(peer, service, payload)
        return answer
