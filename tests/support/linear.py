"""Whether what concurrent clients of one notary saw can have happened one after the other.

A general checker searches all orders, which takes exponential time. It need not be searched for here: each acceptance
states its place, and each refusal names who came first. So the history is linearizable exactly when these statements,
and the real time in which requests and answers came, do not contradict each other.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from hashlib import sha256
from itertools import pairwise


class NotLinearizable(AssertionError):
    """No order of the requests explains all answers."""


@dataclass(frozen=True)
class Request:
    """A transaction as a notary sees it: what it consumes, reads and claims."""

    id: bytes
    inputs: frozenset[bytes] = frozenset()
    references: frozenset[bytes] = frozenset()
    claims: frozenset[bytes] = frozenset()

    @property
    def consumed(self) -> frozenset[bytes]:
        return self.inputs | self.claims

    @property
    def hash(self) -> bytes:
        """How a refusal names it."""
        return sha256(self.id).digest()


@dataclass(frozen=True)
class Accepted:
    """The answer holds a proof: record of the log, and place in the batch."""

    sequence: int
    index: int

    @property
    def place(self) -> tuple[int, int]:
        return self.sequence, self.index


@dataclass(frozen=True)
class Refused:
    """The answer names what is consumed, and by whom: subject -> hash of the consumer."""

    conflicts: Mapping[bytes, bytes]


@dataclass(frozen=True)
class Unknown:
    """No answer came: it has happened at any later time, or never."""


@dataclass(frozen=True)
class Operation:
    """One request of one client. `returned` means nothing when the outcome is unknown."""

    request: Request
    invoked: int
    returned: int
    outcome: Accepted | Refused | Unknown


def check_linearizable(history: Sequence[Operation]) -> None:
    """Raises NotLinearizable unless one order of all requests explains every answer.

    1. A request has one verdict, however often it is made; an acceptance has one place, and nothing else has it.
    2. Accepted requests share no input and no claim.
    3. What an accepted request reads is consumed by no request with an earlier place.
    4. A refusal names, for something that it consumes or reads, a request that was made and consumes it; that one was
       accepted then, whether or not anybody was told.
    5. Places, real time and refusals agree: there is an order in which accepted requests stand by their places, every
       refusal stands after those that it names, and no request that was made after an answer stands before it.
    """
    requests = {operation.request.hash: operation.request for operation in history}
    places = _places(history)
    for operation in history:
        if isinstance(operation.outcome, Refused):
            _check_refusal(operation.request, operation.outcome, requests)
    refusals = [operation for operation in history if isinstance(operation.outcome, Refused)]
    named = {key for o in refusals if isinstance(o.outcome, Refused) for key in o.outcome.conflicts.values()}
    if any(operation.request.hash in places.keys() | named for operation in refusals):
        raise NotLinearizable("a request was refused that was accepted, or that a refusal names")
    consumers = _consumers(requests, places.keys() | named)
    _check_references(requests, places, consumers)
    _check_order(history, places)


def _places(history: Sequence[Operation]) -> dict[bytes, tuple[int, int]]:
    """By hash of the accepted request."""
    places: dict[bytes, tuple[int, int]] = {}
    taken: dict[tuple[int, int], bytes] = {}
    for operation in history:
        if isinstance(operation.outcome, Accepted):
            key, place = operation.request.hash, operation.outcome.place
            if places.setdefault(key, place) != place:
                raise NotLinearizable(f"a request was accepted at {places[key]} and at {place}")
            if taken.setdefault(place, key) != key:
                raise NotLinearizable(f"two requests were accepted at {place}")
    return places


def _consumers(requests: Mapping[bytes, Request], accepted: Iterable[bytes]) -> dict[bytes, bytes]:
    """By subject, the accepted request that consumes it."""
    consumers: dict[bytes, bytes] = {}
    for key in accepted:
        for subject in requests[key].consumed:
            if consumers.setdefault(subject, key) != key:
                raise NotLinearizable(f"{subject.hex()} is consumed twice")
    return consumers


def _check_references(
    requests: Mapping[bytes, Request], places: Mapping[bytes, tuple[int, int]], consumers: Mapping[bytes, bytes]
) -> None:
    for key, place in places.items():
        for read in requests[key].references:
            consumer = consumers.get(read)
            if consumer is not None and consumer != key and places.get(consumer, place) < place:
                raise NotLinearizable(f"{read.hex()} is read at {place}, and was consumed at {places[consumer]}")


def _check_refusal(request: Request, refusal: Refused, requests: Mapping[bytes, Request]) -> None:
    if not refusal.conflicts:
        raise NotLinearizable("a refusal names nothing")
    for subject, named in refusal.conflicts.items():
        consumer = requests.get(named)
        if subject not in request.consumed | request.references:
            raise NotLinearizable(f"a refusal names {subject.hex()}, which the request does not touch")
        if consumer is None or consumer == request or subject not in consumer.consumed:
            raise NotLinearizable(f"a refusal names a consumer of {subject.hex()} that nobody asked for")


def _check_order(history: Sequence[Operation], places: Mapping[bytes, tuple[int, int]]) -> None:
    """Real time is a chain of instants: an answer stands before its instant, a request after its own."""
    graph: TopologicalSorter[tuple[str, object]] = TopologicalSorter()
    for before, after in _edges(history, places):
        graph.add(after, before)
    try:
        graph.prepare()
    except CycleError as error:
        raise NotLinearizable(f"no order explains the answers: {error.args[1]}") from error


def _edges(
    history: Sequence[Operation], places: Mapping[bytes, tuple[int, int]]
) -> Iterator[tuple[tuple[str, object], tuple[str, object]]]:
    ordered = sorted(places, key=places.__getitem__)
    yield from pairwise(map(_decision, ordered))
    instants = sorted({time for o in history for time in (o.invoked, o.returned)})
    yield from pairwise(map(_instant, instants))
    first: dict[bytes, Operation] = {}
    for operation in history:
        key = operation.request.hash
        if key not in first or operation.invoked < first[key].invoked:
            first[key] = operation
    for key in ordered:
        # Whoever asked first may have caused the decision; nobody has before.
        yield _instant(first[key].invoked), _decision(key)
    for number, operation in enumerate(history):
        key = operation.request.hash
        if isinstance(operation.outcome, Accepted):
            yield _decision(key), _end(operation.returned)
        if isinstance(operation.outcome, Refused):
            refusal = ("refusal", number)
            yield _instant(operation.invoked), refusal
            yield refusal, _end(operation.returned)
            for named in operation.outcome.conflicts.values():
                yield from _named(named, first[named], refusal, places)
    # What is answered in an instant stands before everything that begins after it, and beside what begins in it.
    for earlier, later in pairwise(instants):
        yield _end(earlier), _end(later)
        yield _end(earlier), _instant(later)


def _named(
    named: bytes, first: Operation, refusal: tuple[str, object], places: Mapping[bytes, tuple[int, int]]
) -> Iterable[tuple[tuple[str, object], tuple[str, object]]]:
    decision = _decision(named)
    if named not in places:
        # Accepted, although nobody was told: where, is open.
        yield _instant(first.invoked), decision
    yield decision, refusal


def _decision(key: bytes) -> tuple[str, object]:
    return "decision", key.hex()


def _instant(time: int) -> tuple[str, object]:
    return "from", time


def _end(time: int) -> tuple[str, object]:
    return "until", time
