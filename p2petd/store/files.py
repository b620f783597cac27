"""Small files that are whole or not there, and directories whose names last."""

import os
from pathlib import Path

# Where a restore builds the data directory, beside it.
RESTORING = ".restoring"


def sync_directory(directory: Path) -> None:
    """What was renamed into it or removed from it survives a power cut. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, content: bytes, mode: int = 0o600) -> None:
    """A new file with this content, synced; its name is not. Raises OSError, also when the file is there."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def replace_durably(path: Path, content: bytes, mode: int = 0o600) -> None:
    """After a crash the file holds its old content or this. Raises OSError."""
    unfinished = path.with_name(path.name + ".tmp")
    unfinished.unlink(missing_ok=True)
    write_durably(unfinished, content, mode)
    unfinished.rename(path)
    sync_directory(path.parent)
