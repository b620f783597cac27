"""A CSV of prices becomes the canonical table, or one clear sentence."""

from pathlib import Path

import pytest
from p2pet.cli.session import UsageError
from p2pet.cli.tariff import COLUMNS, FILE_BYTES_MAX, ROWS_MAX, read_tariff

from p2petd.contracts.tariff import TariffTable

HEADER = ",".join(COLUMNS)
ROW = "solar,feeder-1,0.08,0.31,0.05,0.40"
FROM_NS, UNTIL_NS = 1_000, 2_000


def table_of(tmp_path: Path, *lines: str) -> TariffTable:
    """What the ledger reads from the attachment."""
    file = tmp_path / "tariff.csv"
    file.write_text("\n".join(lines) + "\n")
    message = read_tariff(file, "summer", "EUR", FROM_NS, UNTIL_NS)
    return TariffTable.decode(message.SerializeToString(deterministic=True))


def test_c18_a_csv_becomes_the_canonical_table(tmp_path: Path) -> None:
    table = table_of(tmp_path, HEADER, "wind,,-0.01,0.2,0,1", ROW, "solar,,0.09,0.30,0.05,0.40")
    assert (table.name, table.currency, table.valid_from_ns, table.valid_until_ns) == ("summer", "EUR", 1_000, 2_000)
    assert [(row.energy_type, row.zone) for row in table.rows] == [("solar", ""), ("solar", "feeder-1"), ("wind", "")]
    row = table.row("solar", "feeder-1")
    assert row is not None
    assert (row.price_min_micro_per_kwh, row.price_max_micro_per_kwh) == (80_000, 310_000)
    assert (row.long_price_micro_per_kwh, row.short_price_micro_per_kwh) == (50_000, 400_000)
    elsewhere = table.row("wind", "feeder-9")
    assert elsewhere is not None
    assert elsewhere.price_min_micro_per_kwh == -10_000


def test_c18_columns_may_stand_in_any_order_and_begin_with_a_mark(tmp_path: Path) -> None:
    columns = ",".join(reversed(COLUMNS))
    table = table_of(tmp_path, "\ufeff" + columns, "0.40,0.05,0.31,0.08,feeder-1,solar")
    assert table == table_of(tmp_path, HEADER, ROW)


WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "empty": ((), "columns"),
    "no rows": ((HEADER,), "0 rows"),
    "a column too few": ((HEADER.removesuffix(",short_price"), "solar,,1,1,1"), "columns"),
    "a column too many": ((f"{HEADER},note", f"{ROW},x"), "columns"),
    "a column twice": ((f"{HEADER},zone", f"{ROW},x"), "columns"),
    "a value too few": ((HEADER, "solar,,1,1,1"), "line 2"),
    "a value too many": ((HEADER, f"{ROW},1"), "line 2"),
    "no energy type": ((HEADER, ROW, ",zone,1,1,1,1"), "line 3"),
    "no number": ((HEADER, "solar,,cheap,1,1,1"), "line 2.*cheap"),
    "too exact": ((HEADER, "solar,,0.0000001,1,1,1"), "line 2.*millionths"),
    "bounds crossed": ((HEADER, "solar,,2,1,1,1"), "line 2.*price_min"),
    "twice": ((HEADER, ROW, "wind,,1,1,1,1", ROW), "two rows.*feeder-1"),
    "too many rows": ((HEADER, *(f"solar,{n},1,1,1,1" for n in range(ROWS_MAX + 1))), str(ROWS_MAX)),
    "an open quote": ((HEADER, '"solar'), "CSV"),
}


@pytest.mark.parametrize("case", WRONG)
def test_c18_a_wrong_csv_is_one_clear_sentence(tmp_path: Path, case: str) -> None:
    lines, words = WRONG[case]
    with pytest.raises(UsageError, match=words) as refused:
        table_of(tmp_path, *lines)
    assert "\n" not in str(refused.value)


def test_c18_the_largest_table_is_taken(tmp_path: Path) -> None:
    assert len(table_of(tmp_path, HEADER, *(f"solar,{n},1,1,1,1" for n in range(ROWS_MAX))).rows) == ROWS_MAX


@pytest.mark.parametrize(
    ("name", "currency", "from_ns", "until_ns"),
    [("", "EUR", 1, 2), ("summer", "", 1, 2), ("summer", "EUR", 2, 2)],
)
def test_c18_a_tariff_needs_name_currency_and_time(
    tmp_path: Path, name: str, currency: str, from_ns: int, until_ns: int
) -> None:
    file = tmp_path / "tariff.csv"
    file.write_text(f"{HEADER}\n{ROW}\n")
    with pytest.raises(UsageError):
        read_tariff(file, name, currency, from_ns, until_ns)


def test_c18_a_file_that_is_no_text_or_too_large_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tariff.csv"
    for content in (b"\xff\xfe\x00", b" " * (FILE_BYTES_MAX + 1)):
        file.write_bytes(content)
        with pytest.raises(UsageError):
            read_tariff(file, "summer", "EUR", 1, 2)
    with pytest.raises(UsageError, match="cannot be read"):
        read_tariff(tmp_path / "absent.csv", "summer", "EUR", 1, 2)
