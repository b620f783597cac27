"""The rules of the oracle contract: beside each, a transaction that keeps it and the smallest one that breaks it."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from p2petd.contracts.energy import EnergySplit
from p2petd.contracts.identifiers import METER_BYTES_MAX
from p2petd.contracts.oracle import (
    FACTS_MAX,
    Attestation,
    EnergyForecast,
    MeterReading,
    OracleRule,
    TariffNotice,
    attestations,
    forecasts_of,
    notices_of,
    readings_of,
)
from p2petd.contracts.testkit import NOON_NS, UNIT_NS, Party, Trial, composite, energy, ledger, party
from p2petd.errors import QuantityOverflow
from p2petd.units import INT64_MAX, INT64_MIN

ALICE, ORACLE, WEATHER = party("alice"), party("oracle"), party("weather")
LISTED = ledger.with_parameters(
    oracles={ORACLE.key: frozenset({"reading", "tariff"}), WEATHER.key: frozenset({"forecast"})}
)
READING = MeterReading("meter-1", NOON_NS, NOON_NS + UNIT_NS, 10, 1)
FORECAST = EnergyForecast("meter-1", NOON_NS, NOON_NS + UNIT_NS, 20)
NOTICE = TariffNotice(bytes(range(32)), NOON_NS, NOON_NS + 1)
SPLIT = LISTED.transaction().input(energy(2, ALICE)).output(energy(1, ALICE), energy(1, ALICE))


def attest(*signers: Party, on: Trial = SPLIT, **facts: object) -> Trial:
    """A split, which nobody has to attest, beside an attestation of the oracle."""
    told = {"readings": (READING,), **facts}
    return on.command(EnergySplit, ALICE).command(Attestation(ORACLE.key, **told), *(signers or (ORACLE,)))


def reading(**changes: object) -> Trial:
    return attest(readings=(replace(READING, **changes),))


def forecast(*told: EnergyForecast) -> Trial:
    return SPLIT.command(EnergySplit, ALICE).command(Attestation(WEATHER.key, forecasts=told), WEATHER)


def units(count: int) -> tuple[MeterReading, ...]:
    return tuple(
        replace(READING, start_ns=NOON_NS + number * UNIT_NS, end_ns=NOON_NS + (number + 1) * UNIT_NS)
        for number in range(count)
    )


STATE = SPLIT.draft().outputs[0].replace(b"\x0a\x06energy", b"\x0a\x06oracle")
UNKNOWN_COMMAND = b"\x0a\x06oracle\x12\x06Guess!\x18\x01"
BOTH = composite(1, ALICE, ORACLE)

R = OracleRule
CASES: Mapping[OracleRule, tuple[Trial, Trial]] = {
    R.STATE: (attest(), attest(on=SPLIT.output(STATE))),
    R.COMMAND_UNKNOWN: (attest(), attest().command(UNKNOWN_COMMAND, ORACLE)),
    R.NOT_LISTED: (attest(tariffs=(NOTICE,)), attest(forecasts=(FORECAST,))),
    R.UNSIGNED: (attest(), attest(ALICE)),
    R.TWICE: (
        attest().command(Attestation(WEATHER.key, forecasts=(FORECAST,)), WEATHER),
        attest().command(Attestation(ORACLE.key, tariffs=(NOTICE,)), ORACLE),
    ),
    R.SIGNS_OTHER: (
        attest(),
        SPLIT.command(EnergySplit, ALICE, ORACLE).command(Attestation(ORACLE.key, (READING,)), ORACLE),
    ),
    R.COUNT: (attest(readings=units(FACTS_MAX)), attest(readings=units(FACTS_MAX + 1))),
    R.FACT_TWICE: (attest(readings=units(2)), attest(readings=(READING, replace(READING, revision=2)))),
    R.METER: (reading(meter="m" * METER_BYTES_MAX), reading(meter="m" * (METER_BYTES_MAX + 1))),
    R.PERIOD: (reading(end_ns=NOON_NS + 2 * UNIT_NS), reading(end_ns=NOON_NS + UNIT_NS + 1)),
    R.NEGATIVE: (reading(energy_wh=0), reading(energy_wh=-1)),
    R.REVISION: (reading(revision=2), reading(revision=0)),
    R.TARIFF_HASH: (attest(tariffs=(NOTICE,)), attest(tariffs=(replace(NOTICE, tariff=bytes(31)),))),
}


def test_every_rule_has_a_case() -> None:
    assert set(CASES) == set(OracleRule)
    assert len({rule.code for rule in OracleRule}) == len(OracleRule)


@pytest.mark.parametrize("rule", OracleRule, ids=lambda rule: rule.code)
def test_rule(rule: OracleRule) -> None:
    keeping, breaking = CASES[rule]
    keeping.verifies()
    assert rule.sentence in str(breaking.fails_with(rule.code))


def test_c12_only_a_listed_oracle_attests() -> None:
    stranger = SPLIT.command(EnergySplit, ALICE).command(Attestation(ALICE.key, (READING,)), ALICE)
    stranger.fails_with("oracle.attestation.fact_not_permitted")
    attest(readings=(), forecasts=(FORECAST,)).fails_with("oracle.attestation.fact_not_permitted")
    attest(readings=()).fails_with("oracle.attestation.count")


def test_c12_an_oracle_cannot_be_made_to_sign_what_it_is_not_shown() -> None:
    attested = Attestation(ORACLE.key, (READING,))
    hidden = composite(2, ALICE, composite(1, party("bob"), ORACLE))
    for signer in (BOTH, hidden):
        trial = SPLIT.command(EnergySplit, ALICE, signer)
        trial.verifies()
        trial.command(attested, ORACLE).fails_with("oracle.attestation.signs_other")
    attest(ORACLE, ALICE).fails_with("oracle.attestation.signers")
    SPLIT.command(EnergySplit, ALICE).command(attested).fails_with("oracle.attestation.signers")


def test_c03_forecasts_are_checked_as_readings_are() -> None:
    forecast(FORECAST).verifies()
    forecast(replace(FORECAST, energy_wh_max=-1)).fails_with("oracle.fact.energy_negative")
    forecast(replace(FORECAST, meter="")).fails_with("oracle.fact.meter_invalid")
    forecast(replace(FORECAST, start_ns=NOON_NS + UNIT_NS)).fails_with("oracle.fact.period_invalid")
    forecast(FORECAST, FORECAST).fails_with("oracle.attestation.fact_twice")
    attest(tariffs=(replace(NOTICE, valid_until_ns=NOON_NS),)).fails_with("oracle.fact.period_invalid")
    attest(tariffs=(NOTICE, NOTICE)).fails_with("oracle.attestation.fact_twice")


def test_c07_facts_at_the_ends_of_64_bits() -> None:
    reading(energy_wh=INT64_MAX, revision=2**32 - 1).verifies()
    attest(tariffs=(TariffNotice(bytes(32), INT64_MIN, INT64_MAX),)).verifies()
    for facts in (
        {"readings": (replace(READING, energy_wh=INT64_MAX + 1),)},
        {"readings": (replace(READING, revision=2**32),)},
        {"forecasts": (replace(FORECAST, energy_wh_max=INT64_MAX + 1),)},
    ):
        with pytest.raises(QuantityOverflow):
            Attestation(ORACLE.key, **facts).to_payload()


def test_c08_commands_that_are_malformed_are_refused() -> None:
    component = b"\x0a\x06oracle\x12\x0bAttestation\x18\x01\x22\x02\xff\xff"
    SPLIT.command(EnergySplit, ALICE).command(component, ORACLE).fails_with("transaction.malformed")
    component = b"\x0a\x06oracle\x12\x0bAttestation\x18\x02"
    SPLIT.command(EnergySplit, ALICE).command(component, ORACLE).fails_with("oracle.command.unknown")
    component = b"\x0a\x06oracle\x12\x0bAttestation\x18\x01"
    SPLIT.command(EnergySplit, ALICE).command(component, ORACLE).fails_with("oracle.attestation.count")


def test_facts_are_found_by_exactly_what_they_are_of() -> None:
    told = attest(readings=units(2), tariffs=(NOTICE,)).command(Attestation(WEATHER.key, (), (FORECAST,)), WEATHER)
    facts = attestations(told.verifies())
    assert [attestation.oracle for attestation in facts] == [ORACLE.key, WEATHER.key]
    assert readings_of(facts, "meter-1", NOON_NS, NOON_NS + UNIT_NS) == (READING,)
    assert readings_of(facts, "meter-1", NOON_NS, NOON_NS + 2 * UNIT_NS) == ()
    assert readings_of(facts, "meter-2", NOON_NS, NOON_NS + UNIT_NS) == ()
    assert forecasts_of(facts, "meter-1", NOON_NS, NOON_NS + UNIT_NS) == (FORECAST,)
    assert notices_of(facts, NOTICE.tariff) == (NOTICE,)
    assert notices_of(facts, bytes(32)) == ()
