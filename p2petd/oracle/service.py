"""One thread that is the oracle: it takes in, answers and signs in batches, each made durable before anybody hears.

The oracle has a log of its own beside the node's, as a notary has: bulk readings then wait for no flow, and no flow for
them; and what an oracle has vouched for can be kept and audited by itself.
"""

import asyncio
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf.message import DecodeError
from p2pet.ledger.v1.oracle_pb2 import EnergyForecast, TariffNotice
from p2pet.oracle.v1 import oracle_pb2 as pb
from p2pet.peer.v1.peer_pb2 import Reply

from p2petd import native
from p2petd.errors import (
    CopyUnconfirmed,
    DataDirectoryError,
    InternalError,
    NodeError,
    OracleOverloaded,
    RequestMalformed,
)
from p2petd.fair_queue import FairQueue
from p2petd.observe import failpoints
from p2petd.observe.clock import Clock
from p2petd.observe.failpoints import Failpoint
from p2petd.observe.log import log_unexpected
from p2petd.oracle.allowance import SIGNATURES_PER_HOUR_MAX, Allowance
from p2petd.oracle.book import META_KEY, Book, OracleTable, read_key, readings_page
from p2petd.oracle.feeds import FeedFolder
from p2petd.oracle.telling import Taken, take_forecast, take_reading, take_tariff
from p2petd.oracle.vouching import Voice
from p2petd.store.opening import Opening
from p2petd.store.room import LOOK_AGAIN_SECONDS, Room, close_store
from p2petd.units import SECOND_NS

log = logging.getLogger(__name__)

FACTS = "oracle.facts"
SIGN = "oracle.sign"
Answer = Callable[[Reply], None]
T = TypeVar("T")

EXIT_INTERNAL = 70
HELD_RETRY_NS = 10 * SECOND_NS
POLL_SECONDS = 1.0
QUEUE_MAX = 4096
QUEUE_BYTES_MAX = 64 * 1024 * 1024
# Of one batch, for which all that are in it wait: in number, and until no further one is begun.
BATCH_MAX = 256
BATCH_SECONDS_MAX = 0.2
# Readings or forecasts of one push, and of all pushes that one record holds, but for the last of them.
PUSHED_MAX = 10_000
# What the clients' own calls wait under, beside the peers' identities.
OWN = b""


@dataclass(frozen=True)
class _Task:
    caller: bytes
    work: Callable[[int], Any]
    done: Callable[[Any], None]
    # How many facts it brings.
    weight: int = 0


class OracleService:
    """Answers `oracle.facts` and `oracle.sign` of any peer, and the pushes of its operator. All of it is idempotent."""

    def __init__(
        self,
        store: native.Store,
        key: native.SigningKey,
        network_id: bytes,
        unit_ns: int,
        readings_directory: Path,
        clock: Clock,
        held: str | None = None,
    ) -> None:
        """Owns `store` from here on; `held` says why it vouches for nothing (see `p2petd.store.standing`).

        Raises DataDirectoryError when the store is another oracle's.
        """
        _check_owner(store, key.public)
        self._store = store
        self._room = Room(store, "oracle")
        self._book = Book(store)
        self._voice = Voice(self._book, key, network_id, unit_ns)
        self._feeds = FeedFolder(readings_directory, self._book, unit_ns)
        self._unit_ns = unit_ns
        self._clock = clock
        self._held = held
        self._asyncio = asyncio.get_running_loop()
        self._condition = threading.Condition()
        self._tasks: FairQueue[_Task] = FairQueue(QUEUE_MAX, QUEUE_BYTES_MAX)
        self._allowance = Allowance()
        self._stopping = False
        self._next_poll = time.monotonic()
        self._counters = Counter[str]()
        self._thread = threading.Thread(target=self._run, name="oracle", daemon=True)

    def start(self) -> None:
        self._thread.start()

    async def stop(self) -> None:
        """Answer what has arrived, then end the thread and close the log."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        await asyncio.to_thread(self._thread.join)
        close_store(self._store, "oracle")

    def counters(self) -> Mapping[str, int]:
        return {f"oracle_{name}": count for name, count in sorted(self._counters.items())}

    # Between nodes.

    def facts(self, peer: bytes, payload: bytes, answer: Answer) -> None:
        """Queue a `FactsRequest`; a refusal is an answer, a full queue asks the peer to come again."""

        def work(now_ns: int) -> bytes:
            try:
                reply = pb.FactsReply(attestation=self._voice.facts(pb.FactsRequest.FromString(payload)))
            except DecodeError:
                reply = pb.FactsReply(error_code=RequestMalformed.code, error_message="the request does not decode")
            except NodeError as error:
                reply = pb.FactsReply(error_code=error.code, error_message=error.message)
            return reply.SerializeToString()

        self._queue_for_peer(peer, work, answer, len(payload))

    def sign(self, peer: bytes, payload: bytes, answer: Answer) -> None:
        """Queue a `SignRequest`; the same rules."""

        def work(now_ns: int) -> bytes:
            try:
                reply = pb.SignReply(signature=self._voice.sign(pb.SignRequest.FromString(payload), now_ns))
                self._counters["signatures"] += 1
            except DecodeError:
                reply = pb.SignReply(error_code=RequestMalformed.code, error_message="the request does not decode")
            except NodeError as error:
                self._counters["signatures_refused"] += 1
                reply = pb.SignReply(error_code=error.code, error_message=error.message)
            return reply.SerializeToString()

        wait_ns = self._allowance.take(peer, self._clock())
        if wait_ns:
            message = f"the oracle signs {SIGNATURES_PER_HOUR_MAX} times an hour for one caller; ask again later"
            answer(Reply(error_code=OracleOverloaded.code, error_message=message, retry_after_ns=wait_ns))
            return
        self._queue_for_peer(peer, work, answer, len(payload))

    # For its operator.

    async def push_readings(self, readings: Sequence[pb.UnitReading]) -> pb.PushReadingsResponse:
        """Take each reading by itself; durable when this returns. Raises OracleOverloaded, also above PUSHED_MAX."""
        return await self._ask(lambda now_ns: self._take_readings(readings, now_ns), len(readings))

    async def push_forecasts(self, forecasts: Sequence[EnergyForecast]) -> pb.PushForecastsResponse:
        """The same for forecasts."""
        return await self._ask(lambda now_ns: self._take_forecasts(forecasts, now_ns), len(forecasts))

    async def publish_tariff(self, tariff: bytes, valid_from_ns: int, valid_until_ns: int) -> TariffNotice:
        """Vouch from now on for the tariff table with this hash; the caller has read it. Raises OracleOverloaded."""
        return await self._ask(lambda now_ns: take_tariff(self._book, tariff, valid_from_ns, valid_until_ns, now_ns))

    def readings(
        self, meter: str, after: bytes, from_ns: int, until_ns: int, limit: int
    ) -> tuple[list[pb.KnownReading], bytes | None]:
        """A page of what is durable; see `readings_page`. From any thread."""
        rows, last = readings_page(self._store, meter, after, from_ns, until_ns, limit)
        found = []
        for key, row in rows:
            name, start_ns = read_key(key)
            found.append(
                pb.KnownReading(
                    reading=pb.UnitReading(
                        meter=name, start_ns=start_ns, energy_wh=row.energy_wh, revision=row.revision
                    ),
                    received_at_ns=row.received_at_ns,
                    attested_revision=row.attested_revision,
                    earlier_wh=row.earlier_wh,
                )
            )
        return found, last

    def _take_readings(self, readings: Sequence[pb.UnitReading], now_ns: int) -> pb.PushReadingsResponse:
        taken: Counter[Taken] = Counter()
        refused = []
        for index, reading in enumerate(readings):
            try:
                taken[take_reading(self._book, reading, self._unit_ns, now_ns)] += 1
            except NodeError as error:
                refused.append(pb.RefusedReading(index=index, code=error.code, message=error.message))
        self._counters["readings"] += taken[Taken.ADDED]
        self._counters["corrections"] += taken[Taken.CORRECTED] + taken[Taken.CORRECTED_LATE]
        return pb.PushReadingsResponse(
            added=taken[Taken.ADDED],
            repeated=taken[Taken.REPEATED],
            corrected=taken[Taken.CORRECTED],
            corrected_late=taken[Taken.CORRECTED_LATE],
            refused=refused,
        )

    def _take_forecasts(self, forecasts: Sequence[EnergyForecast], now_ns: int) -> pb.PushForecastsResponse:
        refused = []
        for index, forecast in enumerate(forecasts):
            try:
                take_forecast(self._book, forecast, self._unit_ns, now_ns)
            except NodeError as error:
                refused.append(pb.RefusedReading(index=index, code=error.code, message=error.message))
        return pb.PushForecastsResponse(accepted=len(forecasts) - len(refused), refused=refused)

    # The queue and its thread.

    def _queue_for_peer(self, peer: bytes, work: Callable[[int], bytes], answer: Answer, size: int) -> None:
        if self._held is not None:
            code, wait_ns = CopyUnconfirmed.code, HELD_RETRY_NS
            answer(Reply(error_code=code, error_message=self._held, retry_after_ns=wait_ns))
            return

        def done(result: bytes | NodeError) -> None:
            if isinstance(result, NodeError):
                answer(Reply(error_code=result.code, error_message=result.message))
            else:
                answer(Reply(payload=result))

        self._queue(_Task(peer, work, done), size)

    async def _ask(self, work: Callable[[int], T], weight: int = 0) -> T:
        if weight > PUSHED_MAX:
            raise OracleOverloaded(f"a push holds at most {PUSHED_MAX} facts, not {weight}; push them in parts")
        answer: asyncio.Future[T] = self._asyncio.create_future()

        def done(result: T | NodeError) -> None:
            if answer.done():
                return
            if isinstance(result, NodeError):
                answer.set_exception(result)
            else:
                answer.set_result(result)

        self._queue(_Task(OWN, work, done, weight), 0)
        return await answer

    def _queue(self, task: _Task, size: int) -> None:
        """On the event loop's thread. A task that finds no room is answered at once."""
        with self._condition:
            taken = self._tasks.put(task.caller, task, size)
            if taken:
                self._condition.notify()
        if not taken:
            task.done(OracleOverloaded("the oracle has too many requests waiting; ask again later"))

    def _run(self) -> None:
        try:
            while self._has_work():
                answers = self._work() if self._room.look() else self._refuse()
                if answers:
                    failpoints.pass_(Failpoint.ORACLE_BEFORE_REPLY)
                    self._asyncio.call_soon_threadsafe(_run_all, answers)
        except BaseException:  # noqa: BLE001 - memory and log may differ now: only a restart makes them agree
            error_id = log_unexpected(log, "working as an oracle")
            log.critical("the oracle stops, because its memory and log may differ; error id=%s", error_id)
            os._exit(EXIT_INTERNAL)

    def _work(self) -> list[Callable[[], None]]:
        """The answers of a batch, once it is durable; on a disk that fills meanwhile that is when it has room."""
        now_ns = self._clock()
        answers: list[Callable[[], None]] = [
            partial(task.done, _result(task, now_ns)) for task in self._tasks_of_a_batch()
        ]
        self._poll(now_ns)
        changes = self._book.take()
        return answers if not changes or self._keep(changes) else []

    def _keep(self, changes: Sequence[tuple[int, bytes, bytes | None]]) -> bool:
        """False when the node stops before there is room for them."""
        failpoints.pass_(Failpoint.ORACLE_BEFORE_COMMIT)
        while not self._room.commit(changes):
            with self._condition:
                if self._stopping:
                    return False
                self._condition.wait(LOOK_AGAIN_SECONDS)
        failpoints.pass_(Failpoint.ORACLE_AFTER_COMMIT)
        return True

    def _refuse(self) -> list[Callable[[], None]]:
        """On a full disk: nodes ask again, pushes are refused, and files are read later."""
        self._next_poll = time.monotonic() + POLL_SECONDS
        with self._condition:
            return [partial(task.done, self._room.refusal()) for task in self._tasks.take(BATCH_MAX)]

    def _has_work(self) -> bool:
        """True when something waits, or it is time to look at the files; False when the node stops."""
        with self._condition:
            while not self._tasks:
                if self._stopping:
                    return False
                left = self._next_poll - time.monotonic()
                if left <= 0:
                    break
                self._condition.wait(left)
            return True

    def _tasks_of_a_batch(self) -> Iterator[_Task]:
        """What waits, in turns of its callers, until the batch has its size or has taken its time."""
        count = weight = 0
        deadline = time.monotonic() + BATCH_SECONDS_MAX
        while count < BATCH_MAX and weight < PUSHED_MAX and (not count or time.monotonic() < deadline):
            with self._condition:
                taken = self._tasks.take(1)
            if not taken:
                return
            count, weight = count + 1, weight + taken[0].weight
            yield taken[0]

    def _poll(self, now_ns: int) -> None:
        if time.monotonic() >= self._next_poll:
            more = self._feeds.poll(now_ns)
            self._next_poll = time.monotonic() + (0.0 if more else POLL_SECONDS)


def open_oracle_store(directory: Path, *, segment_bytes: int, map_bytes: int) -> native.Store:
    """The log and view of an oracle. Raises DataDirectoryError."""
    opening = Opening("oracle")
    try:
        store = native.Store.open(str(directory), segment_bytes=segment_bytes, map_bytes=map_bytes, progress=opening)
    except native.NativeError as error:
        raise DataDirectoryError(str(error)) from error
    opening.opened(store.stats())
    return store


def _check_owner(store: native.Store, key: bytes) -> None:
    owner = store.get(OracleTable.META, META_KEY)
    if owner is None:
        failpoints.pass_(Failpoint.STORE_BEFORE_FIRST)
        store.commit([(OracleTable.META, META_KEY, key)])
        failpoints.pass_(Failpoint.STORE_AFTER_FIRST)
    elif owner != key:
        store.close()
        raise DataDirectoryError(
            f"the oracle's log belongs to the oracle with key {owner.hex()}; see [oracle] key_file"
        )


def _result(task: _Task, now_ns: int) -> Any:
    """What the work answers, or the NodeError that it raises; a bug in it costs nobody else an answer."""
    try:
        return task.work(now_ns)
    except NodeError as error:
        return error
    except Exception:  # noqa: BLE001 - the boundary that keeps one request from harming the others
        error_id = log_unexpected(log, "answering as an oracle")
        return InternalError(f"the oracle failed unexpectedly; its log has error id {error_id}")


def _run_all(actions: Sequence[Callable[[], None]]) -> None:
    for action in actions:
        action()
