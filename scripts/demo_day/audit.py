"""What must hold after the day, each as a check with what was seen."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from p2pet.cli.units import format_amount
from p2pet.client import NodeClient

from demo_day.network import home_name
from demo_day.plan import DayPlan, Holding
from demo_day.settling import Closed
from demo_day.trading import Tally
from p2petd.errors import NotaryConflict

PAGE_SIZE = 1000
TRADE_COMMANDS = {"EnergyTrade", "PaymentPay"}


@dataclass(frozen=True)
class Check:
    """One statement about the demo, and whether it held."""

    statement: str
    passed: bool
    seen: str


@dataclass(frozen=True)
class Owned:
    """What a node says that it owns, and how many of its transactions move energy and money together."""

    energy_wh: int
    money_nano: int
    trades: int


async def ask_owned(client: NodeClient, currency: str) -> Owned:
    """From the node's own API; raises ApiError."""
    balance = await client.vault.balance()
    trades, token = 0, ""
    while True:
        page = await client.vault.transactions(page_size=PAGE_SIZE, page_token=token)
        trades += sum(set(one.commands) == TRADE_COMMANDS for one in page.transactions)
        token = page.next_page_token
        if not token:
            break
    return Owned(
        energy_wh=sum(energy.quantity_wh for energy in balance.energy),
        money_nano=sum(money.amount_nano for money in balance.money if money.currency == currency),
        trades=trades,
    )


def check_day(plan: DayPlan, tally: Tally, owned: Mapping[int, Owned]) -> list[Check]:
    """Compares what the nodes own with the plan and with what was issued."""
    expected = plan.holdings()
    wrong = [home for home, holding in expected.items() if not _as_planned(holding, owned[home])]
    energy_wh = sum(one.energy_wh for one in owned.values())
    money_nano = sum(one.money_nano for one in owned.values())
    lacking = [home for home in expected if owned[home].trades != plan.trades_of(home)]
    return [
        Check(
            "Every home holds the energy and the money of the day's plan",
            not wrong,
            f"{len(expected) - len(wrong)} of {len(expected)} homes do{_named(wrong)}",
        ),
        Check(
            "Σ energy of all homes = Σ energy issued",
            energy_wh == tally.issued_wh == plan.issued_wh,
            f"{energy_wh} Wh held, {tally.issued_wh} Wh issued",
        ),
        Check(
            "Σ money of all homes = Σ money issued",
            money_nano == tally.issued_nano == plan.issued_nano,
            f"{money_nano} nano held, {tally.issued_nano} nano issued",
        ),
        Check(
            "Every trade is one transaction, energy against payment, at both homes",
            not lacking and len(tally.trade_ids) == plan.trades,
            f"{len(tally.trade_ids)} of {plan.trades} trades{_named(lacking)}",
        ),
    ]


def check_closed(plan: DayPlan, closed: Mapping[int, Closed], currency: str) -> list[Check]:
    """Compares what the homes closed with what was issued and with what the meters read."""
    contracted_wh = sum(one.contracted_wh for one in closed.values())
    delivered_wh = sum(one.delivered_wh for one in closed.values())
    left_wh = sum(one.left_wh for one in closed.values())
    due = format_amount(sum(one.imbalance_nano for one in closed.values()), currency)
    return [
        Check(
            "All energy of the day is closed against the meters' readings, none twice",
            contracted_wh == plan.issued_wh and left_wh == 0,
            f"{contracted_wh} of {plan.issued_wh} Wh in {sum(one.states for one in closed.values())} states",
        ),
        Check(
            "Σ energy delivered = Σ energy read by the meters",
            delivered_wh == plan.metered_wh,
            f"{delivered_wh} Wh delivered, {plan.metered_wh} Wh read; all imbalances together {due}",
        ),
    ]


def check_double_spend(answer: str) -> Check:
    """`answer` is what `demo_day.double_spend` prints."""
    told: Mapping[str, str] = json.loads(answer)
    refused = (
        told["code"] == NotaryConflict.code
        and told["subject"] == told["spent_ref"]
        and told["consumer_hash"] == told["spent_by_hash"]
    )
    said = "the notary ACCEPTED it"
    if told["code"]:
        said = f"{told['code']}: {told['message']}; SHA-256 of the consumer's id {told['consumer_hash'] or 'not told'}"
    return Check("The notary refuses to let money be spent twice", refused, said)


def check_proof(answer: str, trade_id: bytes) -> Check:
    """`answer` is what `p2pet-cli tx verify --json` prints."""
    told = json.loads(answer)
    good = told["valid"] is True and told["transaction_id"] == trade_id.hex()
    seen = f"{len(told['steps'])} steps passed" if good else f"step {told['failed_step']}: {told['reason']}"
    return Check("A trade's finality proof verifies offline, with no node running", good, seen)


def check_ended(statuses: Mapping[str, int]) -> Check:
    """`statuses` are the exit statuses of daemons that were asked to stop."""
    bad = [f"{name} with {status}" for name, status in statuses.items() if status != 0]
    seen = f"{len(statuses) - len(bad)} of {len(statuses)} ended with status 0"
    return Check("Every node stops cleanly when asked", not bad, ", ".join([seen, *bad]))


def all_passed(checks: Sequence[Check]) -> bool:
    return all(check.passed for check in checks)


def _as_planned(holding: Holding, owned: Owned) -> bool:
    return (holding.energy_wh, holding.money_nano) == (owned.energy_wh, owned.money_nano)


def _named(homes: Sequence[int]) -> str:
    return f"; not so: {', '.join(home_name(home) for home in homes)}" if homes else ""
