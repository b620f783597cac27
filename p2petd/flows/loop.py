"""The thread that is a node's single writer: events in, one durable append, effects out."""

import asyncio
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence

from p2petd import native
from p2petd.errors import FlowsExhausted
from p2petd.flows.effects import Effects
from p2petd.flows.engine import Engine
from p2petd.flows.events import Arrived, Drop, Event, Kill, Remove, Retry, Start, Unwatch, Watch
from p2petd.observe import failpoints
from p2petd.observe.clock import Clock
from p2petd.observe.failpoints import Failpoint
from p2petd.observe.log import log_unexpected
from p2petd.store.changes import Changes
from p2petd.store.room import LOOK_AGAIN_SECONDS, Room

log = logging.getLogger(__name__)

EXIT_INTERNAL = 70
# What arrives in one batch is in one log record, which has a limit of its own.
BATCH_BYTES_MAX = 32 * 1024 * 1024
# What goes on comes before what begins, and so much begins at a time: else a node that is asked for more than it can do
# would begin it all and end nothing.
STARTS_IN_BATCH_MAX = 256
STARTS_WAITING_MAX = 10_000
# What a client asks for and no record can be written for; a peer's messages, answers and timers wait instead.
REFUSED_WHEN_FULL = (Start, Kill, Drop, Retry, Remove)


class NodeLoop:
    """Events that arrive while a batch is being committed form the next one: an idle node answers at once, a busy one
    amortises. Effects run on the event loop, after the sync.

    While the disk is full nothing is lost and nothing begins: what clients want to start is refused, what they look at
    is answered, and everything else waits until there is room.
    """

    def __init__(self, engine: Engine, store: native.Store, clock: Clock, events_max: int = 4096) -> None:
        self._engine = engine
        self._store = store
        self._room = Room(store, "node")
        self._clock = clock
        self._events_max = events_max
        self._waiting: list[Event] = []
        # Besides those: the flows that clients want to start.
        self._starts: deque[Start] = deque()
        # What came before those, while the disk was full. Only the thread itself touches it.
        self._held: list[Event] = []
        self._condition = threading.Condition()
        self._stopping = False
        self._asyncio = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    @property
    def is_full(self) -> bool:
        """Whether it begins nothing, because the disk or the map of the view is full."""
        return self._room.is_full

    def start(self) -> None:
        self._thread.start()

    def submit(self, event: Event) -> None:
        """From any thread."""
        self.submit_all((event,))

    def submit_all(self, events: Sequence[Event]) -> None:
        refused: list[Start] = []
        with self._condition:
            for event in events:
                if not isinstance(event, Start):
                    self._waiting.append(event)
                elif len(self._starts) < STARTS_WAITING_MAX:
                    self._starts.append(event)
                else:
                    refused.append(event)
            self._condition.notify()
        for event in refused:
            error = FlowsExhausted(f"{STARTS_WAITING_MAX} flows wait to be started; try again later")
            self._asyncio.call_soon_threadsafe(event.answer, error)

    async def stop(self) -> None:
        """Commit what has arrived, unless the disk is full, then end the thread."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        try:
            going_on = self._commit(*self._engine.recover())
            while going_on and (events := self._next_events()) is not None:
                going_on = self._commit(*self._engine.handle(events))
            last = self._engine.leftovers().record()
            if going_on and last:
                failpoints.pass_(Failpoint.BATCH_BEFORE_COMMIT)
                self._room.commit(last)
                failpoints.pass_(Failpoint.BATCH_AFTER_COMMIT)
        except Exception:  # noqa: BLE001 - memory may differ from the log now: only a restart makes them agree
            error_id = log_unexpected(log, "committing a batch")
            log.critical("the node stops, because memory and log may differ; error id=%s", error_id)
            os._exit(EXIT_INTERNAL)

    def _next_events(self) -> list[Event] | None:
        """Blocks until there is something to do, and room to do it; None when the node stops."""
        while self._wait_for_work():
            if self._room.look():
                with self._condition:
                    self._waiting, self._held = self._held + self._waiting, []
                    return self._engine.due_timers(self._clock()) + self._take_waiting()
            if not self._hold_back(may_look=True):
                return None
        return None

    def _wait_for_work(self) -> bool:
        """False when the node stops and nothing is left to do."""
        with self._condition:
            while True:
                # On a full disk to see when it has room again.
                arrived = self._held or self._waiting or self._starts
                if arrived or self._is_due() or self._engine.has_turns() or self._room.is_full:
                    return True
                if self._stopping:
                    return False
                self._condition.wait(self._seconds_to_timer())

    def _is_due(self) -> bool:
        next_ns = self._engine.next_timer_ns()
        return next_ns is not None and next_ns <= self._clock()

    def _take_waiting(self) -> list[Event]:
        count = size = 0
        while count < min(len(self._waiting), self._events_max) and size < BATCH_BYTES_MAX:
            event = self._waiting[count]
            size += sum(len(m.session) for m in event.messages) if isinstance(event, Arrived) else 0
            count += 1
        events, self._waiting = self._waiting[:count], self._waiting[count:]
        return events + [self._starts.popleft() for _ in range(min(len(self._starts), STARTS_IN_BATCH_MAX))]

    def _seconds_to_timer(self) -> float | None:
        next_ns = self._engine.next_timer_ns()
        return None if next_ns is None else max(0.0, (next_ns - self._clock()) / 1e9)

    def _commit(self, changes: Changes, effects: Effects) -> bool:
        """Make a batch durable, then do what it has caused; False when the node stops before there is room for it.

        Such a batch never was: nothing of it has left the node, and a start makes it again.
        """
        if changes:
            record = changes.record()
            failpoints.pass_(Failpoint.BATCH_BEFORE_COMMIT)
            while not self._room.commit(record):
                # Memory is ahead of the view until this batch is in it, so nobody looks meanwhile.
                if not self._hold_back(may_look=False):
                    return False
            failpoints.pass_(Failpoint.BATCH_AFTER_COMMIT)
        self._engine.committed()
        self._cause(effects)
        return True

    def _hold_back(self, *, may_look: bool) -> bool:
        """On a full disk: refuse what clients start, let them look, keep the rest; waits before there is room to look
        at again. False when the node stops."""
        with self._condition:
            arrived, self._waiting = [*self._waiting, *self._starts], []
            self._starts.clear()
        looks: list[Watch | Unwatch] = []
        for event in arrived:
            if isinstance(event, REFUSED_WHEN_FULL):
                self._asyncio.call_soon_threadsafe(event.answer, self._room.refusal())
            elif may_look and isinstance(event, Watch | Unwatch):
                looks.append(event)
            else:
                self._held.append(event)
        if looks:
            self._cause(self._engine.look(looks))
        with self._condition:
            if not self._waiting and not self._stopping:
                self._condition.wait(LOOK_AGAIN_SECONDS)
            return not self._stopping

    def _cause(self, effects: Effects) -> None:
        if effects.actions:
            failpoints.pass_(Failpoint.BATCH_EFFECTS)
            self._asyncio.call_soon_threadsafe(_run_all, effects.actions)


def _run_all(actions: list[Callable[[], None]]) -> None:
    """One that fails must not cost the others theirs: what is durable is done again after a restart."""
    for action in actions:
        try:
            action()
        except Exception:  # noqa: BLE001 - the boundary between the engine and the world
            log_unexpected(log, "doing what a batch has caused")
