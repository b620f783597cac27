"""The rules of the energy contract: beside each, a transaction that keeps it and the smallest one that breaks it."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from p2petd.contracts.energy import (
    LOT_UNITS_MAX,
    METER_BYTES_MAX,
    EnergyIssue,
    EnergyMerge,
    EnergyRule,
    EnergySplit,
    EnergyState,
    EnergyTrade,
    EnergyTransfer,
    issue_claims,
)
from p2petd.contracts.payment import PaymentPay
from p2petd.contracts.registry import PlatformRule
from p2petd.contracts.testkit import BANK, PRODUCER, UNIT_NS, Ledger, Trial, energy, ledger, money, party
from p2petd.units import INT64_MAX

ALICE, BOB, CAROL = party("alice"), party("bob"), party("carol")
OTHER_BANK = party("other bank")
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
TRADE = EnergyTrade(ALICE.key, BOB.key, 4_000, 100_000, 400_000_000, "EUR", BANK.key)


TEN, GIVEN, PARTS = (energy(10, ALICE),), (energy(10, BOB),), (energy(4, ALICE), energy(6, ALICE))
SOLD, DELIVERED = (energy(10_000, ALICE),), (energy(4_000, BOB), energy(6_000, ALICE))
FUNDS, PAID = (money(1_000_000_000, BOB),), (money(400_000_000, ALICE), money(600_000_000, BOB))


def transfer(inputs=TEN, outputs=GIVEN, quantity_wh=10, signers=(ALICE, BOB)) -> Trial:
    command = EnergyTransfer(ALICE.key, BOB.key, quantity_wh)
    return ledger.transaction().input(*inputs).output(*outputs).command(command, *signers)


def trade(
    energy_in=SOLD,
    energy_out=DELIVERED,
    money_in=FUNDS,
    money_out=PAID,
    terms=TRADE,
    signers=(ALICE, BOB),
    payers=(BOB,),
    on: Ledger = ledger,
) -> Trial:
    trial = on.transaction().input(*energy_in, *money_in).output(*energy_out, *money_out).command(terms, *signers)
    return trial.command(PaymentPay, *payers) if money_in or money_out else trial


def split(inputs=TEN, outputs=PARTS, signer=ALICE) -> Trial:
    return ledger.transaction().input(*inputs).output(*outputs).command(EnergySplit, signer)


def merge(inputs=PARTS, outputs=TEN, signer=ALICE) -> Trial:
    return ledger.transaction().input(*inputs).output(*outputs).command(EnergyMerge, signer)


def terms(**changes: object) -> EnergyTrade:
    return replace(TRADE, **changes)


def free(price: int = 0, amount: int = 0) -> EnergyTrade:
    return terms(price_micro_per_kwh=price, amount_nano=amount)


WRONG_TYPE = money(1, BOB)
FOREIGN_TYPE = Trial(ledger).output(WRONG_TYPE).draft().outputs[0].replace(b"\x0a\x07payment", b"\x0a\x06energy")
UNKNOWN_COMMAND = b"\x0a\x06energy\x12\x06Redeem\x18\x01"

R = EnergyRule
CASES: Mapping[EnergyRule, tuple[Trial, Trial]] = {
    R.STATE_TYPE_UNKNOWN: (transfer(), transfer(outputs=(FOREIGN_TYPE,))),
    R.QUANTITY_NOT_POSITIVE: (transfer(), transfer(outputs=(energy(10, BOB), energy(0, BOB)))),
    R.KEY_INVALID: (transfer(), transfer(outputs=(replace(energy(10, BOB), owner=b"bob"),))),
    R.COMMAND_MISSING: (transfer(), replace(transfer(), commands=())),
    R.COMMAND_UNKNOWN: (transfer(), transfer().command(UNKNOWN_COMMAND, ALICE)),
    R.COMMAND_CONFLICTING: (transfer(), transfer().command(EnergySplit, ALICE)),
    R.ISSUE_HAS_INPUTS: (issue(LOT), issue(LOT).input(energy(10, PRODUCER, meter="meter-2"))),
    R.ISSUE_OUTPUTS: (issue(LOT), issue(LOT).output(energy(1, PRODUCER))),
    R.ISSUE_TYPE: (
        issue(energy(1, PRODUCER, energy_type="wind")),
        issue(energy(1, PRODUCER, energy_type="coal")),
    ),
    R.ISSUE_ISSUER: (issue(LOT), issue(replace(LOT, issuer=PRODUCER.key[:31]))),
    R.ISSUE_METER: (
        issue(energy(1, PRODUCER, meter="m" * METER_BYTES_MAX)),
        issue(energy(1, PRODUCER, meter="m" * (METER_BYTES_MAX + 1))),
    ),
    R.ISSUE_PERIOD_EMPTY: (issue(energy(1, PRODUCER, units=1)), issue(energy(1, PRODUCER, units=0))),
    R.ISSUE_PERIOD_UNALIGNED: (
        issue(LOT),
        issue(replace(LOT, delivery_start_ns=LOT.delivery_start_ns + 1)),
    ),
    R.ISSUE_PERIOD_TOO_LONG: (
        issue(energy(1, PRODUCER, units=LOT_UNITS_MAX)),
        ledger.transaction().output(energy(1, PRODUCER, units=LOT_UNITS_MAX + 1)).command(EnergyIssue, PRODUCER),
    ),
    R.ISSUE_PRICE: (
        issue(energy(1, PRODUCER, asked_micro_per_kwh=-1), on=NEGATIVE),
        issue(energy(1, PRODUCER, asked_micro_per_kwh=-1)),
    ),
    R.ISSUE_LOT_ID: (issue(LOT), issue(replace(LOT, lot_id=bytes(32)))),
    R.ISSUE_NOTARY: (issue(LOT), issue(LOT, on=ledger.under(replace(ledger.parameters, notaries=(bytes(32),))))),
    R.ISSUE_UNSIGNED: (issue(LOT), issue(LOT, signers=(ALICE,))),
    R.ISSUE_OWNER_UNSIGNED: (
        issue(energy(1, ALICE), signers=(PRODUCER, ALICE)),
        issue(energy(1, ALICE), signers=(PRODUCER,)),
    ),
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
    R.TRADE_SELF: (trade(), trade(terms=terms(seller=BOB.key))),
    R.TRADE_QUANTITY: (trade(), trade(terms=terms(quantity_wh=0, amount_nano=0))),
    R.TRADE_PRICE: (
        trade(
            terms=free(-1, -4_000),
            money_in=(money(5_000, ALICE),),
            money_out=(money(4_000, BOB), money(1_000, ALICE)),
            payers=(ALICE,),
            on=NEGATIVE,
        ),
        trade(
            terms=free(-1, -4_000),
            money_in=(money(5_000, ALICE),),
            money_out=(money(4_000, BOB), money(1_000, ALICE)),
            payers=(ALICE,),
        ),
    ),
    R.TRADE_AMOUNT: (trade(), trade(terms=terms(amount_nano=399_999_999))),
    R.TRADE_SELLER_UNSIGNED: (trade(), trade(signers=(BOB,))),
    R.TRADE_BUYER_UNSIGNED: (trade(), trade(signers=(ALICE,))),
    R.TRADE_INPUT: (trade(), trade(energy_in=(energy(10_000, BOB),))),
    R.TRADE_OUTPUT: (trade(), trade(energy_out=(energy(4_000, BOB), energy(6_000, CAROL)))),
    R.TRADE_CHANGED: (trade(), trade(energy_out=(energy(4_000, BOB, zone="zone-2"), energy(6_000, ALICE)))),
    R.TRADE_NOT_CONSERVED: (trade(), trade(energy_out=(energy(4_000, BOB),))),
    R.TRADE_ENERGY_LEG: (trade(), trade(energy_out=(energy(4_001, BOB), energy(5_999, ALICE)))),
    R.TRADE_PAYMENT_OWNER: (trade(), trade(money_out=(money(400_000_000, ALICE), money(600_000_000, CAROL)))),
    R.TRADE_OTHER_MONEY: (
        trade(),
        trade(
            money_in=(money(1_000_000_000, BOB, issuer=OTHER_BANK),),
            money_out=(money(400_000_000, ALICE, issuer=OTHER_BANK), money(600_000_000, BOB, issuer=OTHER_BANK)),
        ),
    ),
    R.TRADE_PAYMENT_LEG: (trade(), trade(money_out=(money(399_999_999, ALICE), money(600_000_001, BOB)))),
    R.TRADE_PAYMENT_AT_ZERO: (
        trade(terms=free(), money_in=(), money_out=()),
        trade(terms=free(), money_in=(money(1, BOB),), money_out=(money(1, BOB),)),
    ),
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
    assert set(CASES) == set(EnergyRule)
    assert len({rule.code for rule in EnergyRule}) == len(EnergyRule)


@pytest.mark.parametrize("rule", EnergyRule, ids=lambda rule: rule.code)
def test_rule(rule: EnergyRule) -> None:
    keeping, breaking = CASES[rule]
    keeping.verifies()
    assert rule.sentence in str(breaking.fails_with(rule.code))


def test_c01_issue_needs_producer_and_permitted_type() -> None:
    issue(LOT).verifies()
    issue(LOT, signers=(CAROL,)).fails_with("energy.issue.producer_must_sign")
    issue(replace(LOT, quantity_wh=-1)).fails_with("energy.state.quantity_not_positive")


def test_c01_several_lots_in_one_issue() -> None:
    second = energy(5, PRODUCER, meter="meter-2")
    issue(LOT, second).verifies()
    issue(LOT).output(second).claim(*claims_of(second)).fails_with("energy.issue.one_output_per_command")


def test_c02_claims_are_exactly_those_of_the_period() -> None:
    claims = claims_of(LOT)
    assert len(claims) == 4
    assert len(set(claims) & set(claims_of(energy(1, PRODUCER, units=1)))) == 1, "overlapping periods share claims"
    issue(LOT).verifies()
    replace(issue(LOT), claims=claims[1:]).fails_with(PlatformRule.CLAIM_MISSING.code)
    replace(issue(LOT), claims=(*claims[1:], bytes(32))).fails_with(PlatformRule.CLAIM_MISSING.code)
    issue(LOT).claim(bytes(32)).fails_with(PlatformRule.CLAIM_NOT_DEMANDED.code)
    issue(LOT).claim(claims[0]).fails_with("transaction.duplicate_claim")
    transfer().claim(bytes(32)).fails_with(PlatformRule.CLAIM_NOT_DEMANDED.code)


def test_c02_two_lots_of_one_unit_in_one_transaction_need_the_claim_twice() -> None:
    claims = claims_of(LOT)
    replace(issue(LOT, LOT), claims=claims).fails_with(PlatformRule.CLAIM_MISSING.code)


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
def test_c05_no_field_changes_in_a_transfer_or_trade(changed: Mapping[str, object]) -> None:
    transfer(outputs=(replace(energy(10, BOB), **changed),)).fails_with("energy.transfer.fields_changed")
    trade(energy_out=(replace(energy(4_000, BOB), **changed), energy(6_000, ALICE))).fails_with(
        "energy.trade.fields_changed"
    )


def test_c06_parts_of_parts_keep_the_lot() -> None:
    split(inputs=(energy(6, ALICE),), outputs=(energy(1, ALICE), energy(2, ALICE), energy(3, ALICE))).verifies()
    transfer(outputs=(energy(1, BOB), energy(9, ALICE)), quantity_wh=1).verifies()


def test_c07_sums_that_overflow_are_refused() -> None:
    huge = energy(INT64_MAX, ALICE)
    transfer(inputs=(huge, huge)).fails_with("units.overflow")
    merge(inputs=(huge, huge)).fails_with("units.overflow")
    trade(terms=terms(quantity_wh=INT64_MAX, price_micro_per_kwh=2)).fails_with("units.overflow")


def test_c08_two_trades_in_one_transaction_conflict() -> None:
    trade().command(TRADE, ALICE, BOB).fails_with("energy.command.conflicting")


def test_c08_a_command_of_another_schema_version_is_unknown() -> None:
    wrong = b"\x0a\x06energy\x12\x0bEnergySplit\x18\x02"
    replace(split(), commands=((wrong, (ALICE,)),)).fails_with("energy.command.unknown")


def test_c09_either_leg_alone_is_refused() -> None:
    trade(money_in=(), money_out=()).fails_with("energy.trade.payment_leg_wrong")
    trade(energy_in=(), energy_out=()).fails_with("energy.trade.energy_leg_wrong")


def test_c09_the_wrong_side_pays() -> None:
    trade(
        money_in=(money(1_000_000_000, ALICE),),
        money_out=(money(400_000_000, BOB), money(600_000_000, ALICE)),
        payers=(ALICE,),
    ).fails_with("energy.trade.payment_leg_wrong")


def test_c09_money_that_is_created_for_the_seller_is_no_payment() -> None:
    trade(money_in=(), money_out=(money(400_000_000, ALICE),)).fails_with("energy.trade.payment_leg_wrong")


def test_c09_a_negative_price_makes_the_seller_pay() -> None:
    CASES[R.TRADE_PRICE][0].verifies()
    trade(terms=free(-1, -4_000), on=NEGATIVE).fails_with("energy.trade.payment_leg_wrong")


def test_c09_a_payment_without_its_own_command_is_refused() -> None:
    replace(trade(), commands=trade().commands[:1]).fails_with("payment.command.missing")


def test_c09_the_buyers_energy_never_hides_in_a_trade() -> None:
    swap = energy(5, BOB, zone="zone-2")
    trade(energy_in=(energy(10_000, ALICE), swap)).fails_with("energy.trade.input_of_another_owner")


def test_c15_energy_never_turns_into_payment() -> None:
    base = ledger.transaction()
    base.input(energy(10, ALICE)).output(money(10, ALICE)).command(EnergySplit, ALICE).command(
        PaymentPay, ALICE
    ).fails_with("energy.split.counts")
    base.input(money(10, ALICE)).output(energy(10, ALICE)).command(EnergyMerge, ALICE).command(
        PaymentPay, ALICE
    ).fails_with("energy.merge.counts")
    trade(money_out=(money(400_004_000, ALICE), money(599_996_000, BOB))).fails_with("energy.trade.payment_leg_wrong")


def test_c15_lots_of_two_issuers_never_merge() -> None:
    CASES[R.MERGE_LOTS][1].fails_with("energy.merge.lots_differ")


def test_c16_self_trade() -> None:
    CASES[R.TRADE_SELF][1].fails_with("energy.trade.buyer_is_seller")


def test_power_over_the_period() -> None:
    assert energy(10_000, ALICE, units=2).power_w == 20_000
