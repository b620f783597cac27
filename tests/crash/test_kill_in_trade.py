"""kill -9 of each of the three nodes at every commit stage of a trade: a restart completes it exactly once (R01, N14).

The failpoints come from the registry in Rust, so a new one is covered without a new test. For each, the node is killed
at its first pass, then its second, and so on, until a trade goes through without reaching it.
"""

import asyncio
import contextlib
import signal
from pathlib import Path

import pytest
from p2pet.client import ApiError
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_RUNNING, FlowInfo
from p2pet.localnet import LocalNetwork

from p2petd import native
from tests.support.community import EURO_NANO, Community, completed, make_community

BUYER, SELLER, NOTARY = "home-2", "home-1", "notary"
QUANTITY_WH, PRICE = 1_000, 250_000
PASSES_MAX = 12
SETTLE_SECONDS = 40


def _failpoints(victim: str) -> list[str]:
    prefixes = ("log.", "view.", "notary.") if victim == NOTARY else ("log.", "view.")
    return [name for name in native.failpoints() if name.startswith(prefixes)]


@pytest.mark.parametrize("victim", [BUYER, SELLER, NOTARY])
@pytest.mark.timeout(900)
def test_r01_n14_killed_node_completes_the_trade_once(victim: str, tmp_path: Path) -> None:
    made = make_community(tmp_path / "net")
    with LocalNetwork(tmp_path / "net") as network:
        kills = asyncio.run(_kill_everywhere(Community(made, network), victim))
    assert set(kills) == set(_failpoints(victim))
    # Every stage of a commit is passed in a trade: at each of them the node has really died at least once.
    reached = {name for name, count in kills.items() if count}
    assert reached == set(kills)


async def _kill_everywhere(community: Community, victim: str) -> dict[str, int]:
    await community.network.start()
    completed(await community.issue_money(BUYER, 10_000 * EURO_NANO))
    kills: dict[str, int] = {}
    period = 0
    for failpoint in _failpoints(victim):
        kills[failpoint] = 0
        for nth in range(1, PASSES_MAX):
            period += 1
            died = await _trade_with_a_kill(community, victim, f"{failpoint}:{nth}", period)
            if not died:
                break
            kills[failpoint] += 1
    return kills


async def _trade_with_a_kill(community: Community, victim: str, failpoint: str, period: int) -> bool:
    network = community.network
    completed(await community.issue_energy(SELLER, QUANTITY_WH, period))
    before = await _holdings(community)
    network.stop(victim)
    await network.start(victim, environment={"P2PET_FAILPOINTS": failpoint})
    client_id = f"trade-{period}"
    terms = community.trade_terms(SELLER, QUANTITY_WH, period, PRICE)
    trade = asyncio.create_task(community.run(BUYER, "energy.trade", terms, client_id))
    while network.is_running(victim) and not trade.done():
        await asyncio.sleep(0.01)
    # Whoever did not die in the trade may die in its own stop: from here on without failpoints.
    network.stop(victim)
    died = network.wait_ended(victim) == -signal.SIGKILL
    await network.start(victim)
    with contextlib.suppress(ApiError):  # The buyer died under the call.
        await trade
    flow = await _outcome(community, client_id, terms)
    completed(flow.outcome)
    await _settled(community, before)
    return died


async def _outcome(community: Community, client_id: str, terms: object) -> FlowInfo:
    """Start it again with its client id, which finds the first or starts it if that never became durable."""
    outcome = await community.run(BUYER, "energy.trade", terms, client_id)
    async with community.client(BUYER) as client:
        flow = (await client.flows.get(client_id=client_id)).flow
    assert flow.outcome.status != FLOW_STATUS_RUNNING
    assert flow.outcome.transaction_id == outcome.transaction_id
    return flow


async def _holdings(community: Community) -> dict[str, tuple[int, int]]:
    return {n: (await community.energy_wh(n), await community.money_nano(n)) for n in (BUYER, SELLER)}


async def _settled(community: Community, before: dict[str, tuple[int, int]]) -> None:
    """Both vaults show the trade once, and nothing stays reserved."""
    paid = QUANTITY_WH * PRICE
    wanted = {
        BUYER: (before[BUYER][0] + QUANTITY_WH, before[BUYER][1] - paid),
        SELLER: (before[SELLER][0] - QUANTITY_WH, before[SELLER][1] + paid),
    }
    async with asyncio.timeout(SETTLE_SECONDS):
        while await _holdings(community) != wanted:
            await asyncio.sleep(0.05)
    async with asyncio.timeout(SETTLE_SECONDS):
        while await community.locked(BUYER) or await community.locked(SELLER):
            await asyncio.sleep(0.05)
