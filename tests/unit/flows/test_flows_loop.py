"""The loop around the engine: what a batch may hold, and what happens with what it causes."""

import asyncio
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from p2pet.flows.v1.flows_pb2 import FlowStart
from p2pet.peer.v1.peer_pb2 import Message

from p2petd import native
from p2petd.errors import DiskFull, FlowsExhausted, NodeError
from p2petd.flows.effects import Effects
from p2petd.flows.events import Arrived, Event, Start, Watch
from p2petd.flows.loop import BATCH_BYTES_MAX, EXIT_INTERNAL, STARTS_IN_BATCH_MAX, STARTS_WAITING_MAX, NodeLoop
from p2petd.observe.clock import system_clock
from p2petd.store.changes import Changes
from p2petd.store.tables import Table

FRAME_BYTES = 900_000
EVENTS_MAX = 1_000
SECONDS_MAX = 10


class Batches:
    """In the place of the engine: writes down what each batch holds, and causes what the test wants."""

    def __init__(self, causes: tuple[Callable[[], None], ...]) -> None:
        self.seen: list[list[Event]] = []
        self.looked_at: list[Event] = []
        # What each batch writes.
        self.row: bytes | None = None
        self._causes = causes

    def recover(self) -> tuple[Changes, Effects]:
        return Changes(), Effects()

    def handle(self, events: list[Event]) -> tuple[Changes, Effects]:
        self.seen.append(events)
        changes = Changes()
        if self.row is not None:
            changes.put(Table.META, b"row", self.row)
        return changes, Effects(list(self._causes))

    def committed(self) -> None:
        pass

    def leftovers(self) -> Changes:
        return Changes()

    def has_turns(self) -> bool:
        return False

    def next_timer_ns(self) -> int | None:
        return None

    def due_timers(self, _: int) -> list[Event]:
        return []

    def look(self, events: list[Event]) -> Effects:
        self.looked_at += events
        return Effects()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[native.Store]:
    opened = native.Store.open(str(tmp_path / "node"))
    yield opened
    opened.close()


async def _run(batches: Batches, store: native.Store, events: list[Event], *, until: asyncio.Event) -> None:
    loop = NodeLoop(cast(Any, batches), store, system_clock, EVENTS_MAX)
    loop.submit_all(events)
    loop.start()
    async with asyncio.timeout(SECONDS_MAX):
        await until.wait()
        await loop.stop()


def _arrived(number: int, size: int) -> Arrived:
    return Arrived(b"p" * 32, b"e" * 16, (Message(sequence=number, session=bytes(size)),))


@pytest.mark.parametrize(("size", "count"), [(FRAME_BYTES, 100), (0, 2 * EVENTS_MAX + 1)])
def test_r12_a_batch_is_bounded_in_bytes_and_events_and_loses_none(size: int, count: int, store: native.Store) -> None:
    """What arrives while a batch is committed must fit into the next log record, or wait for the one after."""

    async def scenario() -> None:
        events: list[Event] = [_arrived(number, size) for number in range(count)]
        all_seen = asyncio.Event()
        batches = Batches((lambda: all_seen.set() if sum(map(len, batches.seen)) == count else None,))
        await _run(batches, store, events, until=all_seen)
        assert [event for batch in batches.seen for event in batch] == events
        assert max(len(batch) for batch in batches.seen) <= EVENTS_MAX
        assert max(len(batch) for batch in batches.seen) * size <= BATCH_BYTES_MAX + FRAME_BYTES

    asyncio.run(scenario())


def test_r12_what_goes_on_comes_before_what_begins_and_only_so_much_begins_at_a_time(store: native.Store) -> None:
    """Else a node that is asked to begin more than it can do would begin it all, and end nothing meanwhile."""

    async def scenario() -> None:
        count = 3 * STARTS_IN_BATCH_MAX
        starts = [Start(FlowStart(flow=str(number)), lambda _: None, None) for number in range(count)]
        going_on = [_arrived(number, 0) for number in range(10)]
        all_seen = asyncio.Event()
        batches = Batches((lambda: all_seen.set() if sum(map(len, batches.seen)) == count + 10 else None,))
        await _run(batches, store, [*starts, *going_on], until=all_seen)
        first = batches.seen[0]
        assert first == [*going_on, *starts[:STARTS_IN_BATCH_MAX]]
        assert [event for batch in batches.seen[1:] for event in batch] == starts[STARTS_IN_BATCH_MAX:]
        assert max(len(batch) for batch in batches.seen[1:]) <= STARTS_IN_BATCH_MAX

    asyncio.run(scenario())


def test_r12_more_flows_than_may_wait_to_be_started_are_refused_at_once(store: native.Store) -> None:
    async def scenario() -> None:
        refused: list[bytes | NodeError] = []
        starts: list[Event] = [
            Start(FlowStart(flow=str(number)), refused.append, None) for number in range(STARTS_WAITING_MAX + 2)
        ]
        all_seen = asyncio.Event()

        def look() -> None:
            if sum(map(len, batches.seen)) == STARTS_WAITING_MAX:
                all_seen.set()

        batches = Batches((look,))
        await _run(batches, store, starts, until=all_seen)
        assert [event for batch in batches.seen for event in batch] == starts[:STARTS_WAITING_MAX]
        assert [type(error) for error in refused] == [FlowsExhausted] * 2

    asyncio.run(scenario())


def test_f06_an_effect_that_fails_does_not_cost_the_others(
    store: native.Store, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as a message for a peer that has left the network, among those for peers that have not."""
    done: list[str] = []

    def fail() -> None:
        raise RuntimeError("this one fails")

    async def scenario() -> None:
        ended = asyncio.Event()
        causes = (lambda: done.append("first"), fail, lambda: done.append("last"), ended.set)
        await _run(Batches(causes), store, [_arrived(1, 0)], until=ended)

    asyncio.run(scenario())
    assert done == ["first", "last"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


class Disk:
    """A store whose disk can be filled: what it says of its room then, and what a commit meets all the same."""

    def __init__(self, store: native.Store) -> None:
        self._store = store
        self.has_space = threading.Event()
        self.has_space.set()
        self.says_full = True
        # Set when a commit has met the full disk.
        self.met = threading.Event()

    def has_room(self, size: int) -> bool:
        return self._store.has_room(size) and (self.has_space.is_set() or not self.says_full)

    def commit(self, record: Sequence[tuple[int, bytes, bytes | None]]) -> int:
        if self.has_space.is_set():
            return self._store.commit(record)
        self.met.set()
        error = native.StoreError("no space is left")
        error.code = "store.disk_full"
        raise error


class Client:
    """Hears what becomes of what it starts or looks at."""

    def __init__(self) -> None:
        self.answers: asyncio.Queue[Any] = asyncio.Queue()

    def start(self) -> Start:
        return Start(FlowStart(), self.answers.put_nowait, None)

    def watch(self) -> Watch:
        return Watch(b"f" * 16, self.answers.put_nowait, None)


class FullLoop:
    """A loop on a disk that is full from the start on."""

    def __init__(self, store: native.Store, *, says_full: bool = True) -> None:
        self.handled: asyncio.Queue[None] = asyncio.Queue()
        self.batches = Batches((lambda: self.handled.put_nowait(None),))
        self.batches.row = b"value"
        self.disk = Disk(store)
        self.disk.says_full = says_full
        self.disk.has_space.clear()
        self.loop = NodeLoop(cast(Any, self.batches), cast(Any, self.disk), system_clock, EVENTS_MAX)
        self.client = Client()

    async def refused(self) -> DiskFull:
        """The answer to a start. The loop has looked at everything before it then."""
        self.loop.submit(self.client.start())
        answer = await asyncio.wait_for(self.client.answers.get(), SECONDS_MAX)
        assert isinstance(answer, DiskFull)
        return answer


def test_r05_a_full_disk_refuses_starts_answers_looks_and_lets_the_rest_wait(
    store: native.Store, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        full = FullLoop(store)
        look, message = full.client.watch(), _arrived(1, 10)
        full.loop.submit_all([message, look])
        full.loop.start()
        await full.refused()
        await full.refused()
        assert full.loop.is_full
        assert full.batches.seen == []
        assert full.batches.looked_at == [look]
        assert store.get(Table.META, b"row") is None

        full.disk.has_space.set()
        await asyncio.wait_for(full.handled.get(), SECONDS_MAX)
        assert full.batches.seen == [[message]]
        assert store.get(Table.META, b"row") == b"value"
        full.loop.submit(full.client.start())
        await asyncio.wait_for(full.handled.get(), SECONDS_MAX)
        assert not full.loop.is_full
        await full.loop.stop()

    with caplog.at_level(logging.INFO):
        asyncio.run(scenario())
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.INFO]


def test_r05_a_batch_that_meets_the_full_disk_is_committed_when_there_is_room(store: native.Store) -> None:
    """Its effects wait, and so does everything after it, in order; what is started meanwhile is refused."""

    async def scenario() -> None:
        full = FullLoop(store, says_full=False)
        first, second = _arrived(1, 10), _arrived(2, 10)
        full.loop.submit(first)
        full.loop.start()
        await asyncio.to_thread(full.disk.met.wait, SECONDS_MAX)
        full.loop.submit(second)
        look = full.client.watch()
        full.loop.submit(look)
        await full.refused()
        assert full.batches.seen == [[first]]
        assert full.handled.empty()
        assert full.batches.looked_at == []

        full.disk.has_space.set()
        await asyncio.wait_for(full.handled.get(), SECONDS_MAX)
        await asyncio.wait_for(full.handled.get(), SECONDS_MAX)
        assert full.batches.seen == [[first], [second, look]]
        await full.loop.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize("says_full", [True, False], ids=["before a batch", "within a batch"])
def test_r05_a_node_can_be_stopped_while_its_disk_is_full(says_full: bool, store: native.Store) -> None:
    """What waits was never acknowledged to anybody, and comes again."""

    async def scenario() -> None:
        full = FullLoop(store, says_full=says_full)
        full.loop.submit(_arrived(1, 10))
        full.loop.start()
        if not says_full:
            await asyncio.to_thread(full.disk.met.wait, SECONDS_MAX)
        await full.refused()
        await asyncio.wait_for(full.loop.stop(), SECONDS_MAX)
        assert full.handled.empty()

    asyncio.run(scenario())
    assert store.get(Table.META, b"row") is None


def test_r05_another_fault_of_the_store_still_ends_the_process(store: native.Store, tmp_path: Path) -> None:
    """Only a full disk is waited for: what any other failure leaves behind, a start must find out."""
    script = tmp_path / "fault.py"
    script.write_text(FAULT)
    done = subprocess.run([sys.executable, str(script), str(tmp_path / "other")], timeout=30, capture_output=True)
    assert done.returncode == EXIT_INTERNAL, done.stderr


FAULT = """
import asyncio, sys
from typing import Any, cast
from p2petd import native
from p2petd.flows.loop import NodeLoop
from p2petd.observe.clock import system_clock
from tests.unit.flows.test_flows_loop import Batches, _arrived

async def scenario() -> None:
    store = native.Store.open(sys.argv[1])
    batches = Batches(())
    batches.row = b"value"
    store.close()
    loop = NodeLoop(cast(Any, batches), store, system_clock)
    loop.submit(_arrived(1, 1))
    loop.start()
    await asyncio.sleep(20)

asyncio.run(scenario())
"""
