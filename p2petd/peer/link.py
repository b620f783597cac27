"""One peer as the transport knows it: what waits to go out, how far each direction has come. Outlives connections."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from p2pet.peer.v1.peer_pb2 import Call, Frame, Hello, Message, Reply
from p2pet.store.v1.store_pb2 import PeerRow

from p2petd.network.node_info import NodeInfo
from p2petd.peer.intake import Intake, ProtocolError
from p2petd.peer.outbox import Outbox, ReadPage, outbox_pages
from p2petd.peer.tokens import Tokens
from p2petd.store.changes import Reader, scan_prefix
from p2petd.store.tables import Table

# A sender closes a frame when it has reached this size; one more message never exceeds the hard limit.
FRAME_SOFT_BYTES = 64 * 1024
FRAME_HARD_BYTES = 1024 * 1024
FRAME_ENTRIES_MAX = 4096
# A peer that asks more than it reads is not read until it has caught up.
REPLIES_MAX = 4096
REPLIES_BYTES_MAX = 4 * 1024 * 1024
# A peer for which so many messages wait causes no more of them: it gets no credit until it has taken some. Honest peers
# do not come here, because no flows are begun with a peer long before; two that did would wait for each other.
OUTBOX_CREDIT_MAX = 1_000_000


@dataclass(frozen=True)
class PeerState:
    """What a restart knows of one peer: its row, and the first message that still waits to be acknowledged."""

    row: PeerRow = field(default_factory=PeerRow)
    first_waiting: int = 1


def load_peer_states(store: Reader) -> Mapping[bytes, PeerState]:
    """By peer identity. Reads one waiting message of each peer, however many there are."""
    states, read = {}, outbox_pages(store)
    for peer, encoded in scan_prefix(store, Table.PEER, b""):
        row = PeerRow.FromString(encoded)
        waiting = read(peer, 0, 1)
        states[peer] = PeerState(row, waiting[0][0] if waiting else row.last_sent + 1)
    return states


@dataclass(frozen=True)
class KnownPeers:
    """What a restart knows of all peers, by identity, and how what waits for them is read."""

    states: Mapping[bytes, PeerState]
    read_outbox: ReadPage

    @staticmethod
    def load(store: Reader) -> "KnownPeers":
        return KnownPeers(load_peer_states(store), outbox_pages(store))


@dataclass(eq=False)
class Link:
    """Changed on the event loop's thread only."""

    info: NodeInfo
    tokens: Tokens
    durable_token: bytes
    received_epoch: bytes
    last_acknowledged: int
    acknowledged_token: bytes
    # Durable messages that the peer has not acknowledged; up to `transmitted` on this connection.
    outbox: Outbox
    # Messages of the peer that are accepted, but not durable here yet.
    intake: Intake
    # Highest sequence that the peer can have: sent before this start, or on any connection since.
    transmitted_max: int
    transmitted: int = 0
    # The peer's credit: the highest sequence that we may send; 0: any, because it knows no credits.
    permitted: int = 0
    acknowledge_due: bool = False
    calls: dict[bytes, tuple[str, bytes]] = field(default_factory=dict)
    # In the order in which they were asked; each once.
    calls_to_send: OrderedDict[bytes, None] = field(default_factory=OrderedDict)
    replies: deque[Reply] = field(default_factory=deque)
    replies_bytes: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    room: asyncio.Event = field(default_factory=asyncio.Event)

    @staticmethod
    def load(info: NodeInfo, state: PeerState, tokens: Tokens, read_page: ReadPage) -> "Link":
        row = state.row
        return Link(
            info=info,
            tokens=tokens,
            durable_token=row.received_token,
            received_epoch=row.received_epoch,
            last_acknowledged=row.last_acknowledged,
            acknowledged_token=row.acknowledged_token,
            outbox=Outbox(info.identity, read_page, state.first_waiting, row.last_sent),
            intake=Intake(row.last_received),
            transmitted_max=row.last_sent,
        )

    @property
    def peer(self) -> bytes:
        return self.info.identity

    @property
    def last_sent(self) -> int:
        """Highest sequence that this node ever gave to a message for the peer."""
        return self.outbox.last

    @property
    def durable(self) -> int:
        """Highest sequence of the peer that is durable here."""
        return self.intake.durable

    @property
    def has_work(self) -> bool:
        """Whether a connection is needed from our side."""
        return bool(self.outbox or self.calls)

    @property
    def is_full(self) -> bool:
        """Whether the peer must wait until we have answered or committed what it has sent."""
        return self.intake.is_full or len(self.replies) > REPLIES_MAX or self.replies_bytes > REPLIES_BYTES_MAX

    def connected(self, hello: Hello, peer_received: int, permitted: int) -> None:
        """Start a new connection where the peer says that it stands."""
        if hello.epoch != self.received_epoch:
            self.received_epoch, self.durable_token = hello.epoch, b""
            self.intake.new_epoch()
        self.intake.connected(hello.last_sent)
        self.transmitted = peer_received
        self.permitted = permitted
        self.calls_to_send = OrderedDict.fromkeys(self.calls)
        self.replies.clear()
        self.replies_bytes = 0
        self.acknowledge_due = True
        self.wake.set()

    def grant(self) -> int:
        """The credit that the peer gets now: the highest sequence that it may send."""
        return self.intake.grant(withheld=len(self.outbox) > OUTBOX_CREDIT_MAX)

    def permit(self, until: int) -> None:
        """The peer takes messages up to this one; 0 says nothing."""
        if until > self.permitted:
            self.permitted = until
            if self.transmitted < self.last_sent:
                self.wake.set()

    def ask(self, call_id: bytes, service: str, payload: bytes) -> None:
        """Ask until answered, on as many connections as that takes; once more replaces what was asked."""
        self.calls[call_id] = (service, payload)
        self.calls_to_send[call_id] = None

    def forget_call(self, call_id: bytes) -> bool:
        """Ask no more; whether it was asked."""
        self.calls_to_send.pop(call_id, None)
        return self.calls.pop(call_id, None) is not None

    def reply(self, reply: Reply) -> None:
        """Queue the answer to a call for the connection that stands now."""
        self.replies.append(reply)
        self.replies_bytes += len(reply.payload)
        self.wake.set()

    def acknowledged(self, sequence: int, token: bytes) -> tuple[int, int] | None:
        """Forget what the peer holds; the range (first, last) of what it held newly. Raises ProtocolError."""
        if sequence > self.last_sent:
            raise ProtocolError(f"message {sequence} is acknowledged, but {self.last_sent} is the last that was sent")
        withheld = len(self.outbox) > OUTBOX_CREDIT_MAX
        newly = self.outbox.acknowledged(sequence)
        if token and sequence >= self.last_acknowledged:
            self.last_acknowledged, self.acknowledged_token = sequence, token
        if withheld and len(self.outbox) <= OUTBOX_CREDIT_MAX:
            self.acknowledge_due = True
        if self.transmitted < self.last_sent or self.acknowledge_due:
            # There is room for more of what waits.
            self.wake.set()
        return newly

    def committed(self, epoch: bytes, sequence: int, token: bytes) -> None:
        """Everything up to `sequence` of that epoch is durable here."""
        if epoch == self.received_epoch and sequence >= self.durable:
            self.intake.committed(sequence)
            self.durable_token = token
            self.acknowledge_due = True
            self.wake.set()
            self.room.set()

    def fill(self, frame: Frame) -> bool:
        """Put into an empty frame what is to be sent now, up to the soft limit; False when there is nothing."""
        size = 0
        if self.acknowledge_due:
            frame.acknowledged, self.acknowledge_due, size = self.durable, False, 32
            frame.acknowledged_token = self.tokens.of_acknowledgement(self.peer, self.received_epoch, self.durable)
            frame.messages_until = self.grant()
        while self.replies and size < FRAME_SOFT_BYTES:
            reply = self.replies.popleft()
            self.replies_bytes -= len(reply.payload)
            size += len(reply.payload) + len(reply.error_message) + 32
            frame.replies.append(reply)
        while self.calls_to_send and size < FRAME_SOFT_BYTES:
            call_id, _ = self.calls_to_send.popitem(last=False)
            service, payload = self.calls[call_id]
            size += len(payload) + 48
            frame.calls.append(Call(call_id=call_id, service=service, payload=payload))
        size += self._add_messages(frame, size)
        if len(self.replies) <= REPLIES_MAX // 2 and self.replies_bytes <= REPLIES_BYTES_MAX // 2:
            self.room.set()
        return size > 0

    def _add_messages(self, frame: Frame, size: int) -> int:
        added = 0
        until = min(self.permitted or self.last_sent, self.last_sent)
        sequence = max(self.transmitted + 1, self.outbox.first)
        while sequence <= until and size + added < FRAME_SOFT_BYTES:
            session = self.outbox.get(sequence)
            if session is None:
                break
            token = self.tokens.of_message(self.peer, sequence)
            frame.messages.append(Message(sequence=sequence, session=session, token=token))
            added += len(session) + 36
            self.transmitted = sequence
            self.transmitted_max = max(self.transmitted_max, sequence)
            sequence += 1
        return added
