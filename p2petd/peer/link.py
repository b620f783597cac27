"""One peer as the transport knows it: what waits to go out, how far each direction has come. Outlives connections."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from p2pet.peer.v1.peer_pb2 import Call, Frame, Message, Reply
from p2pet.store.v1.store_pb2 import PeerRow

from p2petd.network.node_info import NodeInfo
from p2petd.peer.tokens import Tokens
from p2petd.store.changes import Reader, scan_prefix
from p2petd.store.tables import PEER_KEY_BYTES, Table

# A sender closes a frame when it has reached this size; one more message never exceeds the hard limit.
FRAME_SOFT_BYTES = 64 * 1024
FRAME_HARD_BYTES = 1024 * 1024
FRAME_ENTRIES_MAX = 4096
# A peer that asks more than it reads, or sends more than we can commit, is not read until it has caught up.
REPLIES_MAX = 4096
REPLIES_BYTES_MAX = 4 * 1024 * 1024
UNCOMMITTED_MAX = 8192
UNCOMMITTED_BYTES_MAX = 8 * 1024 * 1024


class ProtocolError(Exception):
    """The peer broke the protocol; the connection ends. The text says how."""


@dataclass(frozen=True)
class PeerState:
    """What a restart knows of one peer: its row, and what still waits to be acknowledged."""

    row: PeerRow = field(default_factory=PeerRow)
    unacknowledged: tuple[tuple[int, bytes], ...] = ()


def load_peer_states(store: Reader) -> Mapping[bytes, PeerState]:
    """By peer identity."""
    waiting: dict[bytes, list[tuple[int, bytes]]] = {}
    for key, message in scan_prefix(store, Table.OUTBOX, b""):
        waiting.setdefault(key[:PEER_KEY_BYTES], []).append((int.from_bytes(key[PEER_KEY_BYTES:]), message))
    rows = scan_prefix(store, Table.PEER, b"")
    return {peer: PeerState(PeerRow.FromString(row), tuple(waiting.get(peer, ()))) for peer, row in rows}


@dataclass(eq=False)
class Link:
    """Changed on the event loop's thread only."""

    info: NodeInfo
    tokens: Tokens
    last_sent: int
    durable: int
    durable_token: bytes
    received_epoch: bytes
    last_acknowledged: int
    acknowledged_token: bytes
    # Durable messages that the peer has not acknowledged, by sequence; up to `transmitted` on this connection.
    unacknowledged: deque[tuple[int, bytes]]
    # Highest sequence that the peer can have: sent before this start, or on any connection since.
    transmitted_max: int
    transmitted: int = 0
    # Highest sequence handed to the engine; ahead of `durable` while a batch is being committed.
    accepted: int = 0
    # Of what is between the two: the last sequence and the bytes of each frame.
    uncommitted: deque[tuple[int, int]] = field(default_factory=deque)
    uncommitted_bytes: int = 0
    acknowledge_due: bool = False
    calls: dict[bytes, tuple[str, bytes]] = field(default_factory=dict)
    calls_to_send: deque[bytes] = field(default_factory=deque)
    replies: deque[Reply] = field(default_factory=deque)
    replies_bytes: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    room: asyncio.Event = field(default_factory=asyncio.Event)

    @staticmethod
    def load(info: NodeInfo, state: PeerState, tokens: Tokens) -> "Link":
        row = state.row
        return Link(
            info=info,
            tokens=tokens,
            last_sent=row.last_sent,
            durable=row.last_received,
            durable_token=row.received_token,
            received_epoch=row.received_epoch,
            last_acknowledged=row.last_acknowledged,
            acknowledged_token=row.acknowledged_token,
            unacknowledged=deque(state.unacknowledged),
            transmitted_max=row.last_sent,
            accepted=row.last_received,
        )

    @property
    def peer(self) -> bytes:
        return self.info.identity

    @property
    def has_work(self) -> bool:
        """Whether a connection is needed from our side."""
        return bool(self.unacknowledged or self.calls)

    @property
    def is_full(self) -> bool:
        """Whether the peer must wait until we have answered or committed what it has sent."""
        much = self.accepted - self.durable > UNCOMMITTED_MAX or self.uncommitted_bytes > UNCOMMITTED_BYTES_MAX
        return much or len(self.replies) > REPLIES_MAX or self.replies_bytes > REPLIES_BYTES_MAX

    def connected(self, peer_epoch: bytes, peer_received: int) -> None:
        """Start a new connection where the peer says that it stands."""
        if peer_epoch != self.received_epoch:
            self.received_epoch, self.durable, self.durable_token, self.accepted = peer_epoch, 0, b"", 0
            self.uncommitted, self.uncommitted_bytes = deque(), 0
        self.transmitted = peer_received
        self.calls_to_send = deque(self.calls)
        self.replies.clear()
        self.replies_bytes = 0
        self.acknowledge_due = True
        self.wake.set()

    def forget_call(self, call_id: bytes) -> None:
        """Ask no more. What is left of it in the queue is passed over, and goes with the last call."""
        self.calls.pop(call_id, None)
        if not self.calls:
            self.calls_to_send.clear()

    def reply(self, reply: Reply) -> None:
        """Queue the answer to a call for the connection that stands now."""
        self.replies.append(reply)
        self.replies_bytes += len(reply.payload)
        self.wake.set()

    def acknowledged(self, sequence: int, token: bytes) -> tuple[int, int] | None:
        """Forget what the peer holds; the range (first, last) of what it held newly. Raises ProtocolError."""
        if sequence > self.last_sent:
            raise ProtocolError(f"message {sequence} is acknowledged, but {self.last_sent} is the last that was sent")
        first = last = 0
        while self.unacknowledged and self.unacknowledged[0][0] <= sequence:
            last, _ = self.unacknowledged.popleft()
            first = first or last
        if token and sequence >= self.last_acknowledged:
            self.last_acknowledged, self.acknowledged_token = sequence, token
        return (first, last) if first else None

    def committed(self, epoch: bytes, sequence: int, token: bytes) -> None:
        """Everything up to `sequence` of that epoch is durable here."""
        if epoch == self.received_epoch and sequence >= self.durable:
            self.durable, self.durable_token = sequence, token
            while self.uncommitted and self.uncommitted[0][0] <= sequence:
                self.uncommitted_bytes -= self.uncommitted.popleft()[1]
            self.acknowledge_due = True
            self.wake.set()
            self.room.set()

    def accept(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """Those that are new, in order. Raises ProtocolError on a gap: the peer must send from where we stand."""
        fresh, reached = [], self.accepted
        for message in messages:
            if message.sequence <= reached:
                continue
            if reached and message.sequence != reached + 1:
                raise ProtocolError(f"message {message.sequence} follows {reached}")
            reached = message.sequence
            fresh.append(message)
        # All or none: what came before a gap must come again.
        self.accepted = reached
        if fresh:
            size = sum(len(message.session) for message in fresh)
            self.uncommitted.append((reached, size))
            self.uncommitted_bytes += size
        return tuple(fresh)

    def fill(self, frame: Frame) -> bool:
        """Put into an empty frame what is to be sent now, up to the soft limit; False when there is nothing."""
        size = 0
        if self.acknowledge_due:
            frame.acknowledged, self.acknowledge_due, size = self.durable, False, 32
            frame.acknowledged_token = self.tokens.of_acknowledgement(self.peer, self.received_epoch, self.durable)
        while self.replies and size < FRAME_SOFT_BYTES:
            reply = self.replies.popleft()
            self.replies_bytes -= len(reply.payload)
            size += len(reply.payload) + len(reply.error_message) + 32
            frame.replies.append(reply)
        while self.calls_to_send and size < FRAME_SOFT_BYTES:
            call_id = self.calls_to_send.popleft()
            if call_id in self.calls:
                service, payload = self.calls[call_id]
                size += len(payload) + 48
                frame.calls.append(Call(call_id=call_id, service=service, payload=payload))
        size += self._add_messages(frame, size)
        if len(self.replies) <= REPLIES_MAX // 2 and self.replies_bytes <= REPLIES_BYTES_MAX // 2:
            self.room.set()
        return size > 0

    def _add_messages(self, frame: Frame, size: int) -> int:
        added = 0
        if not self.unacknowledged or self.unacknowledged[-1][0] <= self.transmitted:
            return added
        start = max(0, self.transmitted - self.unacknowledged[0][0] + 1)
        for position in range(start, len(self.unacknowledged)):
            if size + added >= FRAME_SOFT_BYTES:
                break
            sequence, session = self.unacknowledged[position]
            token = self.tokens.of_message(self.peer, sequence)
            frame.messages.append(Message(sequence=sequence, session=session, token=token))
            added += len(session) + 36
            self.transmitted = sequence
            self.transmitted_max = max(self.transmitted_max, sequence)
        return added
