"""Taking in what an oracle is told: readings with their corrections, forecasts, tariffs."""

import enum

from p2pet.ledger.v1.oracle_pb2 import EnergyForecast, TariffNotice
from p2pet.oracle.v1.oracle_pb2 import UnitReading
from p2pet.store.v1.store_pb2 import ForecastRow, ReadingRow, TariffRow

from p2petd.contracts.identifiers import LOT_UNITS_MAX
from p2petd.errors import (
    OracleOverloaded,
    QuantityOverflow,
    ReadingNegative,
    ReadingRevision,
    ReadingStale,
    ReadingTooEarly,
    ReadingUnaligned,
)
from p2petd.oracle.book import Book, meter_prefix
from p2petd.units import INT64_MAX, SECOND_NS

ENERGY_WH_MAX = INT64_MAX // LOT_UNITS_MAX
"""Of one market time unit, so that no period's sum overflows."""
CORRECTIONS_MAX = 1000
TARIFFS_MAX = 10_000


class Taken(enum.Enum):
    """What became of a reading."""

    ADDED = enum.auto()
    REPEATED = enum.auto()
    CORRECTED = enum.auto()
    CORRECTED_LATE = enum.auto()


def check_period(start_ns: int, end_ns: int, unit_ns: int) -> None:
    """Raises ReadingUnaligned unless it is 1 to LOT_UNITS_MAX whole market time units."""
    if start_ns % unit_ns or end_ns % unit_ns or not 0 < end_ns - start_ns <= LOT_UNITS_MAX * unit_ns:
        raise ReadingUnaligned(
            f"[{start_ns}, {end_ns}) ns is not 1 to {LOT_UNITS_MAX} whole market time units of {unit_ns // SECOND_NS} s"
        )


def take_reading(book: Book, reading: UnitReading, unit_ns: int, now_ns: int) -> Taken:
    """Add a reading, or correct one; a repeat changes nothing.

    1. meter, unit and value are possible, and the unit has ended: else an error of its own each;
    2. without a revision, another value is a correction; the earlier value is kept;
    3. with one, it is 1 more than the last for a correction (the first is 1); the value of a revision that is known, or
       the newest value under an earlier revision, is a repeat; anything else is ReadingStale or ReadingRevision.
    A correction after the oracle has vouched for the unit is taken too and called late: the ledger keeps what it has.
    """
    _check(reading, unit_ns, now_ns)
    row = book.reading(reading.meter, reading.start_ns)
    if row is None:
        if reading.revision > 1:
            raise ReadingRevision(f"the first reading of a unit has revision 1, not {reading.revision}")
        fresh = ReadingRow(energy_wh=reading.energy_wh, revision=1, received_at_ns=now_ns)
        book.put_reading(reading.meter, reading.start_ns, fresh)
        return Taken.ADDED
    if _is_repeat(reading, row):
        return Taken.REPEATED
    if row.revision > CORRECTIONS_MAX:
        raise ReadingRevision(f"the unit has been corrected {CORRECTIONS_MAX} times, the most that the oracle takes")
    late = row.attested_revision > 0
    row.earlier_wh.append(row.energy_wh)
    row.energy_wh, row.revision, row.received_at_ns = reading.energy_wh, row.revision + 1, now_ns
    book.put_reading(reading.meter, reading.start_ns, row)
    return Taken.CORRECTED_LATE if late else Taken.CORRECTED


def _check(reading: UnitReading, unit_ns: int, now_ns: int) -> None:
    meter_prefix(reading.meter)
    if reading.start_ns % unit_ns:
        raise ReadingUnaligned(
            f"{reading.start_ns} ns is not the start of a market time unit of {unit_ns // SECOND_NS} s"
        )
    if reading.start_ns > INT64_MAX - unit_ns or reading.energy_wh > ENERGY_WH_MAX:
        raise QuantityOverflow(
            f"{reading.energy_wh} Wh, or the end of the unit, is too large; a unit has at most {ENERGY_WH_MAX} Wh"
        )
    if reading.start_ns + unit_ns > now_ns:
        raise ReadingTooEarly(f"the unit ends {(reading.start_ns + unit_ns - now_ns) // SECOND_NS} s from now")
    if reading.energy_wh < 0:
        raise ReadingNegative(f"{reading.energy_wh} Wh is below zero")


def _is_repeat(reading: UnitReading, row: ReadingRow) -> bool:
    """False for a correction. Raises ReadingStale, ReadingRevision."""
    if not reading.revision:
        return reading.energy_wh == row.energy_wh
    if reading.revision == row.revision + 1:
        return False
    if reading.revision > row.revision:
        raise ReadingRevision(f"the last revision of the unit is {row.revision}; {reading.revision} does not follow it")
    known = [*row.earlier_wh, row.energy_wh]
    if reading.energy_wh not in (known[reading.revision - 1], row.energy_wh):
        raise ReadingStale(
            f"revision {reading.revision} of the unit was {known[reading.revision - 1]} Wh, not {reading.energy_wh}; "
            f"the last revision is {row.revision}"
        )
    return True


def take_forecast(book: Book, forecast: EnergyForecast, unit_ns: int, now_ns: int) -> None:
    """Put a forecast in the place of an earlier one for the same meter and period; a repeat changes nothing.

    Raises ReadingMeterInvalid, ReadingUnaligned, ReadingNegative.
    """
    meter_prefix(forecast.meter)
    check_period(forecast.start_ns, forecast.end_ns, unit_ns)
    if forecast.energy_wh_max < 0:
        raise ReadingNegative(f"{forecast.energy_wh_max} Wh is below zero")
    known = book.forecast(forecast.meter, forecast.start_ns, forecast.end_ns)
    if known is None or known.energy_wh_max != forecast.energy_wh_max:
        row = ForecastRow(energy_wh_max=forecast.energy_wh_max, received_at_ns=now_ns)
        book.put_forecast(forecast.meter, forecast.start_ns, forecast.end_ns, row)


def take_tariff(book: Book, tariff: bytes, valid_from_ns: int, valid_until_ns: int, now_ns: int) -> TariffNotice:
    """Publish a tariff table by its hash; a repeat changes nothing. Raises OracleOverloaded."""
    if tariff not in book.tariffs:
        if len(book.tariffs) >= TARIFFS_MAX:
            raise OracleOverloaded(f"the oracle has published {TARIFFS_MAX} tariffs, the most that it keeps")
        # Later than any other, whatever the clock shows: "newest" must have one answer.
        published_at_ns = max([now_ns, *(row.published_at_ns + 1 for row in book.tariffs.values())])
        book.put_tariff(
            TariffRow(
                tariff=tariff,
                valid_from_ns=valid_from_ns,
                valid_until_ns=valid_until_ns,
                published_at_ns=published_at_ns,
            )
        )
    row = book.tariffs[tariff]
    return TariffNotice(tariff=row.tariff, valid_from_ns=row.valid_from_ns, valid_until_ns=row.valid_until_ns)
