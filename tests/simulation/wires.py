"""The network between the nodes: connections that delay, break, lose, double and swap frames, links that are cut."""

import asyncio
import contextvars
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from p2pet.peer.v1.peer_pb2 import ExchangeRequest, Frame

from tests.simulation.virtual_loop import VirtualLoop

# How much a connection holds that the other side has not read.
WINDOW = 64
# How long a node takes to notice that nothing comes through.
KEEPALIVE_SECONDS = (5.0, 40.0)


@dataclass
class Weather:
    """Probabilities for each frame, and the range of its delay in seconds."""

    lost: float = 0.0
    doubled: float = 0.0
    swapped: float = 0.0
    delay: tuple[float, float] = (0.0005, 0.02)


class End(asyncio.Queue["bytes | None"]):
    """One side of a connection, as `p2petd.peer.streams.Stream`."""

    def __init__(self, wires: "Wires", here: str, there: str) -> None:
        super().__init__()
        self._wires = wires
        self.here, self.there = here, there
        self.other: End
        self.broken = False
        self._held: deque[bytes | None] = deque()
        self._latest = 0.0
        self._sent = self._read_count = 0
        self._room = asyncio.Event()

    # What the transport uses.

    async def read(self) -> Frame | None:
        data = await self.get()
        self.other._read_count += 1
        self.other._room.set()
        return None if data is None else ExchangeRequest.FromString(data).frame

    async def write(self, envelope: ExchangeRequest) -> None:
        while not self.broken and self._sent - self._read_count > WINDOW:
            self._room.clear()
            await self._room.wait()
        if self.broken:
            raise asyncio.InvalidStateError("the connection is broken")
        self._sent += 1
        self._wires.transmit(self, envelope.SerializeToString())

    def close(self) -> None:
        """The other side hears of it, when anything comes through to it."""
        if not self.broken:
            self._break()
            self._wires.transmit(self, None)

    # What the network does.

    def _break(self) -> None:
        self.broken = True
        self._room.set()
        self.put_nowait(None)

    def give_up(self) -> None:
        """This side has heard nothing for too long; the other side finds nobody there when it looks."""
        if not self.broken:
            self._break()
            self._wires.notice(self.other)

    def arrive(self, data: bytes | None) -> None:
        """At the other end."""
        if self._held or self._wires.is_cut(self.here, self.there):
            self._held.append(data)
        elif not self.other.broken:
            self._wires.frames += data is not None
            self._wires.trace("frame", self.there, data or b"")
            if data is None:
                self.other._break()
            else:
                self.other.put_nowait(data)

    def schedule(self, data: bytes | None, delay: float, *, in_order: bool) -> None:
        loop = self._wires.loop
        at = loop.time() + delay
        if in_order:
            at = self._latest = max(at, self._latest + 1e-6)
        loop.call_at(at, self.arrive, data, context=self._wires.context)

    def release(self) -> None:
        """What was held goes on, in order."""
        held, self._held = self._held, deque()
        for data in held:
            self.arrive(data)


class Wires:
    """All connections between nodes, by name."""

    def __init__(self, loop: VirtualLoop, chance: random.Random, trace: Callable[[str, str, bytes], None]) -> None:
        self.loop = loop
        self.trace = trace
        self.weather = Weather()
        self.context = contextvars.Context()
        self.frames = 0
        self._chance = chance
        self._cut: set[tuple[str, str]] = set()
        self._ends: list[End] = []

    def is_cut(self, here: str, there: str) -> bool:
        return (here, there) in self._cut

    def connect(self, here: str, there: str) -> tuple[End, End] | None:
        """A new connection; None when nothing comes through."""
        if self.is_cut(here, there) or self.is_cut(there, here):
            return None
        self._ends = [end for end in self._ends if not (end.broken and end.other.broken)]
        one, other = End(self, here, there), End(self, there, here)
        one.other, other.other = other, one
        self._ends += [one, other]
        return one, other

    def transmit(self, end: End, data: bytes | None) -> None:
        weather, chance = self.weather, self._chance
        delay = chance.uniform(*weather.delay)
        if data is None:
            end.schedule(None, delay, in_order=True)
        elif chance.random() < weather.lost:
            # A connection that has lost something delivers nothing after it, until it breaks.
            end._held.append(data)
            self._give_up_later(end, (0.1, 3.0))
        else:
            end.schedule(data, delay, in_order=chance.random() >= weather.swapped)
            if chance.random() < weather.doubled:
                end.schedule(data, chance.uniform(*weather.delay), in_order=True)

    def cut(self, here: str, there: str) -> None:
        """In this direction nothing arrives, until it is healed; who waits too long gives up."""
        self._cut.add((here, there))
        for end in self._ends:
            if {end.here, end.there} == {here, there}:
                self.loop.call_later(
                    self._chance.uniform(*KEEPALIVE_SECONDS), self._if_still_cut, end, context=self.context
                )

    def heal(self, here: str, there: str) -> None:
        self._cut.discard((here, there))
        for end in self._ends:
            if (end.here, end.there) == (here, there) and not end.broken:
                end.release()

    def heal_all(self) -> None:
        for here, there in sorted(self._cut):
            self.heal(here, there)

    def break_between(self, here: str, there: str) -> None:
        """Both sides notice, each when it does; what was under way is lost."""
        for end in self._ends:
            if {end.here, end.there} == {here, there}:
                self._give_up_later(end, (0.0, 1.0))

    def forget(self, name: str) -> None:
        """A node is gone: the other sides hear it at once, or after a while."""
        for end in list(self._ends):
            if end.there == name:
                self._give_up_later(end, (0.0, 0.05) if self._chance.random() < 0.8 else KEEPALIVE_SECONDS)
            if end.here == name:
                end.give_up()

    def notice(self, end: End) -> None:
        """This side's next sign of life is not answered."""
        self.loop.call_later(self._chance.uniform(*KEEPALIVE_SECONDS), end.give_up, context=self.context)

    def _if_still_cut(self, end: End) -> None:
        if self.is_cut(end.here, end.there) or self.is_cut(end.there, end.here):
            end.give_up()

    def _give_up_later(self, end: End, seconds: tuple[float, float]) -> None:
        for side in (end, end.other):
            self.loop.call_later(self._chance.uniform(*seconds), side.give_up, context=self.context)
