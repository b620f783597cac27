"""kill -9 of one node of a scenario at chosen failpoints: a restart, the same start again, and all of it happened once.

A victim that has died is started again with the next point armed already: should recovery pass that one, it dies once
more before the flow is complete, which is a case of its own. A start after such a second death has nothing armed.
"""

import asyncio
import signal
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from p2pet.client import ApiError
from p2pet.localnet import DaemonFailed

from p2petd import native
from p2petd.observe.failpoints import VARIABLE
from tests.support.community import completed
from tests.support.invariants import quiet
from tests.support.scenarios import Scenario, Stage

T = TypeVar("T")
# Arms nothing that is ever reached, so that a node counts its passes.
COUNTING = {VARIABLE: "batch.effects:1000000000"}
COUNTED = "failpoint_"
# Every record of any store of a process passes these points in Rust; so does every batch of a notary.
RECORDS = ("batch.before_commit", "history.before_commit", "oracle.before_commit", "worker.before_decide")
OF_RECORDS = ("log.", "view.")
OF_A_NOTARY = "notary."
DECIDES = "worker.before_decide"
ROUND_SECONDS_MAX = 60.0
# A pass that a round does not come to: another round gets there, because the node goes on counting.
ROUNDS_PER_POINT_MAX = 4


@dataclass
class Tally:
    """What was killed, and how long restarts took."""

    covered: set[tuple[str, str, str]] = field(default_factory=set)
    kills: int = 0
    killed_twice: int = 0
    slowest_restart_seconds: float = 0.0
    restarts: int = 0
    restarts_seconds: float = 0.0

    def restarted(self, seconds: float) -> None:
        self.restarts += 1
        self.restarts_seconds += seconds
        self.slowest_restart_seconds = max(self.slowest_restart_seconds, seconds)

    def say(self) -> str:
        points = {point for _, _, point in self.covered}
        mean = self.restarts_seconds / max(1, self.restarts)
        return (
            f"{self.kills} kills at {len(self.covered)} pairs of node and point ({len(points)} points), "
            f"{self.killed_twice} of them during recovery; restart mean {mean:.2f} s, "
            f"slowest {self.slowest_restart_seconds:.2f} s"
        )


@dataclass(frozen=True)
class Target:
    point: str
    nth: int

    @property
    def environment(self) -> Mapping[str, str]:
        return {VARIABLE: f"{self.point}:{self.nth}"}


async def passes_of(stage: Stage, scenario: Scenario) -> dict[str, dict[str, int]]:
    """By node, how often a round of the scenario passes each point there. All nodes must count.

    A round before it has done what is done once, such as fetching the tariff.
    """
    first, number = stage.new_round(), stage.new_round()
    for prepared in (first, number):
        await scenario.prepare(stage, prepared)
    await quiet(stage)
    await play(stage, scenario, first)
    before = {name: await _counted(stage, name) for name in scenario.nodes}
    await play(stage, scenario, number)
    found = {}
    for name in scenario.nodes:
        after = await _counted(stage, name)
        passed = {point: count - before[name].get(point, 0) for point, count in after.items()}
        passed = {point: count for point, count in passed.items() if count > 0}
        records = sum(passed.get(point, 0) for point in RECORDS)
        for point in native.commit_failpoints():
            if point.startswith(OF_RECORDS) and records:
                passed[point] = records
            elif point.startswith(OF_A_NOTARY) and passed.get(DECIDES):
                passed[point] = passed[DECIDES]
        found[name] = passed
    return found


async def _counted(stage: Stage, name: str) -> dict[str, int]:
    async with stage.client(name) as client:
        stats = await client.stats()
    return {key.removeprefix(COUNTED): count for key, count in stats.items() if key.startswith(COUNTED)}


class Killing:
    """One victim of one scenario, and the points at which it is to die."""

    def __init__(self, stage: Stage, scenario: Scenario, victim: str, targets: list[Target], tally: Tally) -> None:
        self._stage = stage
        self._network = stage.network
        self._scenario = scenario
        self._victim = victim
        self._targets = deque(targets)
        self._armed: Target | None = None
        self._tally = tally
        self._prepared: deque[int] = deque()

    async def run(self) -> None:
        """Returns when it has died at every point. Raises AssertionError for what a death has broken."""
        try:
            await self._kill_everywhere()
        except BaseException:
            # Whatever is armed must not go off in the next test.
            self._network.kill(self._victim)
            raise

    async def _kill_everywhere(self) -> None:
        await self._prepare(len(self._targets) + 2)
        await self._restart(self._targets.popleft())
        missed = 0
        while self._armed is not None:
            if not self._prepared:
                armed = self._armed
                await self._restart(None)
                await self._prepare(len(self._targets) + 2)
                await self._restart(armed)
            aimed = self._armed
            await self._round(self._prepared.popleft())
            missed = missed + 1 if self._armed is aimed else 0
            assert missed < ROUNDS_PER_POINT_MAX, f"{aimed} is not reached on {self._victim} in {self._scenario.name}"
            if self._armed is None and self._targets:
                await self._restart(self._targets.popleft())
        await self._restart(None)

    async def _prepare(self, count: int) -> None:
        numbers = [self._stage.new_round() for _ in range(count)]
        for number in numbers:
            await self._scenario.prepare(self._stage, number)
        await quiet(self._stage)
        self._prepared.extend(numbers)

    async def _restart(self, target: Target | None) -> None:
        """Stop it in order, and start it with a point armed. One that dies in its stop, or at once, dies there too."""
        self._armed = target
        self._network.stop(self._victim)
        await self._start()

    async def _start(self) -> None:
        while True:
            began = time.monotonic()
            self._network.launch(self._victim, COUNTING if self._armed is None else self._armed.environment)
            try:
                await self._network.wait_ready(self._victim)
            except DaemonFailed:
                self._has_died()
                self._tally.killed_twice += 1
                self._armed = None
            else:
                self._tally.restarted(time.monotonic() - began)
                return

    def _has_died(self) -> None:
        status = self._network.wait_ended(self._victim)
        log = self._network.log(self._victim)
        assert status == -signal.SIGKILL, f"{self._victim} ended by itself with {status}: {log}"
        assert self._armed is not None, f"{self._victim} was killed, and nothing was armed: {log}"
        self._tally.kills += 1
        self._tally.covered.add((self._scenario.name, self._victim, self._armed.point))

    async def _round(self, number: int) -> None:
        """A round in which the victim is started again whenever it has died."""
        going = asyncio.create_task(play(self._stage, self._scenario, number))
        watch = asyncio.create_task(self._revive())
        try:
            await asyncio.wait((going, watch), return_when=asyncio.FIRST_COMPLETED)
            if watch.done():
                watch.result()
            going.result()
            while not watch.done() and not self._network.is_running(self._victim):
                await asyncio.sleep(0.005)
        finally:
            for task in (going, watch):
                task.cancel()
            await asyncio.gather(going, watch, return_exceptions=True)

    async def _revive(self) -> None:
        deaths = 0
        while True:
            if self._network.is_running(self._victim):
                await asyncio.sleep(0.005)
                continue
            self._has_died()
            deaths += 1
            self._tally.killed_twice += deaths > 1
            self._armed = self._targets.popleft() if deaths == 1 and self._targets else None
            await self._start()


async def play(stage: Stage, scenario: Scenario, number: int) -> None:
    """Run a prepared round, whoever dies, until it is complete and seen to be so by all."""
    client_id = f"{scenario.name} {number}"
    seen = wanted = outcome = None
    try:
        async with asyncio.timeout(ROUND_SECONDS_MAX):
            arguments = await _surely(lambda: scenario.arguments(stage, number))
            before = await _surely(lambda: scenario.look(stage, number))
            wanted = scenario.wanted(stage, number, before)
            outcome = await _surely(lambda: stage.run(scenario.parties[0], scenario.flow, arguments, client_id))
            completed(outcome)
            while (seen := await _surely(lambda: scenario.look(stage, number))) != wanted:
                await asyncio.sleep(0.01)
            await quiet(stage, scenario.nodes)
    except TimeoutError:
        raise AssertionError(f"{client_id}: outcome {outcome}, seen {seen}, wanted {wanted}") from None


async def _surely(ask: Callable[[], Awaitable[T]]) -> T:
    """The answer of a node that may be dead at first."""
    while True:
        try:
            return await ask()
        except ApiError:
            await asyncio.sleep(0.01)
