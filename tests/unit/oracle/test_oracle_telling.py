"""What becomes of each reading, forecast and tariff that an oracle is told."""

import pytest
from p2pet.ledger.v1.oracle_pb2 import EnergyForecast
from scribe import METER, NOW_NS, START_NS, UNIT_NS, Scribe, reading

from p2petd.errors import (
    NodeError,
    OracleOverloaded,
    QuantityOverflow,
    ReadingMeterInvalid,
    ReadingNegative,
    ReadingRevision,
    ReadingStale,
    ReadingTooEarly,
    ReadingUnaligned,
)
from p2petd.oracle.book import Book, readings_page
from p2petd.oracle.telling import (
    CORRECTIONS_MAX,
    ENERGY_WH_MAX,
    TARIFFS_MAX,
    Taken,
    take_forecast,
    take_reading,
    take_tariff,
)
from p2petd.units import INT64_MAX


def test_a_reading_that_comes_twice_is_repeated_and_changes_nothing(scribe: Scribe) -> None:
    assert scribe.tell(500) is Taken.ADDED
    scribe.commit()
    assert scribe.tell(500) is Taken.REPEATED
    assert scribe.tell(500, revision=1) is Taken.REPEATED
    assert scribe.book.take() == []


def test_another_value_is_a_correction_that_keeps_the_old_one(scribe: Scribe) -> None:
    scribe.tell(500)
    assert scribe.tell(480) is Taken.CORRECTED
    assert scribe.tell(490) is Taken.CORRECTED
    row = scribe.book.reading(METER, START_NS)
    assert row is not None
    assert (row.energy_wh, row.revision, list(row.earlier_wh)) == (490, 3, [500, 480])


def test_the_revisions_of_a_feed_are_its_count(scribe: Scribe) -> None:
    assert scribe.tell(500, revision=1) is Taken.ADDED
    assert scribe.tell(480, revision=2) is Taken.CORRECTED
    assert scribe.tell(480, revision=3) is Taken.CORRECTED
    assert scribe.tell(500, revision=1) is Taken.REPEATED
    assert scribe.tell(480, revision=1) is Taken.REPEATED


@pytest.mark.parametrize(
    ("energy_wh", "revision", "error"),
    [(470, 1, ReadingStale), (500, 2, ReadingStale), (470, 2, ReadingStale), (470, 4, ReadingRevision)],
)
def test_a_revision_that_contradicts_is_refused(
    scribe: Scribe, energy_wh: int, revision: int, error: type[NodeError]
) -> None:
    scribe.tell(500, revision=1)
    scribe.tell(480, revision=2)
    scribe.commit()
    with pytest.raises(error):
        scribe.tell(energy_wh, revision=revision)
    assert scribe.book.take() == []


def test_a_first_reading_with_a_later_revision_is_refused(scribe: Scribe) -> None:
    with pytest.raises(ReadingRevision, match="the first reading of a unit has revision 1"):
        scribe.tell(500, revision=2)
    assert scribe.book.take() == []


def test_a_unit_is_corrected_only_so_often(scribe: Scribe) -> None:
    for value in range(CORRECTIONS_MAX + 1):
        scribe.tell(value)
    with pytest.raises(ReadingRevision, match="the most that the oracle takes"):
        scribe.tell(CORRECTIONS_MAX + 1)
    row = scribe.book.reading(METER, START_NS)
    assert row is not None
    assert row.revision == CORRECTIONS_MAX + 1


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"meter": ""}, ReadingMeterInvalid),
        ({"meter": "m" * 256}, ReadingMeterInvalid),
        ({"start_ns": START_NS + 1}, ReadingUnaligned),
        ({"start_ns": INT64_MAX // UNIT_NS * UNIT_NS}, QuantityOverflow),
        ({"energy_wh": ENERGY_WH_MAX + 1}, QuantityOverflow),
        ({"energy_wh": -1}, ReadingNegative),
        ({"start_ns": NOW_NS}, ReadingTooEarly),
    ],
)
def test_an_impossible_reading_is_refused_with_a_code_of_its_own(
    scribe: Scribe, change: dict[str, object], error: type[NodeError]
) -> None:
    wrong = reading(500)
    for name, value in change.items():
        setattr(wrong, name, value)
    with pytest.raises(error):
        take_reading(scribe.book, wrong, UNIT_NS, NOW_NS)
    assert scribe.book.take() == []


def test_the_largest_meter_name_value_and_latest_unit_are_taken(scribe: Scribe) -> None:
    last = (NOW_NS - START_NS) // UNIT_NS - 1
    assert scribe.tell(ENERGY_WH_MAX, unit=last, meter="m" * 255) is Taken.ADDED


def test_a_unit_that_ends_in_a_nanosecond_has_not_ended(scribe: Scribe) -> None:
    with pytest.raises(ReadingTooEarly):
        take_reading(scribe.book, reading(500), UNIT_NS, START_NS + UNIT_NS - 1)
    assert take_reading(scribe.book, reading(500), UNIT_NS, START_NS + UNIT_NS) is Taken.ADDED


def test_what_was_told_is_there_after_a_restart(scribe: Scribe) -> None:
    scribe.tell(500)
    scribe.tell(480)
    take_tariff(scribe.book, b"\x09" * 32, 1, 2, NOW_NS)
    scribe.commit()
    again = Book(scribe.store)
    row = again.reading(METER, START_NS)
    assert row is not None
    assert (row.energy_wh, row.revision) == (480, 2)
    assert set(again.tariffs) == {b"\x09" * 32}


def test_readings_are_listed_by_meter_and_time(scribe: Scribe) -> None:
    for unit in range(5):
        scribe.tell(unit, unit=unit, meter="a")
        scribe.tell(unit, unit=unit, meter="ab")
    scribe.commit()
    start, end = START_NS + UNIT_NS, START_NS + 4 * UNIT_NS
    page, last = readings_page(scribe.store, "a", b"", start, end, 2)
    rest, none = readings_page(scribe.store, "a", last or b"", start, end, 2)
    assert [row.energy_wh for _, row in page + rest] == [1, 2, 3]
    assert none is None
    everything, _ = readings_page(scribe.store, "", b"", start, end, 100)
    assert [row.energy_wh for _, row in everything] == [1, 2, 3, 1, 2, 3]


def test_a_forecast_takes_the_place_of_an_earlier_one(scribe: Scribe) -> None:
    forecast = EnergyForecast(meter=METER, start_ns=NOW_NS, end_ns=NOW_NS + UNIT_NS, energy_wh_max=900)
    take_forecast(scribe.book, forecast, UNIT_NS, NOW_NS)
    scribe.commit()
    take_forecast(scribe.book, forecast, UNIT_NS, NOW_NS)
    assert scribe.book.take() == []
    forecast.energy_wh_max = 700
    take_forecast(scribe.book, forecast, UNIT_NS, NOW_NS)
    row = scribe.book.forecast(METER, NOW_NS, NOW_NS + UNIT_NS)
    assert row is not None
    assert row.energy_wh_max == 700


@pytest.mark.parametrize(
    ("meter", "length_ns", "energy_wh", "error"),
    [
        ("", UNIT_NS, 1, ReadingMeterInvalid),
        (METER, 0, 1, ReadingUnaligned),
        (METER, UNIT_NS + 1, 1, ReadingUnaligned),
        (METER, 4097 * UNIT_NS, 1, ReadingUnaligned),
        (METER, UNIT_NS, -1, ReadingNegative),
    ],
)
def test_an_impossible_forecast_is_refused(
    scribe: Scribe, meter: str, length_ns: int, energy_wh: int, error: type[NodeError]
) -> None:
    forecast = EnergyForecast(meter=meter, start_ns=NOW_NS, end_ns=NOW_NS + length_ns, energy_wh_max=energy_wh)
    with pytest.raises(error):
        take_forecast(scribe.book, forecast, UNIT_NS, NOW_NS)
    assert scribe.book.take() == []


def test_a_tariff_is_published_once_and_only_so_many(scribe: Scribe) -> None:
    first = take_tariff(scribe.book, b"\x00" * 32, 10, 20, NOW_NS)
    scribe.commit()
    assert take_tariff(scribe.book, b"\x00" * 32, 10, 20, NOW_NS + 5) == first
    assert scribe.book.take() == []
    for number in range(1, TARIFFS_MAX):
        scribe.book._tariffs[number.to_bytes(32)] = scribe.book._tariffs[b"\x00" * 32]
    with pytest.raises(OracleOverloaded):
        take_tariff(scribe.book, b"\xff" * 32, 10, 20, NOW_NS)
    assert scribe.book.take() == []
