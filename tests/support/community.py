"""A small real community on loopback: notary, issuer, homes; and the flows that tests start on it."""

import asyncio
import time
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from p2pet.client import NodeClient
from p2pet.flows.v1 import arguments_pb2 as args
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_COMPLETED, FlowOutcome
from p2pet.localnet import LocalNetwork
from p2pet.vault.v1.vault_pb2 import STATE_STATUS_UNCONSUMED, GetBalanceResponse, VaultState

from p2petd.contracts.registry import installed
from p2petd.network.bootstrap import MadeNetwork, NetworkPlan, bootstrap

QUARTER_NS = 15 * 60 * 1_000_000_000
CURRENCY = "EUR"
ZONE = "feeder-1"
HEARD_SECONDS_MAX = 10.0
EURO_NANO = 1_000_000_000
# A day far enough ahead that no test meets it.
FIRST_PERIOD_NS = 1_900_000_000 * 1_000_000_000 // QUARTER_NS * QUARTER_NS


def make_community(directory: Path, homes: int = 2, *, registered: bool = False, **plan: Any) -> MadeNetwork:
    """Keys, certificates and configuration of a notary, a community node and homes; nothing runs yet.

    With `registered`, energy is issued only of meters that the community has registered. `plan` is the rest of a
    NetworkPlan: notaries, oracles, deadlines and so on.
    """
    settings = {"oracles": 0, "registered_meters": registered} | plan
    return bootstrap(NetworkPlan(directory, homes, CURRENCY, contract_hashes(), **settings), time.time_ns())


def contract_hashes() -> dict[tuple[str, int], bytes]:
    """The code of all contracts that are installed, as a network pins it."""
    return {(c.name, c.version): installed().code_hash(c.name, c.version) for c in installed().contracts}


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

    async def register_meter(
        self, home: str, capacity_w: int = 100_000, issue_notary: bytes = b"", from_period: int = 0, periods: int = 400
    ) -> FlowOutcome:
        """The home's one meter, for solar energy from `from_period` on, so many quarters of an hour."""
        arguments = self.registration(home, capacity_w, issue_notary, from_period, periods)
        return await self.run("community", "meter.register", arguments)

    def registration(
        self, home: str, capacity_w: int = 100_000, issue_notary: bytes = b"", from_period: int = 0, periods: int = 400
    ) -> args.MeterRegisterArguments:
        start = FIRST_PERIOD_NS + from_period * QUARTER_NS
        return args.MeterRegisterArguments(
            meter=f"meter-{home}",
            producer=self.identity[home],
            zone=ZONE,
            capacity_w=capacity_w,
            energy_types=["solar"],
            valid_from_ns=start,
            valid_until_ns=start + periods * QUARTER_NS,
            issue_notary=issue_notary,
        )

    def notary(self, name: str) -> bytes:
        """The service key of a notary's node."""
        return next(node.notary_service_key for node in self.made.nodes if node.directory.name == name)

    async def wait_for_states(self, node: str, contract: str, count: int) -> list[VaultState]:
        """The unconsumed states of a contract, once the node has recorded so many; it may hear of them late."""
        limit = time.monotonic() + HEARD_SECONDS_MAX
        while True:
            async with self.client(node) as client:
                states = (await client.vault.states(status=STATE_STATUS_UNCONSUMED, contract=contract)).states
            if len(states) == count:
                return list(states)
            assert time.monotonic() < limit, f"{node} holds {len(states)} states of {contract}, not {count}"
            await asyncio.sleep(0.01)

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
        zone=ZONE,
    )


def completed(outcome: FlowOutcome) -> FlowOutcome:
    assert outcome.status == FLOW_STATUS_COMPLETED, f"{outcome.error_code}: {outcome.error_message}"
    return outcome
