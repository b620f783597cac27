"""A small real community on loopback: notary, issuer, homes; and the flows that tests start on it."""

import time
from pathlib import Path

from google.protobuf.message import Message
from p2pet.client import NodeClient
from p2pet.flows.v1 import arguments_pb2 as args
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_COMPLETED, FlowOutcome
from p2pet.localnet import LocalNetwork
from p2pet.vault.v1.vault_pb2 import GetBalanceResponse

from p2petd.contracts.registry import installed
from p2petd.network.bootstrap import MadeNetwork, NetworkPlan, bootstrap

QUARTER_NS = 15 * 60 * 1_000_000_000
CURRENCY = "EUR"
EURO_NANO = 1_000_000_000
# A day far enough ahead that no test meets it.
FIRST_PERIOD_NS = 1_900_000_000 * 1_000_000_000 // QUARTER_NS * QUARTER_NS


def make_community(directory: Path, homes: int = 2) -> MadeNetwork:
    """Keys, certificates and configuration of a notary, a community node and homes; nothing runs yet."""
    contracts = {(c.name, c.version): installed().code_hash(c.name, c.version) for c in installed().contracts}
    return bootstrap(
        NetworkPlan(directory, homes, CURRENCY, contracts, oracles=0, registered_meters=False), time.time_ns()
    )


class Community:
    """A running network with the identities of its nodes by short name."""

    def __init__(self, made: MadeNetwork, network: LocalNetwork) -> None:
        self.made = made
        self.network = network
        self.identity = {node.directory.name: node.identity for node in made.nodes}

    def client(self, name: str) -> NodeClient:
        return self.network.client(name)

    async def issue_money(self, to: str, amount_nano: int) -> FlowOutcome:
        arguments = args.PaymentIssueArguments(currency=CURRENCY, amount_nano=amount_nano, recipient=self.identity[to])
        return await self.run("community", "payment.issue", arguments)

    async def issue_energy(self, home: str, quantity_wh: int, period: int = 0, price: int = 200_000) -> FlowOutcome:
        return await self.run(home, "energy.request", energy_request(home, quantity_wh, period, price))

    async def trade(
        self, buyer: str, seller: str, quantity_wh: int, period: int = 0, price: int = 250_000
    ) -> FlowOutcome:
        return await self.run(buyer, "energy.trade", self.trade_terms(seller, quantity_wh, period, price))

    def trade_terms(
        self, seller: str, quantity_wh: int, period: int = 0, price: int = 250_000
    ) -> args.EnergyTradeArguments:
        return args.EnergyTradeArguments(
            seller=self.identity[seller],
            energy=selection(period),
            quantity_wh=quantity_wh,
            price_micro_per_kwh=price,
            currency=CURRENCY,
        )

    async def run(self, node: str, flow: str, arguments: Message, client_id: str = "") -> FlowOutcome:
        async with self.client(node) as client:
            response = await client.flows.run(flow, arguments, client_id=client_id, deadline_seconds=60)
            return response.outcome

    async def balance(self, node: str) -> GetBalanceResponse:
        async with self.client(node) as client:
            return await client.vault.balance()

    async def energy_wh(self, node: str) -> int:
        return sum(entry.quantity_wh for entry in (await self.balance(node)).energy)

    async def money_nano(self, node: str) -> int:
        return sum(entry.amount_nano for entry in (await self.balance(node)).money)

    async def locked(self, node: str) -> int:
        """Wh and nano-currency that flows hold reserved."""
        balance = await self.balance(node)
        return sum(e.locked_wh for e in balance.energy) + sum(m.locked_nano for m in balance.money)


def selection(period: int = 0) -> args.EnergySelection:
    start = FIRST_PERIOD_NS + period * QUARTER_NS
    return args.EnergySelection(energy_type="solar", delivery_start_ns=start, delivery_end_ns=start + QUARTER_NS)


def energy_request(home: str, quantity_wh: int, period: int = 0, price: int = 200_000) -> args.EnergyRequestArguments:
    start = FIRST_PERIOD_NS + period * QUARTER_NS
    return args.EnergyRequestArguments(
        energy_type="solar",
        quantity_wh=quantity_wh,
        delivery_start_ns=start,
        delivery_end_ns=start + QUARTER_NS,
        asked_price_micro_per_kwh=price,
        meter=f"meter-{home}",
        zone="feeder-1",
    )


def completed(outcome: FlowOutcome) -> FlowOutcome:
    assert outcome.status == FLOW_STATUS_COMPLETED, f"{outcome.error_code}: {outcome.error_message}"
    return outcome
