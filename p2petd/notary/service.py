"""One thread that decides batches of notarisation requests; what arrives while it decides is the next batch."""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from p2pet.notary.v1.notary_pb2 import WhoSpentResponse
from p2pet.peer.v1.peer_pb2 import Reply

from p2petd import native
from p2petd.contracts.isolation.host import IsolationRule
from p2petd.contracts.registry import verify as verify_contracts
from p2petd.errors import (
    ContractViolation,
    NodeError,
    NotaryOverloaded,
    NotaryTroubled,
    ParametersNotInForce,
    RolledBack,
    TransactionRefused,
    UnknownParty,
)
from p2petd.fair_queue import FairQueue
from p2petd.ledger.groups import Group, TransactionType
from p2petd.ledger.parameters import ContractParameters
from p2petd.ledger.resolved import LedgerTransaction
from p2petd.network.network_map import NetworkMap
from p2petd.notary.attachments import AttachmentSource, AttachmentWait
from p2petd.notary.queries import Query, look_up
from p2petd.notary.queue import Appointments, Debts, Rate, retry_after_ns
from p2petd.observe import failpoints
from p2petd.observe.clock import Clock
from p2petd.observe.failpoints import Failpoint
from p2petd.observe.log import log_unexpected
from p2petd.store.room import Fullness, close_store, is_full
from p2petd.units import SECOND_NS

log = logging.getLogger(__name__)

Answer = Callable[[Reply], None]
EXIT_INTERNAL = 70
ROLLED_BACK = "notary.rolled_back"
# What contracts may take of one batch: what is not verified then comes with the next, after those of other callers.
VERIFY_SECONDS_MAX = 1.0


@dataclass(frozen=True)
class _Request:
    caller: bytes
    payload: bytes
    answer: Answer
    # Whether it has waited for the attachments that it lacked.
    fetched: bool = False


# The broken rule, with what was seen; None when there is none.
Verdict = tuple[str, str] | None
Q = TypeVar("Q", _Request, Query)


@dataclass(frozen=True)
class QueueLimits:
    """How much is decided together, and how much may wait for it."""

    batch_max: int
    queue_max: int
    queue_bytes_max: int


class NotaryService:
    """Answers `notarise`, `status`, `spent` of any peer. A repeat of a request returns what the first one returned."""

    def __init__(
        self,
        notary: native.Notary,
        parameters: Mapping[bytes, ContractParameters],
        network_map: NetworkMap,
        clock: Clock,
        limits: QueueLimits,
        attachments: AttachmentSource,
        rolled_back: Callable[[RolledBack], None],
    ) -> None:
        """`parameters` holds every known version by its hash; `rolled_back` stops the node."""
        self._notary = notary
        self._parameters = parameters
        self._map = network_map
        self._clock = clock
        self._limits = limits
        self._attachments = attachments
        self._rolled_back = rolled_back
        self._fullness = Fullness("notary")
        self._wait = AttachmentWait(attachments)
        self._asyncio = asyncio.get_running_loop()
        self._condition = threading.Condition()
        self._requests: FairQueue[_Request] = FairQueue(limits.queue_max, limits.queue_bytes_max)
        self._queries: FairQueue[Query] = FairQueue(limits.queue_max, limits.queue_bytes_max)
        self._rate = Rate()
        self._appointments = Appointments()
        self._debts = Debts()
        self._deciding = self._overloaded = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="notary", daemon=True)

    def start(self) -> None:
        self._thread.start()

    async def stop(self) -> None:
        """Decide what has arrived, then end the thread and close the log."""
        await self._wait.stop()
        with self._condition:
            self._stopping = True
            self._condition.notify()
        await asyncio.to_thread(self._thread.join)
        close_store(self._notary, "notary")

    def counters(self) -> Mapping[str, int]:
        """Those of the notary; besides what waits now, and for how long about."""
        with self._condition:
            waiting = {
                "queue_length": len(self._requests),
                "queue_bytes": self._requests.size,
                "queries_waiting": len(self._queries),
                "estimated_wait_ns": self._wait_ns(),
                "overloaded": self._overloaded,
            }
        return {f"notary_{name}": value for name, value in {**self._notary.stats(), **waiting}.items()}

    def notarise(self, caller: bytes, payload: bytes, answer: Answer) -> None:
        """Queue a `NotarisationRequest` of the peer `caller`, unless it has to wait for what earlier ones have cost."""
        with self._condition:
            left_ns = self._debts.left_ns(caller, time.monotonic_ns())
            self._overloaded += left_ns > 0
        if left_ns:
            answer(_in_debt(left_ns))
            return
        self._queue(self._requests, caller, _Request(caller, payload, answer), len(payload))

    def ask(self, caller: bytes, service: str, payload: bytes, answer: Answer) -> None:
        """Queue a `StatusRequest` or a `SpentRequest`, by its service; decided in turn with the requests.

        Raises MalformedTransaction.
        """
        query = Query.read(service, payload, answer)
        self._queue(self._queries, caller, query, query.size)

    def who_spent(self, subject: bytes) -> WhoSpentResponse:
        """Who consumed a state (36 bytes) or a claim (32 bytes) here, when, by which request."""
        spent = self._notary.who_spent(subject)
        if spent is None:
            return WhoSpentResponse(spent=False)
        transaction_id, caller, decided_at_ns, sequence, index, signature, inputs = spent
        return WhoSpentResponse(
            spent=True,
            transaction_id=transaction_id,
            caller=caller,
            caller_name=self._name_of(caller),
            decided_at_ns=decided_at_ns,
            sequence=sequence,
            index=index,
            request_signature=signature,
            inputs=inputs,
        )

    def _name_of(self, identity: bytes) -> str:
        try:
            return self._map.by_identity(identity).name
        except UnknownParty:
            return ""

    def _queue(self, waiting: "FairQueue[Q]", caller: bytes, item: Q, size: int) -> None:
        with self._condition:
            taken = waiting.put(caller, item, size)
            if taken:
                self._condition.notify()
            else:
                self._overloaded += 1
                each_ns = self._rate.wait_ns(1)
                wait_ns = self._appointments.after_ns(caller, time.monotonic_ns(), self._wait_ns(), each_ns)
        if not taken:
            message = "too many requests wait already, or too many of this caller; ask again later"
            overloaded = NotaryOverloaded.code
            item.answer(Reply(error_code=overloaded, error_message=message, retry_after_ns=wait_ns))

    def _wait_ns(self) -> int:
        """How long a request that comes now would wait, about."""
        return self._rate.wait_ns(len(self._requests) + self._deciding)

    def _run(self) -> None:
        try:
            while (batch := self._next_batch()) is not None:
                failpoints.pass_(Failpoint.WORKER_BEFORE_CHECK)
                answers = self._answers(*batch)
                failpoints.pass_(Failpoint.WORKER_BEFORE_REPLY)
                self._asyncio.call_soon_threadsafe(_answer_all, answers)
        except BaseException as error:  # noqa: BLE001 - index and log may differ now: only a restart makes them agree
            if isinstance(error, native.StoreError) and error.code == ROLLED_BACK:
                # Nobody is answered any more: who asked asks again, and a newer log may know better.
                self._asyncio.call_soon_threadsafe(self._rolled_back, RolledBack(str(error)))
                return
            error_id = log_unexpected(log, "deciding a batch")
            log.critical("the notary stops, because its index and log may differ; error id=%s", error_id)
            os._exit(EXIT_INTERNAL)

    def _answers(self, requests: list[_Request], queries: list[Query]) -> list[tuple[Answer, Reply]]:
        """Decides a batch: the replies that can be given now, each with whom it is for."""
        started = time.monotonic()
        requests, replies = self._decide(requests) if requests else ([], [])
        self._decided(len(requests), time.monotonic() - started)
        answers = [(request.answer, reply) for request, reply in zip(requests, replies, strict=True)]
        now_ns = self._clock()
        return answers + [(query.answer, look_up(self._notary, query.request, now_ns)) for query in queries]

    def _next_batch(self) -> tuple[list[_Request], list[Query]] | None:
        with self._condition:
            while not self._requests and not self._queries:
                if self._stopping:
                    return None
                self._condition.wait()
            batch_max = self._limits.batch_max
            requests = self._requests.take(batch_max)
            self._deciding = len(requests)
            return requests, self._queries.take(batch_max)

    def _decided(self, count: int, seconds: float) -> None:
        with self._condition:
            self._deciding = 0
            if count:
                self._rate.decided(count, seconds)

    def _decide(self, requests: list[_Request]) -> tuple[list[_Request], list[Reply]]:
        """The replies to the requests that can be decided now; the others are answered, or come again, by themselves.

        1. Requests of callers that have to wait are answered that they shall come again.
        2. Those that lack attachments are left out until these are here, and those for which contracts have no time.
        3. The contracts of the others are run; one that exceeds its budget begins again at 1, without its caller.
        4. What is left is decided. A request that stood behind one that was left out, with the same transaction, shows
           only now that it awaits its contracts: that begins again at 3.
        """
        verdicts: dict[int, Verdict] = {}
        deadline = time.monotonic() + VERIFY_SECONDS_MAX
        requests = _without(requests, self._turned_away(requests, verdicts))
        batch = self._check(requests)
        later = {index for index, checked in batch.to_verify if self._postponed(requests[index], checked)}
        while True:
            if later:
                requests = _without(requests, later)
                batch = self._check(requests)
            later = self._verify(requests, batch, verdicts, deadline)
            if not later and all(id(requests[index]) in verdicts for index, _ in batch.to_verify):
                break
            later |= self._turned_away(requests, verdicts)
        if not requests:
            return [], []
        refusals = {index: verdict for index, _ in batch.to_verify if (verdict := verdicts[id(requests[index])])}
        failpoints.pass_(Failpoint.WORKER_BEFORE_DECIDE)
        return requests, self._replies(batch, refusals, len(requests))

    def _replies(self, batch: native.NotaryBatch, refusals: Mapping[int, tuple[str, str]], count: int) -> list[Reply]:
        """Decides a checked batch of `count`; on a full disk nothing is decided, and all are asked to come again."""
        try:
            replies = self._notary.decide(batch, refusals, self._clock())
        except native.StoreError as error:
            if not is_full(error):
                raise
            self._fullness.now(full=True)
            return [_ask_again(NotaryTroubled.code, "the notary's disk is full", SECOND_NS) for _ in range(count)]
        self._fullness.now(full=False)
        return [Reply(payload=reply) for reply in replies]

    def _check(self, requests: list[_Request]) -> native.NotaryBatch:
        return self._notary.check([(request.caller, request.payload) for request in requests])

    def _verify(
        self, requests: list[_Request], batch: native.NotaryBatch, verdicts: dict[int, Verdict], deadline: float
    ) -> set[int]:
        """Add the verdicts of contracts, up to a caller that exceeds their budget; which requests there is no time for.

        These wait again, each in its caller's line. There is time for one at least.
        """
        for index, checked in batch.to_verify:
            request = requests[index]
            if id(request) in verdicts:
                continue
            began_ns = time.monotonic_ns()
            if verdicts and time.monotonic() >= deadline:
                late = {later for later in range(index, len(requests)) if id(requests[later]) not in verdicts}
                for again in map(requests.__getitem__, sorted(late)):
                    self._asyncio.call_soon_threadsafe(
                        self._queue, self._requests, again.caller, again, len(again.payload)
                    )
                return late
            verdict = verdicts[id(request)] = self._refusal_of(checked, self._clock())
            if verdict is not None and verdict[0] == IsolationRule.BUDGET_EXCEEDED.code:
                now_ns = time.monotonic_ns()
                with self._condition:
                    self._debts.add(request.caller, now_ns, now_ns - began_ns)
                break
        return set()

    def _turned_away(self, requests: list[_Request], verdicts: Mapping[int, Verdict]) -> set[int]:
        """The requests without a verdict whose callers have to wait, which are told so."""
        away: set[int] = set()
        for index, request in enumerate(requests):
            if id(request) in verdicts:
                continue
            with self._condition:
                left_ns = self._debts.left_ns(request.caller, time.monotonic_ns())
                self._overloaded += left_ns > 0
            if left_ns:
                away.add(index)
                self._asyncio.call_soon_threadsafe(request.answer, _in_debt(left_ns))
        return away

    def _postponed(self, request: _Request, checked: native.Checked) -> bool:
        """Whether it is decided later, or told to come again, because attachments must be fetched from its caller."""
        lacking = () if request.fetched else self._wait.lacking(checked)
        if not lacking:
            return False
        complete = replace(request, fetched=True)
        waits = self._wait.fetch(
            request.caller,
            lacking,
            lambda: self._queue(self._requests, complete.caller, complete, len(complete.payload)),
        )
        if not waits:
            busy = _ask_again(NotaryOverloaded.code, "too many requests wait for attachments", SECOND_NS)
            self._asyncio.call_soon_threadsafe(request.answer, busy)
        return True

    def _refusal_of(self, checked: native.Checked, now_ns: int) -> Verdict:
        """The rule that is broken, with what was seen, or None.

        1. Every attachment that it cites is here.
        2. A general transaction cites parameters that are in force; a notary change may cite older ones, but leads to
           another notary, which is listed in those that are in force.
        3. Every contract holds.
        """
        try:
            cited = checked.groups[Group.PARAMETERS][0]
            self._attachments.require(checked.groups[Group.ATTACHMENTS])
            transaction = LedgerTransaction.from_checked(checked, self._parameters[cited], self._attachments.content)
            if transaction.kind is TransactionType.NOTARY_CHANGE:
                self._check_new_notary(transaction, now_ns)
            elif not self._map.is_in_force(cited, now_ns):
                raise ParametersNotInForce(
                    f"the network parameters {cited.hex()} are not in force; use the current ones"
                )
            verify_contracts(transaction)
        except NodeError as error:
            # A contract of somebody else may say what no encoding can carry.
            return error.code, error.message.encode(errors="replace").decode()
        except Exception:  # noqa: BLE001 - the boundary that keeps a faulty contract from harming other requests
            error_id = log_unexpected(log, f"running the contracts of {checked.id.hex()}")
            return ContractViolation.code, f"a contract failed unexpectedly; the notary's log has error id {error_id}"
        return None

    def _check_new_notary(self, transaction: LedgerTransaction, now_ns: int) -> None:
        listed = {notary.service_key for notary in self._map.current_parameters(now_ns).notaries}
        for notary in {output.notary for output in transaction.outputs}:
            if notary == transaction.notary:
                raise TransactionRefused("transaction.notary_unchanged", "a notary change leads to another notary")
            if notary not in listed:
                raise TransactionRefused(
                    "transaction.notary_not_listed",
                    f"the network parameters that are in force do not list the notary {notary.hex()}",
                )


def _without(requests: list[_Request], left_out: set[int]) -> list[_Request]:
    return [request for index, request in enumerate(requests) if index not in left_out]


def _ask_again(code: str, why: str, wait_ns: int) -> Reply:
    return Reply(error_code=code, error_message=f"{why}; ask again later", retry_after_ns=retry_after_ns(wait_ns))


def _in_debt(left_ns: int) -> Reply:
    why = "requests of this caller have exceeded the budget of a contract"
    return _ask_again(NotaryOverloaded.code, why, left_ns)


def _answer_all(answers: list[tuple[Answer, Reply]]) -> None:
    for answer, reply in answers:
        answer(reply)
