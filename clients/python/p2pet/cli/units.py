"""Human units at the edge: exact decimals in, exact decimals out, integers inside. No float anywhere."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from p2pet.cli.session import UsageError

INT64_MAX = 2**63 - 1
SECOND_NS = 1_000_000_000
_DECIMAL = r"(-?[0-9]{1,20}(?:\.[0-9]{1,20})?)"
_QUANTITY = re.compile(_DECIMAL + r"\s*(Wh|kWh|MWh|GWh)")
_POWER = re.compile(_DECIMAL + r"\s*(W|kW|MW|GW)")
_PRICE = re.compile(_DECIMAL + r"(?:\s*/\s*(kWh|MWh))?")
_AMOUNT = re.compile(_DECIMAL)
_DURATION = re.compile(r"P(?:([0-9]{1,6})D)?(?:T(?:([0-9]{1,6})H)?(?:([0-9]{1,6})M)?(?:([0-9]{1,6})S)?)?")
_WH = {"Wh": 0, "kWh": 3, "MWh": 6, "GWh": 9}
_W = {"W": 0, "kW": 3, "MW": 6, "GW": 9}
HOUR_NS = 3600 * SECOND_NS
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_quantity(text: str) -> int:
    """Wh of a text such as 1.5kWh or 300 Wh; raises UsageError unless it is a whole number of Wh."""
    match = _QUANTITY.fullmatch(text)
    if not match:
        raise UsageError(f"{text!r} is not an amount of energy such as 1.5kWh or 300Wh")
    return _whole(text, Decimal(match[1]).scaleb(_WH[match[2]]), "Wh")


def parse_power(text: str) -> int:
    """W of a text such as 4.5kW or 300 W; raises UsageError unless it is a whole number of W."""
    match = _POWER.fullmatch(text)
    if not match:
        raise UsageError(f"{text!r} is not a power such as 4.5kW or 300W")
    return _whole(text, Decimal(match[1]).scaleb(_W[match[2]]), "W")


def parse_price(text: str) -> int:
    """Micro-currency per kWh of a text such as 0.25/kWh, 250/MWh or 0.25; raises UsageError."""
    match = _PRICE.fullmatch(text)
    if not match:
        raise UsageError(f"{text!r} is not a price such as 0.25/kWh")
    return _whole(text, Decimal(match[1]).scaleb(3 if match[2] == "MWh" else 6), "millionths per kWh")


def parse_amount(text: str) -> int:
    """Nano-currency of a text such as 3.50; raises UsageError."""
    match = _AMOUNT.fullmatch(text)
    if not match:
        raise UsageError(f"{text!r} is not an amount of money such as 3.50")
    return _whole(text, Decimal(match[1]).scaleb(9), "billionths")


def parse_time(text: str) -> int:
    """UTC nanoseconds of an ISO 8601 time with its offset, such as 2026-07-01T12:00Z; raises UsageError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a time such as 2026-07-01T12:00Z") from None
    if moment.tzinfo is None:
        raise UsageError(f"{text!r} lacks its offset; write 2026-07-01T12:00Z for UTC")
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def parse_duration(text: str) -> int:
    """Nanoseconds of an ISO 8601 duration of days, hours, minutes, seconds such as PT15M; raises UsageError."""
    match = _DURATION.fullmatch(text)
    if not match or not any(match.groups()) or text.endswith("T"):
        raise UsageError(f"{text!r} is not a duration such as PT1H or PT15M")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * SECOND_NS


def parse_period(text: str) -> tuple[int, int]:
    """Start and end, UTC nanoseconds, of 2026-07-01T12:00Z/PT1H or of start/end; raises UsageError."""
    start_text, slash, end_text = text.partition("/")
    if not slash:
        raise UsageError(f"{text!r} is not a period such as 2026-07-01T12:00Z/PT1H")
    start = parse_time(start_text)
    end = start + parse_duration(end_text) if end_text.startswith("P") else parse_time(end_text)
    if end <= start:
        raise UsageError(f"the period {text!r} ends before it starts")
    return start, end


def _whole(text: str, value: Decimal, unit: str) -> int:
    number = int(value)
    if number != value:
        raise UsageError(f"{text!r} is not a whole number of {unit}; the ledger holds nothing smaller")
    if abs(number) > INT64_MAX:
        raise UsageError(f"{text!r} is larger than the ledger can hold")
    return number


def format_quantity(quantity_wh: int) -> str:
    """Such as `1.5 kWh`."""
    return f"{_plain(Decimal(quantity_wh).scaleb(-3), 0)} kWh"


def format_power(power_w: int | Fraction) -> str:
    """Such as `1.5 kW`; what is no whole number of mW is cut to it."""
    milliwatts = power_w * 1000 // 1 if power_w >= 0 else -(-power_w * 1000 // 1)
    return f"{_plain(Decimal(milliwatts).scaleb(-6), 0)} kW"


def mean_power_w(quantity_wh: int, start_ns: int, end_ns: int) -> Fraction:
    """The mean power over a period that is not empty, exactly."""
    return Fraction(quantity_wh * HOUR_NS, end_ns - start_ns)


def format_price(price_micro_per_kwh: int) -> str:
    """Such as `0.25 /kWh`."""
    return f"{_plain(Decimal(price_micro_per_kwh).scaleb(-6), 2)} /kWh"


def format_amount(amount_nano: int, currency: str = "") -> str:
    """Such as `3.50 EUR`."""
    return f"{_plain(Decimal(amount_nano).scaleb(-9), 2)} {currency}".rstrip()


def format_time(at_ns: int) -> str:
    """ISO 8601 in UTC, to the nanosecond where there are any; a dash for 0."""
    if at_ns == 0:
        return "-"
    seconds, rest = divmod(at_ns, SECOND_NS)
    try:
        text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    except OverflowError:
        return f"{at_ns} ns"
    return text + (f".{rest:09d}".rstrip("0") if rest else "") + "Z"


def format_moment(at_ns: int) -> str:
    """Like `format_time`, cut to the millisecond: for lists."""
    return format_time(at_ns // 1_000_000 * 1_000_000)


def format_period(start_ns: int, end_ns: int) -> str:
    """Start and end, the day of the end only where it differs."""
    start, end = format_time(start_ns), format_time(end_ns)
    return f"{start} to {end[11:] if start[:11] == end[:11] else end}"


def _plain(value: Decimal, places_min: int) -> str:
    whole, _, places = f"{value:f}".partition(".")
    places = places.rstrip("0").ljust(places_min, "0")
    return f"{whole}.{places}" if places else whole
