"""Flows without a ledger, for tests of the engine: a message is a `Note`, whose bytes say what the test wants."""

from collections.abc import Awaitable, Callable

from p2pet.flows.v1.sessions_pb2 import SignatureRequest

from p2petd.flows.context import FlowContext
from p2petd.flows.registry import FlowDefinition

Note = SignatureRequest
Half = Callable[[FlowContext, bytes], Awaitable[object]]
"""Of the context and the peer: for an initiator the peer that its argument names."""


def note(text: bytes = b"") -> SignatureRequest:
    return Note(proposal=text)


def toy(name: str, initiator: Half, responder: Half | None = None, version: int = 1) -> FlowDefinition:
    """A flow whose argument is the identity of a peer, or nothing."""

    async def initiate(ctx: FlowContext, arguments: SignatureRequest) -> bytes | None:
        await initiator(ctx, arguments.proposal)
        return None

    async def respond(ctx: FlowContext, peer: bytes) -> bytes | None:
        assert responder is not None
        await responder(ctx, peer)
        return None

    answering = None if responder is None else respond
    return FlowDefinition(name, version, Note, "a toy", initiate, answering)


def to(peer: bytes) -> bytes:
    """The argument that names a peer."""
    return note(peer).SerializeToString()
