import json
from dataclasses import replace

import pytest
from demo_day.audit import Owned, all_passed, check_closed, check_day, check_double_spend, check_ended, check_proof
from demo_day.homes import RecordedHour
from demo_day.plan import DayPlan, Trade, plan_day
from demo_day.settling import Closed
from demo_day.trading import Tally

ID = b"\x07" * 32
PLAN = plan_day((RecordedHour(12, {1: 500, 2: -300, 3: -100}, 220_000),), 3, 0, 10**9)


def good_tally(plan: DayPlan) -> Tally:
    trades = [(trade, ID) for hour in plan.hours for trade in hour.trades]
    return Tally(issued_wh=plan.issued_wh, issued_nano=plan.issued_nano, trade_ids=trades)


def good_owned(plan: DayPlan) -> dict[int, Owned]:
    return {
        home: Owned(holding.energy_wh, holding.money_nano, plan.trades_of(home))
        for home, holding in plan.holdings().items()
    }


def failed(owned: dict[int, Owned], tally: Tally) -> list[int]:
    return [index for index, check in enumerate(check_day(PLAN, tally, owned)) if not check.passed]


def test_day_as_planned_passes() -> None:
    assert PLAN.hours[0].trades == (Trade(1, 2, 300), Trade(1, 3, 100))
    assert all_passed(check_day(PLAN, good_tally(PLAN), good_owned(PLAN)))


@pytest.mark.parametrize(
    ("change", "expected"),
    [({"energy_wh": 1}, [0, 1]), ({"money_nano": -1}, [0, 2]), ({"trades": 1}, [3])],
)
def test_what_a_home_lacks_or_has_too_much_fails(change: dict[str, int], expected: list[int]) -> None:
    owned = good_owned(PLAN)
    for field, by in change.items():
        owned[1] = replace(owned[1], **{field: getattr(owned[1], field) + by})

    assert failed(owned, good_tally(PLAN)) == expected


def test_energy_in_the_wrong_home_fails_though_the_sum_holds() -> None:
    owned = good_owned(PLAN)
    owned[1] = replace(owned[1], energy_wh=owned[1].energy_wh - 1)
    owned[2] = replace(owned[2], energy_wh=owned[2].energy_wh + 1)

    assert failed(owned, good_tally(PLAN)) == [0]
    assert "home-1, home-2" in check_day(PLAN, good_tally(PLAN), owned)[0].seen


def test_a_trade_that_did_not_happen_fails() -> None:
    tally = good_tally(PLAN)
    tally.trade_ids.pop()

    assert failed(good_owned(PLAN), tally) == [3]


REFUSED = {
    "code": "notary.conflict",
    "message": "consumed by another transaction",
    "subject": "aa",
    "spent_ref": "aa",
    "consumer_hash": "bb",
    "spent_by_hash": "bb",
}


def test_double_spend_refused_as_it_should() -> None:
    check = check_double_spend(json.dumps(REFUSED))

    assert check.passed
    assert "notary.conflict: consumed by another transaction" in check.seen


@pytest.mark.parametrize(
    "change",
    [{"code": ""}, {"code": "notary.invalid_transaction"}, {"subject": "cc"}, {"consumer_hash": "cc"}],
)
def test_double_spend_accepted_or_refused_for_another_reason_fails(change: dict[str, str]) -> None:
    assert not check_double_spend(json.dumps(REFUSED | change)).passed


def test_double_spend_accepted_says_so() -> None:
    assert "ACCEPTED" in check_double_spend(json.dumps(REFUSED | {"code": "", "message": ""})).seen


def test_proof_of_the_trade_only() -> None:
    told = {"valid": True, "transaction_id": ID.hex(), "failed_step": 0, "reason": "", "steps": ["one", "two"]}

    assert check_proof(json.dumps(told), ID).passed
    assert not check_proof(json.dumps(told), b"\x08" * 32).passed
    assert not check_proof(json.dumps(told | {"valid": False, "failed_step": 5}), ID).passed


def test_a_node_that_ends_badly_fails() -> None:
    assert check_ended({"home-1": 0, "notary": 0}).passed
    check = check_ended({"home-1": 0, "notary": -9})
    assert not check.passed
    assert check.seen == "1 of 2 ended with status 0, notary with -9"


def test_a_day_that_is_closed_passes_and_what_is_left_or_read_twice_fails() -> None:
    metered = PLAN.metered_wh
    good = {1: Closed(2, 300, 290, -5, 0), 2: Closed(1, 200, metered - 290, 0, 0)}

    assert all_passed(check_closed(PLAN, good, "USD"))
    left = {**good, 2: replace(good[2], left_wh=1)}
    assert [check.passed for check in check_closed(PLAN, left, "USD")] == [False, True]
    twice = {**good, 2: replace(good[2], delivered_wh=good[2].delivered_wh + 290)}
    assert [check.passed for check in check_closed(PLAN, twice, "USD")] == [True, False]
