"""A CSV of prices as the canonical `ledger.v1.TariffTable` that transactions cite."""

import csv
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

from p2pet.cli.session import UsageError
from p2pet.cli.units import parse_price
from p2pet.ledger.v1.oracle_pb2 import TariffRow, TariffTable

PRICES: Mapping[str, str] = {
    "price_min": "price_min_micro_per_kwh",
    "price_max": "price_max_micro_per_kwh",
    "long_price": "long_price_micro_per_kwh",
    "short_price": "short_price_micro_per_kwh",
}
COLUMNS = ("energy_type", "zone", *PRICES)
ROWS_MAX = 4096
FILE_BYTES_MAX = 1024 * 1024


def read_tariff(file: Path, name: str, currency: str, from_ns: int, until_ns: int) -> TariffTable:
    """The table, its rows in canonical order; raises UsageError naming the line that is wrong.

    1. It has a name, a currency, and a validity that is not empty.
    2. The file has exactly the columns of COLUMNS, in any order, and 1 to 4096 rows of them.
    3. Every row names an energy type; prices are exact; the lowest is not above the highest.
    4. No two rows have the same energy type and zone.
    """
    if not name or not currency:
        raise UsageError("a tariff has a name and a currency")
    if from_ns >= until_ns:
        raise UsageError("the tariff's validity ends before it starts")
    rows = _rows(_lines(file))
    if not 1 <= len(rows) <= ROWS_MAX:
        raise UsageError(f"{file} has {len(rows)} rows; a tariff has 1 to {ROWS_MAX}")
    ordered = sorted(rows, key=_quality)
    for before, after in pairwise(ordered):
        if _quality(before) == _quality(after):
            raise UsageError(f"two rows are for {after.energy_type!r} in zone {after.zone!r}; keep one")
    return TariffTable(name=name, currency=currency, valid_from_ns=from_ns, valid_until_ns=until_ns, rows=ordered)


def _lines(file: Path) -> list[str]:
    try:
        with file.open("rb") as stream:
            content = stream.read(FILE_BYTES_MAX + 1)
        if len(content) > FILE_BYTES_MAX:
            raise UsageError(f"{file} has more than {FILE_BYTES_MAX} bytes; it is not a tariff")
        return content.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{file} is not text in UTF-8") from None


def _rows(lines: Iterable[str]) -> list[TariffRow]:
    try:
        table = csv.DictReader(lines, strict=True)
        if sorted(table.fieldnames or ()) != sorted(COLUMNS):
            raise UsageError(f"the first line of a tariff names the columns {','.join(COLUMNS)}")
        return [_row(row, table.line_num) for row in table]
    except csv.Error as error:
        raise UsageError(f"the tariff is no valid CSV: {error}") from None


def _row(row: Mapping[str | None, str | None], line: int) -> TariffRow:
    values = {column: row.get(column) for column in COLUMNS}
    if None in row or None in values.values():
        raise UsageError(f"line {line} has not {len(COLUMNS)} values")
    texts = {column: (value or "").strip() for column, value in values.items()}
    if not texts["energy_type"]:
        raise UsageError(f"line {line} names no energy type")
    try:
        prices = {field: parse_price(texts[column]) for column, field in PRICES.items()}
    except UsageError as error:
        raise UsageError(f"line {line}: {error}") from None
    result = TariffRow(energy_type=texts["energy_type"], zone=texts["zone"], **prices)
    if result.price_min_micro_per_kwh > result.price_max_micro_per_kwh:
        raise UsageError(f"line {line}: price_min is above price_max")
    return result


def _quality(row: TariffRow) -> tuple[bytes, bytes]:
    """How the ledger orders rows: byte by byte."""
    return row.energy_type.encode(), row.zone.encode()
