"""What a process does with files and sockets, as the kernel saw it: `strace -f -ttt`, read back."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ATTACH_SECONDS_MAX = 20.0
CALLS = "read,readv,recvmsg,recvfrom,write,writev,sendmsg,sendto,fdatasync,fsync"
ARRIVALS = frozenset({"read", "readv", "recvmsg", "recvfrom"})
DEPARTURES = frozenset({"write", "writev", "sendmsg", "sendto"})
SYNCS = frozenset({"fdatasync", "fsync"})
# One line: thread, time, name(arguments...) = result; a call that another thread interrupts comes in two lines.
_CALL = r"(\d+) +([0-9.]+) (\w+)\((\d+)<((?:->|[^>])*)>"
_WHOLE = re.compile(_CALL + r".*= (-?\d+)")
_BEGUN = re.compile(_CALL + r".*<unfinished \.\.\.>$")
_ENDED = re.compile(r"(\d+) +([0-9.]+) <\.\.\. (\w+) resumed>.*= (-?\d+)")


@dataclass(frozen=True)
class Syscall:
    """One finished call on one file; `started` and `ended` are positions in the trace, `result` what it returned."""

    name: str
    file: str
    started: int
    ended: int
    result: int

    @property
    def is_tcp(self) -> bool:
        return self.file.startswith("TCP")


def needs_strace() -> None:
    """Skips the test, saying why, where tracing is not possible."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: sudo apt-get install -y strace")
    probe = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        pytest.skip(f"this machine forbids ptrace: {probe.stderr.strip()}")


@contextlib.contextmanager
def traced(pid: int, output: Path) -> Iterator[None]:
    """Trace a process and all its threads while the context lasts; `read_trace` understands the file."""
    command = ["strace", "-f", "-ttt", "-yy", "-s", "0", "-e", f"trace={CALLS}", "-o", str(output), "-p", str(pid)]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        _wait_attached(tracer, pid)
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(ATTACH_SECONDS_MAX)
        if tracer.stderr is not None:
            tracer.stderr.close()


def _wait_attached(tracer: subprocess.Popen[str], pid: int) -> None:
    """Until every thread says who traces it."""
    assert tracer.stderr is not None
    line = tracer.stderr.readline()
    assert "attached" in line, line
    wanted = f"TracerPid:\t{tracer.pid}\n"
    while not all(wanted in (task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir()):
        assert tracer.poll() is None, tracer.stderr.read()


def read_trace(output: Path) -> list[Syscall]:
    """The calls that succeeded, by their ends."""
    begun: dict[str, tuple[str, str, int]] = {}
    calls = []
    for position, line in enumerate(output.read_text(errors="replace").splitlines()):
        if found := _BEGUN.match(line):
            begun[found[1]] = (found[3], found[5], position)
        elif found := _ENDED.match(line):
            name, file, started = begun.pop(found[1], ("", "", position))
            if name == found[3]:
                calls.append(Syscall(name, file, started, position, int(found[4])))
        elif found := _WHOLE.match(line):
            calls.append(Syscall(found[3], found[5], position, position, int(found[6])))
    return [call for call in calls if call.result >= 0]
