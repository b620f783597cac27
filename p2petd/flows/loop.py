"""The thread that is a node's single writer: events in, one durable append, effects out."""

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Sequence

from p2petd import native
from p2petd.flows.effects import Effects
from p2petd.flows.engine import Engine
from p2petd.flows.events import Arrived, Event
from p2petd.observe.clock import Clock
from p2petd.observe.log import log_unexpected
from p2petd.store.changes import Changes

log = logging.getLogger(__name__)

EXIT_INTERNAL = 70
# What arrives in one batch is in one log record, which has a limit of its own.
BATCH_BYTES_MAX = 32 * 1024 * 1024


class NodeLoop:
    """Events that arrive while a batch is being committed form the next one: an idle node answers at once, a busy one
    amortises. Effects run on the event loop, after the sync."""

    def __init__(self, engine: Engine, store: native.Store, clock: Clock, events_max: int = 4096) -> None:
        self._engine = engine
        self._store = store
        self._clock = clock
        self._events_max = events_max
        self._waiting: list[Event] = []
        self._condition = threading.Condition()
        self._stopping = False
        self._asyncio = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, event: Event) -> None:
        """From any thread."""
        with self._condition:
            self._waiting.append(event)
            self._condition.notify()

    def submit_all(self, events: Sequence[Event]) -> None:
        with self._condition:
            self._waiting.extend(events)
            self._condition.notify()

    async def stop(self) -> None:
        """Commit what has arrived, then end the thread."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        try:
            self._commit(*self._engine.recover())
            while (events := self._next_events()) is not None:
                self._commit(*self._engine.handle(events))
            last = self._engine.leftovers().record()
            if last:
                self._store.commit(last)
        except Exception:  # noqa: BLE001 - memory may differ from the log now: only a restart makes them agree
            error_id = log_unexpected(log, "committing a batch")
            log.critical("the node stops, because memory and log may differ; error id=%s", error_id)
            os._exit(EXIT_INTERNAL)

    def _next_events(self) -> list[Event] | None:
        """Blocks until there is something to do; None when the node stops."""
        with self._condition:
            while True:
                due = self._engine.due_timers(self._clock())
                if self._waiting or due or self._engine.has_turns():
                    return due + self._take_waiting()
                if self._stopping:
                    return None
                self._condition.wait(self._seconds_to_timer())

    def _take_waiting(self) -> list[Event]:
        count = size = 0
        while count < min(len(self._waiting), self._events_max) and size < BATCH_BYTES_MAX:
            event = self._waiting[count]
            size += sum(len(m.session) for m in event.messages) if isinstance(event, Arrived) else 0
            count += 1
        events, self._waiting = self._waiting[:count], self._waiting[count:]
        return events

    def _seconds_to_timer(self) -> float | None:
        next_ns = self._engine.next_timer_ns()
        return None if next_ns is None else max(0.0, (next_ns - self._clock()) / 1e9)

    def _commit(self, changes: Changes, effects: Effects) -> None:
        if changes:
            self._store.commit(changes.record())
        self._engine.committed()
        if effects.actions:
            self._asyncio.call_soon_threadsafe(_run_all, effects.actions)


def _run_all(actions: list[Callable[[], None]]) -> None:
    """One that fails must not cost the others theirs: what is durable is done again after a restart."""
    for action in actions:
        try:
            action()
        except Exception:  # noqa: BLE001 - the boundary between the engine and the world
            log_unexpected(log, "doing what a batch has caused")
