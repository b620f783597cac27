"""Numbering of messages, and how many of them wait: the same after a restart, and never more in memory than is lazy."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from p2pet.peer.v1.peer_pb2 import SessionMessage

from p2petd import native
from p2petd.flows.delivery import Delivery
from p2petd.flows.effects import Effects
from p2petd.store.changes import LAZY_MAX, Changes, scan_prefix
from p2petd.store.tables import Table

PEER, OTHER = b"\x01" * 32, b"\x02" * 32


@pytest.fixture
def store(tmp_path: Path) -> Iterator[native.Store]:
    opened = native.Store.open(str(tmp_path / "node"))
    yield opened
    opened.close()


def delivery(store: native.Store) -> Delivery:
    return Delivery(store, cast(Any, None))


def send(sender: Delivery, store: native.Store, count: int, to: bytes = PEER) -> None:
    changes = Changes()
    for _ in range(count):
        sender.queue(changes, Effects(), to, SessionMessage(flow="flow"))
    store.commit(changes.record())


def waiting(store: native.Store) -> int:
    return sum(1 for _ in scan_prefix(store, Table.OUTBOX, PEER))


def test_r12_the_backlog_of_each_peer_is_known_also_after_a_restart(store: native.Store) -> None:
    sender = delivery(store)
    assert (sender.backlog(PEER), sender.backlog(OTHER)) == (0, 0)
    send(sender, store, 10)
    send(sender, store, 1, OTHER)
    changes = Changes()
    sender.acknowledged(changes, PEER, 1, 4, b"t" * 16)
    assert (sender.backlog(PEER), sender.backlog(OTHER)) == (6, 1)
    # Not written yet: the peer's hello says it again after a crash.
    assert delivery(store).backlog(PEER) == 10
    store.commit(changes.record())
    assert (delivery(store).backlog(PEER), delivery(store).backlog(OTHER)) == (6, 1)
    changes = Changes()
    sender.acknowledged(changes, PEER, 5, 10, b"t" * 16)
    store.commit(changes.record())
    restarted = delivery(store)
    assert (restarted.backlog(PEER), sender.backlog(PEER)) == (0, 0)
    send(restarted, store, 1)
    assert (restarted.backlog(PEER), waiting(store)) == (1, 1)


def test_r12_a_backlog_that_is_taken_is_forgotten_in_records_of_bounded_size(store: native.Store) -> None:
    """A node that writes nothing else must not gather a million deletions in memory, and then in one record."""
    sender = delivery(store)
    send(sender, store, 3 * LAZY_MAX)
    changes, written = Changes(), 0
    for last in range(100, 3 * LAZY_MAX + 1, 100):
        sender.acknowledged(changes, PEER, last - 99, last, b"t" * 16)
        if changes:
            assert len(changes.record()) <= LAZY_MAX + 100
            store.commit(changes.record())
            written += 1
        changes = changes.next_batch()
    assert written == 2
    assert waiting(store) <= LAZY_MAX + 100
