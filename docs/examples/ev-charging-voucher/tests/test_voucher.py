"""The rules of the voucher, each with a transaction that it accepts and one that it refuses."""

from dataclasses import replace

import pytest
from ev_voucher.contract import EV_VOUCHER, VoucherRule
from ev_voucher.states import Voucher, VoucherGive, VoucherIssue, VoucherRedeem

from p2petd.contracts.testkit import Ledger, Trial, party
from p2petd.units import HOUR_NS, NO_LOWER_BOUND, TimeNs, WattHours

operator, driver, friend = party("operator"), party("driver"), party("friend")
NOON_NS = 1_800_000_000 * 10**9
END_NS = TimeNs(NOON_NS + HOUR_NS)
ledger = Ledger.of(EV_VOUCHER)

VOUCHER = Voucher(operator.key, driver.key, b"\x01" * 32, WattHours(20_000), END_NS)


def part(energy_wh: int, holder: bytes = driver.key) -> Voucher:
    return replace(VOUCHER, energy_wh=WattHours(energy_wh), holder=holder)


def redeem(charged_wh: int, *left: Voucher) -> Trial:
    return (
        ledger.transaction()
        .input(VOUCHER)
        .output(*left)
        .command(VoucherRedeem(WattHours(charged_wh)), driver, operator)
        .window(NO_LOWER_BOUND, END_NS)
    )


ISSUE = ledger.transaction().output(VOUCHER).command(VoucherIssue, operator)
GIVE = ledger.transaction().input(VOUCHER).output(part(5_000), part(15_000, friend.key)).command(VoucherGive, driver)


def test_what_is_accepted() -> None:
    ISSUE.verifies()
    GIVE.verifies()
    redeem(20_000).verifies()
    redeem(7_500, part(12_500)).verifies()


REFUSED = {
    VoucherRule.EMPTY: ledger.transaction().output(part(0)).command(VoucherIssue, operator),
    VoucherRule.COMMAND_MISSING: ledger.transaction().input(VOUCHER),
    VoucherRule.COMMAND_CONFLICTING: GIVE.command(VoucherIssue, operator),
    VoucherRule.ISSUE_INPUTS: ISSUE.output(VOUCHER),
    VoucherRule.ISSUE_UNSIGNED: ledger.transaction().output(VOUCHER).command(VoucherIssue, driver),
    VoucherRule.GIVE_NOT_CONSERVED: GIVE.output(part(1)),
    VoucherRule.HOLDER_UNSIGNED: ledger.transaction().input(VOUCHER).output(VOUCHER).command(VoucherGive, friend),
    VoucherRule.REDEEM_QUANTITY: redeem(7_500, part(12_501)),
    VoucherRule.REDEEM_UNSIGNED: ledger.transaction()
    .input(VOUCHER)
    .command(VoucherRedeem(VOUCHER.energy_wh), driver)
    .window(NO_LOWER_BOUND, END_NS),
    VoucherRule.REDEEM_LATE: redeem(20_000).window(NO_LOWER_BOUND, TimeNs(END_NS + 1)),
}


@pytest.mark.parametrize("rule", REFUSED, ids=lambda rule: rule.code)
def test_what_is_refused(rule: VoucherRule) -> None:
    REFUSED[rule].fails_with(rule.code)


def test_a_part_for_somebody_else_is_no_redemption() -> None:
    redeem(7_500, part(12_500, friend.key)).fails_with(VoucherRule.REDEEM_QUANTITY.code)
