"""Snapshots of real daemons: taken beside trades, worth the log that they cover, believed only whole (R06, R01)."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from p2pet.localnet import LocalNetwork
from p2pet.node.v1.node_pb2 import GetInfoResponse

from tests.support.community import EURO_NANO, Community, completed, make_community
from tests.support.scripted import eventually
from tests.support.small_logs import flip, lose_machine, make_small, segments, snapshots

HOME = "home-1"
ROUNDS_MAX = 60


@pytest.fixture(scope="module")
def trading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Community]:
    """A community whose logs are small."""
    directory = tmp_path_factory.mktemp("snapshots") / "net"
    made = make_community(directory)
    for node in made.nodes:
        make_small(node.directory, *([1_000] if node.directory.name == "notary" else []))
    with LocalNetwork(directory) as network:
        asyncio.run(network.start())
        yield Community(made, network)


def store_of(community: Community, name: str, store: str = "node") -> Path:
    return community.network.node_directory(name) / "data" / store


async def info(community: Community, name: str) -> GetInfoResponse:
    async with community.client(name) as client:
        return await client.info()


async def stats(community: Community, name: str) -> dict[str, int]:
    async with community.client(name) as client:
        return await client.stats()


async def trade_until_trimmed(community: Community) -> None:
    """Issues and trades until the home's log has lost its first segment."""
    completed(await community.issue_money(HOME, 100 * EURO_NANO))
    for period in range(ROUNDS_MAX):
        completed(await community.issue_energy("home-2", 1000, period))
        completed(await community.trade(HOME, "home-2", 400, period))
        if (await info(community, HOME)).log_first_sequence > 1:
            return

    async def trimmed() -> bool:
        return (await info(community, HOME)).log_first_sequence > 1

    # The thread of the snapshots looks once a second, and all rounds may take less than two.
    await eventually(trimmed, True)


def test_r01_a_killed_node_that_lost_its_view_comes_back_from_a_snapshot(trading: Community) -> None:
    async def scenario() -> None:
        await trade_until_trimmed(trading)
        before, balance = await info(trading, HOME), await trading.balance(HOME)
        store = store_of(trading, HOME)
        assert 1 < before.log_first_sequence <= segments(store)[0]
        trading.network.kill(HOME)
        # Another one may have been taken since.
        assert before.snapshot_sequence <= snapshots(store)[0]
        lose_machine(store)
        await trading.network.start(HOME)
        assert await trading.balance(HOME) == balance
        found = await stats(trading, HOME)
        assert found["store_view_rebuilt"] == 1
        assert found["store_snapshot_restored"] == snapshots(store)[0] >= before.snapshot_sequence
        assert (await info(trading, HOME)).log_sequence >= before.log_sequence
        completed(await trading.issue_energy(HOME, 10, ROUNDS_MAX))

    asyncio.run(scenario())


def test_r06_a_damaged_newest_snapshot_costs_a_longer_replay(trading: Community) -> None:
    async def scenario() -> None:
        balance, store = await trading.balance(HOME), store_of(trading, HOME)
        trading.network.kill(HOME)
        newest, older = snapshots(store)
        flip(store / "snapshots" / f"{newest:020}.mdb", 5000)
        lose_machine(store)
        await trading.network.start(HOME)
        assert await trading.balance(HOME) == balance
        assert (await stats(trading, HOME))["store_snapshot_restored"] == older

    asyncio.run(scenario())


def test_r06_without_a_whole_snapshot_a_node_says_what_lacks(trading: Community) -> None:
    store = store_of(trading, HOME)
    trading.network.stop(HOME)
    kept = snapshots(store)
    for sequence in kept:
        flip(store / "snapshots" / f"{sequence:020}.mdb", 9000)
    lose_machine(store)
    process = trading.network.launch(HOME)
    assert process.wait(20) == 1
    assert "no snapshot in" in trading.network.log(HOME)
    assert "restore a backup" in trading.network.log(HOME)
    for sequence in kept:
        flip(store / "snapshots" / f"{sequence:020}.mdb", 9000)
    asyncio.run(trading.network.start(HOME))


def test_the_logs_of_notary_and_histories_have_snapshots_and_evidence_is_kept(trading: Community) -> None:
    async def taken() -> bool:
        return (await stats(trading, "notary"))["notary_snapshots_taken"] > 0

    async def scenario() -> None:
        await eventually(taken, True)
        found = await stats(trading, "notary")
        assert found["notary_log_first_sequence"] == 1
        # Another one may have been taken since.
        assert found["notary_snapshot_sequence"] <= snapshots(store_of(trading, "notary", "notary"))[0]

    asyncio.run(scenario())
