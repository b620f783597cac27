"""The rules of the energy contract: beside each, a transaction that keeps it and the smallest one that breaks it."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from p2pet.ledger.v1 import transaction_pb2

from p2petd.contracts.energy import (
    ENERGY,
    LOT_UNITS_MAX,
    METER_BYTES_MAX,
    AllocationShare,
    EnergyAllocate,
    EnergyAllocation,
    EnergyDelivery,
    EnergyExpire,
    EnergyIssue,
    EnergyMerge,
    EnergyRetire,
    EnergyRule,
    EnergySplit,
    EnergyState,
    EnergyTrade,
    EnergyTransfer,
    IssueRule,
    energy_of_power,
    issue_claims,
)
from p2petd.contracts.meter import MeterRegistration
from p2petd.contracts.oracle import Attestation, EnergyForecast, MeterReading
from p2petd.contracts.payment import PaymentPay
from p2petd.contracts.registry import PlatformRule
from p2petd.contracts.rules import Rule
from p2petd.contracts.testkit import (
    BANK,
    NOON_NS,
    NOTARY,
    OTHER_NOTARY,
    PRODUCER,
    UNIT_NS,
    Ledger,
    Trial,
    energy,
    ledger,
    money,
    party,
)
from p2petd.errors import QuantityInexact, QuantityOverflow
from p2petd.ledger.codec import encode_canonical
from p2petd.ledger.resolved import OutputState
from p2petd.units import HOUR_NS, INT64_MAX

DAY_NS = 24 * HOUR_NS
ALICE, BOB, CAROL = party("alice"), party("bob"), party("carol")
NEGATIVE = ledger.under(replace(ledger.parameters, negative_prices=True))


def claims_of(*lots: EnergyState) -> tuple[bytes, ...]:
    return tuple(
        claim for s in lots for claim in issue_claims(s.meter, s.delivery_start_ns, s.delivery_end_ns, UNIT_NS)
    )


def issue(*lots: EnergyState, signers: tuple = (PRODUCER,), on: Ledger = ledger) -> Trial:
    trial = on.transaction().output(*lots).claim(*claims_of(*lots))
    for _ in lots:
        trial = trial.command(EnergyIssue, *signers)
    return trial


LOT = energy(10_000, PRODUCER)


TEN, GIVEN, PARTS = (energy(10, ALICE),), (energy(10, BOB),), (energy(4, ALICE), energy(6, ALICE))


def transfer(inputs=TEN, outputs=GIVEN, quantity_wh=10, signers=(ALICE, BOB)) -> Trial:
    command = EnergyTransfer(ALICE.key, BOB.key, quantity_wh)
    return ledger.transaction().input(*inputs).output(*outputs).command(command, *signers)


def split(inputs=TEN, outputs=PARTS, signer=ALICE) -> Trial:
    return ledger.transaction().input(*inputs).output(*outputs).command(EnergySplit, signer)


def merge(inputs=PARTS, outputs=TEN, signer=ALICE) -> Trial:
    return ledger.transaction().input(*inputs).output(*outputs).command(EnergyMerge, signer)


WRONG_TYPE = money(1, BOB)
FOREIGN_TYPE = Trial(ledger).output(WRONG_TYPE).draft().outputs[0].replace(b"\x0a\x07payment", b"\x0a\x06energy")
UNKNOWN_COMMAND = b"\x0a\x06energy\x12\x06Redeem\x18\x01"

REGISTRAR, ORACLE = party("registrar"), party("oracle")
REGISTERED = ledger.with_parameters(registrars=frozenset({REGISTRAR.key}), notaries=(NOTARY.key, OTHER_NOTARY.key))
METER = MeterRegistration(
    "meter-1", PRODUCER.key, "zone-1", 10_000, ("solar",), NOTARY.key, NOON_NS, NOON_NS + DAY_NS, REGISTRAR.key
)
ATTESTED = ledger.with_parameters(
    issue_attested=True, oracles={ORACLE.key: frozenset({"forecast"}), BANK.key: frozenset({"reading"})}
)
FACT = (LOT.meter, LOT.delivery_start_ns, LOT.delivery_end_ns)
CLOSED = EnergyDelivery(
    "solar", 10, 10, 0, 0, 0, "EUR", *FACT[1:], PRODUCER.key, ALICE.key, LOT.meter, LOT.zone, LOT.lot_id, bytes(32), 1
)
ALLOCATION = EnergyAllocation(*FACT, 10, 1, CAROL.key, ())


def metered(*lots: EnergyState, meters: tuple = (METER,), on: Ledger = REGISTERED) -> Trial:
    return issue(*(lots or (LOT,)), on=on).reference(*meters)


def forecast(energy_wh: int, lot: EnergyState = LOT) -> Trial:
    told = EnergyForecast(*FACT, energy_wh)
    return issue(lot, on=ATTESTED).command(Attestation(ORACLE.key, forecasts=(told,)), ORACLE)


def read(energy_wh: int, revision: int = 1) -> Trial:
    told = MeterReading(*FACT, energy_wh, revision)
    return issue(LOT, on=ATTESTED).command(Attestation(BANK.key, (told,)), BANK)


TYPES = (
    "EnergyState",
    "EnergyDelivery",
    "EnergyAllocation",
    "EnergyTransfer",
    "EnergyTrade",
    "EnergyDeliver",
    "EnergyAllocate",
    "MeterRegistration",
    "",
)


def trade() -> Trial:
    terms = EnergyTrade(ALICE.key, BOB.key, 10, 0, 0, "EUR", BANK.key)
    return ledger.transaction().input(*TEN).output(*GIVEN).command(terms, ALICE, BOB).window(until_ns=NOON_NS)


R, N = EnergyRule, IssueRule
CASES: Mapping[Rule, tuple[Trial, Trial]] = {
    R.STATE_TYPE_UNKNOWN: (transfer(), transfer(outputs=(FOREIGN_TYPE,))),
    R.QUANTITY_NOT_POSITIVE: (transfer(), transfer(outputs=(energy(10, BOB), energy(0, BOB)))),
    R.STATE_CLOSED: (transfer(), transfer(inputs=(CLOSED,))),
    R.KEY_INVALID: (transfer(), transfer(outputs=(replace(energy(10, BOB), owner=b"bob"),))),
    R.COMMAND_MISSING: (transfer(), replace(transfer(), commands=())),
    R.COMMAND_UNKNOWN: (transfer(), transfer().command(UNKNOWN_COMMAND, ALICE)),
    R.COMMAND_CONFLICTING: (transfer(), transfer().command(EnergySplit, ALICE)),
    N.HAS_INPUTS: (issue(LOT), issue(LOT).input(energy(10, PRODUCER, meter="meter-2"))),
    N.OUTPUTS: (issue(LOT), issue(LOT).output(energy(10_000, PRODUCER))),
    N.TYPE: (
        issue(energy(10_000, PRODUCER, energy_type="wind")),
        issue(energy(10_000, PRODUCER, energy_type="coal")),
    ),
    N.ISSUER: (issue(LOT), issue(replace(LOT, issuer=PRODUCER.key[:31]))),
    N.METER: (
        issue(energy(10_000, PRODUCER, meter="m" * METER_BYTES_MAX)),
        issue(energy(10_000, PRODUCER, meter="m" * (METER_BYTES_MAX + 1))),
    ),
    N.PERIOD_EMPTY: (issue(energy(10_000, PRODUCER, units=1)), issue(energy(10_000, PRODUCER, units=0))),
    N.PERIOD_UNALIGNED: (
        issue(LOT),
        issue(replace(LOT, delivery_start_ns=LOT.delivery_start_ns + 1)),
    ),
    N.PERIOD_TOO_LONG: (
        issue(energy(10_000, PRODUCER, units=LOT_UNITS_MAX)),
        ledger.transaction().output(energy(10_000, PRODUCER, units=LOT_UNITS_MAX + 1)).command(EnergyIssue, PRODUCER),
    ),
    N.PRICE: (
        issue(energy(10_000, PRODUCER, asked_micro_per_kwh=-1), on=NEGATIVE),
        issue(energy(10_000, PRODUCER, asked_micro_per_kwh=-1)),
    ),
    N.LOT_ID: (issue(LOT), issue(replace(LOT, lot_id=bytes(32)))),
    N.NOTARY: (issue(LOT), issue(LOT, on=ledger.under(replace(ledger.parameters, notaries=(bytes(32),))))),
    N.UNSIGNED: (issue(LOT), issue(LOT, signers=(ALICE,))),
    N.OWNER_UNSIGNED: (
        issue(energy(10_000, ALICE), signers=(PRODUCER, ALICE)),
        issue(energy(10_000, ALICE), signers=(PRODUCER,)),
    ),
    N.METER_UNREGISTERED: (metered(), metered(meters=())),
    N.METER_PRODUCER: (metered(), metered(meters=(replace(METER, producer=ALICE.key),))),
    N.METER_ZONE: (metered(), metered(meters=(replace(METER, zone="zone-2"),))),
    N.METER_TYPE: (metered(), metered(meters=(replace(METER, energy_types=("wind",)),))),
    N.METER_NOTARY: (metered(), metered(meters=(replace(METER, issue_notary=OTHER_NOTARY.key),))),
    N.METER_PERIOD: (
        metered(meters=(replace(METER, valid_from_ns=LOT.delivery_start_ns, valid_until_ns=LOT.delivery_end_ns),)),
        metered(meters=(replace(METER, valid_until_ns=LOT.delivery_end_ns - UNIT_NS),)),
    ),
    N.METER_CAPACITY: (metered(), metered(meters=(replace(METER, capacity_w=9_999),))),
    N.UNATTESTED: (forecast(10_000), issue(LOT, on=ATTESTED)),
    N.ABOVE_FORECAST: (forecast(10_000), forecast(9_999)),
    N.NOT_THE_READING: (read(10_000), read(10_001)),
    R.TRANSFER_QUANTITY: (transfer(), transfer(quantity_wh=0)),
    R.TRANSFER_SAME_OWNER: (
        transfer(),
        replace(transfer(), commands=((EnergyTransfer(BOB.key, BOB.key, 10), (ALICE, BOB)),)),
    ),
    R.TRANSFER_INPUT: (transfer(), transfer(inputs=(energy(10, CAROL),))),
    R.TRANSFER_OUTPUT: (
        transfer(outputs=(energy(6, BOB), energy(4, ALICE)), quantity_wh=6),
        transfer(outputs=(energy(6, BOB), energy(4, CAROL)), quantity_wh=6),
    ),
    R.TRANSFER_CHANGED: (transfer(), transfer(outputs=(energy(10, BOB, energy_type="wind"),))),
    R.TRANSFER_NOT_CONSERVED: (transfer(), transfer(outputs=(energy(11, BOB),), quantity_wh=11)),
    R.TRANSFER_NOT_AS_STATED: (transfer(), transfer(quantity_wh=9)),
    R.TRANSFER_OLD_UNSIGNED: (transfer(), transfer(signers=(BOB,))),
    R.TRANSFER_NEW_UNSIGNED: (transfer(), transfer(signers=(ALICE,))),
    R.SPLIT_COUNT: (split(), split(outputs=(energy(10, ALICE),))),
    R.SPLIT_OWNER: (split(), split(outputs=(energy(4, ALICE), energy(6, BOB)))),
    R.SPLIT_CHANGED: (split(), split(outputs=(energy(4, ALICE), energy(6, ALICE, zone="zone-2")))),
    R.SPLIT_NOT_CONSERVED: (split(), split(outputs=(energy(4, ALICE), energy(7, ALICE)))),
    R.SPLIT_UNSIGNED: (split(), split(signer=BOB)),
    R.MERGE_COUNT: (merge(), merge(inputs=(energy(10, ALICE),))),
    R.MERGE_OWNER: (merge(), merge(inputs=(energy(4, ALICE), energy(6, BOB)))),
    R.MERGE_LOTS: (merge(), merge(inputs=(energy(4, ALICE), energy(6, ALICE, producer=CAROL)))),
    R.MERGE_NOT_CONSERVED: (merge(), merge(outputs=(energy(11, ALICE),))),
    R.MERGE_UNSIGNED: (merge(), merge(signer=BOB)),
}


def test_every_rule_has_a_case() -> None:
    assert set(CASES) == {*EnergyRule, *IssueRule}
    assert len({rule.code for rules in ENERGY.rules for rule in rules}) == sum(len(rules) for rules in ENERGY.rules)


@pytest.mark.parametrize("rule", CASES, ids=lambda rule: rule.code)
def test_rule(rule: Rule) -> None:
    keeping, breaking = CASES[rule]
    keeping.verifies()
    assert rule.sentence in str(breaking.fails_with(rule.code))


def test_c01_issue_needs_producer_and_permitted_type() -> None:
    issue(LOT).verifies()
    issue(LOT, signers=(CAROL,)).fails_with("energy.issue.producer_must_sign")
    issue(replace(LOT, quantity_wh=-1)).fails_with("energy.state.quantity_not_positive")


def test_c01_several_lots_in_one_issue() -> None:
    second = energy(10_000, PRODUCER, meter="meter-2")
    issue(LOT, second).verifies()
    issue(LOT).output(second).claim(*claims_of(second)).fails_with("energy.issue.one_output_per_command")


def test_c02_claims_are_exactly_those_of_the_period() -> None:
    claims = claims_of(LOT)
    assert len(claims) == 4
    assert len(set(claims) & set(claims_of(energy(10_000, PRODUCER, units=1)))) == 1, "overlapping periods share claims"
    issue(LOT).verifies()
    replace(issue(LOT), claims=claims[1:]).fails_with(PlatformRule.CLAIM_MISSING.code)
    replace(issue(LOT), claims=(*claims[1:], bytes(32))).fails_with(PlatformRule.CLAIM_MISSING.code)
    issue(LOT).claim(bytes(32)).fails_with(PlatformRule.CLAIM_NOT_DEMANDED.code)
    issue(LOT).claim(claims[0]).fails_with("transaction.duplicate_claim")
    transfer().claim(bytes(32)).fails_with(PlatformRule.CLAIM_NOT_DEMANDED.code)


def test_c02_two_lots_of_one_unit_in_one_transaction_need_the_claim_twice() -> None:
    claims = claims_of(LOT)
    replace(issue(LOT, LOT), claims=claims).fails_with(PlatformRule.CLAIM_MISSING.code)


def test_c02_energy_is_issued_at_the_one_notary_of_its_meter() -> None:
    elsewhere = replace(METER, issue_notary=OTHER_NOTARY.key)
    metered(meters=(elsewhere,)).notary(OTHER_NOTARY).verifies()
    metered().notary(OTHER_NOTARY).fails_with("energy.issue.not_the_meters_notary")
    later = replace(elsewhere, valid_from_ns=LOT.delivery_end_ns)
    earlier = replace(METER, valid_until_ns=LOT.delivery_end_ns, followed=True)
    metered(meters=(earlier,)).verifies()
    metered(meters=(later,)).notary(OTHER_NOTARY).fails_with("energy.issue.outside_registration")
    metered(meters=(earlier, later)).fails_with("energy.issue.meter_not_registered")


def test_c03_several_lots_each_under_the_registration_of_its_meter() -> None:
    second = energy(5_000, PRODUCER, meter="meter-2", units=2, lot_wh=5_000)
    other = replace(METER, meter="meter-2")
    metered(LOT, second, meters=(METER, other)).verifies()
    metered(LOT, second).fails_with("energy.issue.meter_not_registered")
    too_much = energy(5_001, PRODUCER, meter="meter-2", units=2, lot_wh=5_001)
    metered(LOT, too_much, meters=(METER, other)).fails_with("energy.issue.above_capacity")
    metered(meters=(METER, other, energy(1, ALICE))).verifies()


def test_c03_the_capacity_is_exact() -> None:
    third = energy(1, PRODUCER, units=1, lot_wh=1)
    metered(third, meters=(replace(METER, capacity_w=4),)).verifies()
    metered(third, meters=(replace(METER, capacity_w=3),)).fails_with("energy.issue.above_capacity")
    huge = energy(INT64_MAX, PRODUCER, lot_wh=INT64_MAX)
    metered(huge, meters=(replace(METER, capacity_w=INT64_MAX),)).verifies()
    metered(huge, meters=(replace(METER, capacity_w=INT64_MAX - 1),)).fails_with("energy.issue.above_capacity")


def test_c03_what_an_oracle_attests_is_of_exactly_the_lot() -> None:
    forecast(10_000, energy(10_000, PRODUCER)).verifies()
    forecast(10_000, energy(10_000, PRODUCER, units=3)).fails_with("energy.issue.not_attested")
    forecast(10_000, energy(10_000, PRODUCER, meter="meter-2")).fails_with("energy.issue.not_attested")
    read(9_999).fails_with("energy.issue.not_the_reading")
    both = Attestation(BANK.key, (MeterReading(*FACT, 10_000, 1),))
    forecast(10_000).command(both, BANK).fails_with("energy.issue.not_attested")


def test_c03_an_attestation_of_nobody_who_may_is_none() -> None:
    told = (EnergyForecast(*FACT, 10_000),)
    issue(LOT, on=ATTESTED).command(Attestation(ALICE.key, forecasts=told), ALICE).fails_with(
        "oracle.attestation.fact_not_permitted"
    )
    issue(LOT, on=ATTESTED).command(Attestation(ORACLE.key, forecasts=told), ALICE).fails_with(
        "oracle.attestation.signers"
    )


def test_c03_a_registration_of_another_contract_is_none() -> None:
    component = metered().draft().reference_outputs[0]
    assert component.startswith(b"\x0a\x05meter")
    metered(meters=(component.replace(b"\x0a\x05meter", b"\x0a\x05other", 1),)).fails_with(
        "energy.issue.meter_not_registered"
    )
    metered(meters=(component.replace(b"MeterRegistration", b"MeterRegistratioN"),)).fails_with(
        "meter.state.type_unknown"
    )
    metered(meters=(component.replace(b"zone-1", b"zone-\xff"),)).fails_with("transaction.malformed")


def test_c04_ten_kwh_in_a_million_kwh_out() -> None:
    ledger.transaction().input(energy(10_000, ALICE)).output(energy(1_000_000_000, BOB)).command(
        EnergyTransfer, ALICE, BOB
    ).fails_with("energy.transfer.quantity_not_conserved")


def test_c04_conserves_each_lot_by_itself() -> None:
    day, night = energy(10, ALICE), energy(10, ALICE, start_ns=LOT.delivery_end_ns)
    moved = (replace(day, owner=BOB.key), replace(night, owner=BOB.key))
    transfer(inputs=(day, night), outputs=moved, quantity_wh=20).verifies()
    swapped = (replace(day, owner=BOB.key, quantity_wh=15), replace(night, owner=BOB.key, quantity_wh=5))
    transfer(inputs=(day, night), outputs=swapped, quantity_wh=20).fails_with("energy.transfer.quantity_not_conserved")


@pytest.mark.parametrize(
    "changed",
    [
        {"energy_type": "wind"},
        {"delivery_start_ns": LOT.delivery_start_ns - UNIT_NS},
        {"delivery_end_ns": LOT.delivery_end_ns + UNIT_NS},
        {"asked_price_micro_per_kwh": 1},
        {"issuer": CAROL.key},
        {"meter": "meter-2"},
        {"zone": "zone-2"},
        {"lot_id": bytes(32)},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_c05_no_field_changes_in_a_transfer(changed: Mapping[str, object]) -> None:
    transfer(outputs=(replace(energy(10, BOB), **changed),)).fails_with("energy.transfer.fields_changed")


def test_c06_parts_of_parts_keep_the_lot() -> None:
    split(inputs=(energy(6, ALICE),), outputs=(energy(1, ALICE), energy(2, ALICE), energy(3, ALICE))).verifies()
    transfer(outputs=(energy(1, BOB), energy(9, ALICE)), quantity_wh=1).verifies()


def test_c07_sums_that_overflow_are_refused() -> None:
    huge = energy(INT64_MAX, ALICE)
    transfer(inputs=(huge, huge)).fails_with("units.overflow")
    merge(inputs=(huge, huge)).fails_with("units.overflow")


COMMANDS = (EnergyIssue, EnergySplit, EnergyMerge, EnergyAllocate, EnergyRetire, EnergyExpire)


@pytest.mark.parametrize("second", COMMANDS, ids=lambda command: command.type_name)
def test_c08_two_commands_conflict(second: type) -> None:
    for first in COMMANDS:
        trial = ledger.transaction().input(*TEN).command(first, ALICE).command(second, ALICE)
        if first is second is EnergyIssue:
            trial.fails_with("energy.issue.has_inputs")
        else:
            trial.fails_with("energy.command.conflicting")


@pytest.mark.parametrize("closed", [CLOSED, ALLOCATION], ids=lambda state: state.type_name)
def test_c12_what_is_closed_never_moves_again(closed: EnergyDelivery | EnergyAllocation) -> None:
    for trial in (transfer(), split(), merge(), trade(), issue(LOT)):
        trial.input(closed).fails_with("energy.state.closed")
        trial.output(closed).fails_with("energy.state.closed")
    ledger.transaction().input(closed).command(EnergyExpire, ALICE).fails_with("energy.state.closed")
    replace(transfer(), inputs=(closed,), commands=()).fails_with("energy.command.missing")


@given(st.sampled_from(TYPES), st.binary(max_size=80), st.sampled_from(["inputs", "outputs", "references"]))
def test_c08_no_payload_crashes_the_contract(type_name: str, payload: bytes, where: str) -> None:
    component = encode_canonical(
        transaction_pb2.OutputState,
        contract="energy",
        contract_version=1,
        notary=NOTARY.key,
        type_name=type_name,
        schema_version=1,
        payload=payload,
    )
    for command in COMMANDS:
        trial = replace(ledger.transaction().output(LOT), **{where: (component,)})
        refused = trial.command(command, ALICE).refusal()
        assert refused is not None
        assert refused.code != PlatformRule.CRASHED.code


@given(st.sampled_from([*TYPES, "Attestation"]), st.binary(max_size=80), st.sampled_from(["energy", "oracle", "meter"]))
def test_c08_no_command_crashes_the_contracts(type_name: str, payload: bytes, contract: str) -> None:
    component = encode_canonical(
        transaction_pb2.Command, contract=contract, type_name=type_name, schema_version=1, payload=payload
    )
    for base in (ledger.transaction().input(*TEN), issue(LOT), ledger.transaction().input(CLOSED)):
        refused = base.command(component, ALICE).refusal()
        assert refused is not None
        assert refused.code != PlatformRule.CRASHED.code


def test_c08_a_command_of_another_schema_version_is_unknown() -> None:
    wrong = b"\x0a\x06energy\x12\x0bEnergySplit\x18\x02"
    replace(split(), commands=((wrong, (ALICE,)),)).fails_with("energy.command.unknown")


def test_c15_energy_never_turns_into_payment() -> None:
    base = ledger.transaction()
    base.input(energy(10, ALICE)).output(money(10, ALICE)).command(EnergySplit, ALICE).command(
        PaymentPay, ALICE
    ).fails_with("energy.split.counts")
    base.input(money(10, ALICE)).output(energy(10, ALICE)).command(EnergyMerge, ALICE).command(
        PaymentPay, ALICE
    ).fails_with("energy.merge.counts")


def test_c15_lots_of_two_issuers_never_merge() -> None:
    CASES[R.MERGE_LOTS][1].fails_with("energy.merge.lots_differ")


def test_power_over_the_period() -> None:
    assert energy(10_000, ALICE, units=2).power_w == 20_000


@given(st.integers(1, INT64_MAX), st.integers(1, LOT_UNITS_MAX))
def test_power_and_energy_are_two_exact_views(quantity_wh: int, units: int) -> None:
    state = energy(quantity_wh, ALICE, units=units)
    assert energy_of_power(state.power_w, state.delivery_start_ns, state.delivery_end_ns) == quantity_wh


def test_power_that_is_no_whole_energy_is_refused() -> None:
    assert energy_of_power(5_000, 0, 15 * 60 * 10**9) == 1_250
    with pytest.raises(QuantityInexact, match="no whole number"):
        energy_of_power(5_001, 0, 15 * 60 * 10**9)
    with pytest.raises(QuantityInexact, match="empty"):
        energy_of_power(5_000, 1, 1)
    with pytest.raises(QuantityOverflow):
        energy_of_power(INT64_MAX, 0, 2 * HOUR_NS)


def test_c17_who_keeps_energy() -> None:
    states = {
        energy(1, ALICE): (ALICE.key, {ALICE.key}),
        CLOSED: (ALICE.key, {ALICE.key, PRODUCER.key}),
        ALLOCATION: (b"", {CAROL.key}),
    }
    for state, (owner, participants) in states.items():
        output = OutputState.decode(ledger.transaction().output(state).draft().outputs[0])
        assert ENERGY.owner(output) == owner
        assert ENERGY.participants(output) == participants


def test_energy_moves_to_another_notary_but_a_used_reading_stays() -> None:
    ledger.notary_change(LOT, CLOSED, to=OTHER_NOTARY).verifies()
    ledger.notary_change(ALLOCATION, to=OTHER_NOTARY).fails_with(PlatformRule.MOVE_UNOWNED.code)


def test_states_survive_their_bytes() -> None:
    full = replace(ALLOCATION, shares=(AllocationShare(bytes(36), 4), AllocationShare(bytes(35) + b"1", 6)))
    assert EnergyAllocation.from_payload(full.to_payload()) == full
    assert EnergyDelivery.from_payload(CLOSED.to_payload()) == CLOSED
    shortfall = replace(CLOSED, imbalance_wh=-10, imbalance_nano=-(2**63))
    assert EnergyDelivery.from_payload(shortfall.to_payload()) == shortfall
    with pytest.raises(QuantityOverflow):
        replace(CLOSED, imbalance_nano=-(2**63) - 1).to_payload()
