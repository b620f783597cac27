"""kill -9 before and after every commit of a notary change that takes several transactions: each is decided once.

A trade whose money moves first, and a change of one transaction, are in tests/crash/test_kill_everywhere.py.
"""

import asyncio
import contextlib
import signal
from pathlib import Path

import pytest
from p2pet.client import ApiError
from p2pet.flows.v1.arguments_pb2 import NotaryChangeArguments
from p2pet.localnet import LocalNetwork

from tests.support.community import completed, make_community
from tests.support.scripted import eventually
from tests.support.two_notaries import FIRST, SECOND, TwoNotaries

OWNER = "home-2"
COIN_NANO = 250_000_000
PASSES_MAX = 16
STAGES = ("log.before_write", "log.after_sync")
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
        completed(await community.money_at(FIRST, OWNER, COIN_NANO))
    await eventually(lambda: community.guarded(OWNER), {FIRST: COINS, SECOND: 0})
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
    network.stop(OWNER)
    await network.start(OWNER, environment={"P2PET_FAILPOINTS": failpoint})
    arguments = NotaryChangeArguments(notary=community.service_key(end))
    moving = asyncio.create_task(community.run(OWNER, "ledger.notary_change", arguments, failpoint))
    while network.is_running(OWNER) and not moving.done():
        await asyncio.sleep(0.01)
    network.stop(OWNER)
    died = network.wait_ended(OWNER) == -signal.SIGKILL
    await network.start(OWNER)
    with contextlib.suppress(ApiError):
        await moving
    completed(await community.run(OWNER, "ledger.notary_change", arguments, failpoint))
    assert await community.guarded(OWNER) == {start: 0, end: COINS}
    assert await community.money_nano(OWNER) == COINS * COIN_NANO
    assert await community.locked(OWNER) == 0
    assert await community.accepted(start) == before + MOVES
    return died
