"""Nodes of the previous version and of this one trade with each other, and a network is upgraded node by node.

P2PET_PREVIOUS names a checkout of the previous version in which `scripts/setup` was run; `scripts/soak` makes one.
"""

import asyncio
import os
from pathlib import Path

import pytest
from p2pet.localnet import LocalNetwork

from tests.support.community import EURO_NANO, Community, completed, make_community
from tests.support.scripted import eventually

PREVIOUS = os.environ.get("P2PET_PREVIOUS", "")
HOMES = ("home-1", "home-2")
NOTARY, COMMUNITY = "notary", "community"
QUANTITY_WH, PRICE = 1_000, 250_000
ORDERS = [(NOTARY, COMMUNITY, *HOMES), (*HOMES, COMMUNITY, NOTARY)]

pytestmark = pytest.mark.skipif(not PREVIOUS, reason="P2PET_PREVIOUS names no checkout of the previous version")


def _old() -> dict[str, str]:
    return {"PYTHONPATH": f"{PREVIOUS}:{PREVIOUS}/clients/python", "PYTHONSAFEPATH": "1"}


def _runs_previous(network: LocalNetwork, name: str) -> bool:
    """Whose extension the process has loaded."""
    return f"{PREVIOUS}/p2petd/native/" in Path(f"/proc/{network.pid(name)}/maps").read_text()


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: f"{order[0]}-first")
@pytest.mark.timeout(300)
def test_r20_a_network_is_upgraded_node_by_node_while_it_trades(order: tuple[str, ...], tmp_path: Path) -> None:
    made = make_community(tmp_path / "net")
    with LocalNetwork(tmp_path / "net") as network:
        asyncio.run(_upgrade(Community(made, network), order))


async def _upgrade(community: Community, order: tuple[str, ...]) -> None:
    network = community.network
    await network.start(environment=_old())
    assert all(_runs_previous(network, name) for name in order)
    for home in HOMES:
        completed(await community.issue_money(home, 100 * EURO_NANO))
    await _trade_both_ways(community, 0)
    for number, name in enumerate(order, start=1):
        # A flow is under way while the node goes and comes back as another version.
        completed(await community.issue_energy(HOMES[0], QUANTITY_WH, 1000 + number))
        terms = community.trade_terms(HOMES[0], QUANTITY_WH, 1000 + number, PRICE)
        async with community.client(HOMES[1]) as client:
            flow_id = await client.flows.start("energy.trade", terms.SerializeToString(), client_id=f"over-{number}")
        network.stop(name)
        await network.start(name)
        assert not _runs_previous(network, name)
        await _ended(community, flow_id)
        await _trade_both_ways(community, number)
    for home in HOMES:
        await eventually(lambda home=home: community.locked(home), 0)
    assert sum([await community.money_nano(home) for home in HOMES]) == 200 * EURO_NANO


async def _trade_both_ways(community: Community, number: int) -> None:
    for turn, (buyer, seller) in enumerate((HOMES, HOMES[::-1])):
        period = 2 * number + turn
        completed(await community.issue_energy(seller, QUANTITY_WH, period))
        completed(await community.trade(buyer, seller, QUANTITY_WH, period, PRICE))


async def _ended(community: Community, flow_id: bytes) -> None:
    """It ends; a trade whose seller was away may end at its deadline."""
    async with asyncio.timeout(60 + 30), community.client(HOMES[1]) as client:
        async for event in client.flows.watch(flow_id):
            if event.HasField("outcome"):
                return
    raise AssertionError("the stream ended before the flow")
