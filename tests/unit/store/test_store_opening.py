"""What a long opening says."""

import logging
from pathlib import Path

import pytest

from p2petd import native
from p2petd.store.opening import Opening, how_far
from tests.support.small_logs import lose_machine


def test_how_far_has_a_percentage_and_both_amounts() -> None:
    said = how_far("rebuilding_view", "node", 420, 1000)
    assert said == "rebuilding the view of the node: 42 % (420 of 1 000 records)"
    assert how_far("checking_log", "notary", 1_500_000, 3_000_000) == (
        "checking the log of the notary: 50 % (1 500 000 of 3 000 000 bytes)"
    )
    assert "100 %" in how_far("checking_log", "node", 0, 0)


def test_it_speaks_once_a_second_at_most(caplog: pytest.LogCaptureFixture) -> None:
    opening = Opening("node")
    with caplog.at_level(logging.INFO):
        for done in range(10):
            opening("checking_log", done, 10)
    assert len(caplog.records) == 1


def test_a_view_that_was_rebuilt_is_told_with_where_it_began(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = native.Store.open(str(tmp_path))
    for number in range(3):
        store.commit([(1, bytes([number]), b"v")])
        if number == 1:
            assert store.take_snapshot() == 2
    store.close()
    lose_machine(tmp_path)
    opening = Opening("node")
    store = native.Store.open(str(tmp_path), progress=opening)
    with caplog.at_level(logging.INFO):
        opening.opened(store.stats())
    assert "rebuilt from the snapshot of record 2 with 1 records" in caplog.text
    store.close()


def test_an_ordinary_opening_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    opening = Opening("node")
    store = native.Store.open(str(tmp_path), progress=opening)
    with caplog.at_level(logging.INFO):
        opening.opened(store.stats())
    assert caplog.text == ""
    store.close()
