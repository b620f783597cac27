"""`p2pet-cli bench`: what a network does on this machine, beside the machine's own limits."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from p2pet.bench.budgets import ROWS
from p2pet.bench.machine import UnfitDirectory
from p2pet.cli.session import CliError, UsageError
from p2pet.localnet import DaemonFailed

SECONDS, REPEATS = 4.0, 5
QUICK_SECONDS, QUICK_REPEATS = 0.4, 1
ROW_NAMES = tuple(row.name for row in ROWS)


def bench(
    directory: Annotated[
        Path, typer.Option(help="Where the networks are made, and removed afterwards. Not on tmpfs.")
    ] = Path(),
    rows: Annotated[str, typer.Option(help=f"Comma-separated, of: {', '.join(ROW_NAMES)}. All when left out.")] = "",
    seconds: Annotated[float, typer.Option(min=0.1, max=600, help="How long each repeat takes.")] = SECONDS,
    repeats: Annotated[int, typer.Option(min=1, max=100, help="The median of so many is reported.")] = REPEATS,
    quick: Annotated[
        bool, typer.Option(help=f"One repeat of {QUICK_SECONDS:g} s of each row, to see that everything works.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the whole report to this file.")] = None,
) -> None:
    """Measure this machine's limits and what real nodes do on it; docs/benchmarks.md explains the rows."""
    chosen = tuple(name.strip() for name in rows.split(",") if name.strip()) or ROW_NAMES
    unknown = sorted(set(chosen) - set(ROW_NAMES))
    if unknown:
        raise UsageError(f"there is no row {unknown[0]!r}; the rows are {', '.join(ROW_NAMES)}")
    if not directory.is_dir():
        raise UsageError(f"{directory} is not a directory")
    if quick:
        seconds, repeats = QUICK_SECONDS, QUICK_REPEATS
    _run(directory, chosen, seconds, repeats, json_file)


def _run(directory: Path, rows: tuple[str, ...], seconds: float, repeats: int, json_file: Path | None) -> None:
    try:
        from p2pet.bench.report import print_report, write_json
        from p2pet.bench.run import Options, Report, run_bench
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] != "p2petd":
            raise
        raise CliError("the bench needs the p2petd package on this machine; install it with pip") from error
    options = Options(directory, rows, seconds, repeats)

    async def work() -> Report:
        task = asyncio.current_task()
        assert task is not None
        # A killed bench would leave its daemons behind; one that is asked to end stops them.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await run_bench(options, _say)

    try:
        report = asyncio.run(work())
        if json_file is not None:
            write_json(report, json_file)
    except asyncio.CancelledError:
        raise CliError("the bench was stopped", "bench.stopped") from None
    except (UnfitDirectory, DaemonFailed) as error:
        raise CliError(str(error), "bench.failed") from error
    except OSError as error:
        raise CliError(f"{error.filename or directory}: {error.strerror or error}", "bench.failed") from error
    print_report(report)


def _say(step: str) -> None:
    sys.stderr.write(f"{step} ...\n")
    sys.stderr.flush()
