"""The whole bench: limits, then parts with networks of their own, row after row."""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from p2pet.bench.attachment_rows import attachment_load
from p2pet.bench.backchain_rows import DEPTH, resolve_once
from p2pet.bench.budgets import MICROSECONDS, ROWS, Row
from p2pet.bench.contract_rows import VERIFY_US, WHOLE_US, contract_cost
from p2pet.bench.flow_rows import HOMES, FlowFailed, FlowLoad, flow_load
from p2pet.bench.idle import start_once
from p2pet.bench.limits import Limits, measure_limits
from p2pet.bench.load import medians
from p2pet.bench.machine import Machine, Memory, disk_bytes, durable_file_system, file_system, memory, this_machine
from p2pet.bench.meter import Measured
from p2pet.bench.networks import BenchNetwork, new_network
from p2pet.bench.notary_rows import NotaryLoad, notary_load
from p2pet.bench.notary_stream import NotaryUnfit
from p2pet.bench.restart_rows import STATES, restart_once
from p2pet.bench.tear_off_rows import BOTH_US, CHECK_US, MAKE_US, tear_off_cost
from p2pet.client import ApiError
from p2pet.localnet import DaemonFailed
from p2petd.errors import NodeError

L = TypeVar("L")

IDLE_STARTS = 5
LIMIT_SECONDS_MAX = WARM_UP_SECONDS_MAX = 1.0
IDLE_ROWS = ("idle-memory", "idle-ready")
NOTARY_ROWS: Mapping[str, Callable[[NotaryLoad, float], Awaitable[Measured]]] = {
    "notary": NotaryLoad.throughput,
    "notary-latency": NotaryLoad.latency,
}
FLOW_ROWS: Mapping[str, Callable[[FlowLoad, float], Awaitable[Measured]]] = {
    "request": FlowLoad.request,
    "request-batched": FlowLoad.request_batched,
    "request-pay": FlowLoad.request_pay,
    "request-trade": FlowLoad.request_trade,
    "pay-32": FlowLoad.pay_many,
    "pay-1": FlowLoad.pay_one,
    "one-at-a-time": FlowLoad.one_at_a_time,
}
LEDGER_ROWS = ("restart-1m", "contracts", "tear-off", "attachment", "back-chain")
# A quick bench says that a row can be measured; its figures are nobody's.
QUICK_SECONDS, QUICK_DEPTH, QUICK_STATES = 1.0, 200, 2_000
FAILURES = (FlowFailed, NotaryUnfit, DaemonFailed, ApiError, NodeError, TimeoutError)


@dataclass(frozen=True)
class Options:
    """`directory` must exist; networks are made in it and removed. `rows` are names of ROWS."""

    directory: Path
    rows: tuple[str, ...]
    seconds: float
    repeats: int


@dataclass(frozen=True)
class RowResult:
    """A row with its repeats, or with the reason why it has none."""

    row: Row
    repeats: tuple[Measured, ...]
    failure: str = ""

    @property
    def metrics(self) -> dict[str, float]:
        """Medians over the repeats."""
        return medians([repeat.metrics for repeat in self.repeats])


@dataclass(frozen=True)
class NodeResult:
    """What a daemon held at the end of its part of the bench."""

    name: str
    part: str
    data_directory: Path
    file_system: str
    disk_bytes: int
    memory: Memory


@dataclass(frozen=True)
class Report:
    """Everything that was measured."""

    started_at: str
    options: Options
    machine: Machine
    file_system: str
    limits: Limits
    rows: tuple[RowResult, ...]
    nodes: tuple[NodeResult, ...]


async def run_bench(options: Options, say: Callable[[str], None]) -> Report:
    """Measures all that is asked for; `say` gets a line before each step. Raises UnfitDirectory, DaemonFailed.

    Whatever happens, no process and no file is left behind.
    """
    kind = durable_file_system(options.directory)
    started_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with tempfile.TemporaryDirectory(prefix="p2pet-bench-", dir=options.directory) as scratch:
        part = _Parts(options, Path(scratch), say)
        limits = await part.limits()
        await part.idle()
        await part.notary()
        await part.flows()
        await part.ledger()
    ordered = tuple(part.rows[row.name] for row in ROWS if row.name in part.rows)
    return Report(started_at, options, this_machine(), kind, limits, ordered, tuple(part.nodes))


class _Parts:
    """The parts in turn, and what they have found so far."""

    def __init__(self, options: Options, scratch: Path, say: Callable[[str], None]) -> None:
        self._options = options
        self._scratch = scratch
        self._say = say
        self.rows: dict[str, RowResult] = {}
        self.nodes: list[NodeResult] = []

    async def limits(self) -> Limits:
        self._say("this machine's limits")
        with new_network(self._scratch / "limits", homes=1) as network:
            seconds = min(LIMIT_SECONDS_MAX, self._options.seconds / 4)
            return await measure_limits(network, self._scratch, seconds, self._options.repeats)

    async def idle(self) -> None:
        wanted = self._wanted(IDLE_ROWS)
        if not wanted:
            return
        self._say("idle node")
        with new_network(self._scratch / "idle", homes=1) as network:
            repeats = tuple([await start_once(network) for _ in range(min(IDLE_STARTS, 2 * self._options.repeats))])
        for row in wanted:
            self.rows[row.name] = RowResult(row, repeats)

    async def notary(self) -> None:
        wanted = self._wanted(NOTARY_ROWS)
        if not wanted:
            return
        with new_network(self._scratch / "notary", homes=0) as network:
            async with notary_load(network) as load:
                await load.warm_up()
                for row in wanted:
                    self.rows[row.name] = await self._row(row, load, NOTARY_ROWS[row.name])
                self._note_nodes("notary", network)

    async def flows(self) -> None:
        wanted = self._wanted(FLOW_ROWS)
        if not wanted:
            return
        with new_network(self._scratch / "flows", HOMES) as network:
            async with flow_load(network) as load:
                for row in wanted:
                    self.rows[row.name] = await self._row(row, load, FLOW_ROWS[row.name])
                self._note_nodes("flows", network)

    async def ledger(self) -> None:
        """Each row makes what it needs; those without daemons last as long as their rounds take."""
        measures: Mapping[str, Callable[[Path], Awaitable[Measured]]] = {
            "restart-1m": self._restart,
            "contracts": self._contracts,
            "tear-off": self._tear_off,
            "attachment": self._attachment,
            "back-chain": self._back_chain,
        }
        for row in self._wanted(LEDGER_ROWS):
            repeats: list[Measured] = []
            try:
                for number in range(self._options.repeats):
                    self._say(f"{row.title}: {number + 1} of {self._options.repeats}")
                    repeats.append(await measures[row.name](self._scratch / f"{row.name}-{number}"))
                self.rows[row.name] = RowResult(row, tuple(repeats))
            except FAILURES as error:
                self.rows[row.name] = RowResult(row, (), str(error) or type(error).__name__)

    async def _contracts(self, directory: Path) -> Measured:
        cost = await asyncio.to_thread(contract_cost, directory)
        return Measured({MICROSECONDS: cost[VERIFY_US], WHOLE_US: cost[WHOLE_US]})

    async def _tear_off(self, directory: Path) -> Measured:
        cost = await asyncio.to_thread(tear_off_cost)
        return Measured({MICROSECONDS: cost[BOTH_US], MAKE_US: cost[MAKE_US], CHECK_US: cost[CHECK_US]})

    async def _attachment(self, directory: Path) -> Measured:
        with new_network(directory, homes=2) as network:
            async with attachment_load(network) as load:
                return await load.transfer(self._options.seconds)

    async def _back_chain(self, directory: Path) -> Measured:
        quick = self._options.seconds <= QUICK_SECONDS
        return await resolve_once(directory, QUICK_DEPTH if quick else DEPTH)

    async def _restart(self, directory: Path) -> Measured:
        quick = self._options.seconds <= QUICK_SECONDS
        return await restart_once(directory, QUICK_STATES if quick else STATES)

    def _wanted(self, names: Mapping[str, object] | Sequence[str]) -> list[Row]:
        return [row for row in ROWS if row.name in names and row.name in self._options.rows]

    async def _row(self, row: Row, load: L, measure: Callable[[L, float], Awaitable[Measured]]) -> RowResult:
        """Warms up, so that connections stand and caches are filled, then repeats."""
        repeats: list[Measured] = []
        seconds = self._options.seconds
        try:
            await measure(load, min(WARM_UP_SECONDS_MAX, seconds / 4))
            for number in range(self._options.repeats):
                self._say(f"{row.title}: {number + 1} of {self._options.repeats}")
                repeats.append(await measure(load, seconds))
        except FAILURES as error:
            return RowResult(row, (), str(error) or type(error).__name__)
        return RowResult(row, tuple(repeats))

    def _note_nodes(self, part: str, network: BenchNetwork) -> None:
        for name in network.daemons.names:
            if network.daemons.is_running(name):
                data = network.daemons.node_directory(name) / "data"
                held = memory(network.daemons.pid(name))
                self.nodes.append(NodeResult(name, part, data, file_system(data), disk_bytes(data), held))
