"""Oracles: who may vouch for which facts. It has commands only; other contracts read what they attest (C03, C12)."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from p2pet.ledger.v1 import oracle_pb2

from p2petd.contracts.contract import Contract
from p2petd.contracts.identifiers import METER_BYTES_MAX, meter_is_well_formed
from p2petd.contracts.rules import Rule, short, violated
from p2petd.ledger.codec import CACHED_BYTES_MAX, CACHED_ENTRIES_MAX, encode_canonical, parse_strict
from p2petd.ledger.groups import DIGEST_BYTES, Group
from p2petd.ledger.parameters import ContractParameters
from p2petd.ledger.resolved import Command, LedgerTransaction
from p2petd.units import TimeNs, WattHours

NAME = "oracle"
VERSION = 1

READING, FORECAST, TARIFF = "reading", "forecast", "tariff"
"""The facts that the network parameters list for an oracle."""

FACTS_MAX = 64


class OracleRule(Rule):
    STATE = ("oracle.state.none", "The oracle contract has no states.")
    COMMAND_UNKNOWN = ("oracle.command.unknown", "An oracle command is an Attestation.")
    NOT_LISTED = (
        "oracle.attestation.fact_not_permitted",
        "The network parameters list the oracle for every kind of fact that it attests.",
    )
    UNSIGNED = ("oracle.attestation.signers", "An attestation is signed by its oracle and nobody else.")
    TWICE = ("oracle.attestation.twice", "An oracle has one attestation in a transaction.")
    SIGNS_OTHER = (
        "oracle.attestation.signs_other",
        "An oracle signs nothing of a transaction but its attestation, neither alone nor with others.",
    )
    COUNT = ("oracle.attestation.count", "An attestation holds 1 to 64 facts.")
    FACT_TWICE = (
        "oracle.attestation.fact_twice",
        "An attestation has one reading and one forecast for a meter and period, and one notice of a tariff.",
    )
    METER = ("oracle.fact.meter_invalid", "The meter's name in a fact has 1 to 255 bytes.")
    PERIOD = (
        "oracle.fact.period_invalid",
        "The period of a fact ends after it starts; that of a reading or forecast is aligned to the market time unit.",
    )
    NEGATIVE = ("oracle.fact.energy_negative", "A meter feeds in 0 Wh or more.")
    REVISION = ("oracle.fact.revision_zero", "The revisions of a reading are counted from 1.")
    TARIFF_HASH = ("oracle.fact.tariff_invalid", "A tariff is named by 32 bytes.")


@dataclass(frozen=True, slots=True)
class MeterReading:
    """What a meter fed in during [start_ns, end_ns); revision 1 is the first, each correction counts one up."""

    meter: str
    start_ns: TimeNs
    end_ns: TimeNs
    energy_wh: WattHours
    revision: int


@dataclass(frozen=True, slots=True)
class EnergyForecast:
    """What a meter can be expected to feed in at most during [start_ns, end_ns)."""

    meter: str
    start_ns: TimeNs
    end_ns: TimeNs
    energy_wh_max: WattHours


@dataclass(frozen=True, slots=True)
class TariffNotice:
    """The tariff table with this SHA-256 is in force for deliveries in [valid_from_ns, valid_until_ns)."""

    tariff: bytes
    valid_from_ns: TimeNs
    valid_until_ns: TimeNs


@dataclass(frozen=True, slots=True)
class Attestation:
    """Facts that one oracle vouches for in one transaction; `oracle` is the key that signs."""

    type_name: ClassVar[str] = "Attestation"
    schema_version: ClassVar[int] = 1
    contract: ClassVar[str] = NAME

    oracle: bytes
    readings: tuple[MeterReading, ...] = ()
    forecasts: tuple[EnergyForecast, ...] = ()
    tariffs: tuple[TariffNotice, ...] = ()

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of its facts, as the network parameters name them."""
        parts = ((READING, self.readings), (FORECAST, self.forecasts), (TARIFF, self.tariffs))
        return frozenset(kind for kind, facts in parts if facts)

    def to_payload(self) -> bytes:
        """The canonical `ledger.v1.Attestation`; raises QuantityOverflow."""
        return encode_canonical(
            oracle_pb2.Attestation,
            oracle=self.oracle,
            readings=[
                {
                    "meter": r.meter,
                    "start_ns": r.start_ns,
                    "end_ns": r.end_ns,
                    "energy_wh": r.energy_wh,
                    "revision": r.revision,
                }
                for r in self.readings
            ],
            forecasts=[
                {"meter": f.meter, "start_ns": f.start_ns, "end_ns": f.end_ns, "energy_wh_max": f.energy_wh_max}
                for f in self.forecasts
            ],
            tariffs=[
                {"tariff": t.tariff, "valid_from_ns": t.valid_from_ns, "valid_until_ns": t.valid_until_ns}
                for t in self.tariffs
            ],
        )

    @classmethod
    def from_payload(cls, payload: bytes) -> "Attestation":
        """Raises MalformedTransaction unless canonical, ContractViolation unless it holds 1 to 64 facts."""
        return _small_attestation(payload) if len(payload) <= CACHED_BYTES_MAX else _attestation(payload)


def _check_count(facts: int) -> None:
    if not 1 <= facts <= FACTS_MAX:
        violated(OracleRule.COUNT, f"{facts}")


def _attestation(payload: bytes) -> Attestation:
    message = parse_strict(oracle_pb2.Attestation, payload)
    # Before there is an object for each of very many.
    _check_count(len(message.readings) + len(message.forecasts) + len(message.tariffs))
    return Attestation(
        message.oracle,
        tuple(
            MeterReading(r.meter, TimeNs(r.start_ns), TimeNs(r.end_ns), WattHours(r.energy_wh), r.revision)
            for r in message.readings
        ),
        tuple(
            EnergyForecast(f.meter, TimeNs(f.start_ns), TimeNs(f.end_ns), WattHours(f.energy_wh_max))
            for f in message.forecasts
        ),
        tuple(TariffNotice(t.tariff, TimeNs(t.valid_from_ns), TimeNs(t.valid_until_ns)) for t in message.tariffs),
    )


@lru_cache(maxsize=CACHED_ENTRIES_MAX)
def _small_attestation(payload: bytes) -> Attestation:
    return _attestation(payload)


def decode_command(command: Command) -> Attestation:
    """The attestation, its type and number of facts checked; raises as `Attestation.from_payload`."""
    if command.type_name != Attestation.type_name or command.schema_version != Attestation.schema_version:
        violated(OracleRule.COMMAND_UNKNOWN, f"{command.type_name!r} with schema version {command.schema_version}")
    return Attestation.from_payload(command.payload)


def attestations(transaction: LedgerTransaction) -> tuple[Attestation, ...]:
    """What oracles attest in a transaction, for contracts that compose with this one.

    That the oracles may and that they sign, this contract verifies under the same transaction.
    """
    return tuple([decode_command(command) for command, _ in transaction.commands if command.contract == NAME])


def readings_of(told: Iterable[Attestation], meter: str, start_ns: int, end_ns: int) -> tuple[MeterReading, ...]:
    """The attested readings of exactly this meter and period."""
    return tuple(
        reading
        for attestation in told
        for reading in attestation.readings
        if reading.start_ns == start_ns and reading.end_ns == end_ns and reading.meter == meter
    )


def forecasts_of(told: Iterable[Attestation], meter: str, start_ns: int, end_ns: int) -> tuple[EnergyForecast, ...]:
    """The attested forecasts of exactly this meter and period."""
    return tuple(
        forecast
        for attestation in told
        for forecast in attestation.forecasts
        if forecast.start_ns == start_ns and forecast.end_ns == end_ns and forecast.meter == meter
    )


def notices_of(told: Iterable[Attestation], tariff: bytes) -> tuple[TariffNotice, ...]:
    """The attested notices of a tariff."""
    return tuple(notice for attestation in told for notice in attestation.tariffs if notice.tariff == tariff)


def _verify(transaction: LedgerTransaction) -> None:
    """1. no states; 2. every command is known and holds 1 to 64 facts; 3. its oracle may, and signs it alone and once;
    4. its facts are well-formed; 5. no oracle signs anything else.

    An oracle that is shown its attestation alone signs the whole transaction. Because of steps 3 and 5 there is nothing
    in the transaction that it vouches for without having seen it.
    """
    states = [state for _, state in transaction.inputs] + list(transaction.outputs)
    if any(state.contract == NAME for state in states):
        violated(OracleRule.STATE, "a state of it")
    places: dict[bytes, int] = {}
    for place, (command, signers) in enumerate(transaction.commands):
        if command.contract == NAME:
            attestation = decode_command(command)
            _verify_oracle(attestation, signers, transaction.parameters)
            if attestation.oracle in places:
                violated(OracleRule.TWICE, short(attestation.oracle))
            places[attestation.oracle] = place
            _verify_facts(attestation, transaction.parameters.market_time_unit_ns)
    for place, component in enumerate(transaction.groups[Group.SIGNERS]):
        for oracle, own_place in places.items():
            # In the bytes, because they show an oracle as a leaf of a composite key too.
            if place != own_place and oracle in component:
                violated(OracleRule.SIGNS_OTHER, f"{short(oracle)} signs {transaction.commands[place][0].type_name}")


def _verify_oracle(attestation: Attestation, signers: frozenset[bytes], parameters: ContractParameters) -> None:
    denied = sorted(attestation.kinds - parameters.oracles.get(attestation.oracle, frozenset()))
    if denied:
        violated(OracleRule.NOT_LISTED, f"{short(attestation.oracle)} for {', '.join(denied)}")
    if signers != {attestation.oracle}:
        violated(OracleRule.UNSIGNED, f"{len(signers)} signers of an attestation of {short(attestation.oracle)}")


def _verify_facts(attestation: Attestation, unit_ns: int) -> None:
    for reading in attestation.readings:
        _verify_energy(reading.meter, reading.start_ns, reading.end_ns, reading.energy_wh, unit_ns)
        if reading.revision < 1:
            violated(OracleRule.REVISION, f"revision {reading.revision}")
    for forecast in attestation.forecasts:
        _verify_energy(forecast.meter, forecast.start_ns, forecast.end_ns, forecast.energy_wh_max, unit_ns)
    for notice in attestation.tariffs:
        if len(notice.tariff) != DIGEST_BYTES:
            violated(OracleRule.TARIFF_HASH, f"{len(notice.tariff)} bytes")
        _verify_period(notice.valid_from_ns, notice.valid_until_ns, 1)
    _refuse_twice((r.meter, r.start_ns, r.end_ns) for r in attestation.readings)
    _refuse_twice((f.meter, f.start_ns, f.end_ns) for f in attestation.forecasts)
    _refuse_twice((t.tariff,) for t in attestation.tariffs)


def _verify_energy(meter: str, start_ns: int, end_ns: int, energy_wh: int, unit_ns: int) -> None:
    if not meter_is_well_formed(meter):
        violated(OracleRule.METER, f"{len(meter.encode())} bytes, at most {METER_BYTES_MAX}")
    _verify_period(start_ns, end_ns, unit_ns)
    if energy_wh < 0:
        violated(OracleRule.NEGATIVE, f"{energy_wh} Wh of meter {meter!r}")


def _verify_period(start_ns: int, end_ns: int, unit_ns: int) -> None:
    if start_ns >= end_ns or start_ns % unit_ns or end_ns % unit_ns:
        violated(OracleRule.PERIOD, f"[{start_ns}, {end_ns}) ns with a unit of {unit_ns} ns")


def _refuse_twice(named: Iterable[tuple[object, ...]]) -> None:
    facts = list(named)
    if len(set(facts)) != len(facts):
        violated(OracleRule.FACT_TWICE, f"{len(facts) - len(set(facts))} more")


ORACLE = Contract(
    name=NAME,
    version=VERSION,
    verify=_verify,
    modules=(
        "p2petd.contracts.oracle",
        "p2petd.contracts.identifiers",
        "p2petd.contracts.contract",
        "p2petd.contracts.rules",
    ),
    rules=(OracleRule,),
)
