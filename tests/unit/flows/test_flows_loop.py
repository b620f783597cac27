"""The loop around the engine: what a batch may hold, and what happens with what it causes."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from p2pet.peer.v1.peer_pb2 import Message

from p2petd import native
from p2petd.flows.effects import Effects
from p2petd.flows.events import Arrived, Event
from p2petd.flows.loop import BATCH_BYTES_MAX, NodeLoop
from p2petd.observe.clock import system_clock
from p2petd.store.changes import Changes

FRAME_BYTES = 900_000
EVENTS_MAX = 1_000
SECONDS_MAX = 10


class Batches:
    """In the place of the engine: writes down what each batch holds, and causes what the test wants."""

    def __init__(self, causes: tuple[Callable[[], None], ...]) -> None:
        self.seen: list[list[Event]] = []
        self._causes = causes

    def recover(self) -> tuple[Changes, Effects]:
        return Changes(), Effects()

    def handle(self, events: list[Event]) -> tuple[Changes, Effects]:
        self.seen.append(events)
        return Changes(), Effects(list(self._causes))

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
