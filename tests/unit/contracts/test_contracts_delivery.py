"""How energy ends, by reading, allocation, retirement or expiry: beside each rule, a transaction that keeps it and the
smallest one that breaks it."""

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2petd.contracts.energy import (
    LOT_UNITS_MAX,
    METER_BYTES_MAX,
    SHARES_MAX,
    AllocateRule,
    AllocationShare,
    DeliverRule,
    EnergyAllocate,
    EnergyAllocation,
    EnergyDeliver,
    EnergyDelivery,
    EnergyExpire,
    EnergyRetire,
    EnergyState,
    ExpireRule,
    RetireRule,
    deliver_claims,
    delivery_of,
)
from p2petd.contracts.oracle import Attestation, MeterReading, TariffNotice
from p2petd.contracts.payment import PaymentPay
from p2petd.contracts.registry import PlatformRule
from p2petd.contracts.rules import Rule
from p2petd.contracts.tariff import TariffRow, TariffTable
from p2petd.contracts.testkit import (
    NOON_NS,
    NOTARY,
    OTHER_NOTARY,
    UNIT_NS,
    Ledger,
    Trial,
    energy,
    ledger,
    money,
    party,
    state_ref,
)
from p2petd.errors import QuantityOverflow
from p2petd.units import HOUR_NS, INT64_MAX, NO_LOWER_BOUND

ALICE, BOB, CAROL = party("alice"), party("bob"), party("carol")
ORACLE, MARKET = party("oracle"), party("market")
NETWORK = ledger.with_parameters(
    oracles={ORACLE.key: frozenset({"reading", "tariff"})},
    markets={MARKET.key: NOTARY.key},
    notaries=(NOTARY.key, OTHER_NOTARY.key),
    reading_deadline_ns=HOUR_NS,
)
END_NS = NOON_NS + HOUR_NS
ROW = TariffRow("solar", "", 0, 100_000, 20_000, 200_000)
TABLE = TariffTable("day", "EUR", NOON_NS, END_NS, (ROW,))
TARIFF = sha256(TABLE.encode()).digest()
READING = MeterReading("meter-1", NOON_NS, END_NS, 9_000, 1)
NOTICE = TariffNotice(TARIFF, NOON_NS, END_NS)
STATE = energy(10_000, ALICE)
CLOSED = delivery_of(STATE, 9_000, 1, TABLE, TARIFF)
HALVES = (energy(4_000, ALICE), energy(6_000, BOB))


def claims(start_ns: int = NOON_NS, end_ns: int = END_NS) -> tuple[bytes, ...]:
    return tuple(deliver_claims("meter-1", start_ns, end_ns, UNIT_NS))


def attested(trial: Trial, readings: tuple = (READING,), tariffs: tuple = (NOTICE,)) -> Trial:
    return trial.command(Attestation(ORACLE.key, readings, (), tariffs), ORACLE)


def deliver(
    *states: EnergyState,
    out: tuple = (CLOSED,),
    signers: tuple = (ALICE,),
    table: TariffTable = TABLE,
    on: Ledger = NETWORK,
    **facts: tuple,
) -> Trial:
    """A sole delivery of 9 of 10 kWh, of which parts can be other."""
    content = table.encode()
    trial = on.transaction().input(*(states or (STATE,))).output(*out).attachment(content)
    command = EnergyDeliver(sha256(content).digest())
    return attested(trial.command(command, *signers), **facts).claim(*claims()).window(END_NS)


def delivered(**changes: object) -> Trial:
    return deliver(out=(replace(CLOSED, **changes),))


def share(number: int, delivered_wh: int) -> AllocationShare:
    """Of the n-th input that a trial has."""
    return AllocationShare(state_ref(number).encode(), delivered_wh)


def allocation(*shares: AllocationShare, **changes: object) -> EnergyAllocation:
    listed = shares or (share(0, 5_000), share(1, 4_000))
    ascending = tuple(sorted(listed, key=lambda one: one.state))
    base = EnergyAllocation("meter-1", NOON_NS, END_NS, 9_000, 1, MARKET.key, ascending)
    return replace(base, **changes)


def allocate(made: EnergyAllocation | None = None, *signers, readings: tuple = (READING,), **changes) -> Trial:
    made = made or allocation(**changes)
    trial = NETWORK.transaction().output(made).command(EnergyAllocate, *(signers or (MARKET,)))
    used = deliver_claims(made.meter, made.delivery_start_ns, made.delivery_end_ns, UNIT_NS)
    return attested(trial, readings, ()).claim(*used).window(made.delivery_end_ns)


def allocated(
    *by: EnergyAllocation, states: tuple = HALVES, signers: tuple = (ALICE, BOB), shares: tuple = (5_000, 4_000)
) -> Trial:
    """Deliveries under an allocation, of 5 for 4 kWh and 4 for 6 kWh."""
    out = tuple(delivery_of(s, wh, 1, TABLE, TARIFF) for s, wh in zip(states, shares, strict=True))
    trial = NETWORK.transaction().input(*states).output(*out).attachment(TABLE.encode())
    trial = attested(trial.command(EnergyDeliver(TARIFF), *signers), ())
    return trial.reference(*(by or (allocation(),))).window(END_NS)


def of_period(units: int) -> Trial:
    end_ns = NOON_NS + units * UNIT_NS
    return allocate(delivery_end_ns=end_ns, readings=(replace(READING, end_ns=end_ns),))


def shared(*shares: int) -> Trial:
    return allocate(allocation(*(share(number, wh) for number, wh in enumerate(shares))))


def retire(*states: object, change: tuple = (), signer=ALICE) -> Trial:
    return ledger.transaction().input(*(states or (STATE,))).output(*change).command(EnergyRetire, signer)


def expire(*states: EnergyState, signers: tuple = (ALICE,), from_ns: int = END_NS + HOUR_NS) -> Trial:
    return NETWORK.transaction().input(*(states or (STATE,))).command(EnergyExpire, *signers).window(from_ns)


D, A, R, X = DeliverRule, AllocateRule, RetireRule, ExpireRule
CASES: Mapping[Rule, tuple[Trial, Trial]] = {
    D.COUNTS: (deliver(), deliver(out=(CLOSED, CLOSED))),
    D.WINDOW: (deliver(), deliver().window(END_NS - 1)),
    D.SOLE: (allocated(), replace(allocated(), references=())),
    D.WHOLE_LOT: (deliver(), deliver(energy(9_999, ALICE))),
    D.NOTARY: (deliver(), deliver().notary(OTHER_NOTARY)),
    D.READING: (deliver(), deliver(readings=())),
    D.ALLOCATIONS: (allocated(), allocated(allocation(), allocation(meter="meter-2"))),
    D.OTHER_ALLOCATION: (allocated(), allocated(allocation(delivery_end_ns=END_NS - UNIT_NS))),
    D.NO_SHARE: (allocated(), allocated(allocation(share(0, 5_000), share(7, 4_000)))),
    D.TARIFF: (deliver(), deliver(tariffs=())),
    D.NO_ROW: (deliver(), deliver(replace(STATE, energy_type="wind"))),
    D.CHANGED: (deliver(), delivered(owner=BOB.key)),
    D.DELIVERED: (deliver(), delivered(delivered_wh=9_001)),
    D.IMBALANCE: (deliver(), delivered(imbalance_wh=1_000)),
    D.PRICE: (deliver(), delivered(imbalance_price_micro_per_kwh=20_000)),
    D.AMOUNT: (deliver(), delivered(imbalance_nano=-200_000_001)),
    D.UNSIGNED: (deliver(), deliver(signers=(BOB,))),
    A.COUNTS: (allocate(), allocate().input(STATE)),
    A.MARKET: (allocate(), allocate(allocation(market=ALICE.key), ALICE)),
    A.UNSIGNED: (allocate(), allocate(allocation(), ALICE)),
    A.METER: (
        allocate(meter="m" * METER_BYTES_MAX, readings=(replace(READING, meter="m" * METER_BYTES_MAX),)),
        allocate(meter="m" * (METER_BYTES_MAX + 1)),
    ),
    A.PERIOD: (of_period(LOT_UNITS_MAX), replace(of_period(LOT_UNITS_MAX + 1), claims=())),
    A.WINDOW: (allocate(), allocate().window(END_NS - 1)),
    A.NOTARY: (allocate(), allocate().notary(OTHER_NOTARY)),
    A.READING: (allocate(), allocate(readings=(replace(READING, meter="meter-2"),))),
    A.METERED: (allocate(), allocate(metered_wh=8_999)),
    A.SHARE_COUNT: (shared(9_000), allocate(shares=())),
    A.SHARE_STATES: (shared(5_000, 4_000), allocate(shares=tuple(reversed(allocation().shares)))),
    A.SHARE_NEGATIVE: (shared(9_000, 0), shared(9_001, -1)),
    A.SHARE_SUM: (shared(5_000, 4_000), shared(5_000, 4_001)),
    R.COUNTS: (retire(), retire(change=(CLOSED,))),
    R.OWNERS: (retire(STATE, replace(STATE, quantity_wh=1)), retire(STATE, energy(1, BOB))),
    R.CHANGED: (retire(change=(energy(4_000, ALICE),)), retire(change=(energy(4_000, ALICE, zone="zone-2"),))),
    R.NOTHING: (retire(change=(energy(9_999, ALICE),)), retire(change=(energy(10_000, ALICE),))),
    R.UNSIGNED: (retire(), retire(signer=BOB)),
    X.COUNTS: (expire(), expire().output(energy(1, ALICE))),
    X.WINDOW: (expire(), expire(from_ns=END_NS + HOUR_NS - 1)),
    X.UNSIGNED: (expire(*HALVES, signers=(ALICE, BOB)), expire(*HALVES)),
}


def test_every_rule_has_a_case() -> None:
    assert set(CASES) == {*DeliverRule, *AllocateRule, *RetireRule, *ExpireRule}


@pytest.mark.parametrize("rule", CASES, ids=lambda rule: rule.code)
def test_rule(rule: Rule) -> None:
    keeping, breaking = CASES[rule]
    keeping.verifies()
    assert rule.sentence in str(breaking.fails_with(rule.code))


def test_c11_before_its_time_nothing_closes() -> None:
    for trial, code in (
        (deliver(), "energy.deliver.before_period_end"),
        (allocated(), "energy.deliver.before_period_end"),
        (allocate(), "energy.allocate.before_period_end"),
        (expire(), "energy.expire.before_deadline"),
    ):
        replace(trial, bounds=None).fails_with(code)
        trial.window(NO_LOWER_BOUND, END_NS + HOUR_NS).fails_with(code)
        trial.window(END_NS + 2 * HOUR_NS).verifies()


def test_c11_the_last_of_several_decides() -> None:
    later = energy(1, ALICE, start_ns=END_NS)
    expire(STATE, later).fails_with("energy.expire.before_deadline")
    expire(STATE, later, from_ns=END_NS + 2 * HOUR_NS).verifies()


def test_c11_a_deadline_beyond_all_time_never_comes() -> None:
    last = energy(1, ALICE, start_ns=(INT64_MAX // UNIT_NS - 1) * UNIT_NS, units=1)
    expire(last, from_ns=INT64_MAX - 1).fails_with("energy.expire.before_deadline")


@pytest.mark.parametrize(
    ("read_wh", "imbalance_wh", "price", "nano"),
    [(9_000, -1_000, 200_000, -200_000_000), (10_000, 0, 0, 0), (10_500, 500, 20_000, 10_000_000)],
    ids=["shortfall", "exact", "surplus"],
)
def test_c12_the_imbalance_is_priced_by_the_tariff(read_wh: int, imbalance_wh: int, price: int, nano: int) -> None:
    closed = replace(
        CLOSED,
        delivered_wh=read_wh,
        imbalance_wh=imbalance_wh,
        imbalance_price_micro_per_kwh=price,
        imbalance_nano=nano,
    )
    assert delivery_of(STATE, read_wh, 1, TABLE, TARIFF) == closed
    deliver(out=(closed,), readings=(replace(READING, energy_wh=read_wh),)).verifies()


@pytest.mark.parametrize(
    "changed",
    [
        {"energy_type": "wind"},
        {"contracted_wh": 9_999},
        {"delivery_start_ns": NOON_NS - UNIT_NS},
        {"delivery_end_ns": END_NS + UNIT_NS},
        {"issuer": BOB.key},
        {"owner": BOB.key},
        {"meter": "meter-2"},
        {"zone": "zone-2"},
        {"lot_id": bytes(32)},
        {"currency": "CHF"},
        {"tariff": bytes(32)},
        {"reading_revision": 2},
        {"delivered_wh": 10_000, "imbalance_wh": 0, "imbalance_price_micro_per_kwh": 0, "imbalance_nano": 0},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_c12_no_field_of_a_delivery_can_be_chosen(changed: Mapping[str, object]) -> None:
    refused = delivered(**changed).refusal()
    assert refused is not None
    assert refused.code.startswith("energy.deliver.")


def test_c12_a_reading_counts_once() -> None:
    deliver().verifies()
    assert deliver().claims == allocate().claims == claims()
    assert claims()[0] == sha256(b"deliver\x00\x07meter-1" + NOON_NS.to_bytes(8, "big")).digest()
    for trial in (deliver(), allocate()):
        replace(trial, claims=claims()[1:]).fails_with(PlatformRule.CLAIM_MISSING.code)
        replace(trial, claims=()).fails_with(PlatformRule.CLAIM_MISSING.code)
        trial.claim(bytes(32)).fails_with(PlatformRule.CLAIM_NOT_DEMANDED.code)
    allocated().claim(*claims()).fails_with(PlatformRule.CLAIM_NOT_DEMANDED.code)
    assert set(claims(END_NS - UNIT_NS, END_NS)) < set(claims()), "readings of overlapping periods share claims"
    two = (deliver().input(HALVES[0]), deliver(STATE, STATE, out=(CLOSED, CLOSED)))
    two[0].fails_with("energy.deliver.counts")
    two[1].fails_with("energy.deliver.several_without_allocation")


def test_c12_a_reading_is_of_exactly_the_period_and_of_an_oracle_that_may() -> None:
    for change in ({"meter": "meter-2"}, {"end_ns": END_NS - UNIT_NS}, {"start_ns": NOON_NS - UNIT_NS}):
        deliver(readings=(replace(READING, **change),)).fails_with("energy.deliver.reading_not_attested")
    forged = Attestation(ALICE.key, (READING,))
    deliver(readings=()).command(forged, ALICE).fails_with("oracle.attestation.fact_not_permitted")
    second = NETWORK.with_parameters(
        oracles={ORACLE.key: frozenset({"reading", "tariff"}), CAROL.key: frozenset({"reading"})}
    )
    other = Attestation(CAROL.key, (replace(READING, energy_wh=1),))
    deliver(on=second).command(other, CAROL).fails_with("energy.deliver.reading_not_attested")


def test_c12_the_tariff_is_cited_attested_and_valid_for_the_whole_period() -> None:
    for change in ({"valid_from_ns": NOON_NS + 1}, {"valid_until_ns": END_NS - 1}, {"tariff": bytes(32)}):
        deliver(tariffs=(replace(NOTICE, **change),)).fails_with("energy.deliver.tariff_not_in_force")
    short = replace(TABLE, valid_until_ns=END_NS - 1)
    notice = replace(NOTICE, tariff=sha256(short.encode()).digest())
    deliver(table=short, tariffs=(notice,)).fails_with("energy.deliver.tariff_not_in_force")
    replace(deliver(), attachments={}).fails_with("transaction.attachment_missing")
    replace(deliver(), attachments={}).cite(TARIFF).fails_with("transaction.attachment_missing")
    content = b"no table"
    bad = replace(deliver(), attachments={}).attachment(content)
    attestation = bad.commands[1]
    command = (EnergyDeliver(sha256(content).digest()), (ALICE,))
    replace(bad, commands=(command, attestation)).fails_with("transaction.malformed")


def test_c12_the_price_is_that_of_the_states_own_zone() -> None:
    dear = replace(ROW, zone="zone-1", short_price_micro_per_kwh=300_000)
    table = replace(TABLE, rows=(ROW, dear))
    tariff = sha256(table.encode()).digest()
    closed = delivery_of(STATE, 9_000, 1, table, tariff)
    assert closed.imbalance_nano == -300_000_000
    deliver(table=table, out=(closed,), tariffs=(replace(NOTICE, tariff=tariff),)).verifies()


def test_c12_deliveries_under_an_allocation() -> None:
    allocated().verifies()
    allocated(states=HALVES[:1], shares=(5_000,), signers=(ALICE,)).verifies()
    allocated(signers=(ALICE,)).fails_with("energy.deliver.owner_must_sign")
    allocated(allocation(share(0, 4_999), share(1, 4_001))).fails_with("energy.deliver.delivered_wrong")
    allocated(allocation(reading_revision=2)).fails_with("energy.deliver.delivered_wrong")
    swapped = replace(allocated(), outputs=tuple(reversed(allocated().outputs)))
    assert swapped.refusal() is not None
    allocated(states=(HALVES[0], energy(6_000, BOB, meter="meter-2"))).fails_with(
        "energy.deliver.allocation_of_another_period"
    )


def test_c12_an_allocation_divides_one_reading() -> None:
    allocate(readings=(replace(READING, revision=2),)).fails_with("energy.allocate.metered_wrong")
    allocate(readings=(replace(READING, revision=2),), reading_revision=2).verifies()
    allocate(allocation(share(0, 9_000), share(0, 0))).fails_with("energy.allocate.share_states")
    allocate(allocation(AllocationShare(bytes(35), 9_000))).fails_with("energy.allocate.share_states")
    allocate(delivery_start_ns=NOON_NS + 1).fails_with("energy.allocate.period_invalid")
    allocate(delivery_start_ns=END_NS).fails_with("energy.allocate.period_invalid")
    allocate().output(allocation()).fails_with("energy.allocate.counts")
    replace(allocate(), outputs=(STATE,)).fails_with("energy.allocate.counts")
    too_many = tuple(AllocationShare(n.to_bytes(36, "big"), 0) for n in range(1, SHARES_MAX + 2))
    allocate(metered_wh=0, readings=(replace(READING, energy_wh=0),), shares=too_many[:-1]).verifies()
    allocate(metered_wh=0, readings=(replace(READING, energy_wh=0),), shares=too_many).fails_with(
        "energy.allocate.share_count"
    )


def test_c12_a_reading_cannot_be_used_again_at_another_notary() -> None:
    for trial, code in ((deliver(), "energy.deliver.other_notary"), (allocate(), "energy.allocate.other_notary")):
        trial.notary(OTHER_NOTARY).fails_with(code)


def test_c12_a_closed_state_is_only_retired() -> None:
    retire(CLOSED).verifies()
    retire(CLOSED, STATE, change=(energy(1, ALICE),)).verifies()
    deliver(STATE, out=(CLOSED,)).input(CLOSED).output(CLOSED).fails_with("energy.deliver.counts")
    replace(deliver(), inputs=(CLOSED,)).fails_with("energy.deliver.counts")
    expire().input(CLOSED).fails_with("energy.state.closed")
    retire(allocation()).fails_with("energy.retire.counts")


def test_c13_energy_ends_only_under_a_command_that_ends_it() -> None:
    for trial in (retire(), expire()):
        trial.verifies()
        replace(trial, commands=()).fails_with("energy.command.missing")
    retire(signer=CAROL).fails_with("energy.retire.owner_must_sign")
    expire(signers=(CAROL,)).fails_with("energy.expire.owner_must_sign")
    retire(change=(energy(4_000, BOB),)).fails_with("energy.retire.several_owners")


def test_c13_of_each_lot_less_comes_back() -> None:
    other = energy(5, ALICE, meter="meter-2")
    retire(STATE, other, change=(energy(1, ALICE), replace(other, quantity_wh=4))).verifies()
    retire(STATE, other, change=(energy(1, ALICE), other)).fails_with("energy.retire.nothing_retired")
    retire(CLOSED, change=(energy(1, ALICE),)).fails_with("energy.retire.fields_changed")
    retire(change=(energy(9_999, ALICE), energy(1, ALICE))).fails_with("energy.retire.nothing_retired")


def test_c07_numbers_at_the_ends_of_64_bits() -> None:
    huge = energy(INT64_MAX, ALICE)
    retire(huge, huge).fails_with("units.overflow")
    retire(huge, change=(huge, huge)).fails_with("units.overflow")
    dear = replace(TABLE, rows=(replace(ROW, short_price_micro_per_kwh=INT64_MAX),))
    notice = replace(NOTICE, tariff=sha256(dear.encode()).digest())
    deliver(table=dear, tariffs=(notice,)).fails_with("units.overflow")
    shared(INT64_MAX, INT64_MAX).fails_with("units.overflow")
    most = (replace(READING, energy_wh=INT64_MAX),)
    surplus = delivery_of(
        energy(1, ALICE), INT64_MAX, 1, replace(TABLE, rows=(replace(ROW, long_price_micro_per_kwh=1),)), TARIFF
    )
    assert surplus.imbalance_nano == INT64_MAX - 1
    deliver(readings=most).fails_with("units.overflow")


@given(
    st.integers(1, INT64_MAX) | st.integers(1, 10_000_000),
    st.integers(0, INT64_MAX) | st.integers(0, 10_000_000),
    st.integers(-INT64_MAX, INT64_MAX) | st.integers(-200_000, 200_000),
    st.integers(-INT64_MAX, INT64_MAX) | st.integers(-200_000, 200_000),
)
def test_c12_what_is_computed_is_accepted_and_exact(contracted: int, read: int, long: int, short: int) -> None:
    table = replace(TABLE, rows=(replace(ROW, long_price_micro_per_kwh=long, short_price_micro_per_kwh=short),))
    tariff = sha256(table.encode()).digest()
    state = energy(contracted, ALICE, lot_wh=contracted)
    facts = {"readings": (replace(READING, energy_wh=read),), "tariffs": (replace(NOTICE, tariff=tariff),)}
    price = long if read > contracted else short
    if not -(2**63) <= (read - contracted) * price <= INT64_MAX:
        with pytest.raises(QuantityOverflow):
            delivery_of(state, read, 1, table, tariff)
        deliver(state, table=table, **facts).fails_with("units.overflow")
        return
    closed = delivery_of(state, read, 1, table, tariff)
    assert closed.imbalance_wh == read - contracted
    assert closed.imbalance_nano == (read - contracted) * closed.imbalance_price_micro_per_kwh
    deliver(state, table=table, out=(closed,), **facts).verifies()


def test_c08_each_contract_ignores_the_states_of_others() -> None:
    paid = (money(10, BOB),)
    for trial in (deliver(), allocate(), retire(), expire()):
        trial.input(*paid).output(money(10, CAROL)).command(PaymentPay, BOB).verifies()
        trial.reference(money(1, CAROL)).verifies()


def test_c15_energy_never_ends_as_money() -> None:
    base = ledger.transaction().input(STATE).output(money(10, ALICE))
    base.command(EnergyRetire, ALICE).command(PaymentPay, ALICE).fails_with("payment.pay.nothing_moves")
    retire(change=(energy(4_000, ALICE, producer=CAROL),)).fails_with("energy.retire.fields_changed")


def test_a_delivery_says_what_it_saw() -> None:
    error = delivered(delivered_wh=9_001).fails_with("energy.deliver.delivered_wrong")
    assert "delivered_wh 9001, not 9000" in str(error)
    assert isinstance(CLOSED, EnergyDelivery)
