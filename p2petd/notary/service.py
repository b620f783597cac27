"""One thread that decides batches of notarisation requests; what arrives while it decides is the next batch."""

import asyncio
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from p2pet.notary.v1.notary_pb2 import StatusReply, StatusRequest
from p2pet.peer.v1.peer_pb2 import Reply

from p2petd import native
from p2petd.contracts.registry import verify as verify_contracts
from p2petd.errors import (
    ContractViolation,
    MalformedTransaction,
    NodeError,
    NotaryOverloaded,
    NotaryTroubled,
    ParametersNotInForce,
)
from p2petd.ledger.groups import DIGEST_BYTES, Group
from p2petd.ledger.parameters import ContractParameters
from p2petd.ledger.resolved import LedgerTransaction
from p2petd.observe.clock import Clock
from p2petd.observe.log import log_unexpected

log = logging.getLogger(__name__)

Answer = Callable[[Reply], None]
EXIT_INTERNAL = 70


@dataclass(frozen=True)
class _Request:
    caller: bytes
    payload: bytes
    answer: Answer


@dataclass(frozen=True)
class _StatusQuery:
    request: StatusRequest
    answer: Answer


Q = TypeVar("Q", _Request, _StatusQuery)


class NotaryService:
    """Answers `notarise` and `status` of any peer. A repeat of a request returns what the first one returned."""

    def __init__(
        self,
        notary: native.Notary,
        parameters: Mapping[bytes, ContractParameters],
        in_force: Callable[[bytes, int], bool],
        clock: Clock,
        batch_max: int,
        queue_max: int,
    ) -> None:
        """`parameters` holds every known version by its hash; `in_force` says whether one may be cited at a time."""
        self._notary = notary
        self._parameters = parameters
        self._in_force = in_force
        self._clock = clock
        self._batch_max = batch_max
        self._queue_max = queue_max
        self._asyncio = asyncio.get_running_loop()
        self._condition = threading.Condition()
        self._requests: deque[_Request] = deque()
        self._queries: deque[_StatusQuery] = deque()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="notary", daemon=True)

    def start(self) -> None:
        self._thread.start()

    async def stop(self) -> None:
        """Decide what has arrived, then end the thread and close the log."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        await asyncio.to_thread(self._thread.join)
        self._notary.close()

    def counters(self) -> Mapping[str, int]:
        return {f"notary_{name}": value for name, value in self._notary.stats().items()}

    def notarise(self, caller: bytes, payload: bytes, answer: Answer) -> None:
        """Queue a `NotarisationRequest` of the peer `caller`."""
        self._queue(self._requests, _Request(caller, payload, answer))

    def status(self, request: StatusRequest, answer: Answer) -> None:
        """Queue a question for what became of a transaction; decided in turn with the requests.

        Raises MalformedTransaction unless the id is 32 bytes.
        """
        if len(request.transaction_id) != DIGEST_BYTES:
            raise MalformedTransaction(f"a transaction id is {DIGEST_BYTES} bytes, not {len(request.transaction_id)}")
        self._queue(self._queries, _StatusQuery(request, answer))

    def _queue(self, waiting: "deque[Q]", item: Q) -> None:
        with self._condition:
            full = len(waiting) >= self._queue_max
            if not full:
                waiting.append(item)
                self._condition.notify()
        if full:
            message = f"{self._queue_max} requests wait already; ask again later"
            item.answer(Reply(error_code=NotaryOverloaded.code, error_message=message))

    def _run(self) -> None:
        try:
            while (batch := self._next_batch()) is not None:
                requests, queries = batch
                replies = self._decide(requests) if requests else []
                answers = [(r.answer, Reply(payload=reply)) for r, reply in zip(requests, replies, strict=True)]
                now_ns = self._clock()
                answers += [(query.answer, self._look_up(query.request, now_ns)) for query in queries]
                self._asyncio.call_soon_threadsafe(_answer_all, answers)
        except BaseException:  # noqa: BLE001 - index and log may differ now: only a restart makes them agree
            error_id = log_unexpected(log, "deciding a batch")
            log.critical("the notary stops, because its index and log may differ; error id=%s", error_id)
            os._exit(EXIT_INTERNAL)

    def _next_batch(self) -> tuple[list[_Request], list[_StatusQuery]] | None:
        with self._condition:
            while not self._requests and not self._queries:
                if self._stopping:
                    return None
                self._condition.wait()
            return self._take(self._requests), self._take(self._queries)

    def _take(self, waiting: "deque[Q]") -> list[Q]:
        return [waiting.popleft() for _ in range(min(len(waiting), self._batch_max))]

    def _decide(self, requests: list[_Request]) -> list[bytes]:
        batch = self._notary.check([(r.caller, r.payload) for r in requests])
        now_ns = self._clock()
        refusals: dict[int, tuple[str, str]] = {}
        for index, checked in batch.to_verify:
            refusal = self._refusal_of(checked, now_ns)
            if refusal is not None:
                code, message = refusal
                # A contract of somebody else may say what no encoding can carry.
                refusals[index] = code, message.encode(errors="replace").decode()
        return self._notary.decide(batch, refusals, self._clock())

    def _refusal_of(self, checked: native.Checked, now_ns: int) -> tuple[str, str] | None:
        """The rule that is broken, with what was seen: the cited parameters are in force, and every contract holds."""
        try:
            cited = checked.groups[Group.PARAMETERS][0]
            if not self._in_force(cited, now_ns):
                raise ParametersNotInForce(
                    f"the network parameters {cited.hex()} are not in force; use the current ones"
                )
            verify_contracts(LedgerTransaction.from_checked(checked, self._parameters[cited]))
        except NodeError as error:
            return error.code, error.message
        except Exception:  # noqa: BLE001 - the boundary that keeps a faulty contract from harming other requests
            error_id = log_unexpected(log, f"running the contracts of {checked.id.hex()}")
            return ContractViolation.code, f"a contract failed unexpectedly; the notary's log has error id {error_id}"
        return None

    def _look_up(self, request: StatusRequest, now_ns: int) -> Reply:
        try:
            proof, never = self._notary.status(request.transaction_id, request.until_ns, now_ns)
        except native.ProofError as error:
            return Reply(error_code=NotaryTroubled.code, error_message=str(error))
        if proof is not None:
            reply = StatusReply(finality_proof=proof)
        elif never:
            reply = StatusReply(never=True)
        else:
            reply = StatusReply(unknown=True)
        return Reply(payload=reply.SerializeToString())


def _answer_all(answers: list[tuple[Answer, Reply]]) -> None:
    for answer, reply in answers:
        answer(reply)
