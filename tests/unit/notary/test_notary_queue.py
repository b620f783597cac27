"""The queue of the notary: bounded, fair, with an estimate that follows what is decided."""

from itertools import pairwise

import pytest

from p2petd.fair_queue import FairQueue
from p2petd.notary.queue import (
    DEBT_FACTOR,
    RETRY_MAX_NS,
    RETRY_MIN_NS,
    Appointments,
    Debts,
    Rate,
    retry_after_ns,
)
from p2petd.units import SECOND_NS

FLOOD, OTHER, THIRD = b"flood", b"other", b"third"


def filled(length_max: int, bytes_max: int = 1_000_000) -> FairQueue[int]:
    return FairQueue(length_max, bytes_max)


def accepted(queue: FairQueue[int], caller: bytes, count: int, size: int = 1) -> int:
    """How many of `count` items were taken."""
    return sum(queue.put(caller, number, size) for number in range(count))


@pytest.mark.parametrize(("length_max", "share"), [(1, 1), (2, 1), (3, 2), (4, 2), (100, 50)])
def test_n15_one_caller_gets_half_of_the_queue(length_max: int, share: int) -> None:
    queue = filled(length_max)
    assert accepted(queue, FLOOD, 2 * length_max) == share
    assert len(queue) == queue.size == share


def test_n15_callers_together_leave_room_for_one_more() -> None:
    queue = filled(120)
    shares = [accepted(queue, bytes([caller]), 120) for caller in range(5)]
    assert all(earlier >= later > 0 for earlier, later in pairwise(shares))
    assert sum(shares) < 120
    assert accepted(queue, THIRD, 120) > 0


def test_n15_bytes_are_bounded_at_the_limit_and_one_above() -> None:
    queue = filled(100, 1_000)
    assert not queue.put(FLOOD, 1, 1_001)
    assert queue.put(FLOOD, 1, 1_000)
    assert not queue.put(OTHER, 2, 1)
    assert queue.take(10) == [1]
    assert (len(queue), queue.size) == (0, 0)
    assert accepted(queue, FLOOD, 10, 100) == 5
    assert accepted(queue, OTHER, 10, 100) == 3


def test_n15_callers_take_turns_and_each_keeps_its_order() -> None:
    queue = filled(100)
    for number in range(6):
        assert queue.put(FLOOD, number, 1)
    for number in (10, 11):
        assert queue.put(OTHER, number, 1)
    assert queue.take(3) == [0, 10, 1]
    assert queue.take(100) == [11, 2, 3, 4, 5]
    assert queue.take(1) == []
    assert (len(queue), queue.size) == (0, 0)


def test_n15_a_refused_item_leaves_the_queue_as_it_was() -> None:
    queue = filled(2)
    assert queue.put(FLOOD, 1, 1)
    assert not queue.put(FLOOD, 2, 1)
    assert queue.put(OTHER, 3, 1)
    assert not queue.put(THIRD, 4, 1)
    assert queue.take(10) == [1, 3]


def test_n15_the_estimate_follows_the_rate() -> None:
    rate = Rate()
    assert rate.wait_ns(1_000) == 0
    rate.decided(100, 1.0)
    assert rate.wait_ns(50) == SECOND_NS // 2
    for _ in range(60):
        rate.decided(10, 1.0)
    assert rate.wait_ns(50) == pytest.approx(5 * SECOND_NS, rel=0.01)


def test_n15_who_was_turned_away_comes_back_one_after_the_other() -> None:
    appointments, now, wait, each = Appointments(), 7 * SECOND_NS, SECOND_NS, SECOND_NS // 10
    told = [appointments.after_ns(FLOOD, now, wait, each) for _ in range(3)]
    assert told == [wait + each, wait + 2 * each, wait + 3 * each]
    assert appointments.after_ns(OTHER, now, wait, each) == wait + each
    for _ in range(1_000):
        last = appointments.after_ns(FLOOD, now, wait, each)
    assert last == RETRY_MAX_NS
    # Later the caller is not further away than that.
    assert appointments.after_ns(FLOOD, now + SECOND_NS, wait, each) == RETRY_MAX_NS - SECOND_NS + each


@pytest.mark.parametrize(
    ("wait_ns", "told_ns"),
    [
        (0, RETRY_MIN_NS),
        (RETRY_MIN_NS, RETRY_MIN_NS),
        (SECOND_NS, SECOND_NS),
        (RETRY_MAX_NS, RETRY_MAX_NS),
        (RETRY_MAX_NS + 1, RETRY_MAX_NS),
        (2**63 - 1, RETRY_MAX_NS),
    ],
)
def test_n15_what_is_told_has_bounds(wait_ns: int, told_ns: int) -> None:
    assert retry_after_ns(wait_ns) == told_ns


def test_n15_a_caller_waits_many_times_as_long_as_it_has_cost() -> None:
    debts = Debts()
    debts.add(FLOOD, 1_000, 7)
    debts.add(FLOOD, 1_010, 3)
    assert debts.left_ns(FLOOD, 1_010) == 10 * DEBT_FACTOR - 10
    assert debts.left_ns(OTHER, 1_010) == 0
    end_ns = 1_000 + 10 * DEBT_FACTOR
    assert (debts.left_ns(FLOOD, end_ns - 1), debts.left_ns(FLOOD, end_ns)) == (1, 0)
    debts.add(FLOOD, end_ns + 5, 1)
    assert debts.left_ns(FLOOD, end_ns + 5) == DEBT_FACTOR
