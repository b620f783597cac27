"""Load and statistics."""

import asyncio

import pytest
from p2pet.bench.load import Timed, closed_loop, medians, percentile


@pytest.mark.parametrize(
    ("count", "percent", "expected"), [(1, 50, 1), (1, 99, 1), (2, 50, 1), (100, 50, 50), (100, 99, 99), (101, 99, 100)]
)
def test_percentile_is_by_nearest_rank(count: int, percent: int, expected: int) -> None:
    assert percentile(range(1, count + 1), percent) == expected


def test_timed_counts_units_and_orders_latencies() -> None:
    timed = Timed(units=4, elapsed_ns=2_000_000_000, latencies_ns=[4_000_000, 1_000_000, 3_000_000, 2_000_000])
    assert timed.metrics == {"per_second": 2.0, "p50_ms": 2.0, "p99_ms": 4.0}


def test_medians_are_of_the_repeats_that_have_the_value() -> None:
    assert medians([{"a": 1.0}, {"a": 5.0, "b": 7.0}, {"a": 2.0}]) == {"a": 2.0, "b": 7.0}
    assert medians([]) == {}


def test_closed_loop_keeps_so_many_outstanding_and_ends_what_it_began() -> None:
    under_way = most = done = 0

    async def work() -> None:
        nonlocal under_way, most, done
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        done += 1

    timed = asyncio.run(closed_loop(7, 0.01, work))
    assert most == 7
    assert under_way == 0
    assert timed.units == done == len(timed.latencies_ns) >= 7


def test_closed_loop_raises_the_first_failure_itself() -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        raise LookupError("this one")

    with pytest.raises(LookupError, match="this one"):
        asyncio.run(closed_loop(3, 60.0, work))
