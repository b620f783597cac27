"""Integer units, named in every field that holds them. No float touches the ledger."""

from typing import NewType

from p2petd.errors import QuantityOverflow

WattHours = NewType("WattHours", int)
MicroPerKwh = NewType("MicroPerKwh", int)
NanoMoney = NewType("NanoMoney", int)
TimeNs = NewType("TimeNs", int)

INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)
NO_LOWER_BOUND = TimeNs(INT64_MIN)
NO_UPPER_BOUND = TimeNs(INT64_MAX)

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
HOUR_NS = 3600 * SECOND_NS


def checked_sum(values: "list[int] | tuple[int, ...]", what: str) -> int:
    """Σ values; raises QuantityOverflow when the sum is not an int64, naming `what`."""
    total = sum(values)
    if not INT64_MIN <= total <= INT64_MAX:
        raise QuantityOverflow(f"the sum of {what} does not fit into 64 bits; use smaller amounts")
    return total


def amount_nano(quantity_wh: int, price_micro_per_kwh: int) -> int:
    """Wh × micro-currency per kWh = nano-currency, exactly; raises QuantityOverflow."""
    amount = quantity_wh * price_micro_per_kwh
    if not INT64_MIN <= amount <= INT64_MAX:
        raise QuantityOverflow(
            f"{quantity_wh} Wh at {price_micro_per_kwh} micro per kWh does not fit into 64 bits; use smaller amounts"
        )
    return amount
