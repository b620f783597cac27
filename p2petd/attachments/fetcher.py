"""Fetching attachments from peers: a few parts in flight, the hash verified before anything counts."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable

from google.protobuf.message import DecodeError
from p2pet.attachments.v1.attachments_pb2 import ChunkReply, ChunkRequest
from p2pet.peer.v1.peer_pb2 import Reply

from p2petd.attachments.chunks import ATTACHMENT
from p2petd.attachments.store import AttachmentStore, Incoming
from p2petd.errors import (
    AttachmentBusy,
    AttachmentDiskFull,
    AttachmentNotFound,
    AttachmentTooLarge,
    AttachmentUnavailable,
    UnknownParty,
)
from p2petd.units import SECOND_NS

CHUNK_BYTES = 256 * 1024
IN_FLIGHT_MAX = 4
# Attachments that are fetched from one peer at once; further ones wait.
PARALLEL_PER_PEER_MAX = 2
# A part that has not come by then, over however many connections, does not come.
STALL_SECONDS_MAX = 30.0
RATE_BYTES_PER_SECOND_MIN = 128 * 1024
# Who asks another peer for what is on its way already waits so long for that.
SHARED_SECONDS_MAX = 5.0

# Of the whole directory, what one peer can make this node keep in a day.
DAILY_SHARE = 4
DAY_SECONDS = 24 * 3600.0

CallPeer = Callable[[bytes, str, bytes], Awaitable[Reply]]


class AttachmentFetcher:
    """On the event loop's thread. Who wants what is on its way from a peer shares that fetch."""

    def __init__(self, store: AttachmentStore, call: CallPeer) -> None:
        """`call` asks a service of a peer until it answers, over reconnects."""
        self._store = store
        self._call = call
        self._running: dict[tuple[bytes, bytes], asyncio.Task[None]] = {}
        self._turns: defaultdict[bytes, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(PARALLEL_PER_PEER_MAX)
        )
        # By peer: when its day began, and the bytes that it has given since.
        self._given: dict[bytes, tuple[float, int]] = {}

    async def fetch(self, peer: bytes, attachment: bytes) -> None:
        """The attachment is here afterwards, whole and durable; nothing is asked when it is here before.

        Raises AttachmentNotFound when the peer lacks it, AttachmentHashDiffers, AttachmentTooLarge,
        AttachmentUnavailable, AttachmentDiskFull, DataDirectoryError; nothing is kept then. Who is cancelled does not
        end the fetch for others.
        """
        key = (attachment, peer)
        elsewhere = [task for (wanted, _), task in self._running.items() if wanted == attachment]
        if elsewhere and key not in self._running:
            await asyncio.wait(elsewhere, timeout=SHARED_SECONDS_MAX, return_when=asyncio.FIRST_COMPLETED)
        if self._store.holds(attachment):
            return
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(self._fetch_in_turn(peer, attachment))
            task.add_done_callback(lambda done: self._ended(key, done))
        await asyncio.shield(task)

    async def stop(self) -> None:
        """Give up what is under way; nothing half is left."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, key: tuple[bytes, bytes], task: "asyncio.Task[None]") -> None:
        del self._running[key]
        # Everybody who asked may have gone; an error that nobody takes is not a bug.
        if not task.cancelled():
            task.exception()

    async def _fetch_in_turn(self, peer: bytes, attachment: bytes) -> None:
        async with self._turns[peer]:
            if self._store.holds(attachment):
                return
            incoming = await asyncio.to_thread(self._store.incoming)
            try:
                async with asyncio.timeout(STALL_SECONDS_MAX) as limit:
                    await self._receive(peer, attachment, incoming, limit)
                await asyncio.to_thread(incoming.finish, expected=attachment)
                began, given = self._today(peer)
                self._given[peer] = began, given + incoming.size_bytes
            except TimeoutError:
                raise AttachmentUnavailable(
                    f"the peer does not send the attachment {attachment.hex()}, or too slowly"
                ) from None
            except UnknownParty as error:
                raise AttachmentUnavailable(error.message) from None
            finally:
                await asyncio.shield(asyncio.to_thread(incoming.abort))

    async def _receive(self, peer: bytes, attachment: bytes, incoming: Incoming, limit: asyncio.Timeout) -> None:
        """Write all parts, in order. The first one tells the size, from which the limit of time follows."""
        first = await self._part(peer, attachment, 0, 0)
        size = first.size_bytes
        permitted = self._store.attachment_bytes_max
        if size > permitted:
            raise AttachmentTooLarge(f"the peer's attachment has {size} bytes; this network permits {permitted}")
        share = self._store.directory_bytes_max // DAILY_SHARE
        if self._today(peer)[1] + size > share:
            raise AttachmentDiskFull(
                f"of one peer this node keeps at most {share} new bytes a day; this one gave so many"
            )
        now = asyncio.get_running_loop().time()
        limit.reschedule(now + STALL_SECONDS_MAX + size / RATE_BYTES_PER_SECOND_MIN)
        await asyncio.to_thread(incoming.write, first.content)
        offsets = iter(range(CHUNK_BYTES, size, CHUNK_BYTES))
        coming: deque[asyncio.Task[ChunkReply]] = deque()
        try:
            while True:
                while len(coming) < IN_FLIGHT_MAX and (offset := next(offsets, None)) is not None:
                    coming.append(asyncio.create_task(self._part(peer, attachment, offset, size)))
                if not coming:
                    return
                part = await coming.popleft()
                await asyncio.to_thread(incoming.write, part.content)
        finally:
            for task in coming:
                task.cancel()
            await asyncio.gather(*coming, return_exceptions=True)

    def _today(self, peer: bytes) -> tuple[float, int]:
        now = asyncio.get_running_loop().time()
        began, given = self._given.get(peer, (now, 0))
        return (began, given) if now < began + DAY_SECONDS else (now, 0)

    async def _answer(self, peer: bytes, request: bytes) -> Reply:
        """What the peer says when it is not busy any more."""
        while True:
            reply = await self._call(peer, ATTACHMENT, request)
            if reply.error_code != AttachmentBusy.code:
                return reply
            await asyncio.sleep(min(max(reply.retry_after_ns / SECOND_NS, 0.05), 1.0))

    async def _part(self, peer: bytes, attachment: bytes, offset: int, size: int) -> ChunkReply:
        """The part at `offset` of an attachment of `size` bytes; 0 where that is not known yet.

        1. The peer answers in time; it is asked again while it is busy. Else AttachmentUnavailable.
        2. It holds the attachment; else AttachmentNotFound.
        3. The size is the same in every answer, and the part has the length that follows; else AttachmentUnavailable.
        """
        request = ChunkRequest(hash=attachment, offset=offset, bytes_max=CHUNK_BYTES).SerializeToString()
        async with asyncio.timeout(STALL_SECONDS_MAX):
            reply = await self._answer(peer, request)
        if reply.error_code:
            raise AttachmentUnavailable(f"the peer does not give attachments: {reply.error_code}")
        try:
            part = ChunkReply.FromString(reply.payload)
        except DecodeError:
            raise AttachmentUnavailable("the peer sends no valid parts of attachments") from None
        if not part.size_bytes:
            raise AttachmentNotFound(f"the peer has no attachment {attachment.hex()}")
        whole = size or part.size_bytes
        if part.size_bytes != whole or len(part.content) != min(CHUNK_BYTES, whole - offset):
            raise AttachmentUnavailable("the peer sends parts of another size than it was asked for")
        return part
