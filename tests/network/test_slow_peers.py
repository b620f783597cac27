"""A peer that is paused, one that reads 1 byte a second, and five times the load: others are served, memory is bounded.

What depends on time is printed and not asserted. The short form lets each phase last a second, the long form
(P2PET_SOAK=1) as long as figures need.
"""

import asyncio
import os
import secrets
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from p2pet.bench.load import closed_loop, percentile
from p2pet.bench.machine import memory
from p2pet.client import NodeClient
from p2pet.flows.v1 import arguments_pb2 as args
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_COMPLETED, FlowStart
from p2pet.localnet import LocalNetwork
from p2pet.peer.v1.peer_pb2 import Call, Frame

from p2petd.flows.finality import NOTARISE
from p2petd.network.bootstrap import MadeNetwork
from p2petd.network.bootstrap_files import free_listeners
from tests.support.community import CURRENCY, EURO_NANO, Community, completed, make_community
from tests.support.drafts import built, energy_issue
from tests.support.peer import Exchange, ScriptedPeer
from tests.support.scripted import eventually
from tests.support.throttle import Gate

SOAK = bool(os.environ.get("P2PET_SOAK"))
PHASE_SECONDS = 15.0 if SOAK else 1.0
PAYER, GOOD, BAD, CROWD = "home-1", "home-2", "home-3", "home-4"
COINS, OUTSTANDING, SIDE_INTERVAL_SECONDS = 48, 16, 0.02
MEBIBYTE = 1024 * 1024
MEMORY_MORE_MAX = 96 * MEBIBYTE
# The load at which a node's rate is taken for its peak, and how much more is offered then.
PEAK_OUTSTANDING, TIMES, CALLS_PER_SECOND = 256, 5, 5
CALLS_IN_FRAME = 50
REQUESTS = 6_000 if SOAK else 1_000

pytestmark = pytest.mark.timeout(600 if SOAK else 120)


@dataclass(frozen=True)
class Gated:
    """A community in which others reach the bad home through a gate only."""

    community: Community
    advertised: str
    behind: str


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gated]:
    directory = tmp_path_factory.mktemp("gated") / "net"
    made = make_community(directory, homes=4)
    advertised = _peer_address(made, BAD)
    behind = free_listeners("127.0.0.1", 0, 1)[0].peer
    config = directory / BAD / "node.toml"
    config.write_text(config.read_text().replace(advertised, behind))
    with LocalNetwork(directory) as network:
        asyncio.run(network.start("notary", "community", PAYER, GOOD, BAD))
        yield Gated(Community(made, network), advertised, behind)


def _peer_address(made: MadeNetwork, name: str) -> str:
    return next(node.listeners.peer for node in made.nodes if node.directory.name == name)


@dataclass
class Phase:
    """Payments to a good peer, as many at a time as may be, while others go to the bad one at a steady rate."""

    name: str
    community: Community
    to_bad: int = 0

    async def paid(self, client: NodeClient) -> int:
        """How many payments to the bad peer were made; each of them is final."""
        ends = asyncio.get_running_loop().time() + PHASE_SECONDS
        side = asyncio.create_task(self._side(client, ends))
        timed = await closed_loop(OUTSTANDING, PHASE_SECONDS, lambda: self._pay(client, GOOD))
        await side
        figures = timed.metrics
        (waiting,) = [one.outbox for one in (await client.peers()).peers if one.identity == self._identity(BAD)]
        held = memory(self.community.network.pid(PAYER))
        print(
            f"{self.name}: {figures['per_second']:.0f}/s to the good peer, p50 {figures['p50_ms']:.1f} ms, "
            f"p99 {figures['p99_ms']:.1f} ms; {self.to_bad} payments to the bad one, {waiting} messages wait for it; "
            f"the payer has {held.anonymous / MEBIBYTE:.0f} MiB"
        )
        return self.to_bad

    async def _side(self, client: NodeClient, ends: float) -> None:
        async with asyncio.TaskGroup() as group:
            while asyncio.get_running_loop().time() < ends:
                group.create_task(self._pay(client, BAD))
                self.to_bad += 1
                await asyncio.sleep(SIDE_INTERVAL_SECONDS)

    async def _pay(self, client: NodeClient, to: str) -> None:
        payment = args.PaymentPayArguments(currency=CURRENCY, amount_nano=1, recipient=self._identity(to))
        completed((await client.flows.run("payment.pay", payment, deadline_seconds=30)).outcome)

    def _identity(self, name: str) -> bytes:
        return self.community.identity[name]


def test_r12_a_paused_and_a_crawling_peer_harm_nobody_else(gated: Gated) -> None:
    """Payments to others complete as before, those to it wait in the outbox, and all of them arrive in the end."""

    async def scenario() -> None:
        community, network = gated.community, gated.community.network
        async with Gate(gated.behind).listening(gated.advertised) as gate, community.client(PAYER) as client:
            for _ in range(COINS):
                completed(await community.issue_money(PAYER, EURO_NANO))
            paid = await Phase("warm-up", community).paid(client)
            before = memory(network.pid(PAYER)).anonymous
            paid += await Phase("all are well", community).paid(client)
            os.kill(network.pid(BAD), signal.SIGSTOP)
            try:
                paid += await Phase("one is paused", community).paid(client)
            finally:
                os.kill(network.pid(BAD), signal.SIGCONT)
            await _arrived(community, "the paused one goes on", paid)
            gate.crawl()
            paid += await Phase("one reads 1 byte a second", community).paid(client)
            gate.open()
            await _arrived(community, "the crawling one reads again", paid)
            assert memory(network.pid(PAYER)).anonymous - before < MEMORY_MORE_MAX

    asyncio.run(scenario())


async def _arrived(community: Community, name: str, paid: int) -> None:
    began = time.monotonic()
    await eventually(lambda: community.money_nano(BAD), paid)
    print(f"{name}: everything has arrived after {time.monotonic() - began:.2f} s")


# More than a node, or the notary, can do.


class Others:
    """Somebody else's flows, one at a time, for as long as it is entered; prints what they took."""

    def __init__(self, name: str, client: NodeClient, arguments: args.PaymentPayArguments) -> None:
        self._name = name
        self._client = client
        self._start = FlowStart(flow="payment.pay", arguments=arguments.SerializeToString())
        self._latencies: list[int] = []
        self._goes_on = True

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def __aexit__(self, *_: object) -> None:
        self._goes_on = False
        await self._task
        ordered = sorted(self._latencies)
        p50, p99 = (percentile(ordered, percent) / 1e6 for percent in (50, 99))
        print(f"{self._name}: others' flows took p50 {p50:.1f} ms, p99 {p99:.1f} ms ({len(ordered)})")

    async def _run(self) -> None:
        while self._goes_on:
            began = time.perf_counter_ns()
            async for result in self._client.flows.run_many([self._start]):
                completed(result.outcome)
            self._latencies.append(time.perf_counter_ns() - began)


def test_r12_a_node_with_five_times_its_load_goes_on(gated: Gated) -> None:
    """Flows that are started at five times the rate at which they end, ended or refused with a typed error."""

    async def scenario() -> None:
        community = gated.community
        before = await _money(community) + EURO_NANO
        completed(await community.issue_money(PAYER, EURO_NANO))
        await eventually(lambda: _money(community), before)
        one = args.PaymentIssueArguments(currency=CURRENCY, amount_nano=1, recipient=community.identity[GOOD])
        issue = FlowStart(flow="payment.issue", arguments=one.SerializeToString())
        pay = args.PaymentPayArguments(currency=CURRENCY, amount_nano=1, recipient=community.identity[GOOD])
        async with community.client("community") as client, community.client(PAYER) as other:

            async def batch() -> None:
                async for result in client.flows.run_many([issue] * (PEAK_OUTSTANDING // 4)):
                    completed(result.outcome)

            async with Others("at its peak", other, pay):
                timed = await closed_loop(4, PHASE_SECONDS, batch)
            issued = timed.units * PEAK_OUTSTANDING // 4
            peak = issued / timed.elapsed_ns * 1e9
            async with Others("with five times that", other, pay):
                ways, ended = await _start_at(client, issue, TIMES * peak)
        assert set(ways) <= {"completed", "flow.too_many"}
        held = memory(community.network.pid("community")).anonymous
        print(
            f"a node: peak {peak:.0f}/s; offered {sum(ways.values()) / PHASE_SECONDS:.0f}/s: {ended:.0f}/s completed "
            f"({ended / peak:.0%}), {dict(ways)}; it has {held / MEBIBYTE:.0f} MiB"
        )
        await eventually(lambda: _money(community), before + issued + ways["completed"])

    asyncio.run(scenario())


async def _money(community: Community) -> int:
    """What those who pay and are paid have together."""
    return await community.money_nano(PAYER) + await community.money_nano(GOOD)


async def _start_at(client: NodeClient, start: FlowStart, per_second: float) -> tuple[Counter[str], float]:
    """How flows ended that were started at this rate, and how many completed in a second meanwhile."""
    ways: Counter[str] = Counter()

    async def call(count: int) -> None:
        async for result in client.flows.run_many([start] * count):
            outcome = result.outcome
            ways["completed" if outcome.status == FLOW_STATUS_COMPLETED else outcome.error_code] += 1

    completed_before = (await client.stats())["flows_completed"]
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(int(PHASE_SECONDS * CALLS_PER_SECOND)):
            await asyncio.sleep(max(0.0, began + number / CALLS_PER_SECOND - time.monotonic()))
            group.create_task(call(int(per_second / CALLS_PER_SECOND)))
        ended = (await client.stats())["flows_completed"] - completed_before
        seconds = time.monotonic() - began
    return ways, ended / seconds


def test_r12_a_notary_with_five_times_its_load_goes_on(gated: Gated) -> None:
    """Requests of one caller come five times as fast as they are decided: each is decided, or told to come again."""

    async def scenario() -> None:
        community = gated.community
        completed(await community.issue_money(PAYER, EURO_NANO))
        pay = args.PaymentPayArguments(currency=CURRENCY, amount_nano=1, recipient=community.identity[GOOD])
        crowd = ScriptedPeer(community.network.node_directory(CROWD))
        notary = community.identity["notary"]
        requests = await asyncio.to_thread(_requests, crowd, (1 + TIMES) * REQUESTS)
        async with community.client(PAYER) as other, crowd.exchange(notary) as exchange:
            await exchange.hello(crowd.hello(notary))
            async with Others("at its peak", other, pay):
                ways, seconds = await _ask(exchange, requests[:REQUESTS], outstanding=PEAK_OUTSTANDING)
            assert ways == {"": REQUESTS}
            peak = REQUESTS / seconds
            async with Others("with five times that", other, pay):
                ways, seconds = await _ask(exchange, requests[REQUESTS:], per_second=TIMES * peak)
        assert set(ways) <= {"", "notary.overloaded"}
        held = memory(community.network.pid("notary")).anonymous
        print(
            f"the notary: peak {peak:.0f}/s; offered {TIMES * REQUESTS / seconds:.0f}/s: "
            f"{ways[''] / seconds:.0f}/s decided ({ways[''] / seconds / peak:.0%}), "
            f"{ways['notary.overloaded']} told to come again; it has {held / MEBIBYTE:.0f} MiB"
        )

    asyncio.run(scenario())


def _requests(peer: ScriptedPeer, count: int) -> list[bytes]:
    """Issues of energy, each of a meter of its own."""
    drafts = (built(energy_issue(peer, 1, f"{secrets.token_hex(8)}")) for _ in range(count))
    return [peer.request(d, d.proposal([peer.sign(d.id)])).SerializeToString() for d in drafts]


async def _ask(
    exchange: Exchange, requests: Sequence[bytes], outstanding: int = 0, per_second: float = 0.0
) -> tuple[Counter[str], float]:
    """The error codes of the replies, empty for an answer, and the seconds until the last came: with so many requests
    outstanding, or at a rate whatever comes back."""
    ways: Counter[str] = Counter()
    sent = 0
    began = time.monotonic()

    async def read() -> None:
        while sum(ways.values()) < len(requests):
            frame = await exchange.read()
            assert frame is not None
            ways.update(reply.error_code for reply in frame.replies)

    reading = asyncio.create_task(read())
    while sent < len(requests) and not reading.done():
        due = sum(ways.values()) + outstanding if outstanding else int((time.monotonic() - began) * per_second)
        due = min(due, sent + CALLS_IN_FRAME, len(requests))
        if due > sent:
            calls = [
                Call(call_id=number.to_bytes(16), service=NOTARISE, payload=requests[number])
                for number in range(sent, due)
            ]
            await exchange.write(Frame(calls=calls))
            sent = due
        await asyncio.sleep(0.001)
    await reading
    return ways, time.monotonic() - began
