"""One peer as the transport knows it: what waits to go out, how far each direction has come. Outlives connections."""

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from p2pet.peer.v1.peer_pb2 import Call, Frame, Message, Reply
from p2pet.store.v1.store_pb2 import PeerRow

from p2petd.network.node_info import NodeInfo
from p2petd.store.changes import Reader, scan_prefix
from p2petd.store.tables import PEER_KEY_BYTES, Table

# A sender closes a frame when it has reached this size; one more message never exceeds the hard limit.
FRAME_SOFT_BYTES = 64 * 1024
FRAME_HARD_BYTES = 1024 * 1024


@dataclass(frozen=True)
class PeerState:
    """What a restart knows of one peer: how far each direction has come, and what still waits to be acknowledged."""

    last_sent: int = 0
    last_received: int = 0
    received_epoch: bytes = b""
    unacknowledged: tuple[tuple[int, bytes], ...] = ()


def load_peer_states(store: Reader) -> Mapping[bytes, PeerState]:
    """By peer identity."""
    waiting: dict[bytes, list[tuple[int, bytes]]] = {}
    for key, message in scan_prefix(store, Table.OUTBOX, b""):
        waiting.setdefault(key[:PEER_KEY_BYTES], []).append((int.from_bytes(key[PEER_KEY_BYTES:]), message))
    states = {}
    for peer, value in scan_prefix(store, Table.PEER, b""):
        row = PeerRow.FromString(value)
        unacknowledged = tuple(waiting.get(peer, ()))
        states[peer] = PeerState(row.last_sent, row.last_received, row.received_epoch, unacknowledged)
    return states


@dataclass(eq=False)
class Link:
    """Changed on the event loop's thread only."""

    info: NodeInfo
    last_sent: int
    durable: int
    received_epoch: bytes
    # Durable messages that the peer has not acknowledged, by sequence; the first `transmitted` of this connection.
    unacknowledged: deque[tuple[int, bytes]]
    transmitted: int = 0
    # Highest sequence handed to the engine; ahead of `durable` while a batch is being committed.
    accepted: int = 0
    acknowledge_due: bool = False
    calls: dict[bytes, tuple[str, bytes]] = field(default_factory=dict)
    calls_to_send: deque[bytes] = field(default_factory=deque)
    replies: deque[Reply] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    @staticmethod
    def load(info: NodeInfo, state: PeerState) -> "Link":
        link = Link(
            info=info,
            last_sent=state.last_sent,
            durable=state.last_received,
            received_epoch=state.received_epoch,
            unacknowledged=deque(state.unacknowledged),
        )
        link.accepted = link.durable
        return link

    @property
    def peer(self) -> bytes:
        return self.info.identity

    @property
    def has_work(self) -> bool:
        """Whether a connection is needed from our side."""
        return bool(self.unacknowledged or self.calls)

    def connected(self, peer_epoch: bytes, peer_received: int) -> tuple[int, int] | None:
        """Start a new connection where the peer says that it stands; the acknowledged range (first, last), if any."""
        if peer_epoch != self.received_epoch:
            self.received_epoch, self.durable, self.accepted = peer_epoch, 0, 0
        acknowledged = self.acknowledged(peer_received)
        self.transmitted = peer_received
        self.calls_to_send = deque(self.calls)
        self.replies.clear()
        self.acknowledge_due = True
        self.wake.set()
        return acknowledged

    def acknowledged(self, sequence: int) -> tuple[int, int] | None:
        first = last = 0
        while self.unacknowledged and self.unacknowledged[0][0] <= sequence:
            last, _ = self.unacknowledged.popleft()
            first = first or last
        return (first, last) if first else None

    def accept(self, messages: list[Message]) -> tuple[Message, ...]:
        """Those that are new, in order. Raises ValueError on a gap: the peer must send from where we stand."""
        fresh = []
        for message in messages:
            if message.sequence <= self.accepted:
                continue
            if self.accepted and message.sequence != self.accepted + 1:
                raise ValueError(f"message {message.sequence} follows {self.accepted}")
            self.accepted = message.sequence
            fresh.append(message)
        return tuple(fresh)

    def fill(self, frame: Frame) -> bool:
        """Put into an empty frame what is to be sent now, up to the soft limit; False when there is nothing."""
        size = 0
        if self.acknowledge_due:
            frame.acknowledged, self.acknowledge_due, size = self.durable, False, 10
        while self.replies and size < FRAME_SOFT_BYTES:
            reply = self.replies.popleft()
            size += len(reply.payload) + 32
            frame.replies.append(reply)
        while self.calls_to_send and size < FRAME_SOFT_BYTES:
            call_id = self.calls_to_send.popleft()
            if call_id in self.calls:
                service, payload = self.calls[call_id]
                size += len(payload) + 48
                frame.calls.append(Call(call_id=call_id, service=service, payload=payload))
        size += self._add_messages(frame, size)
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
            frame.messages.append(Message(sequence=sequence, session=session))
            added += len(session) + 16
            self.transmitted = sequence
        return added
