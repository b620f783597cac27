"""What waits for one peer to acknowledge it: all of it in the store, and of that a window in memory."""

from collections.abc import Callable, Sequence

from p2petd.store.changes import Reader
from p2petd.store.tables import PEER_KEY_BYTES, Table, after_prefix, outbox_key

# What is held in memory for one peer; the rest is read from the store when its turn comes.
WINDOW_MESSAGES_MAX = 4096
WINDOW_BYTES_MAX = 8 * 1024 * 1024
# So few at once, because a message can be large.
PAGE = 16

ReadPage = Callable[[bytes, int, int], Sequence[tuple[int, bytes]]]
"""At most so many (sequence, message) that wait for a peer, from a sequence on, in order."""


def outbox_pages(store: Reader) -> ReadPage:
    """Reads of the table of waiting messages. From any thread."""

    def read(peer: bytes, start: int, limit: int) -> Sequence[tuple[int, bytes]]:
        rows = store.scan(Table.OUTBOX, outbox_key(peer, start), after_prefix(peer), limit)
        return [(int.from_bytes(key[PEER_KEY_BYTES:]), message) for key, message in rows]

    return read


class Outbox:
    """The durable messages `first` to `last`; those that fit are in memory, so that a peer that keeps up costs no read.

    The window begins with `first`, so a peer that acknowledges nothing is sent one window and no more.
    """

    def __init__(self, peer: bytes, read_page: ReadPage, first: int, last: int) -> None:
        self.first = first
        self.last = last
        self._peer = peer
        self._read_page = read_page
        # The messages from `first` to `_loaded`.
        self._window: dict[int, bytes] = {}
        self._bytes = 0
        self._loaded = first - 1

    def __len__(self) -> int:
        """How many messages wait."""
        return self.last - self.first + 1

    @property
    def held(self) -> tuple[int, int]:
        """How many messages are in memory, and their bytes."""
        return len(self._window), self._bytes

    def add(self, sequence: int, message: bytes) -> None:
        """A message that is durable, and in the store, from now on."""
        self.last = sequence
        if sequence == self._loaded + 1 and self._has_room:
            self._hold(sequence, message)

    def get(self, sequence: int) -> bytes | None:
        """A message from `first` on; None when there is none, or the window has no room for it yet."""
        if sequence == self._loaded + 1 <= self.last and self._has_room:
            self._load()
        return self._window.get(sequence)

    def acknowledged(self, sequence: int) -> tuple[int, int] | None:
        """Forget everything up to `sequence`; the range (first, last) of what waited until now."""
        if sequence < self.first:
            return None
        newly = (self.first, sequence)
        for known in range(self.first, min(sequence, self._loaded) + 1):
            self._bytes -= len(self._window.pop(known))
        self.first = sequence + 1
        self._loaded = max(self._loaded, sequence)
        return newly

    @property
    def _has_room(self) -> bool:
        return len(self._window) < WINDOW_MESSAGES_MAX and self._bytes < WINDOW_BYTES_MAX

    def _load(self) -> None:
        for sequence, message in self._read_page(self._peer, self._loaded + 1, PAGE):
            assert sequence == self._loaded + 1, f"message {self._loaded + 1} is not in the store"
            if sequence <= self.last:
                self._hold(sequence, message)

    def _hold(self, sequence: int, message: bytes) -> None:
        self._window[sequence] = message
        self._bytes += len(message)
        self._loaded = sequence
