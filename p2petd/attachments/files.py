"""Reading and durably writing single files; every failure is one of our errors."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from p2petd.errors import AttachmentDiskFull, DataDirectoryError

READ_BYTES = 256 * 1024
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def disk_errors(doing: str) -> Iterator[None]:
    """An OSError becomes AttachmentDiskFull where there is no room, else DataDirectoryError naming `doing`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        if error.errno in _FULL:
            raise AttachmentDiskFull(f"no room for {doing}: {reason}") from error
        raise DataDirectoryError(f"failed: {doing}: {reason}") from error


def hash_of(path: Path) -> bytes:
    """SHA-256 of a file, read in parts. Raises OSError."""
    digest = sha256()
    with path.open("rb", buffering=0) as stream:
        while part := stream.read(READ_BYTES):
            digest.update(part)
    return digest.digest()


def read_part(path: Path, offset: int, size: int) -> bytes:
    """At most `size` bytes from `offset` on. Raises OSError."""
    with path.open("rb", buffering=0) as stream:
        stream.seek(offset)
        return stream.read(size)


def sync_file(stream: BinaryIO) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def sync_directory(directory: Path) -> None:
    """What was renamed into it or removed from it survives a power cut. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
