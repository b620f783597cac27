"""The rules of a trade: beside each, a transaction that keeps it and the smallest one that breaks it."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from p2petd.contracts.energy import EnergyTrade, OrderTerms, TradeRule
from p2petd.contracts.energy.trade import OBSERVERS_MAX
from p2petd.contracts.legs import Leg, LegRules, net_gains, verify_legs
from p2petd.contracts.payment import PaymentPay, PaymentRedeem, PaymentState
from p2petd.contracts.tariff import TariffRow, TariffTable
from p2petd.contracts.testkit import BANK, NOON_NS, UNIT_NS, Ledger, Party, Trial, energy, ledger, money, party
from p2petd.errors import ContractViolation
from p2petd.units import HOUR_NS, INT64_MAX

ALICE, BOB, CAROL = party("alice"), party("bob"), party("carol")
OTHER_BANK = party("other bank")
NEGATIVE = ledger.with_parameters(negative_prices=True)
LENIENT = ledger.with_parameters(self_trades=True)
LATE = ledger.with_parameters(trade_deadline_ns=UNIT_NS)

TRADE = EnergyTrade(ALICE.key, BOB.key, 4_000, 100_000, 400_000_000, "EUR", BANK.key)
SOLD, DELIVERED = (energy(10_000, ALICE),), (energy(4_000, BOB), energy(6_000, ALICE))
FUNDS, PAID = (money(1_000_000_000, BOB),), (money(400_000_000, ALICE), money(600_000_000, BOB))

ROW = TariffRow("solar", "", 50_000, 100_000, 20_000, 200_000)
TARIFF = TariffTable("day", "EUR", NOON_NS, NOON_NS + HOUR_NS, (ROW,))
BID = OrderTerms(bytes([1]) * 32, 4_000, 100_000, "solar", NOON_NS, NOON_NS + HOUR_NS)
OFFER = replace(BID, order_id=bytes([2]) * 32, zone="zone-1")


def trade(
    energy_in=SOLD,
    energy_out=DELIVERED,
    money_in=FUNDS,
    money_out=PAID,
    terms=TRADE,
    signers=(ALICE, BOB),
    payers=(BOB,),
    until_ns=NOON_NS,
    on: Ledger = ledger,
) -> Trial:
    trial = on.transaction().input(*energy_in, *money_in).output(*energy_out, *money_out).command(terms, *signers)
    trial = trial.window(until_ns=until_ns)
    return trial.command(PaymentPay, *payers) if money_in or money_out else trial


def terms(**changes: object) -> EnergyTrade:
    return replace(TRADE, **changes)


def priced(table: TariffTable = TARIFF, **changes: object) -> Trial:
    content = replace(table, **changes).encode()
    return trade(terms=terms(tariff=_sha256(content))).attachment(content)


def _sha256(content: bytes) -> bytes:
    return next(iter(ledger.transaction().attachment(content).attachments))


def filling(bid: OrderTerms | None = BID, offer: OrderTerms | None = OFFER) -> Trial:
    return trade(terms=terms(bid=bid, offer=offer))


def watched(*observers: bytes) -> Trial:
    return trade(terms=terms(observers=observers))


def paying_at_minus_one(on: Ledger) -> Trial:
    return trade(
        terms=terms(price_micro_per_kwh=-1, amount_nano=-4_000),
        money_in=(money(5_000, ALICE),),
        money_out=(money(4_000, BOB), money(1_000, ALICE)),
        payers=(ALICE,),
        on=on,
    )


def to_itself(on: Ledger, money_in=FUNDS, money_out=FUNDS) -> Trial:
    return trade(
        energy_in=(energy(4_000, BOB),),
        energy_out=(energy(4_000, BOB),),
        money_in=money_in,
        money_out=money_out,
        terms=terms(seller=BOB.key),
        signers=(BOB,),
        on=on,
    )


FREE = terms(price_micro_per_kwh=0, amount_nano=0)
EURO_OF_OTHERS = replace(FUNDS[0], issuer=OTHER_BANK.key)
TWO = tuple(sorted((CAROL.key, BANK.key)))

R = TradeRule
CASES: Mapping[TradeRule, tuple[Trial, Trial]] = {
    R.SELF: (to_itself(LENIENT), to_itself(ledger)),
    R.QUANTITY: (trade(), trade(terms=terms(quantity_wh=0, amount_nano=0))),
    R.PRICE: (paying_at_minus_one(NEGATIVE), paying_at_minus_one(ledger)),
    R.AMOUNT: (trade(), trade(terms=terms(amount_nano=399_999_999))),
    R.OBSERVERS: (watched(*TWO), watched(*reversed(TWO))),
    R.TARIFF_CURRENCY: (priced(), priced(currency="CHF")),
    R.TARIFF_PERIOD: (priced(), priced(valid_until_ns=NOON_NS + HOUR_NS - 1)),
    R.TARIFF_ROW: (priced(), priced(rows=(replace(ROW, energy_type="wind"),))),
    R.TARIFF_PRICE: (priced(), priced(rows=(replace(ROW, price_max_micro_per_kwh=99_999),))),
    R.ORDER_ID: (filling(), filling(bid=replace(BID, order_id=bytes(31)))),
    R.ORDER_QUANTITY: (filling(), filling(offer=replace(OFFER, quantity_wh=3_999))),
    R.ORDER_PRODUCT: (filling(), filling(offer=replace(OFFER, zone="zone-2"))),
    R.BID_PRICE: (filling(), filling(bid=replace(BID, limit_micro_per_kwh=99_999))),
    R.OFFER_PRICE: (filling(), filling(offer=replace(OFFER, limit_micro_per_kwh=100_001))),
    R.SELLER_UNSIGNED: (trade(), trade(signers=(BOB,))),
    R.BUYER_UNSIGNED: (trade(), trade(signers=(ALICE,))),
    R.WINDOW_MISSING: (trade(), replace(trade(), bounds=None)),
    R.AFTER_DEADLINE: (trade(), trade(until_ns=NOON_NS + 1)),
    R.INPUT: (trade(), trade(energy_in=(energy(10_000, BOB),))),
    R.OUTPUT: (trade(), trade(energy_out=(energy(4_000, BOB), energy(6_000, CAROL)))),
    R.CHANGED: (trade(), trade(energy_out=(energy(4_000, BOB, zone="zone-2"), energy(6_000, ALICE)))),
    R.NOT_CONSERVED: (trade(), trade(energy_out=(energy(4_000, BOB),))),
    R.ENERGY_LEG: (trade(), trade(energy_out=(energy(4_001, BOB), energy(5_999, ALICE)))),
    R.PAYMENT_OWNER: (trade(), trade(money_out=(money(400_000_000, ALICE), money(600_000_000, CAROL)))),
    R.OTHER_MONEY: (
        trade(),
        trade(money_in=(EURO_OF_OTHERS,), money_out=tuple(replace(m, issuer=OTHER_BANK.key) for m in PAID)),
    ),
    R.PAYMENT_LEG: (trade(), trade(money_out=(money(399_999_999, ALICE), money(600_000_001, BOB)))),
    R.PAYMENT_AT_ZERO: (
        trade(terms=FREE, money_in=(), money_out=()),
        trade(terms=FREE, money_in=(money(1, BOB),), money_out=(money(1, BOB),)),
    ),
}


def test_every_rule_has_a_case() -> None:
    assert set(CASES) == set(TradeRule)
    assert len({rule.code for rule in TradeRule}) == len(TradeRule)


@pytest.mark.parametrize("rule", TradeRule, ids=lambda rule: rule.code)
def test_rule(rule: TradeRule) -> None:
    keeping, breaking = CASES[rule]
    keeping.verifies()
    assert rule.sentence in str(breaking.fails_with(rule.code))


@pytest.mark.parametrize(
    "changed",
    [
        {"energy_type": "wind"},
        {"delivery_start_ns": NOON_NS + UNIT_NS},
        {"delivery_end_ns": NOON_NS + 5 * UNIT_NS},
        {"asked_price_micro_per_kwh": 1},
        {"issuer": CAROL.key},
        {"meter": "meter-2"},
        {"zone": "zone-2"},
        {"lot_id": bytes(32)},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_c05_no_field_changes_in_a_trade(changed: Mapping[str, object]) -> None:
    trade(energy_out=(replace(energy(4_000, BOB), **changed), energy(6_000, ALICE))).fails_with(
        "energy.trade.fields_changed"
    )


def test_c07_an_amount_that_overflows_is_refused() -> None:
    trade(terms=terms(quantity_wh=INT64_MAX, price_micro_per_kwh=2)).fails_with("units.overflow")


def test_c08_two_trades_in_one_transaction_conflict() -> None:
    trade().command(TRADE, ALICE, BOB).fails_with("energy.command.conflicting")


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


def test_c09_money_that_is_redeemed_is_no_payment() -> None:
    redeemed = trade(money_out=(money(600_000_000, BOB),))
    replace(redeemed, commands=(redeemed.commands[0], (PaymentRedeem, (BOB, BANK)))).fails_with(
        "energy.trade.payment_leg_wrong"
    )


def test_c09_at_price_zero_the_energy_goes_alone() -> None:
    CASES[R.PAYMENT_AT_ZERO][0].verifies()
    trade(terms=FREE, money_in=(), money_out=(), signers=(ALICE,)).fails_with("energy.trade.buyer_must_sign")
    trade(terms=FREE, money_in=(), money_out=()).command(PaymentPay, BOB).fails_with(
        "energy.trade.payment_at_price_zero"
    )


def test_c09_a_negative_price_makes_the_seller_pay() -> None:
    CASES[R.PRICE][0].verifies()
    trade(terms=terms(price_micro_per_kwh=-1, amount_nano=-4_000), on=NEGATIVE).fails_with(
        "energy.trade.payment_leg_wrong"
    )


def test_c09_a_payment_without_its_own_command_is_refused() -> None:
    replace(trade(), commands=trade().commands[:1]).fails_with("payment.command.missing")


def test_c09_the_buyers_energy_never_hides_in_a_trade() -> None:
    swap = energy(5, BOB, zone="zone-2")
    trade(energy_in=(energy(10_000, ALICE), swap)).fails_with("energy.trade.input_of_another_owner")


def test_c09_the_gains_of_many_legs_sum_to_zero() -> None:
    grid = party("grid").key
    gains = net_gains([Leg(BOB.key, ALICE.key, 90), Leg(BOB.key, grid, 10), Leg(CAROL.key, ALICE.key, 5)])
    assert gains == {BOB.key: -100, ALICE.key: 95, grid: 10, CAROL.key: -5}
    assert sum(gains.values()) == 0


def test_c09_several_matches_with_fees_are_verified_at_once() -> None:
    """What a command that settles several matches needs: one net flow, fees included, nobody else's money."""
    grid = party("grid")
    legs = [
        Leg(BOB.key, ALICE.key, 90),
        Leg(BOB.key, grid.key, 10),
        Leg(CAROL.key, ALICE.key, 45),
        Leg(CAROL.key, grid.key, 5),
    ]
    rules = LegRules(R.OTHER_MONEY, R.PAYMENT_OWNER, R.PAYMENT_LEG)
    paid = ledger.transaction().input(money(120, BOB), money(50, CAROL), energy(1, ALICE))

    def verdict(*outputs: PaymentState) -> str:
        try:
            verify_legs(legs, "EUR", BANK.key, paid.output(*outputs).resolved(), rules)
        except ContractViolation as refused:
            return refused.code
        return "verified"

    assert verdict(money(135, ALICE), money(15, grid), money(20, BOB)) == "verified"
    assert verdict(money(100, ALICE), money(35, ALICE), money(15, grid), money(20, BOB)) == "verified"
    assert verdict(money(136, ALICE), money(14, grid), money(20, BOB)) == R.PAYMENT_LEG.code
    assert verdict(money(135, ALICE), money(15, grid), money(19, BOB)) == R.PAYMENT_LEG.code
    assert verdict(money(135, ALICE), money(15, party("dave")), money(20, BOB)) == R.PAYMENT_OWNER.code
    assert verdict(money(135, ALICE, currency="CHF")) == R.OTHER_MONEY.code


@pytest.mark.parametrize(("price", "code"), [(49_999, False), (50_000, True), (100_000, True), (100_001, False)])
def test_c10_the_bounds_of_a_tariff_are_inclusive(price: int, code: bool) -> None:
    amount, content = 4_000 * price, TARIFF.encode()
    stated = terms(price_micro_per_kwh=price, amount_nano=amount, tariff=_sha256(content))
    paid = (money(amount, ALICE), money(1_000_000_000 - amount, BOB))
    trial = trade(terms=stated, money_out=paid).attachment(content)
    if code:
        trial.verifies()
    else:
        trial.fails_with("energy.trade.price_outside_tariff")


def test_c10_the_row_of_the_zone_outranks_the_row_for_all() -> None:
    own_row = replace(ROW, zone="zone-1", price_min_micro_per_kwh=100_001, price_max_micro_per_kwh=100_001)
    priced(rows=(ROW, own_row)).fails_with("energy.trade.price_outside_tariff")
    priced(rows=(ROW, replace(own_row, zone="zone-2"))).verifies()


def test_c10_orders_bound_each_lot_of_a_trade() -> None:
    filling(bid=None).verifies()
    filling(offer=None).verifies()
    filling(bid=replace(BID, zone="zone-1"), offer=replace(OFFER, limit_micro_per_kwh=1)).verifies()
    for wrong in ({"energy_type": "wind"}, {"delivery_start_ns": NOON_NS - UNIT_NS}, {"delivery_end_ns": 0}):
        filling(bid=replace(BID, **wrong)).fails_with("energy.trade.order_of_another_product")
    wind = energy(1, ALICE, energy_type="wind", meter="meter-2")
    both = filling().input(wind).output(wind)
    both.fails_with("energy.trade.order_of_another_product")


def test_c11_a_trade_ends_by_its_deadline() -> None:
    trade(until_ns=NOON_NS + UNIT_NS, on=LATE).verifies()
    trade(until_ns=NOON_NS + UNIT_NS + 1, on=LATE).fails_with("energy.trade.after_deadline")
    trade().window(from_ns=NOON_NS - 1).fails_with("energy.trade.window_missing")


def test_c11_the_first_period_of_several_lots_decides() -> None:
    later = energy(4_000, ALICE, start_ns=NOON_NS + HOUR_NS)
    sold = trade(energy_in=(later,), energy_out=(replace(later, owner=BOB.key),), until_ns=NOON_NS + HOUR_NS)
    sold.verifies()
    sold.input(energy(1, ALICE)).output(energy(1, ALICE)).fails_with("energy.trade.after_deadline")


def test_c15_energy_never_turns_into_payment_in_a_trade() -> None:
    trade(money_out=(money(400_004_000, ALICE), money(599_996_000, BOB))).fails_with("energy.trade.payment_leg_wrong")
    trade(energy_out=(energy(4_000, BOB),), money_out=(*PAID, money(1, ALICE))).fails_with(
        "energy.trade.quantity_not_conserved"
    )


def test_c16_self_trades_only_where_the_network_permits_them() -> None:
    CASES[R.SELF][1].fails_with("energy.trade.buyer_is_seller")
    CASES[R.SELF][0].verifies()
    to_itself(LENIENT, money_in=(), money_out=()).fails_with("energy.trade.payment_leg_wrong")
    small = (money(399_999_999, BOB),)
    to_itself(LENIENT, money_in=small, money_out=small).fails_with("energy.trade.payment_leg_wrong")


def _many(count: int) -> tuple[bytes, ...]:
    return tuple(sorted(party(f"observer {number}").key for number in range(count)))


def test_c17_observers_are_well_formed() -> None:
    watched(*_many(OBSERVERS_MAX)).verifies()
    carol = CAROL.key
    for wrong in (_many(OBSERVERS_MAX + 1), (carol, carol), (carol[:31],), (ALICE.key,), (BOB.key,), (b"",)):
        watched(*wrong).fails_with("energy.trade.observers_invalid")


def test_c18_a_cited_tariff_has_to_be_here_and_whole() -> None:
    content = TARIFF.encode()
    bare = trade(terms=terms(tariff=_sha256(content)))
    bare.attachment(content).verifies()
    bare.fails_with("transaction.attachment_missing")
    bare.cite(_sha256(content)).fails_with("transaction.attachment_missing")
    trade(terms=terms(tariff=b"short")).attachment(content).fails_with("transaction.attachment_missing")
    longer = content + b"\x00"
    trade(terms=terms(tariff=_sha256(longer))).attachment(longer).fails_with("transaction.malformed")


def test_parties_of_a_trade_may_be_anybody_with_a_key() -> None:
    for name in ("dora", "emil"):
        buyer: Party = party(name)
        trade(
            terms=terms(buyer=buyer.key),
            energy_out=(energy(4_000, buyer), energy(6_000, ALICE)),
            money_in=(money(400_000_000, buyer),),
            money_out=(money(400_000_000, ALICE),),
            signers=(ALICE, buyer),
            payers=(buyer,),
        ).verifies()
