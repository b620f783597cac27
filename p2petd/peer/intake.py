"""What one peer has sent and is not durable here yet, and how much more it may send."""

from collections import deque
from collections.abc import Sequence

from p2pet.peer.v1.peer_pb2 import Message

# So much of one peer may wait to be committed; its credit ends before, unless its messages grow all at once.
UNCOMMITTED_MAX = 4096
UNCOMMITTED_BYTES_MAX = 8 * 1024 * 1024
# Credit counts messages, so it reckons with the size of those that came last, and with small ones at first.
CREDIT_BYTES = UNCOMMITTED_BYTES_MAX // 2
MESSAGE_BYTES_FIRST = CREDIT_BYTES // UNCOMMITTED_MAX
NEWEST_PART = 8
SEQUENCE_MAX = 2**64 - 1


class ProtocolError(Exception):
    """The peer broke the protocol; the connection ends. The text says how."""


class Intake:
    """Messages of one epoch of a peer: accepted in order, each once, and never more than was granted."""

    def __init__(self, durable: int) -> None:
        # Highest sequence handed to the engine; ahead of `durable` while a batch is being committed.
        self.accepted = durable
        self.durable = durable
        # Of what is between the two: the last sequence and the bytes of each frame.
        self._uncommitted: deque[tuple[int, int]] = deque()
        self._bytes = 0
        self._message_bytes = MESSAGE_BYTES_FIRST
        # Where credit counts from while nothing of this epoch has come: what the peer had sent before we met.
        self._base = 0
        self._granted = 0

    @property
    def is_full(self) -> bool:
        """Whether nothing more is read: the peer uses credit that it got when its messages were smaller."""
        return self.accepted - self.durable > UNCOMMITTED_MAX or self._bytes > UNCOMMITTED_BYTES_MAX

    def connected(self, peer_last_sent: int) -> None:
        """The first message of an epoch can have any number up to what its sender has sent."""
        self._base = peer_last_sent if not self.accepted else 0

    def new_epoch(self) -> None:
        """Nothing has come of the epoch that begins. What was granted stays granted: the peer has been told."""
        self.accepted = self.durable = self._bytes = 0
        self._uncommitted.clear()

    def grant(self, *, withheld: bool = False) -> int:
        """The highest sequence that the peer may send now: above 0, never lower than before, as before if withheld."""
        room = min(
            UNCOMMITTED_MAX - (self.accepted - self.durable), (CREDIT_BYTES - self._bytes) // self._message_bytes
        )
        until = self.accepted if withheld else max(self.accepted, self._base) + max(room, 0)
        self._granted = min(max(self._granted, until, 1), SEQUENCE_MAX)
        return self._granted

    def accept(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """Those that are new, in order. Raises ProtocolError on a gap, after which the peer must send from where we
        stand, and for one beyond the credit."""
        fresh, reached = [], self.accepted
        for message in messages:
            if message.sequence <= reached:
                continue
            if reached and message.sequence != reached + 1:
                raise ProtocolError(f"message {message.sequence} follows {reached}")
            if message.sequence > self._granted:
                raise ProtocolError(f"message {message.sequence} came, but {self._granted} is the last that may come")
            reached = message.sequence
            fresh.append(message)
        # All or none: what came before a gap must come again.
        self.accepted = reached
        if fresh:
            size = sum(len(message.session) for message in fresh)
            self._uncommitted.append((reached, size))
            self._bytes += size
            mean = max(size // len(fresh), MESSAGE_BYTES_FIRST)
            self._message_bytes += (mean - self._message_bytes) // NEWEST_PART
        return tuple(fresh)

    def committed(self, sequence: int) -> None:
        """Everything up to `sequence` is durable here."""
        self.durable = sequence
        while self._uncommitted and self._uncommitted[0][0] <= sequence:
            self._bytes -= self._uncommitted.popleft()[1]
