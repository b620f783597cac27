"""The attachments of a node: content-addressed files, durable before they count, never served when damaged."""

import logging
import os
import secrets
import threading
from bisect import bisect_right, insort
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from p2petd.attachments.files import disk_errors, hash_of, read_part, sync_directory, sync_file
from p2petd.errors import (
    AttachmentDamaged,
    AttachmentDiskFull,
    AttachmentHashDiffers,
    AttachmentNotFound,
    AttachmentTooLarge,
    NodeError,
    RequestMalformed,
    TransactionRefused,
)
from p2petd.observe import failpoints
from p2petd.observe.failpoints import Failpoint

log = logging.getLogger(__name__)

HASH_BYTES = 32
NAME_CHARACTERS_MAX = 255
# What a contract may read is read whole, by every party and by the notary.
CONTRACT_ATTACHMENT_BYTES_MAX = 1024 * 1024
CONTRACT_ATTACHMENTS_CACHED = 8
INCOMING = ".incoming-"
NAME_SUFFIX = ".name"
# A small file takes a block of the disk all the same.
BLOCK_BYTES = 4096


@dataclass(frozen=True)
class Stored:
    """An attachment that is whole here. `name` is what its uploader called it; empty for one that a peer sent."""

    hash: bytes
    size_bytes: int
    name: str
    stored_at_ns: int


class AttachmentStore:
    """One directory of attachments. From any thread; a repeated write of the same content changes nothing."""

    def __init__(self, directory: Path, directory_bytes_max: int, attachment_bytes_max: Callable[[], int]) -> None:
        """Removes what an earlier process left unfinished. Raises DataDirectoryError, AttachmentDiskFull."""
        self._directory = directory
        self.directory_bytes_max = directory_bytes_max
        self._attachment_bytes_max = attachment_bytes_max
        self._lock = threading.Lock()
        self._sizes: dict[bytes, int] = {}
        self._order: list[bytes] = []
        self._taken = 0
        self._damaged: set[bytes] = set()
        # By hash, which file was found whole: inode, size, time of change.
        self._verified: dict[bytes, tuple[int, int, int]] = {}
        self._for_contract = lru_cache(CONTRACT_ATTACHMENTS_CACHED)(self._read_whole)
        with disk_errors(f"opening {directory}"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._load()

    @property
    def attachment_bytes_max(self) -> int:
        """The size that the network permits an attachment today."""
        return self._attachment_bytes_max()

    def counters(self) -> dict[str, int]:
        with self._lock:
            return {"attachments": len(self._sizes), "attachments_bytes": self._taken}

    # Reading.

    def holds(self, attachment: bytes) -> bool:
        """Whether it is here, as far as is known without reading it."""
        with self._lock:
            return attachment in self._sizes and attachment not in self._damaged

    def size_of(self, attachment: bytes) -> int:
        """Raises AttachmentNotFound, AttachmentDamaged."""
        with self._lock:
            size, damaged = self._sizes.get(attachment), attachment in self._damaged
        if damaged:
            raise AttachmentDamaged(f"the file of the attachment {attachment.hex()} is damaged here")
        if size is None:
            raise AttachmentNotFound(f"this node has no attachment {attachment.hex()[:64]}")
        return size

    def info(self, attachment: bytes) -> Stored:
        """Raises AttachmentNotFound, AttachmentDamaged, DataDirectoryError."""
        size = self.size_of(attachment)
        path = self._path(attachment)
        with disk_errors(f"looking at {path}"):
            name_file = path.with_suffix(NAME_SUFFIX)
            name = name_file.read_text("utf-8", "replace") if name_file.exists() else ""
            return Stored(attachment, size, name[:NAME_CHARACTERS_MAX], path.stat().st_mtime_ns)

    def page(self, after: bytes, count: int) -> list[bytes]:
        """At most `count` hashes above `after`, ascending."""
        with self._lock:
            start = bisect_right(self._order, after)
            return self._order[start : start + count]

    def verify(self, attachment: bytes, *, anew: bool = False) -> int:
        """The size of an attachment whose file has its hash; each file is read once, or `anew`.

        Raises AttachmentNotFound, AttachmentDamaged, DataDirectoryError.
        """
        size, path = self.size_of(attachment), self._path(attachment)
        with disk_errors(f"reading {path}"):
            try:
                status = path.stat()
                seen = (status.st_ino, status.st_size, status.st_mtime_ns)
                if anew or self._verified.get(attachment) != seen:
                    if hash_of(path) != attachment:
                        raise self._damage(attachment)
                    self._verified[attachment] = seen
            except FileNotFoundError:
                raise self._damage(attachment) from None
        return size

    def read_part(self, attachment: bytes, offset: int, size: int) -> bytes:
        """At most `size` bytes of one that `verify` has passed. Raises DataDirectoryError."""
        path = self._path(attachment)
        with disk_errors(f"reading {path}"):
            return read_part(path, offset, size)

    def for_contract(self, attachment: bytes) -> bytes:
        """Its whole content, with this hash: the reader that contracts get.

        Raises TransactionRefused transaction.attachment_missing, transaction.attachment_too_large.
        """
        try:
            return self._for_contract(attachment)
        except AttachmentTooLarge as error:
            raise TransactionRefused("transaction.attachment_too_large", error.message) from None
        except NodeError as error:
            raise TransactionRefused("transaction.attachment_missing", error.message) from None

    def _read_whole(self, attachment: bytes) -> bytes:
        size = self.size_of(attachment)
        if size > CONTRACT_ATTACHMENT_BYTES_MAX:
            raise AttachmentTooLarge(
                f"the attachment {attachment.hex()} has {size} bytes; a contract reads {CONTRACT_ATTACHMENT_BYTES_MAX}"
            )
        content = self.read_part(attachment, 0, size + 1)
        if sha256(content).digest() != attachment:
            raise self._damage(attachment)
        return content

    # Writing.

    def incoming(self) -> "Incoming":
        """A new attachment, to be written in parts. Raises AttachmentDiskFull, DataDirectoryError."""
        return Incoming(self, self._directory / f"{INCOMING}{secrets.token_hex(16)}")

    def take_room(self, size: int) -> None:
        """Count bytes of the directory; negative to give them back. Raises AttachmentDiskFull."""
        with self._lock:
            if size > 0 and self._taken + size > self.directory_bytes_max:
                raise AttachmentDiskFull(
                    f"the attachments of this node may take {self.directory_bytes_max} bytes, which are taken"
                )
            self._taken += size

    def keep(self, temporary: Path, attachment: bytes, size: int, name: str) -> bool:
        """Make a synced file the attachment; False when it is here already, and whole. Raises OSError, NodeError."""
        if self.holds(attachment):
            try:
                self.verify(attachment)
                return False
            except AttachmentDamaged:
                log.warning("the damaged file of the attachment %s is replaced", attachment.hex())
        path = self._path(attachment)
        if name:
            named = temporary.with_suffix(NAME_SUFFIX)
            with named.open("wb") as stream:
                stream.write(name.encode())
                sync_file(stream)
            os.replace(named, path.with_suffix(NAME_SUFFIX))
        os.replace(temporary, path)
        failpoints.pass_(Failpoint.ATTACHMENT_RENAMED)
        sync_directory(self._directory)
        with self._lock:
            known = self._sizes.get(attachment)
            if known is None:
                insort(self._order, attachment)
            else:
                self._taken -= blocks(known)
            self._sizes[attachment] = size
            self._damaged.discard(attachment)
            self._verified.pop(attachment, None)
        return True

    def _damage(self, attachment: bytes) -> AttachmentDamaged:
        with self._lock:
            self._damaged.add(attachment)
        error = AttachmentDamaged(f"the file {self._path(attachment).name} of the attachments does not have its hash")
        log.error("%s; it is not used until it is uploaded or fetched again", error.message)
        return error

    def _path(self, attachment: bytes) -> Path:
        return self._directory / attachment.hex()

    def _load(self) -> None:
        """Take stock of the directory. Raises OSError."""
        names = set()
        for entry in os.scandir(self._directory):
            if entry.name.startswith(INCOMING):
                os.unlink(entry.path)
            elif entry.name.endswith(NAME_SUFFIX):
                names.add(entry.name.removesuffix(NAME_SUFFIX))
            elif _is_hash(entry.name) and entry.is_file(follow_symlinks=False):
                self._sizes[bytes.fromhex(entry.name)] = entry.stat().st_size
        for orphan in names - {attachment.hex() for attachment in self._sizes}:
            (self._directory / f"{orphan}{NAME_SUFFIX}").unlink()
        sync_directory(self._directory)
        self._order = sorted(self._sizes)
        self._taken = sum(map(blocks, self._sizes.values()))


class Incoming:
    """An attachment that is being written; `abort` at the end removes whatever `finish` has not made one.

    From any thread: who gives up need not wait for a write that is under way.
    """

    def __init__(self, store: AttachmentStore, path: Path) -> None:
        self._store = store
        self._path = path
        self._lock = threading.Lock()
        self._digest = sha256()
        self._taken = 0
        self.size_bytes = 0
        with disk_errors("writing an attachment"):
            self._stream = path.open("xb", buffering=0)

    def write(self, part: bytes) -> None:
        """Raises AttachmentTooLarge, AttachmentDiskFull, DataDirectoryError."""
        with self._lock:
            if self._stream.closed:
                return
            size = self.size_bytes + len(part)
            permitted = self._store.attachment_bytes_max
            if size > permitted:
                raise AttachmentTooLarge(f"an attachment has at most {permitted} bytes in this network")
            more = blocks(size) - self._taken
            self._store.take_room(more)
            self._taken += more
            with disk_errors("writing an attachment"):
                rest = memoryview(part)
                while rest:
                    rest = rest[self._stream.write(rest) :]
            self._digest.update(part)
            self.size_bytes = size

    def finish(self, *, name: str = "", expected: bytes = b"") -> Stored:
        """Keep what was written; it survives a power cut from now on. A repeat finds it here and changes nothing.

        1. It has at least one byte; else RequestMalformed.
        2. It has the `expected` hash, if there is one; else AttachmentHashDiffers.

        Raises AttachmentDiskFull, DataDirectoryError as well.
        """
        if not self.size_bytes:
            raise RequestMalformed("an attachment has at least one byte")
        attachment = self._digest.digest()
        if expected and attachment != expected:
            raise AttachmentHashDiffers(f"what came as the attachment {expected.hex()} has the hash {attachment.hex()}")
        with self._lock, disk_errors("keeping an attachment"):
            failpoints.pass_(Failpoint.ATTACHMENT_WRITTEN)
            sync_file(self._stream)
            self._stream.close()
            failpoints.pass_(Failpoint.ATTACHMENT_SYNCED)
            if self._store.keep(self._path, attachment, self.size_bytes, name):
                self._taken = 0
        return self._store.info(attachment)

    def abort(self) -> None:
        """Leave nothing of it but what was kept; repeating it does nothing."""
        with self._lock:
            self._stream.close()
            self._path.unlink(missing_ok=True)
            self._store.take_room(-self._taken)
            self._taken = 0


def blocks(size: int) -> int:
    """The bytes of the disk that so many bytes of content take."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def _is_hash(name: str) -> bool:
    return len(name) == 2 * HASH_BYTES and all(digit in "0123456789abcdef" for digit in name)
