"""What a buyer signs: only the trade that it offered, under the contract that gives the words their meaning."""

from types import SimpleNamespace
from typing import Any

import pytest
from p2pet.flows.v1.arguments_pb2 import EnergySelection, EnergyTradeArguments
from p2pet.flows.v1.sessions_pb2 import TradeOffer

from p2petd.contracts import energy as energy_contract
from p2petd.contracts.payment import PaymentPay
from p2petd.contracts.testkit import BANK, NOON_NS, NOTARY, UNIT_NS, Trial, energy, ledger, money, party, raw_command
from p2petd.errors import FlowError
from p2petd.flows.energy_trade import _agree, _command

BUYER, SELLER = party("buyer"), party("seller")
QUANTITY_WH, PRICE = 10, 100
AMOUNT = QUANTITY_WH * PRICE
UNTIL_NS = NOON_NS
TERMS = EnergyTradeArguments(
    seller=SELLER.key,
    energy=EnergySelection(energy_type="solar", delivery_start_ns=NOON_NS, delivery_end_ns=NOON_NS + 4 * UNIT_NS),
    quantity_wh=QUANTITY_WH,
    price_micro_per_kwh=PRICE,
    currency="EUR",
)
OFFER = TradeOffer(terms=TERMS, buyer=BUYER.key, notary=NOTARY.key, window_until_ns=UNTIL_NS)


def proposal(contract: str) -> Trial:
    """The seller's answer, with its trade command under a contract."""
    command = _command(TERMS, SELLER.key, BUYER.key, AMOUNT, BANK.key)
    return (
        ledger.transaction()
        .input(money(AMOUNT, BUYER), energy(QUANTITY_WH, SELLER))
        .output(money(AMOUNT, SELLER), energy(QUANTITY_WH, BUYER))
        .command(raw_command(contract, command.type_name, command.to_payload()), SELLER, BUYER)
        .command(PaymentPay, BUYER)
        .window(NOON_NS - UNIT_NS, UNTIL_NS)
    )


def agree(trial: Trial) -> None:
    resolved = trial.resolved()
    context: Any = SimpleNamespace(me=BUYER.key)
    _agree(context, resolved, OFFER, {resolved.inputs[0][0]}, AMOUNT, BANK.key)


def test_f10_the_offered_trade_is_agreed() -> None:
    agree(proposal(energy_contract.NAME))


def test_f10_the_same_command_under_another_contract_is_not_the_offered_trade() -> None:
    """A contract that permits anything would take the buyer's coins and owe it no energy."""
    with pytest.raises(FlowError, match="commands another trade"):
        agree(proposal("energy-like"))
