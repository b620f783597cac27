"""R06: bits that flip in the files of a stopped node are noticed by its next start, or are harmless.

The short form flips a few bits of the view, the long one (P2PET_SOAK) many.
"""

import asyncio
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from p2pet.flows.v1.arguments_pb2 import PaymentPayArguments
from p2pet.localnet import LocalNetwork

from p2petd.offline.segments import Copied, copy_segment, segment_names
from tests.support.community import CURRENCY, Community, completed, make_community
from tests.support.scripted import eventually

HOME, PAYEE = "home-1", "home-2"
FLIPS = 200 if os.environ.get("P2PET_SOAK") else 6
SEED = int(os.environ.get("P2PET_SEED", "20261122"))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Community]:
    """A community in which the home has some history, and does not run at the moment."""
    directory = tmp_path_factory.mktemp("flipped") / "net"
    made = make_community(directory, homes=2)
    file = directory / HOME / "node.toml"
    file.write_text(re.sub("segment_bytes = .*", "segment_bytes = 1048576", file.read_text()))
    with LocalNetwork(directory) as network:
        community = Community(made, network)

        async def begin() -> None:
            await network.start()
            completed(await community.issue_money(HOME, 1_000))
            await eventually(lambda: community.money_nano(HOME), 1_000)
            for _ in range(5):
                pay = PaymentPayArguments(currency=CURRENCY, amount_nano=1, recipient=community.identity[PAYEE])
                completed(await community.run(HOME, "payment.pay", pay))

        asyncio.run(begin())
        network.stop(HOME)
        yield community


def _store(community: Community) -> Path:
    return community.network.node_directory(HOME) / "data" / "node"


def _flip(path: Path, bit: int) -> None:
    """In place: another file would not be believed anyway."""
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


async def _money_after_a_start(community: Community) -> int:
    await community.network.start(HOME)
    money = await community.money_nano(HOME)
    async with community.client(HOME) as client:
        assert (await client.stats())["store_view_rebuilt"] == 1
    community.network.stop(HOME)
    return money


def test_r06_a_flipped_bit_of_the_view_of_a_stopped_node_is_noticed(stopped: Community) -> None:
    """The view is rebuilt from the log, whichever bit it was."""
    pages = _store(stopped) / "view" / "data.mdb"
    chance = random.Random(SEED)
    for _ in range(FLIPS):
        bit = chance.randrange(pages.stat().st_size * 8)
        print(f"bit {bit} of the view flips (seed {SEED})")
        _flip(pages, bit)
        assert asyncio.run(_money_after_a_start(stopped)) == 995


def _last_segment(community: Community) -> tuple[Path, Copied]:
    log = _store(community) / "log"
    path = log / segment_names(log)[-1]
    return path, copy_segment(path, None)


def test_r06_damage_in_the_middle_of_the_log_is_named_and_nothing_is_cut(stopped: Community) -> None:
    network = stopped.network
    path, whole = _last_segment(stopped)
    before = path.read_bytes()
    _flip(path, 8 * (64 + 48 + 1))
    damaged = path.read_bytes()
    for _ in range(2):
        network.launch(HOME)
        assert network.wait_ended(HOME) == 1
        last = network.log(HOME, 800).splitlines()[-1]
        assert f"{path} at offset 64" in last
        assert "[store.directory]" in last
        assert path.read_bytes() == damaged
    path.write_bytes(before)
    assert copy_segment(path, None) == whole


def test_r06_a_torn_tail_is_cut_and_nothing_that_was_acknowledged_is_lost(stopped: Community) -> None:
    network = stopped.network
    path, whole = _last_segment(stopped)
    with path.open("r+b") as file:
        file.seek(whole.size)
        file.write((300).to_bytes(4) + b"half of a record that was never acknowledged")

    async def scenario() -> None:
        await network.start(HOME)
        assert await stopped.money_nano(HOME) == 995
        network.stop(HOME)

    asyncio.run(scenario())
    assert copy_segment(path, None).bad == ""
