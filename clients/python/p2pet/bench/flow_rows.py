"""Rows of flows: real daemons of a notary and three homes, driven through their client API as any client does."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

from google.protobuf.message import Message

from p2pet.bench.load import Work, closed_loop
from p2pet.bench.meter import Measured, Meter
from p2pet.bench.networks import CURRENCY, ISSUER, BenchNetwork
from p2pet.client import NodeClient
from p2pet.client.node_client import flow_start
from p2pet.flows.v1 import arguments_pb2, flows_pb2

SELLER, BUYER, CHAIN = "home-1", "home-2", "home-3"
HOMES = 3
REQUESTS_OUTSTANDING = 64
PAIRS_OUTSTANDING = 64
CHAINS = 64
BATCH, BATCHES_OUTSTANDING = 250, 4
COIN_NANO = 10**15
LOT_WH, PRICE_MICRO, PAID_NANO = 1_000, 250_000, 1_000_000
UNIT_NS = 15 * 60 * 10**9
# The seller's meter: registered for longer than any bench needs market time units, from the day after tomorrow on.
METER, CAPACITY_W, REGISTERED_UNITS = "meter-1", 10**6, 10**6
DAY_NS = 24 * 3600 * 10**9
ENERGY_TYPE, ZONE = "solar", "zone-1"
DRAIN_SECONDS_MAX = 30.0
POLL_SECONDS = 0.002


class FlowFailed(Exception):
    """A flow of the load ended otherwise than completed: then nothing was measured that counts."""


class FlowLoad:
    """A running network with filled wallets: the buyer has `CHAINS` coins, the home of the one chain one. The seller
    issues all energy under the registration of its one meter."""

    def __init__(self, network: BenchNetwork, meter: Meter) -> None:
        self._meter = meter
        self._clients: Mapping[str, NodeClient] = meter.clients
        self._identities = {node.directory.name: node.identity for node in network.made.nodes}
        self._first_unit_ns = (time.time_ns() // DAY_NS + 2) * DAY_NS
        self._units = itertools.count()

    async def register_meter(self) -> None:
        registration = arguments_pb2.MeterRegisterArguments(
            meter=METER,
            producer=self._identities[SELLER],
            zone=ZONE,
            capacity_w=CAPACITY_W,
            energy_types=[ENERGY_TYPE],
            valid_from_ns=self._first_unit_ns,
            valid_until_ns=self._first_unit_ns + REGISTERED_UNITS * UNIT_NS,
        )
        await self._run(ISSUER, "meter.register", registration)
        await self._wait_completed(SELLER, 1)

    async def fill_wallets(self) -> None:
        homes = [BUYER] * CHAINS + [CHAIN]
        await asyncio.gather(*(self._issue_coin(home) for home in homes))
        for home in (BUYER, CHAIN):
            await self._wait_completed(home, homes.count(home))

    # One repeat of each row.

    async def request(self, seconds: float) -> Measured:
        return await self._measure(seconds, REQUESTS_OUTSTANDING, self._request, transactions=1, at_seller=1)

    async def request_pay(self, seconds: float) -> Measured:
        return await self._measure(seconds, PAIRS_OUTSTANDING, self._request_and_pay, transactions=2, at_seller=2)

    async def request_trade(self, seconds: float) -> Measured:
        return await self._measure(seconds, PAIRS_OUTSTANDING, self._request_and_trade, transactions=2, at_seller=2)

    async def pay_many(self, seconds: float) -> Measured:
        return await self._measure(seconds, CHAINS, partial(self._pay, BUYER), transactions=1, at_seller=1)

    async def pay_one(self, seconds: float) -> Measured:
        return await self._measure(seconds, 1, partial(self._pay, CHAIN), transactions=1, at_seller=1)

    async def one_at_a_time(self, seconds: float) -> Measured:
        return await self._measure(seconds, 1, self._request_and_pay, transactions=2, at_seller=2)

    async def request_batched(self, seconds: float) -> Measured:
        """A unit of work is a call with `BATCH` flows; a flow's time ends with its own outcome."""
        latencies: list[int] = []

        async def batch() -> None:
            began = time.perf_counter_ns()
            starts = [flow_start("energy.request", self._lot()) for _ in range(BATCH)]
            async for result in self._clients[SELLER].flows.run_many(starts):
                _need_completed("energy.request", result.outcome)
                latencies.append(time.perf_counter_ns() - began)

        await self._meter.start()
        timed = await closed_loop(BATCHES_OUTSTANDING, seconds, batch)
        return await self._meter.stop(replace(timed, units=len(latencies), latencies_ns=latencies), len(latencies))

    async def _measure(
        self, seconds: float, outstanding: int, work: Work, *, transactions: int, at_seller: int
    ) -> Measured:
        """Ends when the seller has completed its half, `at_seller` flows of each unit, too."""
        before = await self._completed(SELLER)
        await self._meter.start()
        started = time.perf_counter_ns()
        timed = await closed_loop(outstanding, seconds, work)
        await self._wait_completed(SELLER, before + at_seller * timed.units)
        timed = replace(timed, elapsed_ns=time.perf_counter_ns() - started)
        return await self._meter.stop(timed, transactions * timed.units)

    # Units of work.

    async def _request(self) -> None:
        await self._run(SELLER, "energy.request", self._lot())

    async def _pay(self, payer: str) -> None:
        payment = arguments_pb2.PaymentPayArguments(
            currency=CURRENCY, amount_nano=PAID_NANO, recipient=self._identities[SELLER]
        )
        await self._run(payer, "payment.pay", payment)

    async def _request_and_pay(self) -> None:
        await self._request()
        await self._pay(BUYER)

    async def _request_and_trade(self) -> None:
        """The buyer gets the whole lot that was just issued."""
        lot = self._lot()
        await self._run(SELLER, "energy.request", lot)
        trade = arguments_pb2.EnergyTradeArguments(
            seller=self._identities[SELLER],
            energy=arguments_pb2.EnergySelection(
                energy_type=lot.energy_type,
                delivery_start_ns=lot.delivery_start_ns,
                delivery_end_ns=lot.delivery_end_ns,
                zone=lot.zone,
            ),
            quantity_wh=LOT_WH,
            price_micro_per_kwh=PRICE_MICRO,
            currency=CURRENCY,
        )
        await self._run(BUYER, "energy.trade", trade)

    async def _issue_coin(self, home: str) -> None:
        coin = arguments_pb2.PaymentIssueArguments(
            currency=CURRENCY, amount_nano=COIN_NANO, recipient=self._identities[home]
        )
        await self._run(ISSUER, "payment.issue", coin)

    def _lot(self) -> arguments_pb2.EnergyRequestArguments:
        """A lot of the next market time unit, so that it is issued for the first time."""
        start_ns = self._first_unit_ns + next(self._units) * UNIT_NS
        return arguments_pb2.EnergyRequestArguments(
            energy_type=ENERGY_TYPE,
            quantity_wh=LOT_WH,
            delivery_start_ns=start_ns,
            delivery_end_ns=start_ns + UNIT_NS,
            asked_price_micro_per_kwh=PRICE_MICRO,
            meter=METER,
            zone=ZONE,
        )

    async def _run(self, node: str, flow: str, arguments: Message) -> None:
        response = await self._clients[node].flows.run(flow, arguments, deadline_seconds=DRAIN_SECONDS_MAX)
        _need_completed(flow, response.outcome)

    async def _completed(self, node: str) -> int:
        return (await self._clients[node].stats())["flows_completed"]

    async def _wait_completed(self, node: str, flows: int) -> None:
        limit = time.monotonic() + DRAIN_SECONDS_MAX
        while (completed := await self._completed(node)) < flows:
            if time.monotonic() > limit:
                raise FlowFailed(f"{node} completed {completed} of {flows} flows in {DRAIN_SECONDS_MAX:g} s")
            await asyncio.sleep(POLL_SECONDS)


def _need_completed(flow: str, outcome: flows_pb2.FlowOutcome) -> None:
    if outcome.status != flows_pb2.FLOW_STATUS_COMPLETED:
        raise FlowFailed(f"a flow {flow} of the load failed: {outcome.error_message} [{outcome.error_code}]")


@asynccontextmanager
async def flow_load(network: BenchNetwork) -> AsyncIterator[FlowLoad]:
    """Starts all nodes, registers the meter and fills the wallets."""
    await network.daemons.start()
    async with Meter(network.daemons) as meter:
        load = FlowLoad(network, meter)
        await load.register_meter()
        await load.fill_wallets()
        yield load
