"""kill -9 of an oracle at every commit stage of being told a reading and of signing for it (R01).

Each of two failpoints kills it at its first pass, then its second, until a delivery goes through.
"""

import asyncio
import contextlib
import signal
from pathlib import Path

import pytest
from p2pet.client import ApiError
from p2pet.localnet import LocalNetwork

from tests.support.community import QUARTER_NS, Community, completed
from tests.support.delivery import (
    PAST,
    deliver,
    deliveries,
    make_delivering_community,
    publish_tariff,
    push,
    unit_reading,
)

HOME, ORACLE = "home-1", "oracle"
PASSES_MAX = 8
# What the oracle writes passes these; tests/crash/test_kill_everywhere.py kills it at all others of a delivery too.
STAGES = ("log.before_write", "log.after_sync")


@pytest.mark.timeout(600)
def test_r01_c12_a_killed_oracle_loses_no_reading_and_no_attestation(tmp_path: Path) -> None:
    made = make_delivering_community(tmp_path / "net", homes=1)
    with LocalNetwork(tmp_path / "net") as network:
        kills = asyncio.run(_kill_everywhere(Community(made, network)))
    # A record for the reading, another for the attestation: at each stage of both it has really died.
    assert set(kills) == set(STAGES)
    assert min(kills.values()) >= 2


async def _kill_everywhere(community: Community) -> dict[str, int]:
    await community.network.start()
    await publish_tariff(community)
    kills: dict[str, int] = {}
    period = 0
    for failpoint in STAGES:
        kills[failpoint] = 0
        while await _deliver_with_a_kill(community, f"{failpoint}:{kills[failpoint] + 1}", period):
            kills[failpoint] += 1
            period += 1
            assert kills[failpoint] < PASSES_MAX
        period += 1
    return kills


async def _deliver_with_a_kill(community: Community, failpoint: str, period: int) -> bool:
    """Whether the oracle has died; the delivery is complete, once, either way."""
    network = community.network
    completed(await community.issue_energy(HOME, 1_000, PAST + period))
    network.stop(ORACLE)
    await network.start(ORACLE, environment={"P2PET_FAILPOINTS": failpoint})
    reading = unit_reading(HOME, 900, period)
    died = False
    try:
        await push(community, reading)
    except ApiError:
        died = await _revive(community)
        again = await push(community, reading)
        assert (again.added + again.repeated, len(again.refused)) == (1, 0)
    closing = asyncio.create_task(deliver(community, HOME, HOME, period))
    while network.is_running(ORACLE) and not closing.done():
        await asyncio.sleep(0.01)
    if not network.is_running(ORACLE):
        died = await _revive(community)
    completed(await closing)
    (closed,) = await deliveries(community, HOME, period)
    assert (closed.delivered_wh, closed.reading_revision) == (900, 1)
    async with community.client(ORACLE) as client:
        start = reading.start_ns
        answer = await client.oracle.readings(meter=reading.meter, from_ns=start, until_ns=start + QUARTER_NS)
    (known,) = answer.readings
    assert (known.reading.revision, known.attested_revision) == (1, 1)
    with contextlib.suppress(ApiError):
        # Without a death until now, this record may meet the failpoint.
        assert (await push(community, unit_reading(HOME, 800, period))).corrected_late == 1
    network.stop(ORACLE)
    await network.start(ORACLE)
    return died


async def _revive(community: Community) -> bool:
    assert community.network.wait_ended(ORACLE) == -signal.SIGKILL
    await community.network.start(ORACLE)
    return True
