"""What the demo shows: steps, one line an hour, the result."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from decimal import Decimal
from pathlib import Path

from p2pet.cli.units import format_amount
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from demo_day.audit import Check, Owned
from demo_day.network import Layout, home_name
from demo_day.plan import DayPlan, PlannedHour
from demo_day.settling import Closed
from demo_day.tools import CLI
from demo_day.trading import Tally

REFRESH_PER_SECOND = 8


class Display:
    """Writes to the terminal; in a pipe or file only the lines that stay."""

    def __init__(self, currency: str) -> None:
        self.console = Console(highlight=False)
        self._currency = currency

    def step(self, text: str) -> AbstractContextManager[object]:
        """One line for a step, with a spinner while it runs."""
        self.console.print(f"[bold]•[/] {text}", soft_wrap=True)
        return self.console.status("")

    def line(self, text: str) -> None:
        self.console.print(text, soft_wrap=True)

    def day(self, plan: DayPlan, tally: Tally) -> "DayDisplay":
        return DayDisplay(self.console, plan, tally)

    def money(self, amount_nano: int) -> str:
        """To the nearest hundredth, for people; the checks compare every nano."""
        return format_amount(int(Decimal(amount_nano).scaleb(-7).to_integral_value()) * 10**7)

    def homes(self, plan: DayPlan, owned: Mapping[int, Owned]) -> None:
        """The table of all homes, asked of their own APIs."""
        table = Table(box=box.SIMPLE_HEAD, title="What each home owns, by its own API after the restart")
        table.add_column("home")
        for heading in ("issued kWh", "sold kWh", "bought kWh", "holds kWh", f"holds {self._currency}"):
            table.add_column(heading, justify="right")
        for home, holding in plan.holdings().items():
            quantities = (holding.issued_wh, holding.sold_wh, holding.bought_wh, owned[home].energy_wh)
            cells = (*map(_kwh, quantities), self.money(owned[home].money_nano))
            table.add_row(home_name(home), *cells)
        table.add_section()
        totals = plan.holdings().values()
        sums = (
            sum(holding.issued_wh for holding in totals),
            sum(holding.sold_wh for holding in totals),
            sum(holding.bought_wh for holding in totals),
            sum(one.energy_wh for one in owned.values()),
        )
        table.add_row("together", *map(_kwh, sums), self.money(sum(one.money_nano for one in owned.values())))
        self.console.print(table)

    def closed(self, closed: Mapping[int, Closed]) -> None:
        """What became of each home's energy, asked of their own APIs."""
        table = Table(box=box.SIMPLE_HEAD, title="What was delivered of each home's energy, by the oracle's readings")
        table.add_column("home")
        headings = ("states closed", "contracted kWh", "delivered kWh", "imbalance kWh", f"imbalance {self._currency}")
        for heading in headings:
            table.add_column(heading, justify="right")
        for home, one in closed.items():
            table.add_row(home_name(home), *self._closed_cells(one))
        table.add_section()
        every = closed.values()
        total = Closed(
            states=sum(one.states for one in every),
            contracted_wh=sum(one.contracted_wh for one in every),
            delivered_wh=sum(one.delivered_wh for one in every),
            imbalance_nano=sum(one.imbalance_nano for one in every),
        )
        table.add_row("together", *self._closed_cells(total))
        self.console.print(table)

    def _closed_cells(self, one: Closed) -> Sequence[str]:
        quantities = (one.contracted_wh, one.delivered_wh, one.delivered_wh - one.contracted_wh)
        return (str(one.states), *map(_kwh, quantities), self.money(one.imbalance_nano))

    def checks(self, checks: Sequence[Check]) -> None:
        for check in checks:
            mark = "[bold green]✓[/]" if check.passed else "[bold red]✗ FAILED[/]"
            self.console.print(f"{mark} {check.statement}", soft_wrap=True)
            self.console.print(f"    {check.seen}", style="dim", markup=False, soft_wrap=True)

    def pace(self, tally: Tally, seconds: int) -> None:
        """How many flows, how fast."""
        self.console.print(
            f"\n{tally.flows} flows at {tally.flows_per_second} flows/s; median latency "
            f"{_median_ms(tally.latencies_ns)} ms, of a trade {_median_ms(tally.trade_latencies_ns)} ms. "
            f"The demo took {seconds} s.",
            soft_wrap=True,
        )

    def next_steps(self, layout: Layout, keep: bool) -> None:
        self.console.print("\n[bold]Where to look next[/]")
        for text in _next_steps(layout, keep):
            self.console.print(f"  {text}", soft_wrap=True)


class DayDisplay:
    """The bar under the hours; use it with `with`."""

    def __init__(self, console: Console, plan: DayPlan, tally: Tally) -> None:
        self._console = console
        self._tally = tally
        self._idle = 0
        self._progress = Progress(
            TextColumn("{task.completed:.0f}/{task.total:.0f} hours"),
            BarColumn(),
            TextColumn("{task.fields[said]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            refresh_per_second=REFRESH_PER_SECOND,
            disable=not console.is_terminal,
        )
        self._task: TaskID = self._progress.add_task("", total=len(plan.hours), said=self._said())

    def __enter__(self) -> "DayDisplay":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        self._close_idle(int(self._progress.tasks[0].completed))

    def refresh(self) -> None:
        self._progress.update(self._task, said=self._said())

    def hour_done(self, hour: PlannedHour) -> None:
        """The line of one hour, and the bar one step on."""
        self._progress.update(self._task, advance=1, said=self._said())
        if not hour.issued_wh:
            self._idle += 1
            return
        self._close_idle(hour.start)
        price = format_amount(hour.price_micro_per_kwh * 1000)
        self._console.print(
            f"  {hour.start:02}:00  {len(hour.issued_wh):2} with a surplus  {len(hour.trades):2} trades  "
            f"{hour.traded_wh:6} Wh at {price}/kWh  {self._tally.flows_per_second:4} flows/s"
        )

    def _close_idle(self, until: int) -> None:
        """One line for the hours before `until` in which nobody had anything to sell."""
        if self._idle:
            since = until - self._idle
            self._console.print(f"  {since:02}:00 to {until:02}:00  no home has a surplus", style="dim")
            self._idle = 0

    def _said(self) -> str:
        tally = self._tally
        return f"{len(tally.trade_ids)} trades  {tally.traded_wh} Wh  {tally.flows_per_second} flows/s"


def _kwh(quantity_wh: int) -> str:
    return f"{Decimal(quantity_wh).scaleb(-3):.3f}"


def _median_ms(latencies_ns: Sequence[int]) -> str:
    return f"{Decimal(int(statistics.median(latencies_ns))).scaleb(-6):.1f}" if latencies_ns else "-"


def _next_steps(layout: Layout, keep: bool) -> Iterable[str]:
    home, command = _shown(layout.home(1)), _shown(CLI)
    if keep:
        yield "The network is running. Ask one of its nodes:"
        yield f"  {command} --node {home} vault balance"
        yield f"  {command} --node {home} vault list --contract energy --unit kw"
        yield f"  {command} --node {home} meter list"
        yield f"  {command} --node {home} tx list"
        yield f"  {command} --node {home} flow types"
        yield "Stop it: scripts/demo --stop"
    else:
        yield f"scripts/demo --keep leaves the network running, to be asked with {command}"
    yield f"Verify the proof yourself: {command} tx verify {_shown(layout.proof)} --root {_shown(layout.root)}"
    yield f"A node's configuration and log: {home / 'node.toml'}, {home / 'node.log'}"
    yield "What the bytes are: docs/protocol.md; what the contracts hold: docs/contracts.md"


def _shown(path: Path) -> Path:
    """As short as a shell in this directory needs it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
