"""Putting load on something and timing it: a closed loop keeps so many outstanding, an open loop keeps a rate."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from p2pet.bench.budgets import P50_MS, P99_MS, PER_SECOND

NS_PER_MS, NS_PER_SECOND = 1e6, 1e9

Work = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Timed:
    """What a load took: `units` of work in `elapsed_ns`, and how long each was under way."""

    units: int
    elapsed_ns: int
    latencies_ns: Sequence[int]

    @property
    def metrics(self) -> dict[str, float]:
        """Units per second, median and 99th percentile."""
        ordered = sorted(self.latencies_ns)
        return {
            PER_SECOND: self.units * NS_PER_SECOND / self.elapsed_ns,
            P50_MS: percentile(ordered, 50) / NS_PER_MS,
            P99_MS: percentile(ordered, 99) / NS_PER_MS,
        }


def percentile(ordered: Sequence[int], percent: int) -> int:
    """By nearest rank, of ascending values; at least one."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def medians(repeats: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each value over the repeats that have it."""
    names = dict.fromkeys(name for repeat in repeats for name in repeat)
    return {name: median(repeat[name] for repeat in repeats if name in repeat) for name in names}


async def closed_loop(outstanding: int, seconds: float, work: Work) -> Timed:
    """`outstanding` workers do one piece of work after the other for so long, and end what they have begun.

    The first failure of a piece of work ends all of them and is raised.
    """
    latencies: list[int] = []
    started = time.perf_counter_ns()
    until = started + int(seconds * NS_PER_SECOND)

    async def worker() -> None:
        while (began := time.perf_counter_ns()) < until:
            await work()
            latencies.append(time.perf_counter_ns() - began)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(outstanding):
                group.create_task(worker())
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return Timed(len(latencies), time.perf_counter_ns() - started, latencies)
