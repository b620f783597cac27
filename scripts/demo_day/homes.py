"""One recorded day of the homes: exact decimals in, whole Wh and micro-currency out."""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from pathlib import Path

HOURS = 24
DATA = Path(__file__).resolve().parent.parent / "data" / "homes-california"


class DataError(Exception):
    """The data of the day are missing or malformed; the text names file and line."""


@dataclass(frozen=True)
class RecordedHour:
    """What happened from `start` to `start` + 1 o'clock. `net_wh` by home: surplus above zero, deficit below."""

    start: int
    net_wh: Mapping[int, int]
    retail_micro_per_kwh: int


def net_wh(panels_kw: Decimal, demand_kwh: Decimal, solar_w_per_kw: Decimal) -> int:
    """Generation minus demand of one hour, each rounded to whole Wh first (half to even)."""
    return _whole(panels_kw * solar_w_per_kw) - _whole(demand_kwh.scaleb(3))


def read_day(homes: int, directory: Path = DATA) -> tuple[RecordedHour, ...]:
    """The 24 hours of the first `homes` homes. Raises DataError."""
    nets: dict[int, dict[int, int]] = {}
    for row in _rows(directory / "homes.csv"):
        home = row.whole("home")
        if home <= homes:
            by_home = nets.setdefault(row.whole("hour"), {})
            by_home[home] = net_wh(row.decimal("panels_kw"), row.decimal("demand_kwh"), row.decimal("solar_w_per_kw"))
    tariff = {r.whole("hour"): _whole(r.decimal("retail_per_kwh").scaleb(6)) for r in _rows(directory / "tariff.csv")}
    hours = range(1, HOURS + 1)
    if set(nets) != set(hours) or set(tariff) != set(hours):
        raise DataError(f"{directory} does not hold the hours 1 to {HOURS}")
    if any(set(by_home) != set(range(1, homes + 1)) for by_home in nets.values()):
        raise DataError(f"{directory} does not hold the homes 1 to {homes} in every hour")
    return tuple(RecordedHour(hour - 1, nets[hour], tariff[hour]) for hour in hours)


def read_panels_w(homes: int, directory: Path = DATA) -> dict[int, int]:
    """The rated power of the panels of the first `homes` homes, in W. Raises DataError."""
    rows = _rows(directory / "homes.csv")
    panels = {row.whole("home"): _whole(row.decimal("panels_kw").scaleb(3)) for row in rows}
    return {home: power_w for home, power_w in panels.items() if home <= homes}


@dataclass(frozen=True)
class _Row:
    where: str
    cells: Mapping[str, str]

    def decimal(self, column: str) -> Decimal:
        try:
            value = Decimal(self.cells[column])
        except (KeyError, InvalidOperation, TypeError):
            raise DataError(f"{self.where}: {column} is not a number") from None
        if not value.is_finite() or value < 0:
            raise DataError(f"{self.where}: {column} is not a number from zero up")
        return value

    def whole(self, column: str) -> int:
        value = self.decimal(column)
        if value != int(value):
            raise DataError(f"{self.where}: {column} is not a whole number")
        return int(value)


def _rows(path: Path) -> Iterator[_Row]:
    try:
        with path.open(encoding="ascii", newline="") as file:
            for line, cells in enumerate(csv.DictReader(file), start=2):
                yield _Row(f"{path}, line {line}", cells)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def _whole(value: Decimal) -> int:
    return int(value.to_integral_value(rounding=ROUND_HALF_EVEN))
