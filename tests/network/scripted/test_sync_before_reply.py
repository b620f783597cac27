"""A trace of one run: between a request's arrival and its reply's departure lies a sync of the log (I2, N05 of the
notary's semantics: the reply leaves only after the commit is durable)."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from p2pet.flows.v1.arguments_pb2 import PaymentPayArguments

from tests.support.community import CURRENCY, EURO_NANO
from tests.support.drafts import built, energy_issue
from tests.support.scripted import REAL, ScriptedCommunity
from tests.support.trace import ARRIVALS, DEPARTURES, SYNCS, Syscall, needs_strace, read_trace, traced

PEER = "home-2"
# What gRPC sends for itself (window updates, pings) is smaller than an answer, and that than the start of a flow.
ANSWER_BYTES_MIN = 80
START_BYTES_MIN = 150
QUESTION_BYTES_MIN = 60


@dataclass(frozen=True)
class Exchange:
    """One request on one connection: where it arrived, where its reply left, and what was synced in between."""

    arrived: Syscall
    left: Syscall
    synced: tuple[Syscall, ...]


def exchanges(
    calls: list[Syscall], log_directory: Path, reply_bytes_min: int, request_bytes_min: int
) -> list[Exchange]:
    """Each pair of a large arrival and the next large departure on its socket.

    Small reads and writes are acknowledgements, window updates and pings of TLS and HTTP/2.
    """
    found = []
    for arrived in calls:
        if not (arrived.is_tcp and arrived.name in ARRIVALS and arrived.result >= request_bytes_min):
            continue
        later = (call for call in calls if call.started > arrived.ended and call.file == arrived.file)
        left = next((c for c in later if c.name in DEPARTURES and c.result >= reply_bytes_min), None)
        if left is not None:
            found.append(Exchange(arrived, left, _syncs(calls, arrived, left, log_directory)))
    return found


def _syncs(calls: list[Syscall], arrived: Syscall, left: Syscall, log_directory: Path) -> tuple[Syscall, ...]:
    """Finished syncs of a log segment, begun after the arrival and ended before the departure began."""
    return tuple(
        call
        for call in calls
        if call.name in SYNCS
        and call.started > arrived.ended
        and call.ended < left.started
        and call.file.startswith(str(log_directory))
        and call.file.endswith(".log")
    )


def test_n14_notary_syncs_its_log_between_a_request_and_its_reply(scripted: ScriptedCommunity, tmp_path: Path) -> None:
    needs_strace()
    trace = tmp_path / "notary.trace"

    async def scenario() -> tuple[int, int]:
        peer = scripted.peer(PEER)
        draft = built(energy_issue(peer, 10, "traced"))
        request = peer.request(draft, draft.proposal([peer.sign(draft.id)]))
        async with scripted.connect(PEER) as notary:
            await notary.settled()
            with traced(scripted.network.pid("notary"), trace):
                reply = await notary.ask(request)
                # When this is answered the tracer has seen all of the request before.
                await notary.settled()
            assert reply.HasField("finality_proof")
            return request.ByteSize(), reply.ByteSize()

    request_bytes, reply_bytes = asyncio.run(scenario())
    calls = read_trace(trace)
    log_directory = scripted.network.node_directory("notary") / "data" / "notary"
    (one,) = exchanges(calls, log_directory, reply_bytes, request_bytes)
    assert one.synced, trace.read_text()


def test_r02_home_syncs_its_log_between_a_start_and_its_answer(scripted: ScriptedCommunity, tmp_path: Path) -> None:
    needs_strace()
    log_directory = scripted.network.node_directory(REAL) / "data" / "node"
    starting, asking = tmp_path / "start.trace", tmp_path / "info.trace"

    async def scenario() -> None:
        async with scripted.client(REAL) as client:
            await client.flows.types()
            with traced(scripted.network.pid(REAL), starting):
                # It fails at once and waits for nobody, so that there is one record and one answer.
                nobody = PaymentPayArguments(currency=CURRENCY, amount_nano=EURO_NANO, recipient=bytes(31))
                await client.flows.start("payment.pay", nobody)
                # When this is answered the tracer has seen all of the call before.
                await client.info()
            with traced(scripted.network.pid(REAL), asking):
                await client.info()
                await client.info()

    asyncio.run(scenario())
    (start, *_) = exchanges(read_trace(starting), log_directory, ANSWER_BYTES_MIN, START_BYTES_MIN)
    assert start.synced, starting.read_text()
    # What changes nothing is answered without a sync: the search can come back with nothing.
    questions = exchanges(read_trace(asking), log_directory, ANSWER_BYTES_MIN, QUESTION_BYTES_MIN)
    assert questions
    assert not any(question.synced for question in questions)
