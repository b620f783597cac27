"""kill -9 before and after every commit of a trade whose money moves to another notary first: all of it happens once.

Each node in turn is killed at its first pass of a stage, then its second, until a trade goes through without it.
"""

import asyncio
import contextlib
import signal
from pathlib import Path

import pytest
from p2pet.client import ApiError
from p2pet.flows.v1.arguments_pb2 import NotaryChangeArguments
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_RUNNING
from p2pet.localnet import LocalNetwork

from tests.support.community import completed, make_community
from tests.support.scripted import eventually
from tests.support.two_notaries import FIRST, SECOND, TwoNotaries

BUYER, SELLER = "home-2", "home-1"
QUANTITY_WH, PRICE = 1_000, 250_000
PAID_NANO = QUANTITY_WH * PRICE
PASSES_MAX = 16
# What lies between them, tests/crash/test_kill_in_trade.py covers.
STAGES = ("log.before_write", "log.after_sync")
NOTARY_STAGES = (*STAGES, "notary.after_commit")


@pytest.mark.parametrize("victim", [BUYER, SELLER, FIRST, SECOND])
@pytest.mark.timeout(900)
def test_n13_n14_a_trade_that_moves_its_money_survives_a_kill_anywhere(victim: str, tmp_path: Path) -> None:
    made = make_community(tmp_path / "net", notaries=2)
    with LocalNetwork(tmp_path / "net") as network:
        kills = asyncio.run(_kill_everywhere(TwoNotaries(made, network), victim))
    assert all(kills.values()), kills


async def _kill_everywhere(community: TwoNotaries, victim: str) -> dict[str, int]:
    await community.network.start()
    kills: dict[str, int] = {}
    period = 0
    for failpoint in NOTARY_STAGES if victim in (FIRST, SECOND) else STAGES:
        kills[failpoint] = 0
        for nth in range(1, PASSES_MAX):
            period += 1
            if not await _trade_with_a_kill(community, victim, f"{failpoint}:{nth}", period):
                break
            kills[failpoint] += 1
    return kills


async def _trade_with_a_kill(community: TwoNotaries, victim: str, failpoint: str, period: int) -> bool:
    network = community.network
    earned = (period - 1) * PAID_NANO
    # Exactly the price: all of it moves, and nothing comes back.
    completed(await community.money_at(SECOND, BUYER, PAID_NANO))
    completed(await community.issue_energy(SELLER, QUANTITY_WH, period))
    await eventually(lambda: community.guarded(BUYER, "payment"), {FIRST: 0, SECOND: 1})
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
    outcome = completed(await community.run(BUYER, "energy.trade", terms, client_id))
    assert outcome.status != FLOW_STATUS_RUNNING
    await eventually(lambda: community.money_nano(SELLER), earned + PAID_NANO)
    assert await community.energy_wh(BUYER) == period * QUANTITY_WH
    assert (await community.energy_wh(SELLER), await community.money_nano(BUYER)) == (0, 0)
    await eventually(lambda: community.locked(BUYER), 0)
    await eventually(lambda: community.locked(SELLER), 0)
    return died


COINS, INPUTS_MAX = 5, 2
MOVES = 3


@pytest.mark.timeout(600)
def test_n13_states_that_move_in_several_transactions_survive_a_kill_anywhere(tmp_path: Path) -> None:
    """Too many for one transaction: each of them is decided once, in whichever of them the node dies."""
    made = make_community(tmp_path / "net", notaries=2, inputs_max=INPUTS_MAX)
    with LocalNetwork(tmp_path / "net") as network:
        kills = asyncio.run(_move_and_kill(TwoNotaries(made, network)))
    assert all(kills.values()), kills


async def _move_and_kill(community: TwoNotaries) -> dict[str, int]:
    await community.network.start()
    for _ in range(COINS):
        completed(await community.money_at(FIRST, BUYER, PAID_NANO))
    await eventually(lambda: community.guarded(BUYER), {FIRST: COINS, SECOND: 0})
    kills: dict[str, int] = {}
    start, end = FIRST, SECOND
    for failpoint in STAGES:
        kills[failpoint] = 0
        for nth in range(1, PASSES_MAX):
            if not await _move_with_a_kill(community, start, end, f"{failpoint}:{nth}"):
                break
            kills[failpoint] += 1
            start, end = end, start
        start, end = end, start
    return kills


async def _move_with_a_kill(community: TwoNotaries, start: str, end: str, failpoint: str) -> bool:
    network, before = community.network, await community.accepted(start)
    network.stop(BUYER)
    await network.start(BUYER, environment={"P2PET_FAILPOINTS": failpoint})
    arguments = NotaryChangeArguments(notary=community.service_key(end))
    moving = asyncio.create_task(community.run(BUYER, "ledger.notary_change", arguments, failpoint))
    while network.is_running(BUYER) and not moving.done():
        await asyncio.sleep(0.01)
    network.stop(BUYER)
    died = network.wait_ended(BUYER) == -signal.SIGKILL
    await network.start(BUYER)
    with contextlib.suppress(ApiError):
        await moving
    completed(await community.run(BUYER, "ledger.notary_change", arguments, failpoint))
    assert await community.guarded(BUYER) == {start: 0, end: COINS}
    assert await community.money_nano(BUYER) == COINS * PAID_NANO
    assert await community.locked(BUYER) == 0
    assert await community.accepted(start) == before + MOVES
    return died
