"""A network of real daemons on this machine: started, watched, stopped, killed. For tests, benches and demos."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from p2pet.client import ApiError, NodeClient

READY_SECONDS_MAX = 20.0
STOP_SECONDS_MAX = 20.0
POLL_SECONDS = 0.01


class DaemonFailed(Exception):
    """A daemon ended before it was ready, or did not become ready; the text holds the end of its log."""


class Process(Protocol):
    """The part of subprocess.Popen that a network uses."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""

    def send_signal(self, number: int, /) -> None: ...

    def kill(self) -> None: ...


@dataclass(frozen=True)
class Launcher:
    """`start` starts the daemon of a node.toml with a log file and with what its environment has besides ours."""

    start: Callable[[Path, Path, Mapping[str, str]], Process]


def start_subprocess(config: Path, log_file: Path, environment: Mapping[str, str]) -> Process:
    """`python -m p2petd`, with this interpreter."""
    with log_file.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "p2petd", "--config", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **environment},
            # A terminal's Ctrl-C reaches only us; we stop the daemons in order.
            start_new_session=True,
        )


class LocalNetwork:
    """The nodes of a directory that `p2pet-cli network bootstrap` made, one process each.

    Each daemon writes to `<node>/node.log`. Leave it through `close`, which leaves no process behind.
    """

    # How daemons are started; tests have a faster way.
    launcher: ClassVar[Launcher] = Launcher(start_subprocess)

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.names = tuple(sorted(path.parent.name for path in directory.glob("*/node.toml")))
        self._processes: dict[str, Process] = {}

    def __enter__(self) -> "LocalNetwork":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def node_directory(self, name: str) -> Path:
        return self.directory / name

    def client(self, name: str) -> NodeClient:
        return NodeClient.from_config(self.node_directory(name))

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def is_running(self, name: str) -> bool:
        process = self._processes.get(name)
        return process is not None and process.poll() is None

    def launch(self, name: str, environment: Mapping[str, str] | None = None) -> Process:
        """Start a daemon without waiting for it."""
        directory = self.node_directory(name)
        process = self.launcher.start(directory / "node.toml", directory / "node.log", environment or {})
        self._processes[name] = process
        return process

    async def start(self, *names: str, environment: Mapping[str, str] | None = None) -> None:
        """Start these nodes (all when none is named) and wait until each serves. Raises DaemonFailed."""
        chosen = names or self.names
        for name in chosen:
            self.launch(name, environment)
        await asyncio.gather(*(self.wait_ready(name) for name in chosen))

    async def wait_ready(self, name: str) -> None:
        """Raises DaemonFailed when the process ends or READY_SECONDS_MAX pass first."""
        limit = time.monotonic() + READY_SECONDS_MAX
        async with self.client(name) as client:
            while time.monotonic() < limit:
                if not self.is_running(name):
                    raise DaemonFailed(f"{name} ended with status {self._processes[name].returncode}: {self.log(name)}")
                # gRPC, refused once, would wait longer than a start takes.
                if await _accepts(client.connection.address):
                    with contextlib.suppress(ApiError):
                        if await client.is_serving():
                            return
                await asyncio.sleep(POLL_SECONDS)
        raise DaemonFailed(f"{name} did not serve within {READY_SECONDS_MAX} s: {self.log(name)}")

    def log(self, name: str, characters: int = 2000) -> str:
        return (self.node_directory(name) / "node.log").read_text(errors="replace")[-characters:]

    def wait_ended(self, name: str, seconds: float = STOP_SECONDS_MAX) -> int:
        """The exit status. Raises subprocess.TimeoutExpired."""
        return self._processes[name].wait(seconds)

    def stop(self, *names: str) -> None:
        """SIGTERM and wait; the daemons finish what they have begun."""
        chosen = [name for name in names or tuple(self._processes) if self.is_running(name)]
        for name in chosen:
            self._processes[name].send_signal(signal.SIGTERM)
        for name in chosen:
            self.wait_ended(name)

    def kill(self, name: str) -> None:
        """SIGKILL and wait."""
        if self.is_running(name):
            self._processes[name].kill()
        self.wait_ended(name)

    def close(self) -> None:
        """Stop all; whatever does not stop in time is killed."""
        for process in self._running():
            process.send_signal(signal.SIGTERM)
        limit = time.monotonic() + STOP_SECONDS_MAX
        for process in self._running():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, limit - time.monotonic()))
        for process in self._running():
            process.kill()
            process.wait()

    def _running(self) -> Iterator[Process]:
        return iter([process for process in self._processes.values() if process.poll() is None])


async def _accepts(address: str) -> bool:
    """Whether anything listens there."""
    host, port = address.rsplit(":", 1)
    try:
        _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except OSError:
        return False
    writer.close()
    return True
