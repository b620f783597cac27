"""An operator's own rules: how they are named, and what their answers mean."""

from typing import Any, cast

import pytest

from p2petd.errors import ConfigError, FlowError
from p2petd.flows.policy import check_policy, load_policy

TRANSACTION = cast(Any, object())


def test_f10_without_a_policy_everything_is_permitted() -> None:
    assert load_policy("") is None
    check_policy(None, "energy.trade", b"p", TRANSACTION)


def test_f10_a_policy_refuses_with_its_own_words_and_permits_with_none() -> None:
    asked = []

    def refuse_trades(flow: str, proposer: bytes, transaction: object) -> str | None:
        asked.append((flow, proposer, transaction))
        return "not with you" if flow == "energy.trade" else None

    check_policy(refuse_trades, "payment.issue", b"p", TRANSACTION)
    with pytest.raises(FlowError, match=r"^not with you$"):
        check_policy(refuse_trades, "energy.trade", b"p", TRANSACTION)
    assert asked == [("payment.issue", b"p", TRANSACTION), ("energy.trade", b"p", TRANSACTION)]


@pytest.mark.parametrize(
    "name", ["nowhere:rules", "p2petd.flows.policy:nothing", "p2petd.flows.policy", ":x", "os:sep"]
)
def test_f10_a_policy_that_is_none_is_refused_at_the_start(name: str) -> None:
    with pytest.raises(ConfigError, match=r"\[flows\] policy"):
        load_policy(name)
