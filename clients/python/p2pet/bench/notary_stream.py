"""A peer of the notary without a daemon: speaks PeerService.Exchange itself (docs/protocol.md, section 8)."""

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from p2pet.bench.load import NS_PER_SECOND, Timed
from p2pet.peer.v1.peer_pb2 import Call, ExchangeRequest, ExchangeResponse, Frame, Hello
from p2petd.flows.finality import NOTARISE
from p2petd.identity.tls import dial_options
from p2petd.network.node_info import PLATFORM_VERSION
from p2petd.node import Membership
from p2petd.peer.link import FRAME_SOFT_BYTES
from p2petd.peer.transport import CHANNEL_OPTIONS, EXCHANGE, PROTOCOL_VERSION

TICK_SECONDS = 0.001
CALL_ID_BYTES = 8


class NotaryUnfit(Exception):
    """The notary did not answer every request: then nothing was measured that counts."""


@dataclass(frozen=True)
class Answered:
    """How long it took, and the notary's answer to each request, in the order of the requests."""

    timed: Timed
    replies: list[bytes]


class PreparedCalls:
    """Requests as the bytes of frames with one call each; joined, they are the bytes of a frame with all of them."""

    def __init__(self, requests: Sequence[bytes]) -> None:
        self.frames = [
            Frame(
                calls=[Call(call_id=number.to_bytes(CALL_ID_BYTES), service=NOTARISE, payload=request)]
            ).SerializeToString()
            for number, request in enumerate(requests)
        ]

    def __len__(self) -> int:
        return len(self.frames)

    def packed(self, calls_max: int) -> list[tuple[int, bytes]]:
        """(number of calls, bytes to send) of frames of at most so many calls, closed at the soft limit."""
        packed, first, size = [], 0, 0
        for number, frame in enumerate(self.frames):
            size += len(frame)
            if size >= FRAME_SOFT_BYTES or number + 1 - first == calls_max or number + 1 == len(self.frames):
                packed.append((number + 1 - first, exchange_request(self.frames[first : number + 1])))
                first, size = number + 1, 0
        return packed


class NotaryStream:
    """One stream to the notary; use it with `async with`. One load at a time."""

    def __init__(self, member: Membership, address: str, notary: bytes) -> None:
        self._member = member
        options = (*CHANNEL_OPTIONS, *dial_options(member.network_map.by_identity(notary).fingerprint))
        self._channel = grpc.aio.secure_channel(address, member.tls.peer_channel_credentials(), options)
        self._call: Any = self._channel.stream_stream(EXCHANGE)()

    async def __aenter__(self) -> Self:
        identity = self._member.identity
        hello = Hello(
            protocol_min=PROTOCOL_VERSION,
            protocol_max=PROTOCOL_VERSION,
            network_id=identity.network_id,
            identity=identity.public,
            epoch=os.urandom(16),
            platform_version=PLATFORM_VERSION,
        )
        await self._call.write(ExchangeRequest(frame=Frame(hello=hello)).SerializeToString())
        await self._read()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call.cancel()
        await self._channel.close()

    async def closed_loop(self, calls: PreparedCalls, outstanding: int, calls_in_frame: int) -> Answered:
        """Sends all, at most `outstanding` unanswered; a request's time starts when its frame is sent."""
        frames = calls.packed(calls_in_frame)
        sent_ns = [0] * len(calls)
        sent = answered = 0
        room = asyncio.Event()

        async def send() -> None:
            nonlocal sent
            for count, data in frames:
                while sent + count - answered > outstanding:
                    room.clear()
                    await room.wait()
                sent_ns[sent : sent + count] = [time.perf_counter_ns()] * count
                sent += count
                await self._call.write(data)

        started = time.perf_counter_ns()
        sender = asyncio.create_task(send())
        replies, arrived_ns = [b""] * len(calls), [0] * len(calls)
        while answered < len(calls):
            answered += await self._collect(replies, arrived_ns)
            room.set()
        await sender
        return _answered(started, sent_ns, arrived_ns, replies)

    async def open_loop(self, calls: PreparedCalls, per_second: float) -> Answered:
        """Sends at a rate, whatever comes back; a request's time starts when it was due, sent or not."""
        interval_ns = NS_PER_SECOND / per_second
        started = time.perf_counter_ns()

        async def send() -> None:
            sent = 0
            while sent < len(calls):
                due = min(len(calls), int((time.perf_counter_ns() - started) / interval_ns) + 1)
                if due > sent:
                    await self._call.write(exchange_request(calls.frames[sent:due]))
                    sent = due
                await asyncio.sleep(TICK_SECONDS)

        sender = asyncio.create_task(send())
        replies, arrived_ns = [b""] * len(calls), [0] * len(calls)
        answered = 0
        while answered < len(calls):
            answered += await self._collect(replies, arrived_ns)
        await sender
        return _answered(started, [started + int(n * interval_ns) for n in range(len(calls))], arrived_ns, replies)

    async def _collect(self, replies: list[bytes], arrived_ns: list[int]) -> int:
        """Takes one frame; how many replies it held. Raises NotaryUnfit when the notary could not answer at all."""
        frame = await self._read()
        now = time.perf_counter_ns()
        for reply in frame.replies:
            if reply.error_code:
                raise NotaryUnfit(f"the notary answers {reply.error_code}: {reply.error_message}")
            number = int.from_bytes(reply.call_id)
            replies[number], arrived_ns[number] = reply.payload, now
        return len(frame.replies)

    async def _read(self) -> Frame:
        data = await self._call.read()
        if data is grpc.aio.EOF:
            raise NotaryUnfit(f"the notary ended the stream: {await self._call.details()}")
        return ExchangeResponse.FromString(data).frame


def _answered(started: int, sent_ns: list[int], arrived_ns: list[int], replies: list[bytes]) -> Answered:
    latencies = [arrived - sent for arrived, sent in zip(arrived_ns, sent_ns, strict=True)]
    return Answered(Timed(len(replies), max(arrived_ns) - started, latencies), replies)


def exchange_request(frames: Sequence[bytes]) -> bytes:
    """The bytes of the `ExchangeRequest` with the frame that these join to: a tag, a length, the frame."""
    length = sum(map(len, frames))
    prefix = bytearray(b"\x0a")
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix) + b"".join(frames)
