"""Both ends of an Exchange as one kind of stream: frames in, envelopes out."""

from dataclasses import dataclass
from typing import Any, Protocol

import grpc.aio
from google.protobuf.message import DecodeError
from p2pet.peer.v1.peer_pb2 import ExchangeRequest, Frame

from p2petd.peer.intake import ProtocolError
from p2petd.peer.link import FRAME_ENTRIES_MAX


class Stream(Protocol):
    """One side of an Exchange, client or server."""

    async def read(self) -> Frame | None:
        """The next frame; None at the end. Raises ProtocolError for one that does not decode or holds too much."""

    async def write(self, envelope: ExchangeRequest) -> None:
        """Requests and responses have the same bytes, so that one type serves both directions."""


@dataclass(frozen=True)
class ClientStream:
    call: Any

    async def read(self) -> Frame | None:
        return _decode(await self.call.read())

    async def write(self, envelope: ExchangeRequest) -> None:
        await self.call.write(envelope.SerializeToString())


@dataclass(frozen=True)
class ServerStream:
    context: Any

    async def read(self) -> Frame | None:
        return _decode(await self.context.read())

    async def write(self, envelope: ExchangeRequest) -> None:
        await self.context.write(envelope.SerializeToString())


def _decode(data: Any) -> Frame | None:
    if data is grpc.aio.EOF:
        return None
    try:
        frame = ExchangeRequest.FromString(data).frame
    except DecodeError:
        raise ProtocolError("a frame does not decode") from None
    entries = len(frame.messages) + len(frame.calls) + len(frame.replies)
    if entries > FRAME_ENTRIES_MAX:
        raise ProtocolError(f"a frame holds {entries} entries; at most {FRAME_ENTRIES_MAX} are taken")
    return frame
