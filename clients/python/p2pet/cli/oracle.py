"""`p2pet-cli oracle`: what an oracle is told."""

import csv
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from p2pet.cli.output import plain, print_json, print_line, print_table
from p2pet.cli.pages import LimitOption, collect, more_line
from p2pet.cli.session import CliError, ExitCode, JsonOption, UsageError, ask, parse_hex
from p2pet.cli.units import (
    INT64_MAX,
    format_moment,
    format_quantity,
    format_time,
    parse_period,
    parse_quantity,
    parse_time,
)
from p2pet.client import ApiError, NodeClient
from p2pet.ledger.v1.oracle_pb2 import EnergyForecast
from p2pet.oracle.v1.oracle_pb2 import (
    KnownReading,
    PushForecastsResponse,
    PushReadingsResponse,
    RefusedReading,
    UnitReading,
)

T = TypeVar("T")
COLUMNS = (["meter", "start", "energy_wh"], ["meter", "start", "energy_wh", "revision"])
PUSHED_TOGETHER = 5000
_WHOLE = re.compile(r"-?[0-9]{1,19}")

app = typer.Typer(help="What an oracle is told: readings, forecasts, tariffs.", no_args_is_help=True)


@app.command()
def push(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="CSV: meter,start,energy_wh[,revision]; starts in ISO 8601.")],
    as_json: JsonOption = False,
) -> None:
    """Push the readings of a file; repeating it changes nothing."""
    lines = _read(file)

    async def work(client: NodeClient) -> PushReadingsResponse:
        total = PushReadingsResponse()
        for at in range(0, len(lines), PUSHED_TOGETHER):
            answer = await client.oracle.push_readings([reading for _, reading in lines[at : at + PUSHED_TOGETHER]])
            _add(total, answer, at)
        return total

    _print_pushed(_ask(context, work), [line for line, _ in lines], as_json)


@app.command()
def reading(
    context: typer.Context,
    meter: Annotated[str, typer.Argument(help="Name of the meter.")],
    start: Annotated[str, typer.Argument(help="Start of the market time unit, such as 2026-07-01T12:00Z.")],
    energy: Annotated[str, typer.Argument(metavar="WH", help="What it fed in: 300, 300Wh or 0.3kWh.")],
    revision: Annotated[int, typer.Option(min=0, help="The feed's own count; the oracle counts when left out.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Push one reading, or correct it."""
    one = UnitReading(meter=meter, start_ns=parse_time(start), energy_wh=_energy(energy), revision=revision)
    _print_pushed(_ask(context, lambda client: client.oracle.push_readings([one])), [], as_json)


@app.command()
def forecast(
    context: typer.Context,
    meter: Annotated[str, typer.Argument(help="Name of the meter.")],
    period: Annotated[str, typer.Argument(help="Such as 2026-07-01T12:00Z/PT1H.")],
    energy: Annotated[str, typer.Argument(metavar="WH", help="What it feeds in at most: 300, 300Wh or 0.3kWh.")],
    as_json: JsonOption = False,
) -> None:
    """Push a forecast for a period, in the place of an earlier one."""
    start_ns, end_ns = parse_period(period)
    one = EnergyForecast(meter=meter, start_ns=start_ns, end_ns=end_ns, energy_wh_max=_energy(energy))
    answer = _ask(context, lambda client: client.oracle.push_forecasts([one]))
    if as_json:
        return _print_json(answer)
    _fail_refused(answer.refused, [])
    print_line("The forecast is taken.")


@app.command()
def tariff(
    context: typer.Context,
    attachment: Annotated[
        str, typer.Argument(metavar="HASH", help="SHA-256 of the tariff, an attachment of the node.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Vouch from now on for a tariff."""
    wanted = parse_hex(attachment, 32, "the hash of an attachment")
    notice = _ask(context, lambda client: client.oracle.publish_tariff(wanted))
    if as_json:
        return print_json(plain(notice))
    print_line(f"In force from {format_time(notice.valid_from_ns)} until {format_time(notice.valid_until_ns)}.")


@app.command()
def readings(
    context: typer.Context,
    meter: Annotated[str, typer.Option(help="All meters when left out.")] = "",
    since: Annotated[str, typer.Option("--from", help="Units that start then or later.")] = "",
    until: Annotated[str, typer.Option("--until", help="Units that start before then.")] = "",
    limit: LimitOption = 100,
    as_json: JsonOption = False,
) -> None:
    """What the oracle knows, and what it has vouched for."""
    from_ns, until_ns = (parse_time(text) if text else 0 for text in (since, until))

    async def work(client: NodeClient) -> tuple[list[KnownReading], bool]:
        async def page(size: int, token: str) -> tuple[list[KnownReading], str]:
            answer = await client.oracle.readings(
                meter=meter, from_ns=from_ns, until_ns=until_ns, page_size=size, page_token=token
            )
            return list(answer.readings), answer.next_page_token

        return await collect(page, limit)

    known, more = _ask(context, work)
    if as_json:
        return print_json({"readings": [plain(one) for one in known], "more": more})
    print_table(
        ("meter", "start", ">energy", ">revision", ">attested", "earlier", "received"),
        [_row(one) for one in known],
        "No readings.",
    )
    more_line(more, limit)


def _row(one: KnownReading) -> Sequence[str]:
    return (
        one.reading.meter,
        format_time(one.reading.start_ns),
        format_quantity(one.reading.energy_wh),
        str(one.reading.revision),
        str(one.attested_revision or "-"),
        ", ".join(format_quantity(energy_wh) for energy_wh in one.earlier_wh),
        format_moment(one.received_at_ns),
    )


def _ask(context: typer.Context, work: Callable[[NodeClient], Awaitable[T]]) -> T:
    """Like `ask`; a node that is no oracle says so in words."""
    try:
        return ask(context, work)
    except ApiError as error:
        if error.status == "UNIMPLEMENTED":
            raise CliError("this node is no oracle: its node.toml has no [oracle] section", "oracle.none") from None
        raise


def _energy(text: str) -> int:
    """Wh; raises UsageError."""
    if not _WHOLE.fullmatch(text):
        return parse_quantity(text)
    if abs(int(text)) > INT64_MAX:
        raise UsageError(f"{text!r} is larger than the ledger can hold")
    return int(text)


def _read(file: Path) -> list[tuple[int, UnitReading]]:
    """Each reading with its line; raises UsageError naming the line that is wrong."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.reader(stream, strict=True)
            if [column.strip() for column in next(rows, [])] not in COLUMNS:
                raise UsageError(f"the first line of {file} names the columns {','.join(COLUMNS[1])}")
            return [(rows.line_num, _reading(rows.line_num, row)) for row in rows if row]
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{file} is not text in UTF-8") from None
    except csv.Error as error:
        raise UsageError(f"{file} is no valid CSV: {error}") from None


def _reading(line: int, row: Sequence[str]) -> UnitReading:
    if len(row) not in (3, 4):
        raise UsageError(f"line {line} has not 3 or 4 columns")
    meter, start, energy, revision = [text.strip() for text in (*row, "")][:4]
    try:
        return UnitReading(
            meter=meter, start_ns=parse_time(start), energy_wh=_energy(energy), revision=int(revision or "0")
        )
    except ValueError:
        raise UsageError(f"line {line}: the revision {revision!r} is no whole number") from None
    except UsageError as error:
        raise UsageError(f"line {line}: {error}") from None


def _add(total: PushReadingsResponse, answer: PushReadingsResponse, offset: int) -> None:
    total.added += answer.added
    total.repeated += answer.repeated
    total.corrected += answer.corrected
    total.corrected_late += answer.corrected_late
    for refused in answer.refused:
        refused.index += offset
        total.refused.append(refused)


def _print_pushed(answer: PushReadingsResponse, lines: Sequence[int], as_json: bool) -> None:
    if as_json:
        return _print_json(answer)
    late = f", {answer.corrected_late} of units that it has vouched for" if answer.corrected_late else ""
    corrected = answer.corrected + answer.corrected_late
    print_line(f"{answer.added} added, {answer.repeated} repeated, {corrected} corrected{late}.")
    _fail_refused(answer.refused, lines)


def _print_json(answer: PushReadingsResponse | PushForecastsResponse) -> None:
    """What was refused is part of the answer; the exit code says that there is some."""
    print_json(plain(answer))
    if answer.refused:
        raise typer.Exit(ExitCode.REFUSED)


def _fail_refused(refused: Iterable[RefusedReading], lines: Sequence[int]) -> None:
    """Raises CliError naming the first that the oracle refused."""
    every = list(refused)
    if every:
        first = every[0]
        where = f"line {lines[first.index]}: " if lines else ""
        others = f" ({len(every) - 1} more were refused)" if len(every) > 1 else ""
        raise CliError(f"{where}{first.message}{others}", first.code)
