"""Real daemons, each in a network namespace of its own, joined by a relay in user space; needs CAP_NET_ADMIN.

No `ip` and no kernel module for faults is needed: a thread enters a new namespace, makes a TUN device there, whose
packets the relay of this process carries, and starts the daemon. A namespace has no name: it is gone with its daemon
and the thread that made it, whatever happens to the test. The test's own process has a device too, whose links never
fail: over it clients reach the daemons.
"""

import ctypes
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from p2pet.localnet import LocalNetwork, Process, start_subprocess

from tests.support.relay import Relay

T = TypeVar("T")

HERE = "here"
PORT = 7500
CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
SIOCSIFADDR, SIOCSIFNETMASK, SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8916, 0x891C, 0x8913, 0x8914, 0x1
MASK = "255.255.255.0"


def unavailable() -> str:
    """Why namespaces cannot be used here; empty when they can."""
    try:
        namespace, device = _new_space("198.18.0.1")
    except OSError as error:
        return f"network namespaces and TUN devices need CAP_NET_ADMIN and /dev/net/tun: {error}"
    os.close(namespace)
    os.close(device)
    return ""


def space_addresses(names: tuple[str, ...]) -> dict[str, str]:
    """An address for each name, of a network that is set aside for such tests (RFC 2544); another for each process."""
    network = f"198.{18 + os.getpid() // 250 % 2}.{1 + os.getpid() % 250}"
    return {name: f"{network}.{number}" for number, name in enumerate(names, start=1)}


class SpacedNetwork(LocalNetwork):
    """A LocalNetwork whose nodes are in namespaces; `relay` decides what becomes of packets between them."""

    def __init__(self, directory: Path, addresses: Mapping[str, str], seed: int) -> None:
        """`addresses` has all nodes and HERE."""
        super().__init__(directory)
        self._spaces: dict[str, int] = {}
        devices = {HERE: _tun_device(addresses[HERE])}
        for name in self.names:
            self._spaces[name], devices[name] = _new_space(addresses[name])
        self.relay = Relay(devices, {name: socket.inet_aton(where) for name, where in addresses.items()}, seed)
        self.relay.start()

    def launch(self, name: str, environment: Mapping[str, str] | None = None) -> Process:
        directory = self.node_directory(name)
        self._processes[name] = process = _inside(
            self._spaces[name],
            lambda: start_subprocess(directory / "node.toml", directory / "node.log", environment or {}),
        )
        return process

    def close(self) -> None:
        super().close()
        self.relay.stop()
        for space in self._spaces.values():
            os.close(space)


def _new_space(address: str) -> tuple[int, int]:
    """File descriptors of a new namespace, and of the TUN device with that address in it. Raises OSError."""

    def make() -> tuple[int, int]:
        _system(_libc().unshare, CLONE_NEWNET)
        _bring_up("lo")
        device = _tun_device(address)
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC), device

    return _in_thread(make)


def _inside(namespace: int, work: Callable[[], T]) -> T:
    """What `work` returns in that namespace; processes that it starts stay there."""

    def enter() -> T:
        _system(_libc().setns, namespace, CLONE_NEWNET)
        return work()

    return _in_thread(enter)


def _in_thread(work: Callable[[], T]) -> T:
    """A namespace is a thread's: one that has entered another is not used for anything else."""
    results: list[T] = []
    failures: list[OSError] = []

    def run() -> None:
        try:
            results.append(work())
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _system(call: Any, *arguments: int) -> None:
    if call(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _tun_device(address: str) -> int:
    """A TUN device with this address in a network of 256, in the namespace of this thread; gone when it is closed."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        made: bytes = fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", b"p2pet%d", IFF_TUN | IFF_NO_PI))
        name = made[:16].rstrip(b"\x00").decode()
        _set(name, SIOCSIFADDR, address)
        _set(name, SIOCSIFNETMASK, MASK)
        _bring_up(name)
    except OSError:
        os.close(device)
        raise
    return device


def _set(name: str, request: int, address: str) -> None:
    value = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, request, struct.pack("16s16s8x", name.encode(), value))


def _bring_up(name: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        flags = struct.unpack("16sH22x", fcntl.ioctl(control, SIOCGIFFLAGS, struct.pack("16sH22x", name.encode(), 0)))
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH22x", name.encode(), flags[1] | IFF_UP))
