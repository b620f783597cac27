"""R05: a node whose disk is full refuses what it cannot keep, serves what it has, and goes on once there is room.

Each of these nodes has its data on a small disk of its own (skipped where nothing can be mounted).
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack

import pytest
from p2pet.client import ApiError, NodeClient
from p2pet.flows.v1.arguments_pb2 import PaymentPayArguments
from p2pet.flows.v1.flows_pb2 import FlowOutcome
from p2pet.localnet import LocalNetwork

from p2petd.errors import DiskFull
from tests.support.community import CURRENCY, Community, completed, make_community
from tests.support.small_disk import SmallDisk, small_disk

PARTY, PEER, NOTARY = "home-1", "home-2", "notary"
DISK_MIB = 96
RESUME_SECONDS_MAX = 10.0
REFUSE_SECONDS_MAX = 5.0


class SmallDisks:
    """A community of which some nodes have small disks."""

    def __init__(self, community: Community, disks: dict[str, SmallDisk]) -> None:
        self.community = community
        self.disks = disks

    async def freed(self, name: str, *waiting: Awaitable[FlowOutcome]) -> float:
        """Free it; how many seconds it takes until everything that waited is complete."""
        self.disks[name].free()
        began = time.monotonic()
        for flow in waiting:
            completed(await flow)
        return time.monotonic() - began

    def all_run(self) -> bool:
        network = self.community.network
        return all(network.is_running(name) for name in network.names)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallDisks]:
    directory = tmp_path_factory.mktemp("small") / "net"
    made = make_community(directory, homes=2)
    with ExitStack() as stack:
        disks = {}
        for name in (PARTY, NOTARY):
            file = directory / name / "node.toml"
            settings = file.read_text()
            assert "[store]\nsegment_bytes = " in settings
            file.write_text(re.sub("segment_bytes = .*", "segment_bytes = 1048576", settings))
            disks[name] = stack.enter_context(small_disk(directory / name / "data", DISK_MIB))
        network = stack.enter_context(LocalNetwork(directory))
        asyncio.run(network.start())
        yield SmallDisks(Community(made, network), disks)


@pytest.fixture(autouse=True)
def _freed(small: SmallDisks) -> Iterator[None]:
    yield
    for disk in small.disks.values():
        disk.free()


async def _eventually(holds: Callable[[], Awaitable[bool]], seconds: float = RESUME_SECONDS_MAX) -> None:
    limit = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < limit
        await asyncio.sleep(0.05)


def _pay(community: Community, to: str, amount_nano: int) -> PaymentPayArguments:
    return PaymentPayArguments(currency=CURRENCY, amount_nano=amount_nano, recipient=community.identity[to])


async def _start_is_refused(client: NodeClient, arguments: PaymentPayArguments) -> bool:
    with pytest.raises(ApiError) as refused:
        await client.flows.run("payment.pay", arguments, deadline_seconds=REFUSE_SECONDS_MAX)
    return refused.value.code == DiskFull.code


async def _total_nano(community: Community) -> int:
    return sum([await community.money_nano(name) for name in (PARTY, PEER)])


def test_r05_a_party_on_a_full_disk_refuses_reads_and_goes_on(
    small: SmallDisks, record_property: Callable[[str, object], None]
) -> None:
    community = small.community

    async def scenario() -> None:
        for home in (PARTY, PEER):
            completed(await community.issue_money(home, 100_000_000))
        completed(await community.issue_energy(PARTY, 5_000))
        await _eventually(lambda: _has(community, PARTY, 100_000_000))
        await _eventually(lambda: _has(community, PEER, 100_000_000))
        small.disks[PARTY].fill()
        async with community.client(PARTY) as client:
            assert await _start_is_refused(client, _pay(community, PEER, 1))
            assert (await client.info()).disk_full
            assert await community.money_nano(PARTY) == 100_000_000
            assert (await client.flows.list()).flows
            flow_id = (await client.flows.list()).flows[0].flow_id
            assert (await client.flows.get(flow_id=flow_id)).flow.flow_id == flow_id

            # A peer pays it, which it hears of later, and buys from it, which waits.
            completed(await community.run(PEER, "payment.pay", _pay(community, PARTY, 7)))
            bought = asyncio.create_task(community.trade(PEER, PARTY, 100, price=250_000))
            assert await _start_is_refused(client, _pay(community, PEER, 1))
            assert await community.money_nano(PARTY) == 100_000_000
            # The payment's news and the offer lie at the peer until the full one can keep them.
            await _eventually(lambda: _waits(community, 2))
            for _ in range(3):
                assert await _start_is_refused(client, _pay(community, PEER, 1))
            assert await _waits(community, 2)
            assert not bought.done()

            seconds = await small.freed(PARTY, bought)
            assert seconds <= RESUME_SECONDS_MAX
            record_property("seconds_to_resume_party", round(seconds, 2))
            print(f"party: everything that waited was complete {seconds:.2f} s after space was freed")
            completed(await community.run(PARTY, "payment.pay", _pay(community, PEER, 1)))
            assert not (await client.info()).disk_full
        await _eventually(lambda: _conserved(community, 200_000_000))
        assert await community.energy_wh(PARTY) == 4_900
        assert await community.energy_wh(PEER) == 100

    asyncio.run(scenario())
    assert small.all_run()
    log = (community.network.node_directory(PARTY) / "node.log").read_text()
    assert log.count("the disk of the node is full") == log.count("the disk of the node has room again") == 1


async def _waits(community: Community, messages: int) -> bool:
    """Whether so many messages of the peer wait for the party."""
    async with community.client(PEER) as client:
        peers = (await client.peers()).peers
    return messages == sum(peer.outbox for peer in peers if peer.identity == community.identity[PARTY])


async def _has(community: Community, home: str, amount_nano: int) -> bool:
    return await community.money_nano(home) == amount_nano


async def _conserved(community: Community, total_nano: int) -> bool:
    return await _total_nano(community) == total_nano


def test_r05_a_notary_on_a_full_disk_decides_nothing_and_goes_on(
    small: SmallDisks, record_property: Callable[[str, object], None]
) -> None:
    """Its answers meanwhile decide nothing; flows wait, and complete by themselves."""
    community = small.community

    async def scenario() -> None:
        before = await _total_nano(community) + 100
        completed(await community.issue_money(PARTY, 100))
        await _eventually(lambda: _conserved(community, before))
        small.disks[NOTARY].fill()
        flows = [
            asyncio.create_task(community.run(PARTY, "payment.pay", _pay(community, PEER, amount)))
            for amount in (1, 2, 3)
        ]
        await _eventually(lambda: _log_says(community, NOTARY, "the disk of the notary is full"))
        async with community.client(NOTARY) as client:
            stats = await client.stats()
        decided = stats["notary_accepted"]
        assert not any(flow.done() for flow in flows)
        async with community.client(NOTARY) as client:
            assert (await client.stats())["notary_accepted"] == decided

        seconds = await small.freed(NOTARY, *flows)
        assert seconds <= RESUME_SECONDS_MAX
        record_property("seconds_to_resume_notary", round(seconds, 2))
        print(f"notary: everything that waited was complete {seconds:.2f} s after space was freed")
        await _eventually(lambda: _conserved(community, before))

    asyncio.run(scenario())
    assert small.all_run()


async def _log_says(community: Community, name: str, words: str) -> bool:
    return words in (community.network.node_directory(name) / "node.log").read_text()


def test_r05_a_node_that_is_stopped_and_started_on_a_full_disk_loses_nothing(small: SmallDisks) -> None:
    """It ends in order; a start without room for its log is refused with a sentence, and works once there is room."""
    community, network = small.community, small.community.network

    async def scenario() -> None:
        before = await community.money_nano(PARTY)
        small.disks[PARTY].fill()
        network.stop(PARTY)
        assert network.wait_ended(PARTY) == 0
        small.disks[PARTY].fill()
        network.launch(PARTY)
        assert network.wait_ended(PARTY) == 1
        assert "no space is left" in network.log(PARTY, 500)
        small.disks[PARTY].free()
        await network.start(PARTY)
        assert await community.money_nano(PARTY) == before

    asyncio.run(scenario())
