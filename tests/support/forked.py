"""Real daemons that start fast: forked from a process that has imported the daemon's code, and done nothing with it.

Each is a process of its own as `python -m p2petd` would be: sockets, files, environment, `kill -9`. Only the half
second in which an interpreter loads modules is spent once. What needs another interpreter (a package path) gets one.
"""

import atexit
import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from p2pet.localnet import Process, start_subprocess

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS_MAX = 30.0
# What an interpreter, or a library that is loaded already, has read from its environment once and for all.
READ_ONCE = ("PYTHON", "LD_", "MALLOC_", "GRPC_", "RUST_")


class ForkedProcess:
    """The part of subprocess.Popen that a LocalNetwork uses."""

    def __init__(self, server: "ForkServer", pid: int) -> None:
        self._server = server
        self._ended = threading.Event()
        self.pid = pid
        self.returncode: int | None = None

    def ended(self, returncode: int) -> None:
        self.returncode = returncode
        self._ended.set()

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status; negative for a signal. Raises subprocess.TimeoutExpired."""
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired(f"daemon {self.pid}", timeout or 0.0)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        # The server reaps and tells us afterwards, so the pid is this child's for as long as it is not told.
        if self.returncode is None:
            self._server.signal(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """One process that forks daemons; it ends, with all of them, when this process does."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._environment = dict(os.environ)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.forked", str(theirs.fileno())],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._socket = ours
        self._lock = threading.Lock()
        self._told = threading.Condition()
        self._started: int | None = None
        self._children: dict[int, ForkedProcess] = {}
        threading.Thread(target=self._listen, name="fork server", daemon=True).start()

    def start(self, config: Path, log: Path, environment: Mapping[str, str]) -> Process:
        """A LocalNetwork's launcher."""
        wanted = {**os.environ, **environment}
        if _read_once(wanted) != _read_once(self._environment):
            return start_subprocess(config, log, environment)
        with self._lock:
            paths = {"config": str(config.resolve()), "log": str(log.resolve()), "directory": str(Path.cwd())}
            self._say({**paths, "environment": wanted})
            with self._told:
                arrived = self._told.wait_for(lambda: self._started is not None, START_SECONDS_MAX)
                assert arrived, "the fork server does not answer"
                pid, self._started = self._started, None
                assert pid is not None
                return self._children[pid]

    def signal(self, pid: int, number: int) -> None:
        with self._lock:
            self._say({"signal": int(number), "pid": pid})

    def close(self) -> None:
        """End the server and whatever of its children still runs."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._process.wait()

    def _say(self, message: Mapping[str, object]) -> None:
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def _listen(self) -> None:
        with self._socket.makefile("r") as lines:
            for line in lines:
                heard = json.loads(line)
                with self._told:
                    if "returncode" in heard:
                        self._children.pop(heard["pid"]).ended(heard["returncode"])
                    else:
                        self._started = heard["pid"]
                        self._children[heard["pid"]] = ForkedProcess(self, heard["pid"])
                        self._told.notify_all()


@cache
def _server() -> ForkServer:
    """Started by the first test that needs it; it ends when the tests do."""
    server = ForkServer()
    atexit.register(server.close)
    return server


def fork_daemon(config: Path, log: Path, environment: Mapping[str, str]) -> Process:
    """A LocalNetwork's launcher."""
    return _server().start(config, log, environment)


def _read_once(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(READ_ONCE)}


# The other side.


class _Server:
    """Single-threaded, so that a fork copies everything that there is."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._children: set[int] = set()
        self._wake_out, self._wake_in = socket.socketpair()

    def serve(self) -> None:
        for ours in (self._wake_out, self._wake_in):
            ours.setblocking(False)
        signal.set_wakeup_fd(self._wake_in.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        try:
            for message in self._messages():
                if "signal" in message:
                    if message["pid"] in self._children:
                        os.kill(message["pid"], message["signal"])
                else:
                    self._fork(message)
        finally:
            for pid in self._children:
                os.kill(pid, signal.SIGKILL)

    def _messages(self) -> Iterator[dict[str, object]]:
        """What comes from the other side; children that end are told of in between."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            selector.register(self._wake_out, selectors.EVENT_READ)
            held = b""
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if self._wake_out in ready:
                    self._wake_out.recv(4096)
                    self._reap()
                if self._socket in ready:
                    part = self._socket.recv(1 << 16)
                    if not part:
                        return
                    *lines, held = (held + part).split(b"\n")
                    yield from map(json.loads, lines)

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            self._children.discard(pid)
            self._say({"pid": pid, "returncode": os.waitstatus_to_exitcode(status)})

    def _fork(self, message: dict[str, object]) -> None:
        pid = os.fork()
        if pid:
            self._children.add(pid)
            self._say({"pid": pid})
            return
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for ours in (self._socket, self._wake_in, self._wake_out):
                ours.close()
            status = _run_daemon(message)
        except BaseException:  # noqa: BLE001 - what the interpreter does with an exception of a program that it runs
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _say(self, message: Mapping[str, object]) -> None:
        self._socket.sendall(json.dumps(message).encode() + b"\n")


def _run_daemon(message: dict[str, object]) -> int:
    """What `python -m p2petd --config ...` does from its first line on."""
    from p2petd.__main__ import main

    os.setsid()
    environment = message["environment"]
    assert isinstance(environment, dict)
    os.environ.clear()
    os.environ.update(environment)
    log = os.open(str(message["log"]), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.chdir(str(message["directory"]))
    sys.argv = ["p2petd", "--config", str(message["config"])]
    try:
        return main()
    finally:
        atexit._run_exitfuncs()


def _serve() -> None:
    import p2petd.__main__  # noqa: F401 - imported for those that are forked
    from p2petd.contracts.registry import installed
    from p2petd.flows.builtin import installed_flows

    for contract in installed().contracts:
        installed().code_hash(contract.name, contract.version)
    installed_flows()
    assert len(os.listdir("/proc/self/task")) == 1, "a library has started threads, which no fork would have"
    gc.collect()
    gc.freeze()
    _Server(int(sys.argv[1])).serve()


if __name__ == "__main__":
    _serve()
