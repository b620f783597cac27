"""The service "attachment" for peers: parts of attachments, read beside the event loop."""

import asyncio
from collections import Counter
from collections.abc import Callable

from google.protobuf.message import DecodeError
from p2pet.attachments.v1.attachments_pb2 import ChunkReply, ChunkRequest
from p2pet.peer.v1.peer_pb2 import Reply

from p2petd.attachments.store import HASH_BYTES, AttachmentStore
from p2petd.errors import AttachmentBusy, AttachmentDamaged, AttachmentNotFound, NodeError, RequestMalformed
from p2petd.units import SECOND_NS

ATTACHMENT = "attachment"
# A reply must fit into one frame with what else is in it.
CHUNK_BYTES_MAX = 512 * 1024
# Parts that are read for one peer at once; what waits to be sent to it, its link limits.
PARALLEL_PER_PEER_MAX = 8
BUSY_RETRY_NS = SECOND_NS // 10


class AttachmentChunks:
    """Whoever knows the hash may have the content. On the event loop's thread."""

    def __init__(self, store: AttachmentStore) -> None:
        self._store = store
        self._reading: Counter[bytes] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    def serve(self, peer: bytes, payload: bytes, answer: Callable[[Reply], None]) -> None:
        """Answer a `ChunkRequest` when the part is read: at once with an error when it is not one, or one too many."""
        try:
            request = _decode(payload)
            if self._reading[peer] >= PARALLEL_PER_PEER_MAX:
                raise AttachmentBusy(f"{PARALLEL_PER_PEER_MAX} parts are being read for this peer already")
        except NodeError as error:
            retry_ns = BUSY_RETRY_NS if isinstance(error, AttachmentBusy) else 0
            answer(Reply(error_code=error.code, error_message=error.message, retry_after_ns=retry_ns))
            return
        self._reading[peer] += 1
        task = asyncio.create_task(self._answer(peer, request, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, peer: bytes, request: ChunkRequest, answer: Callable[[Reply], None]) -> None:
        try:
            part = await asyncio.to_thread(self._part, request)
            answer(Reply(payload=part.SerializeToString()))
        except NodeError as error:
            answer(Reply(error_code=error.code, error_message="the attachment cannot be read there"))
        finally:
            self._reading[peer] -= 1
            if not self._reading[peer]:
                del self._reading[peer]

    def _part(self, request: ChunkRequest) -> ChunkReply:
        """Raises DataDirectoryError."""
        try:
            size = self._store.verify(request.hash)
        except (AttachmentNotFound, AttachmentDamaged):
            return ChunkReply()
        wanted = min(request.bytes_max or CHUNK_BYTES_MAX, CHUNK_BYTES_MAX)
        if request.offset >= size:
            return ChunkReply(size_bytes=size)
        return ChunkReply(size_bytes=size, content=self._store.read_part(request.hash, request.offset, wanted))


def _decode(payload: bytes) -> ChunkRequest:
    """Raises RequestMalformed."""
    try:
        request = ChunkRequest.FromString(payload)
    except DecodeError:
        raise RequestMalformed("the request for a part of an attachment does not decode") from None
    if len(request.hash) != HASH_BYTES:
        raise RequestMalformed(f"the hash of an attachment has {HASH_BYTES} bytes, not {len(request.hash)}")
    return request
