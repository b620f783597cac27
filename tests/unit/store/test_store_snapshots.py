"""When snapshots are taken, what is trimmed, and that a failure costs nothing but the snapshot."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from p2petd import native
from p2petd.store.snapshots import TRY_AGAIN_SECONDS, SnapshotKeeper

SEGMENT_BYTES = 65_536
LOG_BYTES = 40_000


class Full:
    """A store whose disk has no room for a snapshot."""

    def __init__(self, store: native.Store) -> None:
        self._store = store
        self.tries = 0

    def stats(self) -> Mapping[str, int]:
        return self._store.stats()

    def take_snapshot(self) -> int:
        self.tries += 1
        # A refusal of the store's own; the keeper treats all alike, but for that of a closed one.
        return self._store.commit([(1, b"k" * 600, b"v")])

    def trim(self) -> int:
        raise AssertionError("nothing may be trimmed without a snapshot")


def opened(directory: Path) -> native.Store:
    return native.Store.open(str(directory), segment_bytes=SEGMENT_BYTES, map_bytes=64 << 20)


def fill(store: native.Store, count: int) -> None:
    for number in range(count):
        store.commit([(1, number.to_bytes(4), bytes(1000))])


def test_a_snapshot_is_taken_when_enough_was_written_and_the_log_trimmed_after_the_second(tmp_path: Path) -> None:
    store, keeper = opened(tmp_path), SnapshotKeeper(LOG_BYTES)
    keeper.keep("node", store)
    fill(store, 30)
    keeper.look()
    assert store.stats()["snapshots_taken"] == 0
    fill(store, 20)
    keeper.look()
    keeper.look()
    assert store.stats()["snapshots_taken"] == 1
    assert store.stats()["log_first_sequence"] == 1
    for taken in (2, 3):
        fill(store, 100)
        keeper.look()
        assert store.stats()["snapshots_taken"] == taken
    assert keeper.counters()["node_snapshot_sequence"] == store.sequence
    assert keeper.counters()["node_log_first_sequence"] > 1
    store.close()


def test_evidence_is_never_trimmed(tmp_path: Path) -> None:
    store, keeper = opened(tmp_path), SnapshotKeeper(LOG_BYTES)
    keeper.keep_whole("oracle", store)
    for _ in range(3):
        fill(store, 100)
        keeper.look()
    assert (store.stats()["snapshots_taken"], store.stats()["log_first_sequence"]) == (3, 1)
    store.close()


def test_r05_a_snapshot_that_fails_is_told_and_tried_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store, keeper = opened(tmp_path), SnapshotKeeper(LOG_BYTES)
    full = Full(store)
    keeper.keep("node", full)
    fill(store, 100)
    with caplog.at_level(logging.WARNING):
        keeper.look()
        keeper.look()
    assert full.tries == 1
    assert "tried again" in caplog.text
    now = time.monotonic() + TRY_AGAIN_SECONDS + 1
    monkeypatch.setattr(time, "monotonic", lambda: now)
    keeper.look()
    assert full.tries == 2
    fill(store, 1)
    store.close()


def test_closing_a_store_ends_its_snapshot_and_the_thread(tmp_path: Path) -> None:
    store, keeper = opened(tmp_path), SnapshotKeeper(1, look_seconds=0.0)
    keeper.keep("node", store)
    keeper.start()
    fill(store, 100)
    keeper.stop()
    store.close()
    keeper.join()
    assert not list(tmp_path.glob("snapshots/*.tmp"))
    reopened = opened(tmp_path)
    assert reopened.sequence == 100
    reopened.close()


def test_zero_takes_none(tmp_path: Path) -> None:
    keeper = SnapshotKeeper(0)
    keeper.keep("node", opened(tmp_path))
    keeper.start()
    keeper.stop()
    keeper.join()
    assert keeper.counters()["node_snapshots_taken"] == 0
