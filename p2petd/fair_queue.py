"""What waits for one thread: bounded in number and in bytes, fair between callers."""

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


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
