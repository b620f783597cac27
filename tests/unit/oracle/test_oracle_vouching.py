"""An oracle says what it knows, and signs for nothing else."""

from dataclasses import replace

import pytest
from p2pet.ledger.v1.oracle_pb2 import EnergyForecast, TariffNotice
from p2pet.oracle.v1 import oracle_pb2 as pb
from scribe import KEY, METER, NETWORK, NOW_NS, OTHER_KEY, START_NS, UNIT_NS, Scribe, request

from p2petd import native
from p2petd.errors import FactDiffers, OracleError, ReadingUnaligned, UnknownFact
from p2petd.oracle.book import Book
from p2petd.oracle.telling import Taken, take_forecast, take_tariff
from p2petd.oracle.vouching import Voice
from p2petd.units import TimeNs, WattHours


def test_c12_a_period_is_the_sum_of_its_units(scribe: Scribe) -> None:
    for unit, energy_wh in enumerate((100, 0, 300)):
        scribe.tell(energy_wh, unit)
    scribe.tell(110, 0)
    scribe.tell(120, 0)
    scribe.tell(290, 2)
    (fact,) = scribe.facts(units=3).readings
    assert (fact.energy_wh, fact.revision) == (410, 4)


def test_c12_a_missing_unit_is_named(scribe: Scribe) -> None:
    scribe.tell(100, 0)
    scribe.tell(100, 2)
    with pytest.raises(UnknownFact, match=f"for the unit from {START_NS + UNIT_NS} ns"):
        scribe.facts(units=3)


def test_forecasts_are_known_by_their_exact_period(scribe: Scribe) -> None:
    forecast = EnergyForecast(meter=METER, start_ns=NOW_NS, end_ns=NOW_NS + 2 * UNIT_NS, energy_wh_max=900)
    take_forecast(scribe.book, forecast, UNIT_NS, NOW_NS)
    asked = EnergyForecast(meter=METER, start_ns=NOW_NS, end_ns=NOW_NS + 2 * UNIT_NS)
    assert scribe.attest(pb.FactQuery(forecast=asked)).forecasts[0].energy_wh_max == 900
    asked.end_ns -= UNIT_NS
    with pytest.raises(UnknownFact):
        scribe.attest(pb.FactQuery(forecast=asked))


def test_the_tariff_in_force_is_the_one_published_last(scribe: Scribe) -> None:
    # A clock that stands still, or goes back, does not change which one is the newest.
    take_tariff(scribe.book, b"\x0a" * 32, 0, 100, NOW_NS)
    take_tariff(scribe.book, b"\x0b" * 32, 50, 100, NOW_NS)
    take_tariff(scribe.book, b"\x0c" * 32, 60, 100, NOW_NS - 5)

    def at(at_ns: int) -> bytes:
        return scribe.attest(pb.FactQuery(tariff=TariffNotice(valid_from_ns=at_ns))).tariffs[0].tariff

    assert (at(49), at(50), at(99)) == (b"\x0a" * 32, b"\x0b" * 32, b"\x0c" * 32)
    with pytest.raises(UnknownFact):
        at(100)
    by_hash = scribe.attest(pb.FactQuery(tariff=TariffNotice(tariff=b"\x0b" * 32))).tariffs[0]
    assert (by_hash.valid_from_ns, by_hash.valid_until_ns) == (50, 100)
    with pytest.raises(UnknownFact):
        scribe.attest(pb.FactQuery(tariff=TariffNotice(tariff=b"\x0d" * 32)))


def test_requests_are_bounded(scribe: Scribe) -> None:
    scribe.tell(1)
    with pytest.raises(OracleError, match="1 to 64 queries, not 0"):
        scribe.attest()
    with pytest.raises(OracleError, match="1 to 64 queries, not 65"):
        scribe.attest(*[_query(1)] * 65)
    with pytest.raises(OracleError, match="covers 4097 market time units"):
        scribe.attest(_query(4096), _query(1))
    with pytest.raises(ReadingUnaligned):
        scribe.attest(_query(4097))
    with pytest.raises(OracleError, match="a query asks for"):
        scribe.attest(pb.FactQuery())


def test_c12_a_true_fact_is_signed_and_recorded(scribe: Scribe) -> None:
    scribe.tell(500)
    asked = request(scribe.facts())
    signature = scribe.sign(asked)
    assert native.verify_signatures([(KEY.public, NETWORK, 1, asked.transaction_id, signature)]) == [True]
    row = scribe.book.reading(METER, START_NS)
    assert row is not None
    assert (row.attested_revision, row.attested_in) == (1, asked.transaction_id)
    kept = scribe.book.attestation(asked.transaction_id)
    assert kept is not None
    assert kept.signed_at_ns == NOW_NS


def test_c12_a_repeat_gets_the_same_signature_also_after_a_correction_and_a_restart(scribe: Scribe) -> None:
    scribe.tell(500)
    asked = request(scribe.facts())
    first = scribe.sign(asked)
    assert scribe.tell(400) is Taken.CORRECTED_LATE
    assert scribe.tell(300) is Taken.CORRECTED_LATE
    scribe.commit()
    assert scribe.sign(asked) == first
    assert scribe.book.take() == []
    assert Voice(Book(scribe.store), KEY, NETWORK, UNIT_NS).sign(asked, NOW_NS) == first


@pytest.mark.parametrize(("energy_wh", "revision"), [(501, 1), (499, 1), (500, 2), (500, 0)])
def test_c12_a_false_fact_is_not_signed(scribe: Scribe, energy_wh: int, revision: int) -> None:
    scribe.tell(500)
    scribe.commit()
    true = scribe.facts()
    reading = replace(true.readings[0], energy_wh=WattHours(energy_wh), revision=revision)
    false = replace(true, readings=(reading,))
    with pytest.raises(FactDiffers):
        scribe.sign(request(false))
    assert scribe.book.take() == []


def test_c12_a_stale_revision_is_not_signed(scribe: Scribe) -> None:
    scribe.tell(500)
    stale = request(scribe.facts())
    scribe.tell(400)
    scribe.commit()
    with pytest.raises(FactDiffers, match="400 Wh in revision 2"):
        scribe.sign(stale)
    assert scribe.book.take() == []


def test_c12_another_oracles_attestation_is_not_signed(scribe: Scribe) -> None:
    scribe.tell(500)
    scribe.commit()
    with pytest.raises(OracleError, match="not this oracle's"):
        scribe.sign(request(replace(scribe.facts(), oracle=OTHER_KEY.public)))
    assert scribe.book.take() == []


def test_c12_false_forecasts_and_tariffs_are_not_signed(scribe: Scribe) -> None:
    forecast = EnergyForecast(meter=METER, start_ns=NOW_NS, end_ns=NOW_NS + UNIT_NS, energy_wh_max=900)
    take_forecast(scribe.book, forecast, UNIT_NS, NOW_NS)
    take_tariff(scribe.book, b"\x0a" * 32, 0, 100, NOW_NS)
    scribe.commit()
    true = scribe.attest(pb.FactQuery(forecast=forecast), pb.FactQuery(tariff=TariffNotice(tariff=b"\x0a" * 32)))
    higher = replace(true, forecasts=(replace(true.forecasts[0], energy_wh_max=WattHours(901)),))
    longer = replace(true, tariffs=(replace(true.tariffs[0], valid_until_ns=TimeNs(101)),))
    for false in (higher, longer):
        with pytest.raises(FactDiffers):
            scribe.sign(request(false))
    assert scribe.book.take() == []


def test_c12_the_oracle_looks_at_its_own_attestation_only(scribe: Scribe) -> None:
    scribe.tell(500)
    scribe.commit()
    attestation = scribe.facts()
    with pytest.raises(OracleError, match="something else than one command"):
        scribe.sign(request(attestation, attestation, show=(0, 1)))
    hidden = request(attestation)
    hidden.tear_off = hidden.tear_off[:-1]
    with pytest.raises(OracleError, match="does not prove"):
        scribe.sign(hidden)
    other = request(attestation, salt=b"\x08" * 32)
    other.transaction_id = request(attestation).transaction_id
    with pytest.raises(OracleError, match="does not prove"):
        scribe.sign(other)
    with pytest.raises(OracleError, match="32 bytes, not 3"):
        scribe.sign(pb.SignRequest(transaction_id=b"abc"))
    assert scribe.book.take() == []


def test_c12_a_second_attestation_of_one_transaction_is_not_signed(scribe: Scribe) -> None:
    scribe.tell(500, 0)
    scribe.tell(600, 1)
    first, second = scribe.facts(unit=0), scribe.facts(unit=1)
    shows_first, shows_second = request(first, second), request(first, second, show=(1,))
    scribe.sign(shows_first)
    scribe.commit()
    with pytest.raises(OracleError, match="for another attestation"):
        scribe.sign(shows_second)
    assert scribe.book.take() == []


def test_an_attestation_without_facts_is_not_signed(scribe: Scribe) -> None:
    scribe.tell(500)
    scribe.commit()
    with pytest.raises(OracleError, match="1 to 64 queries, not 0"):
        scribe.sign(request(replace(scribe.facts(), readings=())))
    assert scribe.book.take() == []


def _query(units: int) -> pb.FactQuery:
    query = pb.FactQuery()
    query.reading.meter, query.reading.start_ns = METER, START_NS
    query.reading.end_ns = START_NS + units * UNIT_NS
    return query
