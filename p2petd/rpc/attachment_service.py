"""attachments.v1.AttachmentService: what this node keeps of the files that transactions cite."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from p2pet.attachments.v1 import attachments_pb2 as pb
from p2pet.attachments.v1 import attachments_pb2_grpc

from p2petd.attachments.fetcher import AttachmentFetcher
from p2petd.attachments.store import HASH_BYTES, NAME_CHARACTERS_MAX, AttachmentStore, Incoming, Stored
from p2petd.errors import AttachmentDamaged, AttachmentNotFound, NodeError, RequestMalformed
from p2petd.network.network_map import NetworkMap
from p2petd.rpc.errors import Undecodable, streaming, unary
from p2petd.rpc.paging import decode_token, encode_token, page_size

# Of one message of an upload, and of a download.
UPLOAD_PART_BYTES_MAX = 1024 * 1024
DOWNLOAD_PART_BYTES = 256 * 1024
# How long what follows a refused part of an upload is still taken, and dropped.
DRAIN_SECONDS_MAX = 5.0


class AttachmentService(attachments_pb2_grpc.AttachmentServiceServicer):
    """Holds one part of each upload and download in memory; files are touched beside the event loop."""

    def __init__(self, store: AttachmentStore, fetcher: AttachmentFetcher, network_map: NetworkMap) -> None:
        self._store = store
        self._fetcher = fetcher
        self._map = network_map

    @unary
    async def Upload(self, request: AsyncIterator[pb.UploadRequest], context: Any) -> pb.UploadResponse:
        incoming = await asyncio.to_thread(self._store.incoming)
        try:
            name, expected = await _receive(request, incoming)
            stored = await asyncio.to_thread(incoming.finish, name=name, expected=expected)
        except NodeError:
            await _drain(request)
            raise
        finally:
            # The client may be gone; what is half must go too.
            await asyncio.shield(asyncio.to_thread(incoming.abort))
        return pb.UploadResponse(attachment=_info(stored))

    @streaming
    async def Download(self, request: pb.DownloadRequest, context: Any) -> AsyncIterator[pb.DownloadResponse]:
        attachment = _hash(request.hash)
        size = await asyncio.to_thread(self._store.verify, attachment, anew=True)
        for offset in range(0, size, DOWNLOAD_PART_BYTES):
            part = await asyncio.to_thread(self._store.read_part, attachment, offset, DOWNLOAD_PART_BYTES)
            yield pb.DownloadResponse(content=part)

    @unary
    async def Fetch(self, request: pb.FetchRequest, context: Any) -> pb.FetchResponse:
        attachment = _hash(request.hash)
        self._map.by_identity(request.peer)
        await self._fetcher.fetch(request.peer, attachment)
        return pb.FetchResponse(attachment=_info(await asyncio.to_thread(self._store.info, attachment)))

    @unary
    async def List(self, request: pb.ListRequest, context: Any) -> pb.ListResponse:
        size = page_size(request.page_size)
        found = self._store.page(decode_token(request.page_token) if request.page_token else b"", size + 1)
        entries = await asyncio.to_thread(self._infos, found[:size])
        more = found[size - 1] if len(found) > size else None
        return pb.ListResponse(attachments=[_info(one) for one in entries], next_page_token=encode_token(more))

    def _infos(self, attachments: list[bytes]) -> list[Stored]:
        """Those that are whole, as far as is known. Raises DataDirectoryError."""
        entries = []
        for attachment in attachments:
            try:
                entries.append(self._store.info(attachment))
            except (AttachmentNotFound, AttachmentDamaged):
                continue
        return entries


async def _drain(parts: AsyncIterator[pb.UploadRequest]) -> None:
    """Let the client send the rest for a while: one that is refused in the middle of a write does not hear why."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS_MAX):
            async for _ in parts:
                pass


async def _receive(parts: AsyncIterator[pb.UploadRequest], incoming: Incoming) -> tuple[str, bytes]:
    """Write every part; returns the name and the hash that the last one holds.

    A client that vanishes can look like one that has sent all; the hash tells them apart. Raises RequestMalformed,
    AttachmentTooLarge, AttachmentDiskFull.
    """
    name, expected = "", b""
    first = True
    async for part in parts:
        if isinstance(part, Undecodable):
            raise RequestMalformed("a part of the upload does not decode; use the protos of this version")
        if len(part.content) > UPLOAD_PART_BYTES_MAX:
            raise RequestMalformed(f"a part of an upload has at most {UPLOAD_PART_BYTES_MAX} bytes")
        if expected:
            raise RequestMalformed("nothing follows the part of an upload that holds the hash")
        expected = _hash(part.hash) if part.hash else b""
        if part.name and not first:
            raise RequestMalformed("only the first part of an upload may hold a name")
        if first:
            name, first = part.name, False
            if len(name) > NAME_CHARACTERS_MAX or not name.isprintable():
                raise RequestMalformed(f"a name has at most {NAME_CHARACTERS_MAX} printable characters")
        await asyncio.to_thread(incoming.write, part.content)
    if not expected:
        raise RequestMalformed("the upload ends without the hash of its content; it was cut short")
    return name, expected


def _hash(value: bytes) -> bytes:
    """Raises RequestMalformed."""
    if len(value) != HASH_BYTES:
        raise RequestMalformed(f"the hash of an attachment has {HASH_BYTES} bytes, not {len(value)}")
    return value


def _info(stored: Stored) -> pb.AttachmentInfo:
    return pb.AttachmentInfo(
        hash=stored.hash, size_bytes=stored.size_bytes, name=stored.name, stored_at_ns=stored.stored_at_ns
    )
