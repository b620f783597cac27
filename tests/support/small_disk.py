"""A small disk of its own in a directory, which a test fills and frees. Needs the right to mount; without it, skips."""

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_BALLAST = "ballast"


class SmallDisk:
    """Mounted at `directory`, in memory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def free_bytes(self) -> int:
        stat = os.statvfs(self.directory)
        return stat.f_bavail * stat.f_frsize

    def fill(self, leave_bytes: int = 0) -> None:
        """Until no more than that is free; once more after what was left has been used."""
        with (self.directory / _BALLAST).open("ab", buffering=0) as ballast:
            zeros = bytes(1 << 16)
            while self.free_bytes > leave_bytes:
                try:
                    ballast.write(zeros[: max(1, self.free_bytes - leave_bytes)])
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    return

    def free(self) -> None:
        """Give back what `fill` took."""
        (self.directory / _BALLAST).unlink(missing_ok=True)


@contextmanager
def small_disk(directory: Path, mib: int) -> Iterator[SmallDisk]:
    """Skips the test where this user may not mount; what lies in the directory meanwhile is gone afterwards."""
    libc = ctypes.CDLL(None, use_errno=True)
    directory.mkdir(parents=True, exist_ok=True)
    if libc.mount(b"tmpfs", bytes(directory), b"tmpfs", 0, f"size={mib}m".encode()) != 0:
        pytest.skip(f"no small disk can be mounted here ({os.strerror(ctypes.get_errno())}): run this test as root")
    try:
        yield SmallDisk(directory)
    finally:
        # Even if a process that has failed to end still uses it.
        detach = 2
        libc.umount2(bytes(directory), detach)
