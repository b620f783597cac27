"""Well-formed states with all fields set, so that a test says only what it is about."""

from hashlib import sha256
from typing import ClassVar, Protocol

from p2pet.ledger.v1 import transaction_pb2

from p2petd.contracts.energy import EnergyState, lot_id
from p2petd.contracts.meter import MeterRegistration
from p2petd.contracts.oracle import Attestation, EnergyForecast, MeterReading, TariffNotice
from p2petd.contracts.payment import PaymentState
from p2petd.contracts.tariff import TariffRow, TariffTable
from p2petd.contracts.testkit.parties import BANK, NOTARY, PRODUCER, REGISTRAR, Composite, Party
from p2petd.ledger.codec import encode_canonical
from p2petd.ledger.transaction import LedgerObject
from p2petd.units import HOUR_NS, MINUTE_NS, MicroPerKwh, NanoMoney, TimeNs, WattHours

UNIT_NS = 15 * MINUTE_NS
NOON_NS = 1_767_268_800 * 10**9
"""2026-01-01 12:00 UTC: when the energy of the kit begins to be delivered."""
LOT_WH = 10_000
"""What a lot of the kit was issued as."""
DAY_NS = 24 * HOUR_NS
MIDNIGHT_NS = NOON_NS - 12 * HOUR_NS
ROW = TariffRow("solar", "", MicroPerKwh(50_000), MicroPerKwh(500_000), MicroPerKwh(20_000), MicroPerKwh(200_000))


class ContractObject(LedgerObject, Protocol):
    """A state or command that knows its contract."""

    contract: ClassVar[str]


def energy(
    quantity_wh: int,
    owner: Party | Composite,
    *,
    producer: Party | Composite = PRODUCER,
    energy_type: str = "solar",
    meter: str = "meter-1",
    zone: str = "zone-1",
    start_ns: int = NOON_NS,
    units: int = 4,
    asked_micro_per_kwh: int = 100_000,
    lot_wh: int = LOT_WH,
) -> EnergyState:
    """A state of a well-formed lot of `units` market time units that was issued as `lot_wh`."""
    end_ns = start_ns + units * UNIT_NS
    return EnergyState(
        energy_type=energy_type,
        quantity_wh=WattHours(quantity_wh),
        delivery_start_ns=TimeNs(start_ns),
        delivery_end_ns=TimeNs(end_ns),
        asked_price_micro_per_kwh=MicroPerKwh(asked_micro_per_kwh),
        issuer=producer.key,
        owner=owner.key,
        meter=meter,
        zone=zone,
        lot_id=lot_id(producer.key, meter, start_ns, end_ns, lot_wh),
    )


def money(
    amount_nano: int, owner: Party | Composite, *, issuer: Party | Composite = BANK, currency: str = "EUR"
) -> PaymentState:
    """An amount that the bank owes the owner."""
    return PaymentState(currency, NanoMoney(amount_nano), issuer.key, owner.key)


def registration(
    meter: str = "meter-1",
    *,
    producer: Party | Composite = PRODUCER,
    zone: str = "zone-1",
    capacity_w: int = 1_000_000,
    energy_types: tuple[str, ...] = ("solar", "wind"),
    issue_notary: Party = NOTARY,
    from_ns: int = MIDNIGHT_NS,
    until_ns: int = MIDNIGHT_NS + DAY_NS,
    registrar: Party = REGISTRAR,
) -> MeterRegistration:
    """The registration of a meter for the day around the kit's noon."""
    return MeterRegistration(
        meter=meter,
        producer=producer.key,
        zone=zone,
        capacity_w=capacity_w,
        energy_types=energy_types,
        issue_notary=issue_notary.key,
        valid_from_ns=TimeNs(from_ns),
        valid_until_ns=TimeNs(until_ns),
        registrar=registrar.key,
    )


def reading(
    energy_wh: int, *, meter: str = "meter-1", start_ns: int = NOON_NS, units: int = 4, revision: int = 1
) -> MeterReading:
    """What a meter fed in during the period of the kit's lot."""
    return MeterReading(meter, TimeNs(start_ns), TimeNs(start_ns + units * UNIT_NS), WattHours(energy_wh), revision)


def forecast(energy_wh_max: int, *, meter: str = "meter-1", start_ns: int = NOON_NS, units: int = 4) -> EnergyForecast:
    """What a meter can be expected to feed in at most during the period of the kit's lot."""
    return EnergyForecast(meter, TimeNs(start_ns), TimeNs(start_ns + units * UNIT_NS), WattHours(energy_wh_max))


def tariff(
    *rows: TariffRow, currency: str = "EUR", from_ns: int = MIDNIGHT_NS, until_ns: int = MIDNIGHT_NS + DAY_NS
) -> TariffTable:
    """A tariff of the day around the kit's noon: solar at 0.05 to 0.50, surplus 0.02, shortfall 0.20, unless said."""
    return TariffTable("day", currency, TimeNs(from_ns), TimeNs(until_ns), rows or (ROW,))


def notice(table: TariffTable) -> TariffNotice:
    """That a tariff is in force for as long as it says it is."""
    return TariffNotice(sha256(table.encode()).digest(), table.valid_from_ns, table.valid_until_ns)


def attest(oracle: Party | Composite, *facts: MeterReading | EnergyForecast | TariffNotice) -> Attestation:
    """The attestation of these facts; its only signer is the oracle."""
    return Attestation(
        oracle.key,
        tuple(fact for fact in facts if isinstance(fact, MeterReading)),
        tuple(fact for fact in facts if isinstance(fact, EnergyForecast)),
        tuple(fact for fact in facts if isinstance(fact, TariffNotice)),
    )


def raw_state(
    contract: str,
    type_name: str,
    payload: bytes = b"",
    *,
    contract_version: int = 1,
    schema_version: int = 1,
    notary: Party = NOTARY,
    encumbered_by: int = 0,
) -> bytes:
    """The component of a state that no object of yours makes: of an unknown type, or with bytes that do not decode."""
    return encode_canonical(
        transaction_pb2.OutputState,
        contract=contract,
        contract_version=contract_version,
        notary=notary.key,
        type_name=type_name,
        schema_version=schema_version,
        payload=payload,
        encumbered_by=encumbered_by,
    )


def raw_command(contract: str, type_name: str, payload: bytes = b"", *, schema_version: int = 1) -> bytes:
    """The component of a command that no object of yours makes."""
    return encode_canonical(
        transaction_pb2.Command,
        contract=contract,
        type_name=type_name,
        schema_version=schema_version,
        payload=payload,
    )
