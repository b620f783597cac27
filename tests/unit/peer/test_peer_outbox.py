"""What waits for a peer is in the store; memory holds a window of it, read in pages as the peer acknowledges."""

from pathlib import Path

import pytest
from p2pet.store.v1.store_pb2 import PeerRow

from p2petd import native
from p2petd.peer import outbox as module
from p2petd.peer.link import PeerState, load_peer_states
from p2petd.peer.outbox import PAGE, WINDOW_BYTES_MAX, WINDOW_MESSAGES_MAX, Outbox, outbox_pages
from p2petd.store.tables import Table, outbox_key

PEER, OTHER = b"\x01" * 32, b"\xff" * 32


class Shelf:
    """The rows of one peer, as the store would have them."""

    def __init__(self, first: int = 1, last: int = 0, message: bytes = b"message") -> None:
        self.rows = {sequence: message for sequence in range(first, last + 1)}
        self.reads = 0
        self.outbox = Outbox(PEER, self.read, first, last)

    def read(self, peer: bytes, start: int, limit: int) -> list[tuple[int, bytes]]:
        self.reads += 1
        return [(sequence, self.rows[sequence]) for sequence in range(start, start + limit) if sequence in self.rows]

    def add(self, message: bytes = b"message") -> int:
        sequence = self.outbox.last + 1
        self.rows[sequence] = message
        self.outbox.add(sequence, message)
        return sequence

    def send_from(self, sequence: int) -> list[int]:
        """What a connection would send from there on until nothing more is held."""
        sent = []
        while self.outbox.get(sequence) is not None:
            sent.append(sequence)
            sequence += 1
        return sent


def test_r12_a_peer_that_keeps_up_costs_no_read() -> None:
    shelf = Shelf()
    for _ in range(3 * WINDOW_MESSAGES_MAX):
        sequence = shelf.add()
        assert shelf.outbox.get(sequence) == b"message"
        assert shelf.outbox.acknowledged(sequence) == (sequence, sequence)
    assert shelf.reads == 0
    assert (len(shelf.outbox), shelf.outbox.held) == (0, (0, 0))


def test_r12_the_window_is_bounded_in_messages_and_the_rest_comes_in_order() -> None:
    shelf = Shelf()
    for _ in range(3 * WINDOW_MESSAGES_MAX):
        shelf.add()
    assert shelf.outbox.held[0] == WINDOW_MESSAGES_MAX
    assert len(shelf.outbox) == 3 * WINDOW_MESSAGES_MAX
    sent, acknowledged = [], 0
    while len(shelf.outbox):
        sent += shelf.send_from(acknowledged + 1)
        assert shelf.outbox.held[0] <= WINDOW_MESSAGES_MAX + PAGE
        assert shelf.outbox.acknowledged(sent[-1]) == (acknowledged + 1, sent[-1])
        acknowledged = sent[-1]
    assert sent == list(range(1, 3 * WINDOW_MESSAGES_MAX + 1))
    # What is added when all has gone stays in memory again.
    reads = shelf.reads
    assert shelf.outbox.get(shelf.add()) == b"message"
    assert shelf.reads == reads


def test_r12_the_window_is_bounded_in_bytes() -> None:
    large = bytes(900_000)
    shelf = Shelf(1, 100, large)
    sent = shelf.send_from(1)
    assert WINDOW_BYTES_MAX <= shelf.outbox.held[1] <= WINDOW_BYTES_MAX + PAGE * len(large)
    assert len(sent) < 100
    for _ in range(50):
        shelf.add(large)
    assert shelf.outbox.held[1] <= WINDOW_BYTES_MAX + PAGE * len(large)


def test_r12_an_acknowledgement_beyond_the_window_goes_on_after_it() -> None:
    """After a restart the peer may say that it has more than was read until now."""
    shelf = Shelf(11, 10_000)
    assert shelf.outbox.get(11) == b"message"
    assert shelf.outbox.acknowledged(9_000) == (11, 9_000)
    assert shelf.outbox.acknowledged(9_000) is None
    assert shelf.outbox.acknowledged(5) is None
    assert len(shelf.outbox) == 1_000
    assert shelf.send_from(9_001) == list(range(9_001, 10_001))
    assert shelf.outbox.acknowledged(10_000) == (9_001, 10_000)
    assert shelf.outbox.held == (0, 0)


def test_r12_messages_before_the_first_and_after_the_last_are_not_there() -> None:
    shelf = Shelf(11, 20)
    assert shelf.outbox.get(21) is None
    assert shelf.outbox.get(10) is None
    # Not the next one to be read: only what follows the window is.
    assert shelf.outbox.get(15) is None


@pytest.mark.parametrize("waiting", [0, 1, 3 * PAGE])
def test_r12_a_start_reads_one_message_of_each_peer(
    waiting: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = native.Store.open(str(tmp_path / "store"), segment_bytes=1024 * 1024, map_bytes=16 * 1024 * 1024)
    try:
        rows = [(int(Table.PEER), peer, PeerRow(last_sent=50).SerializeToString()) for peer in (PEER, OTHER)]
        for sequence in range(51 - waiting, 51):
            rows += [(int(Table.OUTBOX), outbox_key(peer, sequence), b"%d" % sequence) for peer in (PEER, OTHER)]
        store.commit(rows)
        states = load_peer_states(store)
        assert states == {peer: PeerState(PeerRow(last_sent=50), 51 - waiting) for peer in (PEER, OTHER)}
        pages = outbox_pages(store)
        for peer in (PEER, OTHER):
            box = Outbox(peer, pages, states[peer].first_waiting, 50)
            assert len(box) == waiting
            assert box.held == (0, 0)
            monkeypatch.setattr(module, "PAGE", 7)
            found = [box.get(sequence) for sequence in range(51 - waiting, 52)]
            assert found == [*(b"%d" % sequence for sequence in range(51 - waiting, 51)), None]
    finally:
        store.close()
