"""kill -9 of any node at any moment while clients keep all of them busy (R02).

Clients start flows in a closed loop and repeat, with its client id, whatever they got no answer to. What a client was
told once must be so at the end; each start must have had one effect; I1 to I12 hold.

The short form kills 15 times, P2PET_SOAK=1 100 times. The seed changes from day to day and is printed (P2PET_SEED).
"""

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest
from google.protobuf.message import Message
from p2pet.client import ApiError
from p2pet.flows.v1 import arguments_pb2 as args
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_COMPLETED, FlowOutcome
from p2pet.localnet import LocalNetwork

from tests.support.community import CURRENCY, EURO_NANO, Community, completed, energy_request, make_community
from tests.support.invariants import check_invariants, quiet, verify_stopped
from tests.support.telling import tell

T = TypeVar("T")
SEED = int(os.environ.get("P2PET_SEED") or time.time() // 86_400)
SOAK = os.environ.get("P2PET_SOAK") == "1"
CYCLES = 100 if SOAK else 15
HOMES = ("home-1", "home-2")
CLIENTS_PER_HOME = 3
COINS, COIN_NANO = 40, 10 * EURO_NANO
PAUSE_SECONDS_MAX = 0.4
FLOW_SECONDS_MAX = 90


@dataclass
class Told:
    """What clients were told: by node and client id the flow's id, and its outcome."""

    flows: dict[tuple[str, str], bytes] = field(default_factory=dict)
    outcomes: dict[tuple[str, str], FlowOutcome] = field(default_factory=dict)


class Client:
    """One closed loop on one node: an issue, a payment to the other home, a purchase of what the other has issued."""

    def __init__(self, community: Community, home: str, number: int, told: Told) -> None:
        self._community = community
        self._home = home
        self._other = next(name for name in HOMES if name != home)
        self._number = number
        self._told = told
        self._count = 0

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self._count += 1
            period = 1_000 * self._number + self._count
            await self._flow("energy.request", energy_request(self._home, 100, period))
            pay = args.PaymentPayArguments(
                currency=CURRENCY, amount_nano=1_000 + self._count, recipient=self._community.identity[self._other]
            )
            await self._flow("payment.pay", pay)
            # What the other's client of this number has issued in its own turn, if it has.
            bought = (self._number + CLIENTS_PER_HOME) % (2 * CLIENTS_PER_HOME) * 1_000 + self._count
            await self._flow("energy.trade", self._community.trade_terms(self._other, 100, bought, 200_000))

    async def _flow(self, flow: str, arguments: Message) -> None:
        client_id = f"{flow} {self._number} {self._count}"
        key = (self._home, client_id)
        async with asyncio.timeout(FLOW_SECONDS_MAX):
            self._told.flows[key] = await surely(lambda: self._start(flow, arguments, client_id))
            self._told.outcomes[key] = await surely(lambda: self._community.run(self._home, flow, arguments, client_id))

    async def _start(self, flow: str, arguments: Message, client_id: str) -> bytes:
        async with self._community.client(self._home) as client:
            return await client.flows.start(flow, arguments, client_id=client_id)


async def surely(ask: Callable[[], Awaitable[T]]) -> T:
    """The answer of a node that may be dead at first."""
    while True:
        try:
            return await ask()
        except ApiError:
            await asyncio.sleep(0.02)


@pytest.mark.timeout(1800 if SOAK else 240)
def test_r02_nothing_that_a_client_was_told_is_lost(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    made = make_community(tmp_path / "net")
    told = Told()
    with LocalNetwork(tmp_path / "net") as network:
        slowest = asyncio.run(_load_and_kill(Community(made, network), told))
    verify_stopped(tmp_path / "net")
    done = [outcome for outcome in told.outcomes.values() if outcome.status == FLOW_STATUS_COMPLETED]
    assert len(done) > CYCLES, "the clients hardly got anything done"
    tell(
        request.config,
        f"kills under load, seed {SEED}: {CYCLES} kills, {len(told.flows)} starts and {len(told.outcomes)} outcomes "
        f"told ({len(done)} completed), 0 lost; slowest restart {slowest:.2f} s",
    )


async def _load_and_kill(community: Community, told: Told) -> float:
    network, source = community.network, random.Random(SEED)
    await network.start()
    for home in HOMES:
        await asyncio.gather(*(_coin(community, home) for _ in range(COINS)))
    await quiet(community)
    money = sum([await community.money_nano(home) for home in HOMES])
    assert money == len(HOMES) * COINS * COIN_NANO
    clients = [
        Client(community, home, at * CLIENTS_PER_HOME + number, told)
        for at, home in enumerate(HOMES)
        for number in range(CLIENTS_PER_HOME)
    ]
    stop = asyncio.Event()
    slowest = 0.0
    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(client.run(stop))
        for _ in range(CYCLES):
            await asyncio.sleep(source.uniform(0, PAUSE_SECONDS_MAX))
            victim = source.choice(network.names)
            network.kill(victim)
            began = time.monotonic()
            await network.start(victim)
            slowest = max(slowest, time.monotonic() - began)
        stop.set()
    await check_invariants(community)
    assert sum([await community.money_nano(home) for home in HOMES]) == money
    await _is_as_told(community, told)
    return slowest


async def _coin(community: Community, home: str) -> None:
    completed(await community.issue_money(home, COIN_NANO))


async def _is_as_told(community: Community, told: Told) -> None:
    for home in HOMES:
        async with community.client(home) as client:
            for (node, client_id), flow_id in told.flows.items():
                if node != home:
                    continue
                flow = (await client.flows.get(client_id=client_id)).flow
                assert flow.flow_id == flow_id, f"another flow of {client_id!r} on {home}"
                outcome = told.outcomes[node, client_id]
                assert flow.outcome == outcome, f"{client_id!r} on {home} ended otherwise than was told"
                if outcome.transaction_id:
                    await client.vault.transaction(outcome.transaction_id)
