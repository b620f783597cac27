"""Rows and their goals."""

import pytest
from p2pet.bench.budgets import ROWS, level
from p2pet.bench.run import FLOW_ROWS, IDLE_ROWS, LEDGER_ROWS, NOTARY_ROWS

BY_NAME = {row.name: row for row in ROWS}


def test_every_row_is_measured_by_one_part() -> None:
    assert sorted(BY_NAME) == sorted([*IDLE_ROWS, *NOTARY_ROWS, *FLOW_ROWS, *LEDGER_ROWS])


@pytest.mark.parametrize(
    ("row", "metrics", "expected"),
    [
        ("notary", {"per_second": 2999.9}, "below floor"),
        ("notary", {"per_second": 3000.0}, "floor"),
        ("notary", {"per_second": 6000.0}, "reach"),
        ("notary", {"per_second": 15000.0}, "dream"),
        ("idle-memory", {"megabytes": 150.1}, "below floor"),
        ("idle-memory", {"megabytes": 80.0}, "reach"),
        # Both limits of the goal must hold.
        ("notary-latency", {"p50_ms": 2.0, "p99_ms": 20.0}, "floor"),
        ("notary-latency", {"p50_ms": 4.0, "p99_ms": 9.0}, "floor"),
        ("notary-latency", {"p50_ms": 2.0, "p99_ms": 9.0}, "reach"),
        ("notary-latency", {}, "below floor"),
        ("request-trade", {"per_second": 1.0}, "-"),
    ],
)
def test_level_is_the_best_goal_that_is_met(row: str, metrics: dict[str, float], expected: str) -> None:
    assert level(BY_NAME[row], metrics) == expected
