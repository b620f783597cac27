"""The day through the client API of every node: money, energy, trades; what one hour allows at once runs at once."""

import asyncio
import time
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message
from p2pet.client import ApiError, NodeClient
from p2pet.flows.v1.arguments_pb2 import (
    EnergyRequestArguments,
    EnergySelection,
    EnergyTradeArguments,
    MeterRegisterArguments,
    PaymentIssueArguments,
)
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_COMPLETED

from demo_day.network import home_name
from demo_day.plan import DayPlan, PlannedHour, Trade

ENERGY_TYPE = "solar"
ZONE = "fontana"
NOT_FOUND = "vault.transaction_not_found"
REGISTERED_NS = 365 * 24 * 3600 * 10**9
FLOW_SECONDS_MAX = 60.0
RECORDED_SECONDS_MAX = 10.0
RECORDED_POLL_SECONDS = 0.005


class FlowFailed(Exception):
    """A flow of the plan did not complete, or a participant did not record its transaction."""


@dataclass
class Tally:
    """What has happened so far; the display reads it while the day is traded."""

    started_ns: int = field(default_factory=time.perf_counter_ns)
    ended_ns: int = 0
    latencies_ns: list[int] = field(default_factory=list)
    trade_latencies_ns: list[int] = field(default_factory=list)
    trade_ids: list[tuple[Trade, bytes]] = field(default_factory=list)
    issued_wh: int = 0
    traded_wh: int = 0
    issued_nano: int = 0

    @property
    def flows(self) -> int:
        return len(self.latencies_ns)

    @property
    def flows_per_second(self) -> int:
        elapsed_ns = (self.ended_ns or time.perf_counter_ns()) - self.started_ns
        return self.flows * 10**9 // max(1, elapsed_ns)


async def run_flow(client: NodeClient, flow: str, arguments: Message, what: str) -> bytes:
    """The id of the transaction that the flow made. Raises FlowFailed naming `what`, ApiError."""
    answer = await client.flows.run(flow, arguments, deadline_seconds=FLOW_SECONDS_MAX)
    if answer.outcome.status != FLOW_STATUS_COMPLETED:
        raise FlowFailed(f"{what}: {answer.outcome.error_message} [{answer.outcome.error_code}]")
    return answer.outcome.transaction_id


def meter_of(home: int) -> str:
    """The name of a home's meter."""
    return f"{ZONE}-{home_name(home)}"


class Trader:
    """Drives the homes and the community; a home takes part in one trade at a time."""

    def __init__(
        self, homes: Mapping[int, NodeClient], community: NodeClient, identities: Mapping[str, bytes], currency: str
    ) -> None:
        self._homes = homes
        self._community = community
        self._identities = identities
        self._currency = currency
        # A coin or lot that one trade has reserved, the next cannot take: it waits for the change.
        self._busy = {home: asyncio.Lock() for home in homes}
        self.tally = Tally()

    async def register_meters(self, plan: DayPlan, panels_w: Mapping[int, int]) -> None:
        """The community registers each home's meter, for the day and a year after it. Raises FlowFailed, ApiError."""
        begin_ns = plan.hours[0].delivery_start_ns
        await together(self._register_meter(home, panels_w[home], begin_ns) for home in self._homes)

    async def issue_money(self, plan: DayPlan) -> None:
        """The community issues the start money to each home. Raises FlowFailed, ApiError."""
        await together(self._issue_money(home, plan.start_money_nano) for home in self._homes)

    async def play(self, hour: PlannedHour) -> None:
        """The issues of one hour, then its trades. Raises FlowFailed, ApiError."""
        await together(self._issue_energy(hour, home, quantity) for home, quantity in hour.issued_wh.items())
        await together(self._trade(hour, trade) for trade in hour.trades)

    async def _register_meter(self, home: int, capacity_w: int, begin_ns: int) -> None:
        arguments = MeterRegisterArguments(
            meter=meter_of(home),
            producer=self._identities[home_name(home)],
            zone=ZONE,
            capacity_w=capacity_w,
            energy_types=[ENERGY_TYPE],
            valid_from_ns=begin_ns,
            valid_until_ns=begin_ns + REGISTERED_NS,
        )
        what = f"the meter of {home_name(home)}"
        transaction_id = await run_flow(self._community, "meter.register", arguments, what)
        await wait_recorded(self._homes[home], home_name(home), transaction_id)

    async def _issue_money(self, home: int, amount_nano: int) -> None:
        arguments = PaymentIssueArguments(
            currency=self._currency, amount_nano=amount_nano, recipient=self._identities[home_name(home)]
        )
        transaction_id, _ = await self._run(self._community, "payment.issue", arguments, f"money for {home_name(home)}")
        await wait_recorded(self._homes[home], home_name(home), transaction_id)
        self.tally.issued_nano += amount_nano

    async def _issue_energy(self, hour: PlannedHour, home: int, quantity_wh: int) -> None:
        arguments = EnergyRequestArguments(
            energy_type=ENERGY_TYPE,
            quantity_wh=quantity_wh,
            delivery_start_ns=hour.delivery_start_ns,
            delivery_end_ns=hour.delivery_end_ns,
            asked_price_micro_per_kwh=hour.price_micro_per_kwh,
            meter=meter_of(home),
            zone=ZONE,
        )
        await self._run(self._homes[home], "energy.request", arguments, f"energy of {home_name(home)}")
        self.tally.issued_wh += quantity_wh

    async def _trade(self, hour: PlannedHour, trade: Trade) -> None:
        arguments = EnergyTradeArguments(
            seller=self._identities[home_name(trade.seller)],
            energy=EnergySelection(
                energy_type=ENERGY_TYPE,
                delivery_start_ns=hour.delivery_start_ns,
                delivery_end_ns=hour.delivery_end_ns,
                zone=ZONE,
            ),
            quantity_wh=trade.quantity_wh,
            price_micro_per_kwh=hour.price_micro_per_kwh,
            currency=self._currency,
        )
        what = f"{home_name(trade.buyer)} buys {trade.quantity_wh} Wh from {home_name(trade.seller)}"
        # Buyer before seller, and nobody is both in one hour: no circle of trades waits for itself.
        async with self._busy[trade.buyer], self._busy[trade.seller]:
            transaction_id, latency_ns = await self._run(self._homes[trade.buyer], "energy.trade", arguments, what)
            await wait_recorded(self._homes[trade.seller], home_name(trade.seller), transaction_id)
        self.tally.trade_latencies_ns.append(latency_ns)
        self.tally.trade_ids.append((trade, transaction_id))
        self.tally.traded_wh += trade.quantity_wh

    async def _run(self, client: NodeClient, flow: str, arguments: Message, what: str) -> tuple[bytes, int]:
        """The transaction's id and how long the flow took, seen from its client."""
        started_ns = time.perf_counter_ns()
        transaction_id = await run_flow(client, flow, arguments, what)
        latency_ns = time.perf_counter_ns() - started_ns
        self.tally.latencies_ns.append(latency_ns)
        return transaction_id, latency_ns


async def wait_recorded(client: NodeClient, name: str, transaction_id: bytes) -> None:
    """Returns when the other side has recorded the transaction too; it hears of it a moment after the initiator."""
    limit = time.monotonic() + RECORDED_SECONDS_MAX
    while time.monotonic() < limit:
        try:
            await client.vault.transaction(transaction_id)
            return
        except ApiError as error:
            if error.code != NOT_FOUND:
                raise
        await asyncio.sleep(RECORDED_POLL_SECONDS)
    raise FlowFailed(f"{name} has not recorded {transaction_id.hex()} after {RECORDED_SECONDS_MAX} s")


async def together(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """All at once; the first failure ends the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
