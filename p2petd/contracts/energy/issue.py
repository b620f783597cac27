"""Issue: energy comes into being, once for each market time unit of a meter (C01 to C03)."""

from collections.abc import Iterator, Mapping

from p2petd.contracts import meter, oracle
from p2petd.contracts.energy.moves import EnergyPart, must_sign
from p2petd.contracts.energy.states import NAME, EnergyState, decode_state
from p2petd.contracts.identifiers import LOT_UNITS_MAX, issue_claims, lot_id, meter_is_well_formed
from p2petd.contracts.meter import MeterRegistration
from p2petd.contracts.rules import Rule, short, violated
from p2petd.ledger.groups import KEY_BYTES
from p2petd.ledger.parameters import ContractParameters
from p2petd.ledger.resolved import LedgerTransaction


class IssueRule(Rule):
    HAS_INPUTS = ("energy.issue.has_inputs", "An issue consumes no energy states.")
    OUTPUTS = ("energy.issue.one_output_per_command", "Each Issue creates exactly one energy state.")
    TYPE = ("energy.issue.type_not_permitted", "The network parameters permit the energy type.")
    ISSUER = ("energy.issue.issuer_invalid", "The issuer is a 32-byte key.")
    METER = ("energy.issue.meter_invalid", "The meter's name has 1 to 255 bytes.")
    PERIOD_EMPTY = ("energy.issue.period_empty", "The delivery period ends after it starts.")
    PERIOD_UNALIGNED = (
        "energy.issue.period_not_aligned",
        "The delivery period starts and ends on the market time unit.",
    )
    PERIOD_TOO_LONG = ("energy.issue.period_too_long", "A lot covers at most 4096 market time units.")
    PRICE = (
        "energy.issue.price_negative",
        "The asked price is not below zero, unless the network permits negative prices.",
    )
    LOT_ID = ("energy.issue.lot_id_wrong", "The lot id is the hash of issuer, meter, delivery period and quantity.")
    NOTARY = (
        "energy.issue.other_notary",
        "Without registrars, energy is issued at the first notary that the network parameters list, because claims are "
        "unique at one only.",
    )
    UNSIGNED = ("energy.issue.producer_must_sign", "The producer, which is the issuer, signs an issue.")
    OWNER_UNSIGNED = ("energy.issue.owner_must_sign", "The first owner of a lot signs its issue.")
    # The meter's registration (C02, C03)
    METER_UNREGISTERED = (
        "energy.issue.meter_not_registered",
        "Where the network has registrars, an issue refers to exactly one registration of each lot's meter.",
    )
    METER_PRODUCER = (
        "energy.issue.not_the_meters_producer",
        "The issuer is the producer that the meter is registered to.",
    )
    METER_ZONE = ("energy.issue.not_the_meters_zone", "The zone of a lot is that of its meter's registration.")
    METER_TYPE = ("energy.issue.not_the_meters_type", "The meter's registration permits the energy type.")
    METER_NOTARY = (
        "energy.issue.not_the_meters_notary",
        "Energy of a registered meter is issued at the one notary that the registration names.",
    )
    METER_PERIOD = (
        "energy.issue.outside_registration",
        "The delivery period lies within the validity of the meter's registration.",
    )
    METER_CAPACITY = (
        "energy.issue.above_capacity",
        "A lot holds at most what the meter's registered capacity gives over the delivery period.",
    )
    # What an oracle vouches for (C03)
    UNATTESTED = (
        "energy.issue.not_attested",
        "Where the network demands it, an oracle attests in the same transaction one forecast or reading of exactly "
        "the lot's meter and period.",
    )
    ABOVE_FORECAST = ("energy.issue.above_forecast", "A lot holds at most what is forecast.")
    NOT_THE_READING = ("energy.issue.not_the_reading", "A lot that is issued on a reading holds exactly what was read.")


def verify_issues(part: EnergyPart, transaction: LedgerTransaction) -> None:
    """The n-th Issue creates the n-th energy output.

    1. nothing goes in, one lot comes out for each command; 2. each lot is well-formed; 3. producer and first owner
    sign; 4. at the notary that alone issues the meter's energy, and within what its registration permits; 5. attested.
    """
    parameters = transaction.parameters
    if part.inputs:
        violated(IssueRule.HAS_INPUTS, f"{len(part.inputs)} inputs")
    if len(part.outputs) != len(part.commands):
        violated(IssueRule.OUTPUTS, f"{len(part.commands)} commands and {len(part.outputs)} outputs")
    registered = _registrations(transaction) if parameters.registrars else None
    if registered is None and transaction.notary != parameters.notaries[0]:
        violated(IssueRule.NOTARY, f"the notary {short(transaction.notary)}")
    told = oracle.attestations(transaction) if parameters.issue_attested else ()
    for lot, (_, signers) in zip(part.outputs, part.commands, strict=True):
        _verify_lot(lot, parameters)
        must_sign(lot.issuer, signers, IssueRule.UNSIGNED)
        must_sign(lot.owner, signers, IssueRule.OWNER_UNSIGNED)
        if registered is not None:
            _verify_meter(lot, registered.get(lot.meter, ()), transaction.notary)
        if parameters.issue_attested:
            _verify_attested(lot, told)


def issues_claims(transaction: LedgerTransaction) -> Iterator[bytes]:
    """What every issued lot demands (C02): one claim for each market time unit that it covers."""
    unit_ns = transaction.parameters.market_time_unit_ns
    for output in transaction.outputs:
        if output.contract == NAME:
            lot = decode_state(output)
            yield from issue_claims(lot.meter, lot.delivery_start_ns, lot.delivery_end_ns, unit_ns)


def _verify_lot(state: EnergyState, parameters: ContractParameters) -> None:
    start_ns, end_ns, unit_ns = state.delivery_start_ns, state.delivery_end_ns, parameters.market_time_unit_ns
    if state.energy_type not in parameters.energy_types:
        violated(IssueRule.TYPE, f"{state.energy_type!r}")
    if len(state.issuer) != KEY_BYTES:
        violated(IssueRule.ISSUER, f"an issuer of {len(state.issuer)} bytes")
    if not meter_is_well_formed(state.meter):
        violated(IssueRule.METER, f"{len(state.meter.encode())} bytes")
    if start_ns >= end_ns:
        violated(IssueRule.PERIOD_EMPTY, f"[{start_ns}, {end_ns}) ns")
    if start_ns % unit_ns or end_ns % unit_ns:
        violated(IssueRule.PERIOD_UNALIGNED, f"[{start_ns}, {end_ns}) ns with a unit of {unit_ns} ns")
    if end_ns - start_ns > LOT_UNITS_MAX * unit_ns:
        violated(IssueRule.PERIOD_TOO_LONG, f"{(end_ns - start_ns) // unit_ns} units")
    if state.asked_price_micro_per_kwh < 0 and not parameters.negative_prices:
        violated(IssueRule.PRICE, f"{state.asked_price_micro_per_kwh}")
    if state.lot_id != lot_id(state.issuer, state.meter, start_ns, end_ns, state.quantity_wh):
        violated(IssueRule.LOT_ID, f"{state.lot_id[:32].hex()}")


def _registrations(transaction: LedgerTransaction) -> Mapping[str, tuple[MeterRegistration, ...]]:
    """The registrations that a transaction refers to, by meter."""
    by_meter: dict[str, tuple[MeterRegistration, ...]] = {}
    for _, output in transaction.references:
        if output.contract == meter.NAME:
            registration = meter.decode_state(output)
            by_meter[registration.meter] = (*by_meter.get(registration.meter, ()), registration)
    return by_meter


def _verify_meter(lot: EnergyState, registrations: tuple[MeterRegistration, ...], notary: bytes) -> None:
    if len(registrations) != 1:
        violated(IssueRule.METER_UNREGISTERED, f"{len(registrations)} registrations of meter {lot.meter!r}")
    (registration,) = registrations
    start_ns, end_ns = lot.delivery_start_ns, lot.delivery_end_ns
    if registration.producer != lot.issuer:
        violated(IssueRule.METER_PRODUCER, f"{short(lot.issuer)}, not {short(registration.producer)}")
    if registration.zone != lot.zone:
        violated(IssueRule.METER_ZONE, f"{lot.zone!r}, not {registration.zone!r}")
    if lot.energy_type not in registration.energy_types:
        violated(IssueRule.METER_TYPE, f"{lot.energy_type!r} of meter {lot.meter!r}")
    if registration.issue_notary != notary:
        violated(IssueRule.METER_NOTARY, f"the notary {short(notary)}, not {short(registration.issue_notary)}")
    if not registration.covers(start_ns, end_ns):
        violated(
            IssueRule.METER_PERIOD,
            f"[{start_ns}, {end_ns}) ns of [{registration.valid_from_ns}, {registration.valid_until_ns}) ns",
        )
    most_wh = registration.capacity_wh(start_ns, end_ns)
    if lot.quantity_wh > most_wh:
        violated(
            IssueRule.METER_CAPACITY,
            f"{lot.quantity_wh} Wh, while {registration.capacity_w} W give {most_wh} Wh over the period",
        )


def _verify_attested(lot: EnergyState, told: tuple[oracle.Attestation, ...]) -> None:
    """That the oracles may and that they sign, the oracle contract verifies under the same transaction."""
    period = lot.meter, lot.delivery_start_ns, lot.delivery_end_ns
    forecasts, readings = oracle.forecasts_of(told, *period), oracle.readings_of(told, *period)
    if len(forecasts) + len(readings) != 1:
        violated(IssueRule.UNATTESTED, f"{len(forecasts)} forecasts and {len(readings)} readings of {lot.meter!r}")
    for forecast in forecasts:
        if lot.quantity_wh > forecast.energy_wh_max:
            violated(IssueRule.ABOVE_FORECAST, f"{lot.quantity_wh} Wh of {forecast.energy_wh_max} Wh")
    for reading in readings:
        if lot.quantity_wh != reading.energy_wh:
            violated(IssueRule.NOT_THE_READING, f"{lot.quantity_wh} Wh, read were {reading.energy_wh} Wh")
