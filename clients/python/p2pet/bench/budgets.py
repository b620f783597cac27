"""The rows of the bench and what each should reach: docs/benchmarks.md."""

from collections.abc import Mapping
from dataclasses import dataclass

PER_SECOND, P50_MS, P99_MS, MEGABYTES, SECONDS = "per_second", "p50_ms", "p99_ms", "megabytes", "seconds"
MICROSECONDS = "microseconds"

Goal = Mapping[str, float]
"""Limits by metric: at least so many per second, at most so much of anything else."""


@dataclass(frozen=True)
class Row:
    """One line of the report. A unit of it is so many notarised `transactions`; `shown` is the metric that counts."""

    name: str
    title: str
    unit: str
    shown: str
    transactions: int
    floor: Goal
    reach: Goal
    dream: Goal


def _rate(name: str, title: str, unit: str, transactions: int, floor: float, reach: float, dream: float) -> Row:
    goals = ({PER_SECOND: limit} for limit in (floor, reach, dream))
    return Row(name, title, f"{unit}/s", PER_SECOND, transactions, *goals)


ROWS: tuple[Row, ...] = (
    Row("idle-memory", "idle node, resident", "MB", MEGABYTES, 0, *({MEGABYTES: m} for m in (150.0, 80.0, 60.0))),
    Row("idle-ready", "start of a node to serving", "s", SECONDS, 0, *({SECONDS: s} for s in (3.0, 1.5, 1.0))),
    Row(
        "restart-1m",
        "restart after a kill, 1 000 000 states",
        "s",
        SECONDS,
        0,
        *({SECONDS: s} for s in (10.0, 5.0, 2.0)),
    ),
    _rate("notary", "notary, verifying", "tx", 1, 3000, 6000, 15000),
    Row(
        "notary-latency",
        "notary, open loop at 3 000 tx/s",
        "ms p99",
        P99_MS,
        1,
        {P99_MS: 20.0},
        {P50_MS: 3.0, P99_MS: 10.0},
        {P50_MS: 1.5, P99_MS: 10.0},
    ),
    _rate("request", "request, one RPC a flow", "flows", 1, 500, 2000, 3500),
    _rate("request-batched", "request, batched start", "flows", 1, 1500, 5000, 10000),
    _rate("request-pay", "request + pay", "pairs", 2, 200, 1000, 3000),
    Row("request-trade", "request + trade", "pairs/s", PER_SECOND, 2, {}, {}, {}),
    _rate("pay-32", "repeated pay, independent chains", "flows", 1, 300, 1500, 4000),
    _rate("pay-1", "repeated pay, one chain", "flows", 1, 50, 150, 250),
    Row(
        "one-at-a-time",
        "request + pay, one at a time",
        "ms p50",
        P50_MS,
        2,
        {P50_MS: 15.0},
        {P50_MS: 6.0, P99_MS: 15.0},
        {P50_MS: 4.0},
    ),
    Row("contracts", "contracts of a trade", "µs", MICROSECONDS, 0, *({MICROSECONDS: us} for us in (60.0, 40.0, 20.0))),
    Row(
        "tear-off",
        "tear-off of 20 components, made and checked",
        "µs",
        MICROSECONDS,
        0,
        *({MICROSECONDS: us} for us in (100.0, 50.0, 20.0)),
    ),
    Row(
        "attachment",
        "attachment of 50 MB to another node, memory",
        "MB",
        MEGABYTES,
        0,
        *({MEGABYTES: m} for m in (50.0, 25.0, 10.0)),
    ),
    Row(
        "back-chain",
        "back-chain of 10 000 transactions",
        "s",
        SECONDS,
        0,
        *({SECONDS: s, MEGABYTES: m} for s, m in ((10.0, 200.0), (5.0, 100.0), (2.0, 50.0))),
    ),
)


def meets(metrics: Mapping[str, float], goal: Goal) -> bool:
    """Whether every limit of the goal holds; a metric that was not measured does not hold."""
    for name, limit in goal.items():
        if name not in metrics or (metrics[name] < limit if name == PER_SECOND else metrics[name] > limit):
            return False
    return True


def level(row: Row, metrics: Mapping[str, float]) -> str:
    """The best of dream, reach and floor that was met; `below floor`, or a dash for a row without goals."""
    if not row.floor:
        return "-"
    for name, goal in (("dream", row.dream), ("reach", row.reach), ("floor", row.floor)):
        if meets(metrics, goal):
            return name
    return "below floor"
