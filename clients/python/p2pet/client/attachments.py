"""The files that transactions cite by their SHA-256, part by part."""

from collections.abc import AsyncIterator, Callable, Iterable
from hashlib import sha256
from typing import BinaryIO

from p2pet.attachments.v1 import attachments_pb2, attachments_pb2_grpc
from p2pet.client.connection import DEADLINE_SECONDS, Connection
from p2pet.client.errors import ApiError

PART_BYTES = 256 * 1024


class AttachmentsClient:
    """What the node keeps. No call holds more than a few parts in memory."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stub = attachments_pb2_grpc.AttachmentServiceStub(connection.channel)

    async def upload(self, content: BinaryIO | bytes, *, name: str = "") -> attachments_pb2.AttachmentInfo:
        """The attachment, durable at the node; repeating it changes nothing there."""
        call = self._stub.Upload(_requests(_parts(content), name), metadata=self._connection.metadata)
        return (await self._connection.answer(call)).attachment

    async def download(self, attachment: bytes, write: Callable[[bytes], object]) -> int:
        """Gives each part to `write`, in order; returns the size. Raises ApiError attachment.hash_differs at the end
        when what came is something else: then nothing of it may be used."""
        digest, size = sha256(), 0
        request = attachments_pb2.DownloadRequest(hash=attachment)
        call = self._stub.Download(request, metadata=self._connection.metadata)
        async for response in self._connection.answers(call):
            digest.update(response.content)
            size += len(response.content)
            write(response.content)
        if digest.digest() != attachment:
            raise ApiError("attachment.hash_differs", "the node sent other content than the hash names", "DATA_LOSS")
        return size

    async def fetch(
        self, attachment: bytes, peer: bytes, *, deadline_seconds: float | None = None
    ) -> attachments_pb2.AttachmentInfo:
        """Makes the node fetch it from another node, which holds it; returns at once when it is there already."""
        request = attachments_pb2.FetchRequest(hash=attachment, peer=peer)
        call = self._stub.Fetch(request, timeout=deadline_seconds, metadata=self._connection.metadata)
        return (await self._connection.answer(call)).attachment

    async def list(self, *, page_size: int = 0, page_token: str = "") -> attachments_pb2.ListResponse:
        """One page, ascending by hash; `next_page_token` is empty on the last."""
        request = attachments_pb2.ListRequest(page_size=page_size, page_token=page_token)
        call = self._stub.List(request, timeout=DEADLINE_SECONDS, metadata=self._connection.metadata)
        return await self._connection.answer(call)


def _parts(content: BinaryIO | bytes) -> Iterable[bytes]:
    if isinstance(content, bytes):
        return (content[at : at + PART_BYTES] for at in range(0, len(content), PART_BYTES))
    return iter(lambda: content.read(PART_BYTES), b"")


async def _requests(parts: Iterable[bytes], name: str) -> AsyncIterator[attachments_pb2.UploadRequest]:
    digest = sha256()
    for part in parts:
        digest.update(part)
        yield attachments_pb2.UploadRequest(name=name, content=part)
        name = ""
    yield attachments_pb2.UploadRequest(name=name, hash=digest.digest())
