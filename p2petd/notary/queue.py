"""What waits for the notary: bounded in number and in bytes, fair between callers, with an estimate of the wait."""

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from p2petd.units import SECOND_NS

T = TypeVar("T")

RETRY_MIN_NS = SECOND_NS // 20
RETRY_MAX_NS = 60 * SECOND_NS
# Of the average rate, this part is the newest batch.
NEWEST = 0.2


@dataclass
class _Line(Generic[T]):
    """What one caller has waiting, oldest first, with the size of each."""

    items: deque[tuple[T, int]] = field(default_factory=deque)
    size: int = 0


class FairQueue(Generic[T]):
    """Takes no more than `length_max` items and `bytes_max` bytes; callers take turns, each in its own order.

    A caller may have waiting at most as much as was free before its newest item came, in number and in bytes. So one
    caller holds about half of the queue at most, n callers together leave about 1 / (n + 1) of it free, and an item
    waits for at most as many turns of each other caller as there are items before it in its own line.
    """

    def __init__(self, length_max: int, bytes_max: int) -> None:
        self._length_max = length_max
        self._bytes_max = bytes_max
        # In the order of their turns; a line that is empty is left out.
        self._lines: dict[Hashable, _Line[T]] = {}
        self._length = 0
        self._bytes = 0

    def __len__(self) -> int:
        return self._length

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return self._bytes

    def put(self, caller: Hashable, item: T, size: int) -> bool:
        """Whether the item waits now; it does not when the queue is full, or the caller's share of it."""
        line = self._lines.get(caller)
        own_length, own_bytes = (len(line.items), line.size) if line is not None else (0, 0)
        if own_length + 1 > self._length_max - self._length or own_bytes + size > self._bytes_max - self._bytes:
            return False
        if line is None:
            line = self._lines[caller] = _Line()
        line.items.append((item, size))
        line.size += size
        self._length += 1
        self._bytes += size
        return True

    def take(self, count_max: int) -> list[T]:
        """At most so many items: one of each caller in turn, and again."""
        taken: list[T] = []
        while self._lines and len(taken) < count_max:
            caller = next(iter(self._lines))
            line = self._lines.pop(caller)
            item, size = line.items.popleft()
            line.size -= size
            self._length -= 1
            self._bytes -= size
            taken.append(item)
            if line.items:
                self._lines[caller] = line
        return taken


class Rate:
    """How many items are decided in a second, on average over the last batches."""

    def __init__(self) -> None:
        self._count = 0.0
        self._seconds = 0.0

    def decided(self, count: int, seconds: float) -> None:
        """A batch of `count` took so long."""
        known = 1.0 - NEWEST if self._seconds else 0.0
        self._count = known * self._count + (1.0 - known) * count
        self._seconds = known * self._seconds + (1.0 - known) * max(seconds, 1e-9)

    def wait_ns(self, count: int) -> int:
        """How long `count` items take; 0 before the first batch."""
        return round(count * self._seconds / self._count * SECOND_NS) if self._count else 0


class Appointments:
    """When who was turned away shall come again: each caller's requests one after the other, as fast as is decided.

    So all that were turned away do not come back at once, to be turned away again; and a caller that never waits puts
    off nobody but itself.
    """

    def __init__(self) -> None:
        # The last appointment of each caller: as many as there are parties in the network, at most.
        self._last_ns: dict[Hashable, int] = {}

    def after_ns(self, caller: Hashable, now_ns: int, wait_ns: int, each_ns: int) -> int:
        """How long to wait: at least `wait_ns`, and `each_ns` more than what the caller was told last, in bounds."""
        next_ns = max(self._last_ns.get(caller, 0), now_ns + wait_ns) + each_ns
        told_ns = retry_after_ns(next_ns - now_ns)
        self._last_ns[caller] = min(next_ns, now_ns + RETRY_MAX_NS)
        return told_ns


def retry_after_ns(wait_ns: int) -> int:
    """The estimate within the bounds of what anybody is told, or keeps to."""
    return min(max(wait_ns, RETRY_MIN_NS), RETRY_MAX_NS)
