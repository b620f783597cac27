"""Numbering of messages to and from each peer: what makes them arrive in order and once, over restarts."""

import logging

from google.protobuf.message import DecodeError
from p2pet.peer.v1.peer_pb2 import Message, SessionMessage
from p2pet.store.v1.store_pb2 import PeerRow

from p2petd.flows.effects import Effects, PeerPort
from p2petd.peer.link import load_peer_states
from p2petd.store.changes import Changes, Reader
from p2petd.store.tables import Table, outbox_key

log = logging.getLogger(__name__)


def _decode(peer: bytes, message: Message) -> list[SessionMessage]:
    """The session message inside; none when it does not decode, which only its sender can mend."""
    try:
        return [SessionMessage.FromString(message.session)]
    except DecodeError:
        log.warning("peer %s sent message %d that does not decode", peer.hex()[:16], message.sequence)
        return []


class Delivery:
    """The engine's side of the streams: sequence numbers given out and taken in, durable with the batch."""

    def __init__(self, store: Reader, peers: PeerPort) -> None:
        self._peers = peers
        states = load_peer_states(store)
        self._rows = {peer: state.row for peer, state in states.items()}
        # The lowest sequence that each peer has not acknowledged.
        self._first_waiting = {peer: state.first_waiting for peer, state in states.items()}

    def _row(self, peer: bytes) -> PeerRow:
        return self._rows.setdefault(peer, PeerRow())

    def backlog(self, peer: bytes) -> int:
        """How many messages wait for the peer to acknowledge them."""
        row = self._rows.get(peer)
        return 0 if row is None else row.last_sent + 1 - self._first_waiting.get(peer, 1)

    def queue(self, changes: Changes, effects: Effects, peer: bytes, message: SessionMessage) -> int:
        """The sequence that the message gets."""
        row = self._row(peer)
        row.last_sent += 1
        sequence, encoded = row.last_sent, message.SerializeToString()
        changes.put(Table.OUTBOX, outbox_key(peer, sequence), encoded)
        changes.put(Table.PEER, peer, row.SerializeToString())
        effects.add(lambda: self._peers.send(peer, sequence, encoded))
        return sequence

    def take_in(
        self, changes: Changes, effects: Effects, peer: bytes, epoch: bytes, messages: tuple[Message, ...]
    ) -> list[SessionMessage]:
        """The messages that are new; a repeat is dropped. Acknowledges them once the batch is durable."""
        row = self._row(peer)
        if row.received_epoch != epoch:
            row.received_epoch, row.last_received, row.received_token = epoch, 0, b""
        fresh = []
        for message in messages:
            if message.sequence > row.last_received:
                row.last_received, row.received_token = message.sequence, message.token
                fresh.extend(_decode(peer, message))
        if messages:
            changes.put(Table.PEER, peer, row.SerializeToString())
        reached, token = row.last_received, row.received_token
        effects.add(lambda: self._peers.acknowledge(peer, epoch, reached, token))
        return fresh

    def acknowledged(self, changes: Changes, peer: bytes, first: int, last: int, token: bytes) -> None:
        """The peer holds these; if a crash brings them back, its hello drops them again."""
        for sequence in range(first, last + 1):
            changes.delete_lazily(Table.OUTBOX, outbox_key(peer, sequence))
        self._first_waiting[peer] = last + 1
        if token:
            row = self._row(peer)
            row.last_acknowledged, row.acknowledged_token = last, token
            changes.put_lazily(Table.PEER, peer, row.SerializeToString())

    def last_sent(self, peer: bytes) -> int:
        """The sequence of the newest message to the peer; 0 before the first."""
        return self._row(peer).last_sent

    def holds(self, peer: bytes, sequence: int) -> bool:
        """Whether the peer has said that it holds our messages up to this one."""
        return self._first_waiting.get(peer, 1) > sequence

    def has_received(self, peer: bytes, sequence: int) -> bool:
        """Whether the peer's messages up to this one have been taken in."""
        return self._row(peer).last_received >= sequence
