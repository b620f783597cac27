"""What the numbers were measured on: the machine, its file systems, and what each process takes of it."""

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs", "devtmpfs"})
_TICK_US = 1_000_000 // os.sysconf("SC_CLK_TCK")


class UnfitDirectory(Exception):
    """A directory whose file system makes nothing durable."""


@dataclass(frozen=True)
class Machine:
    """This machine, as far as it matters to a number."""

    cpu: str
    cores: int
    memory_bytes: int
    kernel: str
    python: str
    packages: Mapping[str, str]


@dataclass(frozen=True)
class Memory:
    """What one process holds, in bytes: all resident pages, those of no file, and the most there ever were."""

    resident: int
    anonymous: int
    peak: int


def this_machine() -> Machine:
    return Machine(
        cpu=_field(Path("/proc/cpuinfo"), "model name") or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=_kilobytes(Path("/proc/meminfo"), "MemTotal"),
        kernel=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        packages={name: version(name) for name in ("p2petd", "p2pet", "grpcio", "protobuf")},
    )


def file_system(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """The type of the file system that holds an existing path, such as ext4."""
    parts = path.resolve().parts
    found, depth = "unknown", -1
    for line in mounts.read_text().splitlines():
        left, _, right = line.partition(" - ")
        point = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), left.split()[4])).parts
        # A later mount on the same point hides the earlier one.
        if len(point) >= depth and parts[: len(point)] == point:
            found, depth = right.split()[0], len(point)
    return found


def durable_file_system(path: Path) -> str:
    """The file system of a path; raises UnfitDirectory when it lives in memory, where a sync costs nothing."""
    kind = file_system(path)
    if kind in MEMORY_FILE_SYSTEMS:
        raise UnfitDirectory(f"{path} is on {kind}, which keeps nothing on a disk; choose a directory on a disk")
    return kind


def memory(pid: int) -> Memory:
    status = Path(f"/proc/{pid}/status")
    return Memory(_kilobytes(status, "VmRSS"), _kilobytes(status, "RssAnon"), _kilobytes(status, "VmHWM"))


def disk_bytes(directory: Path) -> int:
    """What the files in a directory take on the disk, preallocated space included."""
    return sum(path.stat().st_blocks * 512 for path in directory.rglob("*") if path.is_file())


def cpu_us(pid: int) -> int:
    """User and system time of a process and all its threads so far, in steps of the kernel's clock tick."""
    # The name of the program, in parentheses, may hold spaces.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_US


def busy_us() -> int:
    """What all processors have spent on anything since the start of the machine, stolen time included."""
    user, nice, system, _, _, interrupts, soft, stolen = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + interrupts + soft + stolen) * _TICK_US


def _field(file: Path, name: str) -> str:
    match = re.search(rf"^{name}\s*:\s*(.*)$", file.read_text(), re.MULTILINE)
    return match[1].strip() if match else ""


def _kilobytes(file: Path, name: str) -> int:
    value = _field(file, name).removesuffix("kB").strip()
    return int(value) * 1024 if value else 0
