import pytest
from hypothesis import given
from hypothesis import strategies as st
from p2pet.cli.session import UsageError
from p2pet.cli.units import (
    format_amount,
    format_period,
    format_price,
    format_quantity,
    format_time,
    parse_amount,
    parse_duration,
    parse_period,
    parse_price,
    parse_quantity,
    parse_time,
)

NOON_NS = 1_782_907_200 * 10**9
INT64 = st.integers(min_value=0, max_value=2**63 - 1)


@pytest.mark.parametrize(
    ("text", "wh"),
    [("1.5kWh", 1500), ("300Wh", 300), ("300 Wh", 300), ("0.001kWh", 1), ("2MWh", 2_000_000), ("1.000kWh", 1000)],
)
def test_quantities(text: str, wh: int) -> None:
    assert parse_quantity(text) == wh


@pytest.mark.parametrize(
    "text", ["", "1.5", "kWh", "1,5kWh", "1e3kWh", "0.0001kWh", "9223372036854776kWh", "1 kwh", "٣kWh"]
)
def test_quantities_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        parse_quantity(text)


@pytest.mark.parametrize(
    ("text", "micro"), [("0.25/kWh", 250_000), ("0.25", 250_000), ("250/MWh", 250_000), ("-0.01 / kWh", -10_000)]
)
def test_prices(text: str, micro: int) -> None:
    assert parse_price(text) == micro


@pytest.mark.parametrize("text", ["", "0.25/Wh", "0.0000001", "0.25EUR", ".5"])
def test_prices_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        parse_price(text)


def test_amounts() -> None:
    assert parse_amount("3.50") == 3_500_000_000
    assert parse_amount("0.000000001") == 1
    for text in ("", "3,50", "0.0000000001", "9223372037", "3.50EUR"):
        with pytest.raises(UsageError):
            parse_amount(text)


def test_times() -> None:
    assert parse_time("2026-07-01T12:00Z") == NOON_NS
    assert parse_time("2026-07-01T14:00+02:00") == NOON_NS
    assert parse_time("2026-07-01T12:00:00.000001Z") == NOON_NS + 1000
    for text in ("2026-07-01T12:00", "noon", "2026-13-01T12:00Z", ""):
        with pytest.raises(UsageError):
            parse_time(text)


def test_durations() -> None:
    assert parse_duration("PT15M") == 15 * 60 * 10**9
    assert parse_duration("P1DT1H1M1S") == (86_400 + 3661) * 10**9
    for text in ("", "P", "PT", "P1DT", "1H", "PT1.5H", "P1M", "PT-1H"):
        with pytest.raises(UsageError):
            parse_duration(text)


def test_periods() -> None:
    hour = (NOON_NS, NOON_NS + 3600 * 10**9)
    assert parse_period("2026-07-01T12:00Z/PT1H") == hour
    assert parse_period("2026-07-01T12:00Z/2026-07-01T13:00Z") == hour
    for text in ("2026-07-01T12:00Z", "2026-07-01T12:00Z/2026-07-01T12:00Z", "2026-07-01T12:00Z/PT0S", "/PT1H"):
        with pytest.raises(UsageError):
            parse_period(text)


def test_formats() -> None:
    assert (format_quantity(1500), format_quantity(1), format_quantity(2000)) == ("1.5 kWh", "0.001 kWh", "2 kWh")
    assert (format_price(250_000), format_price(1)) == ("0.25 /kWh", "0.000001 /kWh")
    assert (format_amount(3_500_000_000, "EUR"), format_amount(1)) == ("3.50 EUR", "0.000000001")
    assert (format_time(NOON_NS), format_time(NOON_NS + 5), format_time(0)) == (
        "2026-07-01T12:00:00Z",
        "2026-07-01T12:00:00.000000005Z",
        "-",
    )
    assert format_time(2**63 - 1) == "2262-04-11T23:47:16.854775807Z"
    assert format_period(NOON_NS, NOON_NS + 3600 * 10**9) == "2026-07-01T12:00:00Z to 13:00:00Z"
    assert format_period(NOON_NS, NOON_NS + 86_400 * 10**9) == "2026-07-01T12:00:00Z to 2026-07-02T12:00:00Z"


@given(INT64)
def test_what_is_shown_can_be_typed(value: int) -> None:
    assert parse_quantity(format_quantity(value)) == value
    assert parse_price(format_price(value)) == value
    assert parse_amount(format_amount(value)) == value
