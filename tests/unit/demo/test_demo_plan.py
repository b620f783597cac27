from demo_day.homes import RecordedHour, read_day
from demo_day.plan import DAY_NS, HOUR_NS, Trade, match, plan_day
from hypothesis import given
from hypothesis import strategies as st

NOW_NS = 1_782_907_200 * 10**9 + 5 * HOUR_NS + 17
MONEY_NANO = 50 * 10**9


def test_match_largest_first() -> None:
    assert match({1: 300, 2: -500, 3: 400, 4: -100, 5: 0}) == (Trade(3, 2, 400), Trade(1, 2, 100), Trade(1, 4, 100))


def test_match_without_a_side() -> None:
    assert match({1: 5, 2: 0}) == ()
    assert match({1: -5, 2: 0}) == ()
    assert match({}) == ()


@given(st.dictionaries(st.integers(1, 17), st.integers(-5000, 5000)))
def test_match_trades_all_that_both_sides_have_and_no_more(net_wh: dict[int, int]) -> None:
    trades = match(net_wh)

    surplus = sum(net for net in net_wh.values() if net > 0)
    deficit = -sum(net for net in net_wh.values() if net < 0)
    assert sum(trade.quantity_wh for trade in trades) == min(surplus, deficit)
    assert all(trade.quantity_wh > 0 for trade in trades)
    for home, net in net_wh.items():
        assert sum(trade.quantity_wh for trade in trades if trade.seller == home) <= max(0, net)
        assert sum(trade.quantity_wh for trade in trades if trade.buyer == home) <= max(0, -net)
    assert match(dict(reversed(net_wh.items()))) == trades


def test_plan_is_yesterday_by_the_hour() -> None:
    plan = plan_day(read_day(6), 6, NOW_NS, MONEY_NANO)

    assert len(plan.hours) == 24
    assert plan.hours[0].delivery_start_ns == (NOW_NS // DAY_NS - 1) * DAY_NS
    for hour, after in zip(plan.hours, plan.hours[1:], strict=False):
        assert hour.delivery_end_ns == hour.delivery_start_ns + HOUR_NS == after.delivery_start_ns


def test_plan_price_lies_between_feed_in_and_retail() -> None:
    recorded = (RecordedHour(0, {1: 10, 2: -10}, 220_001),)

    assert plan_day(recorded, 2, NOW_NS, MONEY_NANO).hours[0].price_micro_per_kwh == 140_000


def test_holdings_conserve_energy_and_money() -> None:
    plan = plan_day(read_day(17), 17, NOW_NS, MONEY_NANO)

    holdings = plan.holdings()
    assert sum(holding.energy_wh for holding in holdings.values()) == plan.issued_wh
    assert sum(holding.money_nano for holding in holdings.values()) == plan.issued_nano
    assert sum(holding.sold_wh for holding in holdings.values()) == 100_664
    assert sum(plan.trades_of(home) for home in holdings) == 2 * plan.trades


def test_every_home_can_pay_what_it_buys() -> None:
    plan = plan_day(read_day(17), 17, NOW_NS, MONEY_NANO)

    money = dict.fromkeys(plan.holdings(), MONEY_NANO)
    for hour in plan.hours:
        for trade in hour.trades:
            money[trade.buyer] -= hour.amount_nano(trade)
            assert money[trade.buyer] > 0
