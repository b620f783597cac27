"""Links between network namespaces: a thread that carries IP packets, and loses, delays, doubles and reorders them."""

import contextlib
import heapq
import os
import random
import selectors
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

PACKET_BYTES_MAX = 65_536
# Where an IPv4 header holds the address of the receiver.
DESTINATION = slice(16, 20)


@dataclass(frozen=True)
class Fault:
    """What happens to the packets of one direction. Parts are of 1; a reordered packet overtakes those that wait."""

    cut: bool = False
    delay_seconds: float = 0.0
    jitter_seconds: float = 0.0
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    # The link is up and down in turn, so many seconds each.
    flaps_seconds: float = 0.0


CUT = Fault(cut=True)
Direction = tuple[str, str]


class Relay:
    """Carries packets between TUN devices. `set` and `heal` are called from any thread."""

    def __init__(self, devices: Mapping[str, int], addresses: Mapping[str, bytes], seed: int) -> None:
        """`devices` are file descriptors by name, which the relay owns; `addresses` are 4 bytes."""
        # Of the links that are faulty.
        self.packets: Counter[str] = Counter()
        self._devices = dict(devices)
        self._names = {address: name for name, address in addresses.items()}
        self._random = random.Random(seed)
        self._faults: Mapping[Direction, Fault] = {}
        # (due, number, receiver, packet); the number keeps packets of one moment in order.
        self._waiting: list[tuple[float, int, str, bytes]] = []
        self._number = 0
        self._last_due: dict[Direction, float] = {}
        self._wake, self._waker = os.pipe()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        os.write(self._waker, b"x")
        self._thread.join()
        for descriptor in (*self._devices.values(), self._wake, self._waker):
            os.close(descriptor)

    def set(self, fault: Fault, *directions: Direction) -> None:
        """These directions are faulty from now on, beside those that are."""
        self._faults = {**self._faults, **dict.fromkeys(directions, fault)}

    def between(self, fault: Fault, one: str, other: str) -> None:
        """Both directions of a pair."""
        self.set(fault, (one, other), (other, one))

    def heal(self) -> None:
        """Every link is a good one. What has been delayed still comes."""
        self._faults = {}

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake, selectors.EVENT_READ)
            for name, descriptor in self._devices.items():
                selector.register(descriptor, selectors.EVENT_READ, name)
            while True:
                timeout = max(0.0, self._waiting[0][0] - time.monotonic()) if self._waiting else None
                for key, _ in selector.select(timeout):
                    if key.data is None:
                        return
                    with contextlib.suppress(BlockingIOError):
                        self._take(key.data, os.read(key.fd, PACKET_BYTES_MAX))
                now = time.monotonic()
                while self._waiting and self._waiting[0][0] <= now:
                    _, _, receiver, packet = heapq.heappop(self._waiting)
                    self._deliver(receiver, packet)

    def _take(self, sender: str, packet: bytes) -> None:
        receiver = self._names.get(packet[DESTINATION])
        # IPv6 is what a device says of itself when it comes up.
        if receiver is None or packet[0] >> 4 != 4:
            return
        fault = self._faults.get((sender, receiver))
        if fault is None:
            self._deliver(receiver, packet)
            return
        self.packets["taken"] += 1
        down = fault.flaps_seconds and int(time.monotonic() / fault.flaps_seconds) % 2
        if fault.cut or down or self._random.random() < fault.loss:
            self.packets["lost"] += 1
            return
        copies = 1
        if self._random.random() < fault.duplication:
            self.packets["doubled"] += 1
            copies = 2
        for _ in range(copies):
            self._delay(fault, (sender, receiver), packet)

    def _delay(self, fault: Fault, direction: Direction, packet: bytes) -> None:
        """In order, unless the packet is to overtake those that wait already."""
        now = time.monotonic()
        if self._random.random() < fault.reordering:
            self.packets["reordered"] += 1
            due = now
        else:
            wait = fault.delay_seconds + self._random.uniform(-1, 1) * fault.jitter_seconds
            due = self._last_due[direction] = max(now + wait, self._last_due.get(direction, 0.0))
        self._number += 1
        heapq.heappush(self._waiting, (due, self._number, direction[1], packet))

    def _deliver(self, receiver: str, packet: bytes) -> None:
        # A device whose namespace has nobody left, or whose queue is full, loses packets as a cable does.
        with contextlib.suppress(OSError):
            os.write(self._devices[receiver], packet)
