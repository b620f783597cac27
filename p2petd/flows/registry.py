"""Which flows this node can run: the initiating half, started by clients, and the responding half, started by peers."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError, Message
from p2pet.store.v1.store_pb2 import FlowRow

from p2petd.errors import FlowArgumentsInvalid, FlowCodeChanged, UnknownFlow

if TYPE_CHECKING:
    from p2petd.flows.context import FlowContext

# An initiator gets its arguments and answers the id of the transaction that it made, or nothing.
Initiator = Callable[["FlowContext", Any], Coroutine[Any, Any, bytes | None]]
# A responder gets the initiator's identity; its first receive answers the opening message.
Responder = Callable[["FlowContext", bytes], Coroutine[Any, Any, bytes | None]]


NAME_MAX = 100


@dataclass(frozen=True)
class FlowDefinition:
    """One version of one flow."""

    name: str
    version: int
    arguments: type[Message]
    description: str
    initiator: Initiator
    responder: Responder | None
    # Started by the node itself, for what a flow left behind; no client can start or end it.
    internal: bool = False

    def coroutine(self, context: "FlowContext", row: FlowRow) -> Coroutine[Any, Any, bytes | None]:
        """The half that the row says, not begun. Raises FlowCodeChanged, FlowArgumentsInvalid."""
        if row.counterparty:
            if self.responder is None:
                raise FlowCodeChanged(f"{row.flow} version {row.version} has no responding half any more")
            return self.responder(context, row.counterparty)
        try:
            arguments = self.arguments.FromString(row.input)
        except DecodeError:
            wanted = self.arguments.DESCRIPTOR.full_name
            raise FlowArgumentsInvalid(f"the arguments of {self.name} are no {wanted} message") from None
        return self.initiator(context, arguments)


class FlowRegistry:
    """Look-up by name and version; a changed flow is registered as a new version beside the old one."""

    def __init__(self, definitions: tuple[FlowDefinition, ...]) -> None:
        self._by_key = {(d.name, d.version): d for d in definitions}

    def get(self, name: str, version: int, node: str = "this node") -> FlowDefinition:
        """Version 0 is the newest. Raises UnknownFlow, which calls this node as `node` says: a peer may read it."""
        known = sorted(v for (n, v) in self._by_key if n == name)
        wanted = max(known, default=0) if version == 0 else version
        definition = self._by_key.get((name, wanted))
        if definition is None:
            lacking = f"{name} version {version}; it has {known}" if known else f"flow {name[:NAME_MAX]!r}"
            raise UnknownFlow(f"{node} has no {lacking}; list its flows with `p2pet-cli flow types`")
        return definition

    def all(self) -> tuple[FlowDefinition, ...]:
        return tuple(self._by_key[key] for key in sorted(self._by_key))
