"""The rules of the payment contract: beside each, a transaction that keeps it and the smallest one that breaks it."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from p2petd.contracts.payment import (
    PAYMENT,
    PaymentIssue,
    PaymentMerge,
    PaymentPay,
    PaymentRedeem,
    PaymentRule,
    PaymentSplit,
)
from p2petd.contracts.testkit import BANK, NOTARY, Trial, energy, ledger, money, party
from p2petd.ledger.resolved import OutputState
from p2petd.units import INT64_MAX

ALICE, BOB = party("alice"), party("bob")
OTHER_BANK = party("other bank")
REFERENCE = bytes(range(32))
TWO_BANKS = ledger.under(
    replace(ledger.parameters, currencies={"EUR": frozenset({BANK.key}), "CHF": frozenset({OTHER_BANK.key})})
)


def issue(*outputs, reference=REFERENCE, signer=BANK, on=ledger) -> Trial:
    return on.transaction().output(*outputs).command(PaymentIssue(reference), signer)


TEN, PAID, PARTS = (money(10, ALICE),), (money(7, BOB), money(3, ALICE)), (money(4, ALICE), money(6, ALICE))


def pay(inputs=TEN, outputs=PAID, signers=(ALICE,)) -> Trial:
    return ledger.transaction().input(*inputs).output(*outputs).command(PaymentPay, *signers)


CHANGE = (money(3, ALICE),)


def redeem(inputs=TEN, outputs=CHANGE, signers=(ALICE, BANK)) -> Trial:
    return ledger.transaction().input(*inputs).output(*outputs).command(PaymentRedeem, *signers)


def split(inputs=TEN, outputs=PARTS, signer=ALICE) -> Trial:
    return ledger.transaction().input(*inputs).output(*outputs).command(PaymentSplit, signer)


def merge(inputs=PARTS, outputs=TEN, signer=ALICE) -> Trial:
    return ledger.transaction().input(*inputs).output(*outputs).command(PaymentMerge, signer)


FOREIGN_TYPE = Trial(ledger).output(energy(1, BOB)).draft().outputs[0].replace(b"\x0a\x06energy", b"\x0a\x07payment")
UNKNOWN_COMMAND = b"\x0a\x07payment\x12\x06Settle\x18\x01"

R = PaymentRule
CASES: Mapping[PaymentRule, tuple[Trial, Trial]] = {
    R.STATE_TYPE_UNKNOWN: (pay(), pay(outputs=(FOREIGN_TYPE,))),
    R.AMOUNT_NOT_POSITIVE: (pay(), pay(outputs=(money(13, BOB), money(-3, ALICE)))),
    R.KEY_INVALID: (pay(), pay(outputs=(replace(money(10, BOB), owner=b"bob"),))),
    R.COMMAND_MISSING: (pay(), replace(pay(), commands=())),
    R.COMMAND_UNKNOWN: (pay(), pay().command(UNKNOWN_COMMAND, ALICE)),
    R.COMMAND_CONFLICTING: (pay(), pay().command(PaymentPay, ALICE)),
    R.ISSUE_HAS_INPUTS: (issue(money(1, ALICE)), issue(money(1, ALICE)).input(money(1, ALICE))),
    R.ISSUE_OUTPUTS: (issue(money(1, ALICE)), issue(money(1, ALICE), money(1, ALICE))),
    R.ISSUE_REFERENCE: (issue(money(1, ALICE)), issue(money(1, ALICE), reference=bytes(31))),
    R.ISSUE_NOT_LISTED: (
        issue(money(1, ALICE)),
        issue(money(1, ALICE, issuer=OTHER_BANK), signer=OTHER_BANK),
    ),
    R.ISSUE_UNSIGNED: (issue(money(1, ALICE)), issue(money(1, ALICE), signer=ALICE)),
    R.PAY_NOT_CONSERVED: (pay(), pay(outputs=(money(8, BOB), money(3, ALICE)))),
    R.PAY_EMPTY: (pay(), pay(inputs=())),
    R.PAY_UNSIGNED: (pay(), pay(signers=(BOB,))),
    R.REDEEM_EMPTY: (redeem(outputs=()), redeem(inputs=())),
    R.REDEEM_MIXED: (redeem(), redeem(outputs=(money(3, BOB),))),
    R.REDEEM_NOT_LESS: (redeem(), redeem(outputs=TEN)),
    R.REDEEM_OWNER_UNSIGNED: (redeem(), redeem(signers=(BANK,))),
    R.REDEEM_ISSUER_UNSIGNED: (redeem(), redeem(signers=(ALICE,))),
    R.SPLIT_COUNT: (split(), split(outputs=(money(10, ALICE),))),
    R.SPLIT_CHANGED: (split(), split(outputs=(money(4, ALICE), money(6, BOB)))),
    R.SPLIT_NOT_CONSERVED: (split(), split(outputs=(money(4, ALICE), money(5, ALICE)))),
    R.SPLIT_UNSIGNED: (split(), split(signer=BOB)),
    R.MERGE_COUNT: (merge(), merge(inputs=(money(10, ALICE),))),
    R.MERGE_OWNER: (merge(), merge(inputs=(money(4, ALICE), money(6, BOB)))),
    R.MERGE_ISSUERS: (merge(), merge(inputs=(money(4, ALICE), money(6, ALICE, issuer=OTHER_BANK)))),
    R.MERGE_NOT_CONSERVED: (merge(), merge(outputs=(money(11, ALICE),))),
    R.MERGE_UNSIGNED: (merge(), merge(signer=BOB)),
}


def test_every_rule_has_a_case() -> None:
    assert set(CASES) == set(PaymentRule)
    assert len({rule.code for rule in PaymentRule}) == len(PaymentRule)


@pytest.mark.parametrize("rule", PaymentRule, ids=lambda rule: rule.code)
def test_rule(rule: PaymentRule) -> None:
    keeping, breaking = CASES[rule]
    keeping.verifies()
    assert rule.sentence in str(breaking.fails_with(rule.code))


def test_c14_issue_only_by_the_issuer_of_that_currency() -> None:
    issue(money(1, ALICE, issuer=OTHER_BANK, currency="CHF"), signer=OTHER_BANK, on=TWO_BANKS).verifies()
    issue(money(1, ALICE, currency="CHF"), on=TWO_BANKS).fails_with("payment.issue.issuer_not_listed")
    issue(money(1, ALICE, currency="XXX"), on=TWO_BANKS).fails_with("payment.issue.issuer_not_listed")


def test_c14_pay_conserves_each_issuer_by_itself() -> None:
    ours, theirs = money(10, ALICE), money(10, ALICE, issuer=OTHER_BANK)
    pay(inputs=(ours, theirs), outputs=(money(10, BOB), money(10, BOB, issuer=OTHER_BANK))).verifies()
    pay(inputs=(ours, theirs), outputs=(money(11, BOB), money(9, BOB, issuer=OTHER_BANK))).fails_with(
        "payment.pay.amount_not_conserved"
    )


def test_c14_every_payer_signs() -> None:
    both = (money(10, ALICE), money(10, BOB))
    pay(inputs=both, outputs=(money(20, BOB),), signers=(ALICE, BOB)).verifies()
    pay(inputs=both, outputs=(money(20, BOB),)).fails_with("payment.pay.payer_must_sign")


def test_c14_two_issues_in_one_transaction() -> None:
    issue(money(1, ALICE), money(2, BOB)).command(PaymentIssue(bytes(32)), BANK).verifies()
    issue(money(1, ALICE), money(2, BOB)).command(PaymentIssue(bytes(32)), ALICE).fails_with(
        "payment.issue.issuer_must_sign"
    )


def test_c14_redeem_takes_money_out_of_one_owner_and_issuer() -> None:
    redeem(inputs=PARTS, outputs=()).verifies()
    redeem(inputs=PARTS, outputs=(money(2, ALICE), money(1, ALICE))).verifies()
    redeem(inputs=(money(5, BANK),), outputs=(), signers=(BANK,)).verifies()
    theirs = money(10, ALICE, issuer=OTHER_BANK)
    redeem(inputs=(*TEN, theirs), outputs=(), signers=(ALICE, BANK, OTHER_BANK)).fails_with(
        "payment.redeem.states_differ"
    )
    redeem(inputs=(*TEN, money(1, BOB)), outputs=(), signers=(ALICE, BOB, BANK)).fails_with(
        "payment.redeem.states_differ"
    )
    redeem(outputs=(money(3, ALICE, currency="CHF"),)).fails_with("payment.redeem.states_differ")
    redeem(outputs=(money(11, ALICE),)).fails_with("payment.redeem.amount_not_less")
    redeem().command(PaymentPay, ALICE).fails_with("payment.command.conflicting")


def test_c14_the_owner_is_whom_the_state_names() -> None:
    for holder in (ALICE, BOB):
        assert PAYMENT.owner(OutputState.decode(ledger.component(money(1, holder), NOTARY.key))) == holder.key


def test_c15_money_of_two_issuers_never_merges() -> None:
    CASES[R.MERGE_ISSUERS][1].fails_with("payment.merge.issuers_differ")
    pay(inputs=(money(10, ALICE, issuer=OTHER_BANK),)).fails_with("payment.pay.amount_not_conserved")


def test_c07_sums_that_overflow_are_refused() -> None:
    huge = money(INT64_MAX, ALICE)
    pay(inputs=(huge, huge), outputs=(huge, huge)).fails_with("units.overflow")
    merge(inputs=(huge, huge)).fails_with("units.overflow")


def test_c08_payment_states_without_energy_are_left_alone_by_the_energy_contract() -> None:
    assert {state.contract for state in pay().verifies().outputs} == {"payment"}
