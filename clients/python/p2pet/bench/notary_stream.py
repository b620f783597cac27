"""A peer of the notary without a daemon: speaks PeerService.Exchange itself (docs/protocol.md, section 8)."""

import asyncio
import os
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from p2pet.bench.load import NS_PER_SECOND, Timed
from p2pet.peer.v1.peer_pb2 import Call, ExchangeRequest, ExchangeResponse, Frame, Hello
from p2petd.flows.finality import NOTARISE
from p2petd.identity.tls import dial_options
from p2petd.membership import Membership
from p2petd.network.node_info import PLATFORM_VERSION
from p2petd.peer.hello import PROTOCOL_VERSION
from p2petd.peer.link import FRAME_SOFT_BYTES
from p2petd.peer.transport import CHANNEL_OPTIONS, EXCHANGE

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

    def packed(self, first: int, last: int) -> list[tuple[int, bytes]]:
        """(number of calls, bytes to send) of the frames with calls first ≤ n < last, closed at the soft limit."""
        packed, start, size = [], first, 0
        for number in range(first, last):
            size += len(self.frames[number])
            if size >= FRAME_SOFT_BYTES or number + 1 == last:
                packed.append((number + 1 - start, exchange_request(self.frames[start : number + 1])))
                start, size = number + 1, 0
        return packed


class _Progress:
    """What has been sent and answered of one load."""

    def __init__(self, calls: int) -> None:
        self.started_ns = time.perf_counter_ns()
        self.sent_ns, self.arrived_ns, self.replies = [0] * calls, [0] * calls, [b""] * calls
        self.sent = self.answered = 0
        self.arrived = asyncio.Event()

    def outcome(self) -> Answered:
        latencies = [arrived - sent for arrived, sent in zip(self.arrived_ns, self.sent_ns, strict=True)]
        elapsed_ns = max(self.arrived_ns) - self.started_ns
        return Answered(Timed(len(self.replies), elapsed_ns, latencies), self.replies)


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

    async def closed_loop(self, calls: PreparedCalls, outstanding: int) -> Answered:
        """Sends all, at most `outstanding` unanswered; a request's time starts when its frame is sent."""
        frames = calls.packed(0, len(calls))
        progress = _Progress(len(calls))

        async def send() -> None:
            for count, data in frames:
                while progress.sent + count - progress.answered > outstanding:
                    progress.arrived.clear()
                    await progress.arrived.wait()
                first, progress.sent = progress.sent, progress.sent + count
                progress.sent_ns[first : progress.sent] = [time.perf_counter_ns()] * count
                await self._call.write(data)

        return await self._exchange(send(), progress)

    async def open_loop(self, calls: PreparedCalls, per_second: float) -> Answered:
        """Sends at a rate, whatever comes back; a request's time starts when it was due, sent or not."""
        interval_ns = NS_PER_SECOND / per_second
        progress = _Progress(len(calls))
        progress.sent_ns = [progress.started_ns + int(number * interval_ns) for number in range(len(calls))]

        async def send() -> None:
            while progress.sent < len(calls):
                due = int((time.perf_counter_ns() - progress.started_ns) / interval_ns) + 1
                for count, data in calls.packed(progress.sent, min(due, len(calls))):
                    progress.sent += count
                    await self._call.write(data)
                await asyncio.sleep(TICK_SECONDS)

        return await self._exchange(send(), progress)

    async def _exchange(self, send: Coroutine[None, None, None], progress: _Progress) -> Answered:
        """Sends and reads until every call is answered. Raises NotaryUnfit when that does not come about."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(send)
                group.create_task(self._collect(progress))
        except BaseExceptionGroup as failures:
            first = failures.exceptions[0]
            if isinstance(first, grpc.aio.AioRpcError):
                raise NotaryUnfit(f"the stream to the notary broke: {first.details()}") from first
            raise first from None
        return progress.outcome()

    async def _collect(self, progress: _Progress) -> None:
        while progress.answered < len(progress.replies):
            frame = await self._read()
            now = time.perf_counter_ns()
            for reply in frame.replies:
                if reply.error_code:
                    raise NotaryUnfit(f"the notary answers {reply.error_code}: {reply.error_message}")
                number = int.from_bytes(reply.call_id)
                progress.replies[number], progress.arrived_ns[number] = reply.payload, now
            progress.answered += len(frame.replies)
            progress.arrived.set()

    async def _read(self) -> Frame:
        data = await self._call.read()
        if data is grpc.aio.EOF:
            raise NotaryUnfit(f"the notary ended the stream: {await self._call.details()}")
        return ExchangeResponse.FromString(data).frame


def exchange_request(frames: Sequence[bytes]) -> bytes:
    """The bytes of the `ExchangeRequest` with the frame that these join to: a tag, a length, the frame."""
    length = sum(map(len, frames))
    prefix = bytearray(b"\x0a")
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix) + b"".join(frames)
