"""kill -9 of each node that takes part in each built-in flow, at each point that it passes there (R01, F01, N14).

The points come from the registries in Rust and in Python, and which of them a node passes in a flow is counted in a run
without a death: a new point, and a new flow, are tested without a new test. After each death the node is started again,
often with the next point armed already, so that it dies once more while it recovers; the start is repeated with its
client id; the flow completes once, seen by all. When all nodes of a flow have died everywhere, I1 to I12 are checked.

The short form takes one pass of each point, chosen by a seed (P2PET_SEED sets another one); P2PET_SOAK=1 takes every
pass.
"""

import asyncio
import os
import random
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from p2pet.localnet import LocalNetwork

from p2petd import native
from p2petd.flows.builtin import installed_flows
from p2petd.observe import failpoints
from tests.support.crash import COUNTING, Killing, Tally, Target, passes_of
from tests.support.invariants import check_invariants, verify_stopped
from tests.support.scenarios import SCENARIOS, Scenario, Stage, make_stage
from tests.support.telling import tell

SEED = int(os.environ.get("P2PET_SEED") or 20_779)
EVERY_PASS = os.environ.get("P2PET_SOAK") == "1"
# Two networks, so that one works while a node of the other starts.
NETWORKS = 2
TARGETS_AT_ONCE = 12

# Points that no flow passes while all goes well, and what dies there instead. Those in Rust that not every commit
# passes have their kills in core-rs (r01_nothing_acknowledged_is_lost_at_any_failpoint and its neighbours).
ELSEWHERE = {
    "flow.parked": "test_r01_a_flow_that_parks",
    "store.before_first": "test_r01_a_first_start",
    "store.after_first": "test_r01_a_first_start",
    "attachment.written": "test_r01_c18_an_upload",
    "attachment.synced": "test_r01_c18_an_upload",
    "attachment.renamed": "test_r01_c18_an_upload",
}


@pytest.fixture(scope="module")
def tally() -> Tally:
    return Tally()


@pytest.fixture(scope="module")
def stages(
    tmp_path_factory: pytest.TempPathFactory, tally: Tally, request: pytest.FixtureRequest
) -> Iterator[tuple[Stage, ...]]:
    with ExitStack() as stack:
        found = []
        for number in range(NETWORKS):
            directory = tmp_path_factory.mktemp("everywhere") / str(number)
            made = make_stage(directory)
            found.append(Stage(made, stack.enter_context(LocalNetwork(directory))))

        async def begin() -> None:
            await asyncio.gather(*(stage.begin(COUNTING) for stage in found))

        asyncio.run(begin())
        yield tuple(found)
    tell(request.config, f"crash matrix, seed {SEED}: {tally.say()}")


def test_every_built_in_flow_has_a_scenario() -> None:
    started = {flow.name for flow in installed_flows().all() if not flow.internal}
    assert {scenario.flow for scenario in SCENARIOS} == started


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
@pytest.mark.timeout(3600 if EVERY_PASS else 180)
def test_r01_f01_n14_killed_nodes_complete_the_flow_once(
    scenario: Scenario, stages: tuple[Stage, ...], tally: Tally
) -> None:
    async def kill_everywhere() -> None:
        for stage in stages:
            await stage.revive(COUNTING)
        random_source = random.Random(f"{SEED} {scenario.name}")
        work = _work(await passes_of(stages[0], scenario), random_source)

        async def kill_on(stage: Stage) -> None:
            while work:
                victim, targets = work.popleft()
                await Killing(stage, scenario, victim, targets, tally).run()

        async with asyncio.TaskGroup() as group:
            for stage in stages:
                group.create_task(kill_on(stage))
        for stage in stages:
            await check_invariants(stage)

    asyncio.run(kill_everywhere())


def _work(passes: dict[str, dict[str, int]], random_source: random.Random) -> deque[tuple[str, list[Target]]]:
    """Which node dies where, in portions."""
    work = []
    for victim, counts in passes.items():
        chosen = {
            point: range(1, n + 1) if EVERY_PASS else [random_source.randint(1, n)] for point, n in counts.items()
        }
        targets = [Target(point, nth) for point, some in sorted(chosen.items()) for nth in some]
        random_source.shuffle(targets)
        work += [(victim, targets[at : at + TARGETS_AT_ONCE]) for at in range(0, len(targets), TARGETS_AT_ONCE)]
    return deque(sorted(work, key=lambda portion: -len(portion[1])))


def test_r01_every_point_has_killed(tally: Tally) -> None:
    """After all flows; one flow by itself reaches fewer."""
    killed = {point for _, _, point in tally.covered}
    if not killed or {name for name, _, _ in tally.covered} != {scenario.name for scenario in SCENARIOS}:
        pytest.skip("not all flows were killed in this run")
    now_and_then = set(native.failpoints()) - set(native.commit_failpoints())
    assert set(failpoints.all_names()) - set(ELSEWHERE) - now_and_then - killed == set()


def test_r01_what_all_kills_have_left_verifies(stages: tuple[Stage, ...]) -> None:
    """Last, because it stops all nodes (I12)."""
    for stage in stages:
        stage.network.stop()
        verify_stopped(stage.made.directory)
