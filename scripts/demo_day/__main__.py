"""`scripts/demo`: bootstraps a network, starts real nodes, trades a day, shows and checks the result."""

import argparse
import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2pet.client import ClientError, NodeClient
from p2pet.localnet import DaemonFailed

from demo_day.audit import (
    Check,
    all_passed,
    ask_owned,
    check_closed,
    check_day,
    check_double_spend,
    check_ended,
    check_proof,
)
from demo_day.homes import DataError, read_day, read_panels_w
from demo_day.network import (
    COMMUNITY,
    NOTARY,
    ORACLE,
    DemoNetwork,
    DirectoryRefused,
    Layout,
    clear,
    home_name,
    make,
    stop_recorded,
)
from demo_day.plan import DayPlan, plan_day
from demo_day.report import Display
from demo_day.settling import Settler
from demo_day.tools import CLI, DOUBLE_SPEND, ToolFailed, run_tool
from demo_day.trading import FlowFailed, Tally, Trader
from p2petd.errors import NodeError

HOMES_MIN, HOMES_MAX, HOMES_DEFAULT = 6, 17, 10
CURRENCY = "USD"
START_MONEY_NANO = 50 * 10**9
EXIT_FAILED = 1
REFRESH_SECONDS = 0.125
DIRECTORY = Path(__file__).resolve().parents[2] / ".demo"


@dataclass(frozen=True)
class Options:
    """What was asked for."""

    layout: Layout
    homes: int
    keep: bool
    stop: bool


class Demo:
    """One run: `trade` on the running network, then `examine` it after a restart."""

    def __init__(self, options: Options, network: DemoNetwork, identities: dict[str, bytes], display: Display) -> None:
        self._layout = options.layout
        self._network = network
        self._identities = identities
        self._display = display
        self._plan = plan_day(read_day(options.homes), options.homes, time.time_ns(), START_MONEY_NANO)
        self.tally = Tally()

    @property
    def plan(self) -> DayPlan:
        return self._plan

    async def trade(self) -> None:
        """Meters and money for everybody, then hour by hour. Raises FlowFailed, ClientError."""
        async with self._clients() as (homes, community, _):
            trader = Trader(homes, community, self._identities, CURRENCY)
            await trader.register_meters(self._plan, read_panels_w(self._plan.homes))
            self.tally = trader.tally
            self.tally.started_ns = time.perf_counter_ns()
            await trader.issue_money(self._plan)
            with self._display.day(self._plan, trader.tally) as shown:
                refreshing = asyncio.create_task(_forever(shown.refresh))
                try:
                    for hour in self._plan.hours:
                        await trader.play(hour)
                        shown.hour_done(hour)
                finally:
                    refreshing.cancel()
            trader.tally.ended_ns = time.perf_counter_ns()

    @asynccontextmanager
    async def _clients(self) -> AsyncIterator[tuple[dict[int, NodeClient], NodeClient, NodeClient]]:
        """Of the homes, the community and the oracle."""
        async with AsyncExitStack() as stack:
            numbers = range(1, self._plan.homes + 1)
            homes = {n: await stack.enter_async_context(self._network.client(home_name(n))) for n in numbers}
            community = await stack.enter_async_context(self._network.client(COMMUNITY))
            yield homes, community, await stack.enter_async_context(self._network.client(ORACLE))

    async def settle(self) -> list[Check]:
        """Readings to the oracle, and every home closes its day against them."""
        async with self._clients() as (homes, community, oracle):
            settler = Settler(homes, community, oracle, self._identities, CURRENCY)
            await settler.publish_tariff(self._plan)
            readings = await settler.push_readings(self._plan)
            await settler.close_day(self._plan)
            closed = await settler.closed()
        self._display.line(f"  {readings} readings pushed, {settler.deliveries} deliveries")
        self._display.closed(closed)
        return check_closed(self._plan, closed, CURRENCY)

    async def prove(self) -> list[Check]:
        """Export a trade, stop every node, verify it with none running."""
        trade, trade_id = max(self.tally.trade_ids, key=lambda one: one[0].quantity_wh)
        buyer = self._layout.home(trade.buyer)
        await run_tool(CLI, "--node", buyer, "tx", "export", trade_id.hex(), "--out", self._layout.proof)
        self._network.stop()
        ended = check_ended(self._network.ended_with())
        answer = await run_tool(CLI, "tx", "verify", self._layout.proof, "--root", self._layout.root, "--json")
        return [ended, check_proof(answer, trade_id)]

    async def examine(self) -> list[Check]:
        """Start the nodes again, one home later than the others: it tries to cheat meanwhile. Then ask each home."""
        cheat = home_name(self.tally.trade_ids[0][0].buyer)
        await self._network.start(NOTARY, *(n for n in self._network.names if n not in (NOTARY, cheat)))
        cheating = check_double_spend(await run_tool(*DOUBLE_SPEND, self._layout.network / cheat))
        await self._network.start(cheat)
        owned = {}
        for number in range(1, self._plan.homes + 1):
            async with self._network.client(home_name(number)) as client:
                owned[number] = await ask_owned(client, CURRENCY)
        self._display.homes(self._plan, owned)
        return [*check_day(self._plan, self.tally, owned), cheating]


async def run(options: Options) -> int:
    """The exit status. Leaves no process behind, unless all went well and they shall be kept."""
    started_ns = time.monotonic_ns()
    display = Display(CURRENCY)
    clear(options.layout)
    with display.step(f"Making a network of one notary, an oracle, the community and {options.homes} homes"):
        identities = make(options.layout, options.homes, CURRENCY)
    network = DemoNetwork(options.layout)
    kept = False
    try:
        demo = Demo(options, network, identities, display)
        with display.step(f"Starting {len(network.names)} nodes, a process each"):
            await network.start()
        display.line(
            f"[bold]•[/] Trading a summer day with registered meters: {demo.plan.trades} trades planned\n"
            "  It was recorded in California and is played as yesterday, so that its meters can be read: this network\n"
            "  takes trades until three days after the start of delivery. The default is until that start."
        )
        await demo.trade()
        with display.step("Exporting a finality proof, stopping every node, verifying it"):
            checks = await demo.prove()
        with display.step("Starting every node again; meanwhile one home tries to spend money twice"):
            checks += await demo.examine()
        with display.step("Pushing the meters' readings to the oracle; every home closes its day against them"):
            checks += await demo.settle()
        display.checks(checks)
        display.pace(demo.tally, (time.monotonic_ns() - started_ns) // 10**9)
        kept = options.keep and all_passed(checks)
        display.next_steps(options.layout, kept)
        return 0 if all_passed(checks) else EXIT_FAILED
    finally:
        if not kept:
            network.close()


async def _forever(work: Any) -> None:
    while True:
        work()
        await asyncio.sleep(REFRESH_SECONDS)


def run_until_signal(work: Coroutine[Any, Any, int]) -> int:
    """The result of `work`; a first SIGINT, SIGTERM or SIGHUP cancels it, and it cleans up before this returns."""
    received: list[int] = []

    async def guarded() -> int:
        task = asyncio.create_task(work)

        def cancel(number: int) -> None:
            if not received:
                task.cancel()
            received.append(number)

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, cancel, number)
        try:
            return await task
        except asyncio.CancelledError:
            print("\nstopped; no process is left", file=sys.stderr)
            return 128 + received[0]

    return asyncio.run(guarded())


def main() -> int:
    options = _options()
    if options.stop:
        print(f"stopped {stop_recorded(options.layout)} processes")
        return 0
    try:
        return run_until_signal(run(options))
    except (ClientError, DaemonFailed, DataError, DirectoryRefused, FlowFailed, NodeError, ToolFailed) as error:
        print(f"scripts/demo: {error}", file=sys.stderr)
        return EXIT_FAILED
    except subprocess.TimeoutExpired as error:
        print(f"scripts/demo: a node did not stop within {error.timeout:.0f} s and was killed", file=sys.stderr)
        return EXIT_FAILED


def _options() -> Options:
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__.split(": ", 1)[1] if __doc__ else None)
    parser.add_argument("--keep", action="store_true", help="leave the network running")
    parser.add_argument("--stop", action="store_true", help="stop the network that --keep left running")
    parser.add_argument(
        "--homes",
        type=int,
        default=HOMES_DEFAULT,
        choices=range(HOMES_MIN, HOMES_MAX + 1),
        metavar=f"{HOMES_MIN}..{HOMES_MAX}",
        help=f"how many homes trade (default {HOMES_DEFAULT})",
    )
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="where the nodes live (default .demo)")
    chosen = parser.parse_args()
    return Options(Layout(chosen.directory.resolve()), chosen.homes, chosen.keep, chosen.stop)


if __name__ == "__main__":
    sys.exit(main())
