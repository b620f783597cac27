"""kill -9 at the points that no flow passes while all goes well: a first start, an upload, a flow that parks (R01).

tests/crash/test_kill_everywhere.py has the others, and the list of these.
"""

import asyncio
import signal
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from p2pet.client import ApiError
from p2pet.flows.v1.arguments_pb2 import PaymentPayArguments
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_COMPLETED, FLOW_STATUS_PARKED
from p2pet.localnet import LocalNetwork

from p2petd.observe.failpoints import VARIABLE
from tests.support.community import Community, make_community
from tests.support.packages import install

HOME, ORACLE = "home-1", "oracle"
CONTENT = b"a tariff" * 10_000

FLOWS = """
import os
from p2pet.flows.v1.arguments_pb2 import PaymentPayArguments
from p2petd.flows.registry import FlowDefinition


async def stumble(ctx, arguments):
    await ctx.once("take a step", lambda: b"taken")
    assert not os.environ.get("STUMBLING_FAULT")


FLOWS = (FlowDefinition("stumble", 1, PaymentPayArguments, "Stumbles", stumble, None),)
"""


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Community]:
    """A home and an oracle that were never started; nobody else is there."""
    made = make_community(tmp_path / "net", homes=1, oracles=1)
    with LocalNetwork(tmp_path / "net") as network:
        yield Community(made, network)


def armed(point: str, nth: int = 1) -> dict[str, str]:
    return {VARIABLE: f"{point}:{nth}"}


def dies(community: Community, node: str) -> None:
    assert community.network.wait_ended(node) == -signal.SIGKILL


@pytest.mark.parametrize("point", ["store.before_first", "store.after_first"])
@pytest.mark.parametrize(("node", "nth"), [(HOME, 1), (ORACLE, 1), (ORACLE, 2)])
def test_r01_a_first_start_that_dies_is_followed_by_one_that_does_not(
    alone: Community, node: str, nth: int, point: str
) -> None:
    """The second pass of an oracle's node is that of its oracle's own store."""

    async def scenario() -> None:
        alone.network.launch(node, armed(point, nth))
        dies(alone, node)
        await alone.network.start(node)
        async with alone.client(node) as client:
            first = await client.info()
        assert first.identity == alone.identity[node]
        alone.network.kill(node)
        await alone.network.start(node)
        async with alone.client(node) as client:
            assert (await client.info()).log_sequence == first.log_sequence

    asyncio.run(scenario())


@pytest.mark.parametrize("point", ["attachment.written", "attachment.synced", "attachment.renamed"])
def test_r01_c18_an_upload_that_dies_leaves_all_or_nothing(alone: Community, point: str) -> None:
    digest = sha256(CONTENT).digest()

    async def scenario() -> None:
        await alone.network.start(HOME, environment=armed(point))
        async with alone.client(HOME) as client:
            with pytest.raises(ApiError):
                await client.attachments.upload(CONTENT, name="tariff")
        dies(alone, HOME)
        await alone.network.start(HOME)
        async with alone.client(HOME) as client:
            whole = point == "attachment.renamed"
            assert (await client.stats())["attachments"] == (1 if whole else 0)
            files = {path.name for path in (alone.network.node_directory(HOME) / "data" / "attachments").iterdir()}
            assert files == ({digest.hex(), f"{digest.hex()}.name"} if whole else set())
            stored = await client.attachments.upload(CONTENT, name="tariff")
            assert (stored.hash, (await client.stats())["attachments"]) == (digest, 1)

    asyncio.run(scenario())


@pytest.mark.parametrize("point", ["flow.parked", "batch.before_commit", "batch.after_commit"])
def test_r01_a_flow_that_parks_and_dies_is_there_afterwards(alone: Community, tmp_path: Path, point: str) -> None:
    """It parks again after a death, and completes when its fault is gone; the same client id finds it."""
    install(tmp_path / "site", "stumbling", {"__init__.py": FLOWS}, "[p2petd.flows]\nstumbling = stumbling:FLOWS\n")
    packages = {"PYTHONPATH": str(tmp_path / "site")}
    faulty = packages | {"STUMBLING_FAULT": "1"}
    arguments = PaymentPayArguments()

    async def status() -> int:
        async with alone.client(HOME) as client:
            return (await client.flows.get(client_id="once")).flow.outcome.status

    async def scenario() -> None:
        await alone.network.start(HOME, environment=faulty | armed(point))
        async with alone.client(HOME) as client:
            with pytest.raises(ApiError):
                await client.flows.start("stumble", arguments, client_id="once")
        dies(alone, HOME)
        await alone.network.start(HOME, environment=faulty)
        async with alone.client(HOME) as client:
            flow_id = await client.flows.start("stumble", arguments, client_id="once")
        assert await status() == FLOW_STATUS_PARKED
        alone.network.kill(HOME)
        await alone.network.start(HOME, environment=packages)
        async with alone.client(HOME) as client:
            assert await client.flows.start("stumble", arguments, client_id="once") == flow_id
            outcome = (await client.flows.run("stumble", arguments, client_id="once")).outcome
        assert outcome.status == FLOW_STATUS_COMPLETED

    asyncio.run(scenario())


@pytest.mark.parametrize("wrong", ["nowhere:1", "flow.nowhere:1", "log.nowhere:1", "flow.begun", "flow.begun:0"])
def test_r01_a_start_refuses_a_failpoint_that_it_does_not_know(alone: Community, wrong: str) -> None:
    alone.network.launch(HOME, {VARIABLE: wrong})
    assert alone.network.wait_ended(HOME) == 1
    assert f"{VARIABLE} holds '{wrong}'" in alone.network.log(HOME)
    assert not any((alone.network.node_directory(HOME) / "data").iterdir())
