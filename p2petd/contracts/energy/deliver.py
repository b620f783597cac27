"""Deliver and Allocate: a meter's reading closes energy, and no reading counts twice (C11, C12)."""

from collections.abc import Iterable, Iterator
from dataclasses import fields

from p2petd.contracts import oracle
from p2petd.contracts.energy.commands import EnergyDeliver
from p2petd.contracts.energy.moves import AnyPart, must_sign
from p2petd.contracts.energy.states import (
    NAME,
    AllocationShare,
    EnergyAllocation,
    EnergyDelivery,
    EnergyState,
    decode_object,
)
from p2petd.contracts.identifiers import LOT_UNITS_MAX, deliver_claims, lot_id, meter_is_well_formed
from p2petd.contracts.rules import Rule, short, violated
from p2petd.contracts.tariff import TariffTable, cited_tariff
from p2petd.ledger.groups import COMPONENTS_MAX
from p2petd.ledger.parameters import ContractParameters
from p2petd.ledger.refs import STATE_REF_BYTES
from p2petd.ledger.resolved import LedgerTransaction, OutputState
from p2petd.units import MicroPerKwh, NanoMoney, WattHours, amount_nano, checked_sum

SHARES_MAX = COMPONENTS_MAX


class DeliverRule(Rule):
    COUNTS = ("energy.deliver.counts", "Deliver makes each of one or more energy states into one EnergyDelivery.")
    WINDOW = (
        "energy.deliver.before_period_end",
        "A delivery has a time window that begins at the end of the delivery period or later.",
    )
    SOLE = (
        "energy.deliver.several_without_allocation",
        "Without an allocation, a delivery closes one state only, because its reading is used up.",
    )
    WHOLE_LOT = (
        "energy.deliver.part_without_allocation",
        "Without an allocation, the state is its whole lot: a part must not use up the reading of all parts.",
    )
    NOTARY = (
        "energy.deliver.other_notary",
        "A reading is used at the first notary that the network parameters list: claims are unique at one only.",
    )
    READING = (
        "energy.deliver.reading_not_attested",
        "Without an allocation, an oracle attests in the same transaction one reading of exactly the meter and period.",
    )
    ALLOCATIONS = ("energy.deliver.two_allocations", "A delivery refers to at most one allocation.")
    OTHER_ALLOCATION = (
        "energy.deliver.allocation_of_another_period",
        "The allocation is of the meter and period of every state that is delivered.",
    )
    NO_SHARE = ("energy.deliver.no_share", "The allocation gives every state that is delivered a share.")
    TARIFF = (
        "energy.deliver.tariff_not_in_force",
        "An oracle attests in the same transaction that the tariff is in force for the whole period, and so says the "
        "tariff.",
    )
    NO_ROW = ("energy.deliver.tariff_without_row", "The tariff has a row for the type and zone of the energy.")
    CHANGED = (
        "energy.deliver.fields_changed",
        "A delivery keeps type, quantity, period, issuer, owner, meter, zone and lot id of its state.",
    )
    DELIVERED = (
        "energy.deliver.delivered_wrong",
        "What is delivered is the reading, or the state's share of it, under the reading's revision.",
    )
    IMBALANCE = ("energy.deliver.imbalance_wrong", "The imbalance is what was delivered less what was contracted.")
    PRICE = (
        "energy.deliver.price_wrong",
        "A surplus is priced at the cited tariff's long price, a shortfall at its short price, in its currency.",
    )
    AMOUNT = ("energy.deliver.amount_wrong", "The amount is imbalance × price, exactly.")
    UNSIGNED = ("energy.deliver.owner_must_sign", "The owner of every state that is delivered signs.")


class AllocateRule(Rule):
    COUNTS = ("energy.allocate.counts", "Allocate consumes no energy and creates one EnergyAllocation.")
    MARKET = ("energy.allocate.market_not_listed", "The network parameters list the market of an allocation.")
    UNSIGNED = ("energy.allocate.market_must_sign", "The market signs its allocation.")
    METER = ("energy.allocate.meter_invalid", "The meter's name in an allocation has 1 to 255 bytes.")
    PERIOD = (
        "energy.allocate.period_invalid",
        "The period of an allocation is 1 to 4096 market time units, aligned to them.",
    )
    WINDOW = (
        "energy.allocate.before_period_end",
        "An allocation has a time window that begins at the end of the delivery period or later.",
    )
    NOTARY = (
        "energy.allocate.other_notary",
        "A reading is used at the first notary that the network parameters list: claims are unique at one only.",
    )
    READING = (
        "energy.allocate.reading_not_attested",
        "An oracle attests in the same transaction one reading of exactly the meter and period.",
    )
    METERED = ("energy.allocate.metered_wrong", "The allocation states quantity and revision of the reading.")
    SHARE_COUNT = ("energy.allocate.share_count", "An allocation has 1 to 4096 shares.")
    SHARE_STATES = ("energy.allocate.share_states", "The states of the shares are 36-byte references that ascend.")
    SHARE_NEGATIVE = ("energy.allocate.share_negative", "Every share is 0 Wh or more.")
    SHARE_SUM = ("energy.allocate.share_sum", "The shares sum to the reading.")


def delivery_of(
    state: EnergyState, delivered_wh: int, revision: int, table: TariffTable, tariff: bytes
) -> EnergyDelivery:
    """What an energy state becomes when `delivered_wh` was delivered for it; `tariff` is the hash of the table.

    Raises ContractViolation when the table has no row for the energy, QuantityOverflow.
    """
    row = table.row(state.energy_type, state.zone)
    if row is None:
        violated(DeliverRule.NO_ROW, f"{state.energy_type!r} in zone {state.zone!r}, tariff {table.name!r}")
    imbalance_wh = checked_sum((delivered_wh, -state.quantity_wh), "the imbalance")
    if imbalance_wh > 0:
        price = row.long_price_micro_per_kwh
    else:
        price = row.short_price_micro_per_kwh if imbalance_wh < 0 else MicroPerKwh(0)
    return EnergyDelivery(
        energy_type=state.energy_type,
        contracted_wh=state.quantity_wh,
        delivered_wh=WattHours(delivered_wh),
        imbalance_wh=WattHours(imbalance_wh),
        imbalance_price_micro_per_kwh=price,
        imbalance_nano=NanoMoney(amount_nano(imbalance_wh, price)),
        currency=table.currency,
        delivery_start_ns=state.delivery_start_ns,
        delivery_end_ns=state.delivery_end_ns,
        issuer=state.issuer,
        owner=state.owner,
        meter=state.meter,
        zone=state.zone,
        lot_id=state.lot_id,
        tariff=tariff,
        reading_revision=revision,
    )


def verify_deliver(
    deliver: EnergyDeliver, part: AnyPart, signers: frozenset[bytes], transaction: LedgerTransaction
) -> None:
    """The n-th energy input becomes the n-th EnergyDelivery.

    1. counts, and every owner signs; 2. after the period; 3. what was delivered for each state, by an attested reading
    or an allocation; 4. the tariff is in force; 5. every field of every delivery. Raises QuantityOverflow.
    """
    states = [state for state in part.inputs if isinstance(state, EnergyState)]
    deliveries = [state for state in part.outputs if isinstance(state, EnergyDelivery)]
    if not states or not len(states) == len(deliveries) == len(part.inputs) == len(part.outputs):
        violated(DeliverRule.COUNTS, f"{len(part.inputs)} inputs and {len(part.outputs)} outputs")
    for state in states:
        must_sign(state.owner, signers, DeliverRule.UNSIGNED)
        verify_begins(transaction, state.delivery_end_ns, DeliverRule.WINDOW)
    allocation = _allocation(transaction)
    delivered = _shares(allocation, states, transaction) if allocation else [_sole_reading(states, transaction)]
    table = cited_tariff(transaction, deliver.tariff)
    notices = oracle.notices_of(oracle.attestations(transaction), deliver.tariff)
    for state, (delivered_wh, revision), delivery in zip(states, delivered, deliveries, strict=True):
        _verify_tariff(table, notices, state)
        _verify_delivery(delivery, delivery_of(state, delivered_wh, revision, table, deliver.tariff))


def delivers_claims(transaction: LedgerTransaction) -> Iterator[bytes]:
    """What uses a reading up (C12): one claim for each unit of a sole delivery; under an allocation, that made them."""
    if _allocation(transaction) is None:
        yield from _claims_of([state for _, state in transaction.inputs], transaction.parameters)


def verify_allocate(part: AnyPart, signers: frozenset[bytes], transaction: LedgerTransaction) -> None:
    """1. counts; 2. a listed market signs; 3. meter and period; 4. after it, at the first notary; 5. the attested
    reading; 6. the shares. Raises QuantityOverflow."""
    allocation = part.outputs[0] if len(part.outputs) == 1 and not part.inputs else None
    if not isinstance(allocation, EnergyAllocation):
        violated(AllocateRule.COUNTS, f"{len(part.inputs)} inputs and {len(part.outputs)} outputs")
    start_ns, end_ns = allocation.delivery_start_ns, allocation.delivery_end_ns
    unit_ns = transaction.parameters.market_time_unit_ns
    if allocation.market not in transaction.parameters.markets:
        violated(AllocateRule.MARKET, short(allocation.market))
    must_sign(allocation.market, signers, AllocateRule.UNSIGNED)
    if not meter_is_well_formed(allocation.meter):
        violated(AllocateRule.METER, f"{len(allocation.meter.encode())} bytes")
    if not 0 < end_ns - start_ns <= LOT_UNITS_MAX * unit_ns or start_ns % unit_ns or end_ns % unit_ns:
        violated(AllocateRule.PERIOD, f"[{start_ns}, {end_ns}) ns with a unit of {unit_ns} ns")
    verify_begins(transaction, end_ns, AllocateRule.WINDOW)
    _verify_first_notary(transaction, AllocateRule.NOTARY)
    reading = _reading(transaction, allocation, AllocateRule.READING)
    if (allocation.metered_wh, allocation.reading_revision) != (reading.energy_wh, reading.revision):
        violated(
            AllocateRule.METERED,
            f"{allocation.metered_wh} Wh of revision {allocation.reading_revision}, read were {reading.energy_wh} Wh "
            f"of revision {reading.revision}",
        )
    _verify_shares(allocation.shares, allocation.metered_wh)


def allocates_claims(transaction: LedgerTransaction) -> Iterator[bytes]:
    """What uses a reading up (C12): one claim for each unit of its period."""
    return _claims_of(transaction.outputs, transaction.parameters)


def verify_begins(transaction: LedgerTransaction, earliest_ns: int, rule: Rule) -> None:
    """The transaction cannot be decided before this instant."""
    window = transaction.window
    if window is None:
        violated(rule, f"no time window, the earliest begin is {earliest_ns} ns")
    if window.from_ns < earliest_ns:
        violated(rule, f"from {window.from_ns}, the earliest begin is {earliest_ns} ns")


def _claims_of(states: Iterable[OutputState], parameters: ContractParameters) -> Iterator[bytes]:
    for output in states:
        if output.contract == NAME:
            state = decode_object(output)
            yield from deliver_claims(
                state.meter, state.delivery_start_ns, state.delivery_end_ns, parameters.market_time_unit_ns
            )


def _allocation(transaction: LedgerTransaction) -> EnergyAllocation | None:
    """The allocation that a transaction refers to; references of other kinds say nothing here."""
    found = [
        output.payload
        for _, output in transaction.references
        if output.contract == NAME and output.type_name == EnergyAllocation.type_name and output.schema_version == 1
    ]
    if len(found) > 1:
        violated(DeliverRule.ALLOCATIONS, f"{len(found)} allocations")
    return EnergyAllocation.from_payload(found[0]) if found else None


def _verify_first_notary(transaction: LedgerTransaction, rule: Rule) -> None:
    if transaction.notary != transaction.parameters.notaries[0]:
        violated(rule, f"the notary {short(transaction.notary)}")


def _reading(transaction: LedgerTransaction, of: EnergyState | EnergyAllocation, rule: Rule) -> oracle.MeterReading:
    """That the oracle may and that it signs, the oracle contract verifies under the same transaction."""
    told = oracle.attestations(transaction)
    readings = oracle.readings_of(told, of.meter, of.delivery_start_ns, of.delivery_end_ns)
    if len(readings) != 1:
        violated(
            rule,
            f"{len(readings)} readings of meter {of.meter!r} in [{of.delivery_start_ns}, {of.delivery_end_ns}) ns",
        )
    return readings[0]


def _sole_reading(states: list[EnergyState], transaction: LedgerTransaction) -> tuple[int, int]:
    """Wh and revision of the reading that closes one state."""
    if len(states) != 1:
        violated(DeliverRule.SOLE, f"{len(states)} states")
    (state,) = states
    period = state.delivery_start_ns, state.delivery_end_ns
    if state.lot_id != lot_id(state.issuer, state.meter, *period, state.quantity_wh):
        violated(DeliverRule.WHOLE_LOT, f"{state.quantity_wh} Wh of lot {short(state.lot_id)}, not all of it")
    _verify_first_notary(transaction, DeliverRule.NOTARY)
    reading = _reading(transaction, state, DeliverRule.READING)
    return reading.energy_wh, reading.revision


def _shares(
    allocation: EnergyAllocation, states: list[EnergyState], transaction: LedgerTransaction
) -> list[tuple[int, int]]:
    """Wh and revision for each state, by the reference that it is consumed under."""
    period = allocation.meter, allocation.delivery_start_ns, allocation.delivery_end_ns
    by_state = {share.state: share.delivered_wh for share in allocation.shares}
    references = [ref for ref, state in transaction.inputs if state.contract == NAME]
    shares: list[tuple[int, int]] = []
    for state, reference in zip(states, references, strict=True):
        if (state.meter, state.delivery_start_ns, state.delivery_end_ns) != period:
            violated(DeliverRule.OTHER_ALLOCATION, f"meter {state.meter!r} by an allocation of {allocation.meter!r}")
        delivered_wh = by_state.get(reference.encode())
        if delivered_wh is None:
            violated(DeliverRule.NO_SHARE, f"{reference}")
        shares.append((delivered_wh, allocation.reading_revision))
    return shares


def _verify_tariff(table: TariffTable, notices: tuple[oracle.TariffNotice, ...], state: EnergyState) -> None:
    start_ns, end_ns = state.delivery_start_ns, state.delivery_end_ns
    attested = any(notice.valid_from_ns <= start_ns and end_ns <= notice.valid_until_ns for notice in notices)
    if not attested or not table.covers(start_ns, end_ns):
        seen = "attested" if attested else "not attested"
        violated(
            DeliverRule.TARIFF,
            f"{seen} for [{start_ns}, {end_ns}) ns, tariff {table.name!r} says [{table.valid_from_ns}, "
            f"{table.valid_until_ns}) ns",
        )


_FIELDS: tuple[tuple[DeliverRule, tuple[str, ...]], ...] = (
    (DeliverRule.DELIVERED, ("delivered_wh", "reading_revision")),
    (DeliverRule.IMBALANCE, ("imbalance_wh",)),
    (DeliverRule.PRICE, ("imbalance_price_micro_per_kwh", "currency", "tariff")),
    (DeliverRule.AMOUNT, ("imbalance_nano",)),
    # What is left are the fields of the state.
    (DeliverRule.CHANGED, tuple(field.name for field in fields(EnergyDelivery))),
)


def _verify_delivery(delivery: EnergyDelivery, expected: EnergyDelivery) -> None:
    if delivery == expected:
        return
    for rule, names in _FIELDS:
        for name in names:
            stated, exact = getattr(delivery, name), getattr(expected, name)
            if stated != exact:
                violated(rule, f"{name} {_shown(stated)}, not {_shown(exact)}")


def _shown(value: object) -> str:
    return short(value) if isinstance(value, bytes) else repr(value)


def _verify_shares(shares: tuple[AllocationShare, ...], metered_wh: int) -> None:
    if not 1 <= len(shares) <= SHARES_MAX:
        violated(AllocateRule.SHARE_COUNT, f"{len(shares)}")
    before = b""
    for share in shares:
        if len(share.state) != STATE_REF_BYTES or share.state <= before:
            violated(
                AllocateRule.SHARE_STATES, f"{short(share.state)} of {len(share.state)} bytes, after {short(before)}"
            )
        if share.delivered_wh < 0:
            violated(AllocateRule.SHARE_NEGATIVE, f"{share.delivered_wh} Wh")
        before = share.state
    total = checked_sum([share.delivered_wh for share in shares], "the shares")
    if total != metered_wh:
        violated(AllocateRule.SHARE_SUM, f"{total} Wh of {metered_wh} Wh")
