"""What a load cost: processor time of every process, batches, appends and signatures, from the daemons' counters."""

import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from p2pet.bench.load import Timed
from p2pet.bench.machine import busy_us, cpu_us
from p2pet.client import NodeClient
from p2pet.localnet import LocalNetwork

GENERATOR = "generator"


@dataclass(frozen=True)
class Measured:
    """One repeat of a row. Costs are for each notarised transaction, or for 1 000; batches are means by node.

    `others_cores` is how many cores everything else on the machine kept busy meanwhile.
    """

    metrics: Mapping[str, float]
    units: int = 1
    cpu_us: Mapping[str, float] = field(default_factory=dict)
    batches: Mapping[str, float] = field(default_factory=dict)
    appends_per_1000: Mapping[str, float] = field(default_factory=dict)
    signatures_per_1000: Mapping[str, float] = field(default_factory=dict)
    others_cores: float = 0.0


@dataclass(frozen=True)
class _Reading:
    cpu_us: Mapping[str, int]
    counters: Mapping[str, Mapping[str, int]]
    busy_us: int
    at_ns: int


class Meter:
    """Reads the running daemons of a network before and after a load; use it with `async with`."""

    def __init__(self, network: LocalNetwork) -> None:
        self._network = network
        self._exit = AsyncExitStack()
        self.clients: dict[str, NodeClient] = {}
        self._before = _Reading({}, {}, 0, 0)

    async def __aenter__(self) -> Self:
        for name in self._network.names:
            if self._network.is_running(name):
                self.clients[name] = await self._exit.enter_async_context(self._network.client(name))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exit.aclose()

    async def start(self) -> None:
        self._before = await self._read()

    async def stop(self, timed: Timed, transactions: int) -> Measured:
        """What passed since `start`, for so many notarised transactions."""
        after = await self._read()
        passed = {
            name: {counter: value - self._before.counters[name].get(counter, 0) for counter, value in counters.items()}
            for name, counters in after.counters.items()
        }
        spent = {name: after.cpu_us[name] - self._before.cpu_us[name] for name in after.cpu_us}
        others_us = after.busy_us - self._before.busy_us - sum(spent.values())
        thousand = transactions / 1000
        return Measured(
            metrics=timed.metrics,
            units=timed.units,
            cpu_us={name: value / transactions for name, value in spent.items()},
            batches={name: size for name, counters in passed.items() if (size := _batch_size(counters))},
            appends_per_1000={
                name: value / thousand for name, counters in passed.items() if (value := _appends(counters))
            },
            signatures_per_1000=_signatures(passed, thousand),
            others_cores=max(0.0, others_us * 1000 / (after.at_ns - self._before.at_ns)),
        )

    async def _read(self) -> _Reading:
        cpu = {name: cpu_us(self._network.pid(name)) for name in self.clients}
        cpu[GENERATOR] = time.process_time_ns() // 1000
        busy, now = busy_us(), time.perf_counter_ns()
        return _Reading(cpu, {name: await client.stats() for name, client in self.clients.items()}, busy, now)


def _appends(counters: Mapping[str, int]) -> int:
    return counters.get("store_appends", 0) + counters.get("notary_appends", 0)


def _batch_size(counters: Mapping[str, int]) -> float:
    """Requests in a decision of a notary; of another node events in a commit."""
    if counters.get("notary_batches"):
        decided = sum(counters[f"notary_{name}"] for name in ("accepted", "refused", "repeated"))
        return decided / counters["notary_batches"]
    return counters["events"] / counters["batches"] if counters.get("batches") else 0.0


def _signatures(passed: Mapping[str, Mapping[str, int]], thousand: float) -> dict[str, float]:
    """What the notary verified and signed."""
    verified = sum(counters.get("notary_signatures_verified", 0) for counters in passed.values())
    signed = sum(counters.get("notary_root_signatures", 0) for counters in passed.values())
    return {"notary verified": verified / thousand, "notary signed": signed / thousand}
