"""The model checker's view: seeds in which everything goes wrong, and nothing may be lost or happen twice."""

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulation.mutants import MUTANTS, ROUGH, Mutant
from tests.simulation.node import Violation
from tests.simulation.world import World, plan_of

SEED = os.environ.get("P2PET_SIM_SEED")
SOAK = os.environ.get("P2PET_SOAK") == "1"
SOAK_SECONDS = 600.0
# A memory file system: the simulated crashes decide what is lost, the machine's disk has no part in it.
FAST = Path("/dev/shm")


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=FAST if FAST.is_dir() else None) as path:
        yield Path(path)


def _seeds() -> list[int]:
    """Always the same, so that a failure comes from a change; P2PET_SIM_SEED names the only one."""
    return [int(SEED)] if SEED is not None else list(range(1, 17))


@pytest.mark.parametrize("seed", _seeds())
def test_r01_i1_to_i8_hold_through_a_storm_of_faults(seed: int, directory: Path) -> None:
    """A minute of flows of every kind and of faults, then quiet, then everything against the reference.

    The short form runs few seeds; the long one runs further ones for minutes.
    """
    summary = World(seed, directory, plan_of(seed)).run()
    assert summary.completed
    assert summary.accepted >= summary.completed // 2


@pytest.mark.skipif(not SOAK, reason="the long form runs with P2PET_SOAK=1")
@pytest.mark.timeout(0)
def test_r01_many_seeds(directory: Path) -> None:
    until, seed, steps = time.monotonic() + SOAK_SECONDS, int(time.time()) * 1000, 0
    codes: Counter[str] = Counter()
    while time.monotonic() < until:
        seed += 1
        home = directory / str(seed)
        home.mkdir()
        summary = World(seed, home, plan_of(seed)).run()
        steps += summary.steps
        codes += summary.codes
    print(f"{steps} steps up to seed {seed}; outcomes: {codes}")


def test_r01_one_seed_is_one_run_whatever_the_process(directory: Path) -> None:
    """Neither the order of sets nor anything else of a process decides what happens."""
    code = (
        "import sys; from pathlib import Path; from tests.simulation.world import World, short; "
        "print(World(7, Path(sys.argv[1]), short(7)).run().trace)"
    )
    traces = set()
    for salt in ("1", "2"):
        home = directory / salt
        home.mkdir()
        run = subprocess.run(
            [sys.executable, "-c", code, str(home)],
            env={**os.environ, "PYTHONHASHSEED": salt},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
        traces.add(run.stdout)
    assert len(traces) == 1


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.node.__name__)
def test_r01_a_planted_bug_is_found(mutant: Mutant, directory: Path) -> None:
    """A checker that cannot fail checks nothing."""
    for seed in mutant.seeds:
        home = directory / str(seed)
        home.mkdir()
        if _is_found(World(seed, home, ROUGH, mutant.node)):
            return
    pytest.fail(f"{mutant.node.__name__} was not found in {len(mutant.seeds)} seeds")


def _is_found(world: World) -> bool:
    try:
        world.run()
    except Violation as found:
        return f"P2PET_SIM_SEED={world.seed}" in str(found)
    return False
