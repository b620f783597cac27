"""R07: the first peer that knows more recognises an older copy of a data directory; the node stops and says so."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from p2pet.flows.v1.arguments_pb2 import PaymentPayArguments

from tests.support.community import CURRENCY, EURO_NANO, completed
from tests.support.scripted import REAL, ScriptedCommunity, eventually

PEER = "home-2"


@pytest.fixture(scope="module")
def funded(scripted: ScriptedCommunity) -> ScriptedCommunity:
    asyncio.run(scripted.fund_real_home(10 * EURO_NANO))
    return scripted


async def _offer_in_vain(community: ScriptedCommunity, times: int) -> None:
    """Each offer of home-1 is one message to the peer, which has it and says no."""
    async with community.connect(PEER, REAL) as home, community.client(REAL) as client:
        for _ in range(times):
            flow_id = await client.flows.start("energy.trade", community.trade_terms(PEER, 10, price=0))
            session = await home.opened()
            assert session.flow_id == flow_id
            await home.fail(session.flow_id, "no", to_initiator=True)
        await home.settled()


async def _pay(community: ScriptedCommunity, times: int) -> None:
    """Each payment of home-1 is one message to the peer, which has it and says nothing at all."""
    pay = PaymentPayArguments(currency=CURRENCY, amount_nano=1, recipient=community.identity[PEER])
    async with community.connect(PEER, REAL) as home:
        for _ in range(times):
            completed(await community.run(REAL, "payment.pay", pay))
            await home.opened()
        await home.settled()


@pytest.fixture
def copy(funded: ScriptedCommunity) -> Iterator[Path]:
    """The data directory of home-1 as it is now; the newest one is back in its place afterwards."""
    data = funded.network.node_directory(REAL) / "data"
    newest, older = data.with_name("newest"), data.with_name("older")
    asyncio.run(_offer_in_vain(funded, 1))
    funded.network.stop(REAL)
    shutil.copytree(data, older)
    asyncio.run(funded.network.start(REAL))
    yield older
    funded.network.kill(REAL)
    # A test that failed early has restored nothing.
    if newest.exists():
        shutil.rmtree(data)
        newest.rename(data)
    shutil.rmtree(older, ignore_errors=True)
    asyncio.run(funded.network.start(REAL))


def _restore(community: ScriptedCommunity, older: Path) -> None:
    data = older.with_name("data")
    community.network.stop(REAL)
    data.rename(older.with_name("newest"))
    older.rename(data)


LOSSES = {"offers that were answered": _offer_in_vain, "payments that were only taken": _pay}
ANSWERED, TAKEN = LOSSES


@pytest.mark.parametrize(
    ("lost", "lost_count", "new"), [(ANSWERED, 1, 0), (ANSWERED, 1, 1), (TAKEN, 2, 1), (TAKEN, 1, 1), (TAKEN, 1, 2)]
)
def test_r07_an_older_copy_stops_whatever_it_has_begun_since(
    lost: str, lost_count: int, new: int, funded: ScriptedCommunity, copy: Path
) -> None:
    """The copy lacks some messages that the peer has, and queues `new` ones before the two meet."""

    async def scenario() -> None:
        await LOSSES[lost](funded, lost_count)
        _restore(funded, copy)
        await funded.network.start(REAL)
        async with funded.client(REAL) as client:
            for _ in range(new):
                # At no price, so that it needs no coins, which the copy may have lost.
                await client.flows.start("energy.trade", funded.trade_terms(PEER, 1, price=0))
        peer, to = funded.peer(PEER), funded.identity[REAL]
        async with peer.exchange(to) as exchange:
            hello = peer.hello(to)
            assert hello.received_epoch
            await exchange.hello(hello)
            await eventually(_is_running, False)

    async def _is_running() -> bool:
        return funded.network.is_running(REAL)

    log = funded.network.node_directory(REAL) / "node.log"
    logged_before = log.stat().st_size
    asyncio.run(scenario())
    assert funded.network.wait_ended(REAL) == 1
    written = log.read_text()[logged_before:]
    assert "Traceback" not in written
    last = written.splitlines()[-1]
    assert last.startswith("p2petd: ")
    assert last.endswith("[store.rolled_back]")
    assert "restore" in last


def test_r07_the_newest_data_directory_goes_on(funded: ScriptedCommunity) -> None:
    async def scenario() -> None:
        await _offer_in_vain(funded, 2)
        funded.network.stop(REAL)
        await funded.network.start(REAL)
        await _offer_in_vain(funded, 1)
        assert await funded.locked(REAL) == 0

    asyncio.run(scenario())
