"""Streams between two nodes under every bad turn: what was sent arrives once, and no peer takes more than its share."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from p2pet.peer.v1.peer_pb2 import Call, ExchangeRequest, Frame, Hello, Message

from p2petd.peer import link, transport
from p2petd.peer.intake import UNCOMMITTED_BYTES_MAX, UNCOMMITTED_MAX
from p2petd.peer.link import FRAME_ENTRIES_MAX, REPLIES_MAX
from p2petd.peer.outbox import PAGE, WINDOW_MESSAGES_MAX
from p2petd.peer.transport import STREAMS_MAX
from tests.support.community import make_community
from tests.support.peer import Exchange, ScriptedPeer
from tests.support.transports import TransportNode, until

ROUNDS = 30
STOP_SECONDS_MAX = 5
QUESTIONS = 200
SHORT_CONNECTIONS = 14
LARGE_BYTES = 900_000
# A write that takes so long is one that the other side does not take.
BLOCKED_SECONDS = 1.0


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Directories of two homes, none of which runs."""
    directory = tmp_path_factory.mktemp("transport") / "net"
    make_community(directory, homes=2)
    return directory / "home-1", directory / "home-2"


def test_r10_simultaneous_dialling_loses_nothing(homes: tuple[Path, Path]) -> None:
    """Each side has a message and a call for the other at the same moment."""

    async def scenario() -> None:
        one, other = TransportNode(homes[0]), TransportNode(homes[1])
        async with one.running(), other.running():
            calls = [one.call(other), other.call(one)]
            one.send(other)
            other.send(one)
            inbounds = (one.inbound, other.inbound)
            await until(lambda: [i.messages for i in inbounds] == [[1], [1]], "both messages have arrived")
            await until(lambda: [i.replies for i in inbounds] == [[call] for call in calls], "both calls are answered")
            await until(lambda: [i.acknowledged for i in inbounds] == [1, 1], "both know that it arrived")

    for _ in range(ROUNDS):
        asyncio.run(scenario())


def test_f03_a_connection_that_is_replaced_ends_at_the_other_side(homes: tuple[Path, Path]) -> None:
    async def scenario() -> None:
        node, peer = TransportNode(homes[0]), ScriptedPeer(homes[1])
        async with node.running(), peer.exchange(node.identity) as older, peer.exchange(node.identity) as newer:
            await older.hello(peer.hello(node.identity))
            await _hello_of(older)
            first = node.send(peer.identity)
            assert await _messages(older) == [first]
            await newer.hello(peer.hello(node.identity))
            await _hello_of(newer)
            # Not acknowledged on the older one: both come on the newer one.
            assert await _messages(newer) == [first]
            second = node.send(peer.identity)
            assert await _messages(newer) == [second]
            status, _ = await older.ended()
            assert status is grpc.StatusCode.ABORTED

    asyncio.run(scenario())


def test_r12_a_peer_whose_hello_is_late_is_dialled_again(
    homes: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "HELLO_SECONDS_MAX", 0.2)

    async def scenario() -> None:
        node, peer = TransportNode(homes[0]), TransportNode(homes[1])
        streams = 0

        async def silent_at_first(requests: AsyncIterator[bytes], context: Any) -> None:
            nonlocal streams
            streams += 1
            if streams == 1:
                await asyncio.Event().wait()
            await peer.transport.exchange(requests, context)

        async with peer.serving(silent_at_first):
            node.send(peer)
            call = node.call(peer)
            await until(lambda: peer.inbound.messages == [1] and node.inbound.replies == [call], "all has arrived")
            assert streams == 2
            await node.transport.stop()
            await peer.transport.stop()

    asyncio.run(scenario())


def test_f09_a_transport_can_be_stopped_at_any_moment_of_a_hello(homes: tuple[Path, Path]) -> None:
    """Also when the other side's hello comes together with the end."""

    async def scenario(turns: int) -> None:
        node, peer = TransportNode(homes[0]), TransportNode(homes[1])
        dialled = asyncio.Event()

        async def exchange(requests: AsyncIterator[bytes], context: Any) -> None:
            dialled.set()
            await peer.transport.exchange(requests, context)

        async with peer.serving(exchange):
            node.send(peer)
            await dialled.wait()
            for _ in range(turns):
                await asyncio.sleep(0)
            async with asyncio.timeout(STOP_SECONDS_MAX):
                await node.transport.stop()
            await peer.transport.stop()

    for turns in range(2 * ROUNDS):
        asyncio.run(scenario(turns))


ENDS = ("its server stops", "its transport stops", "its handler fails")


@pytest.mark.parametrize("end", ENDS)
def test_f03_a_call_is_asked_again_when_the_other_side_ends_the_connection(end: str, homes: tuple[Path, Path]) -> None:
    async def scenario() -> None:
        node, before, after = TransportNode(homes[0]), TransportNode(homes[1]), TransportNode(homes[1])
        before.inbound.answers = False
        async with before.serving():
            call = node.call(before, b"question")
            await until(lambda: before.inbound.calls, "the call has arrived")
            if end == "its transport stops":
                await before.transport.stop()
            elif end == "its handler fails":
                before.inbound.fails = True
                node.send(before)
                await until(lambda: before.inbound.failures, "the handler has failed")
        async with after.running():
            await until(lambda: node.inbound.replies == [call], "the call is answered")
            assert after.inbound.calls == [b"question"]
            assert after.inbound.messages == ([1] if end == "its handler fails" else [])
            await node.transport.stop()
        await before.transport.stop()

    asyncio.run(scenario())


# A peer that asks more than it reads.


def _questions(first: int) -> Frame:
    """Their answers are as long as they are."""
    calls = [Call(call_id=(first + n).to_bytes(4), service="service", payload=bytes(4000)) for n in range(QUESTIONS)]
    return Frame(calls=calls)


def test_r01_a_peer_that_greets_and_breaks_off_is_soon_looked_for_again(homes: tuple[Path, Path]) -> None:
    """As one does that dies of what it is sent, and is started again each time: pauses do not grow to seconds."""

    async def scenario() -> None:
        node, breaking = TransportNode(homes[0]), TransportNode(homes[1])
        connections = 0

        async def short(requests: AsyncIterator[bytes], context: Any) -> None:
            nonlocal connections
            connections += 1
            # Time for the hello of both, and no more.
            async with asyncio.timeout(0.1 if connections <= SHORT_CONNECTIONS else None):
                await breaking.transport.exchange(requests, context)

        breaking.inbound.answers = False
        async with breaking.serving(short):
            node.call(breaking)
            # With pauses that double it would take longer than `until` waits.
            await until(lambda: connections > SHORT_CONNECTIONS, "it has been dialled so often")
            await node.transport.stop()
            await breaking.transport.stop()

    asyncio.run(scenario())


async def _ask_until_blocked(write: Callable[[Frame], Any]) -> "tuple[int, asyncio.Task[None]]":
    """How many questions were asked, and the last write, which the other side does not take."""
    for first in itertools.count(0, QUESTIONS):
        writing = asyncio.ensure_future(write(_questions(first)))
        done, _ = await asyncio.wait({writing}, timeout=BLOCKED_SECONDS)
        if not done:
            return first + QUESTIONS, writing
    raise AssertionError


def test_r12_a_peer_that_asks_and_does_not_read_is_not_read_either(homes: tuple[Path, Path]) -> None:
    """The answers that wait for it are bounded, and none is lost when it reads at last."""

    async def scenario() -> None:
        node, peer = TransportNode(homes[0]), ScriptedPeer(homes[1])
        async with node.running(), peer.exchange(node.identity) as exchange:
            await exchange.hello(peer.hello(node.identity))
            asked, writing = await _ask_until_blocked(exchange.write)
            taken = len(node.inbound.calls)
            waiting = taken - node.transport.counters["messages_sent"]
            assert 0 < waiting <= REPLIES_MAX + QUESTIONS
            answered: set[bytes] = set()
            while len(answered) < asked:
                frame = await exchange.read()
                assert frame is not None
                answered.update(reply.call_id for reply in frame.replies)
            await writing
            assert len(node.inbound.calls) == asked

    asyncio.run(scenario())


def test_r12_a_peer_that_asked_without_reading_and_died_is_dialled_again(homes: tuple[Path, Path]) -> None:
    """The node had stopped reading, so that it did not see the end of the connection that it had dialled."""

    async def scenario() -> None:
        node, peer, after = TransportNode(homes[0]), ScriptedPeer(homes[1]), TransportNode(homes[1])
        blocked = asyncio.Event()

        async def ask(_: AsyncIterator[bytes], context: Any) -> None:
            async def write(frame: Frame) -> None:
                await context.write(ExchangeRequest(frame=frame).SerializeToString())

            await context.read()
            await write(Frame(hello=peer.hello(node.identity)))
            await _ask_until_blocked(write)
            blocked.set()
            await asyncio.Event().wait()

        async with after.serving(ask):
            call = node.call(peer.identity)
            await blocked.wait()
        async with after.running():
            await until(lambda: node.inbound.replies == [call], "the call is answered over a new connection")
            await node.transport.stop()

    asyncio.run(scenario())


def test_r12_a_peer_that_sends_more_than_can_be_committed_is_not_read(homes: tuple[Path, Path]) -> None:
    """Bounded in bytes, however few the messages are; once they are durable it goes on."""

    async def scenario() -> None:
        node, peer = TransportNode(homes[0]), ScriptedPeer(homes[1])
        node.inbound.commits = False
        async with node.running(), peer.exchange(node.identity) as exchange:
            await exchange.hello(peer.hello(node.identity))
            for sent in itertools.count(1):
                last = Message(sequence=sent, session=bytes(LARGE_BYTES))
                writing = asyncio.ensure_future(exchange.write(Frame(messages=[last])))
                if not (await asyncio.wait({writing}, timeout=BLOCKED_SECONDS))[0]:
                    break
            taken = len(node.inbound.messages)
            assert taken == UNCOMMITTED_BYTES_MAX // LARGE_BYTES + 1
            node.inbound.commits = True
            node.inbound.commit(peer.identity, peer.epoch, Message(sequence=taken))
            await writing
            await until(lambda: node.inbound.messages == list(range(1, sent + 1)), "all messages have arrived")

    asyncio.run(scenario())


# Credits.


def test_r12_a_node_that_commits_nothing_gives_no_more_credit_and_still_answers(homes: tuple[Path, Path]) -> None:
    """Calls and replies of both directions go on while messages wait for credit; then all messages arrive."""

    async def scenario() -> None:
        busy, node = TransportNode(homes[0]), TransportNode(homes[1])
        busy.inbound.commits = False
        async with busy.running(), node.running():
            wanted = 2 * UNCOMMITTED_MAX
            for _ in range(wanted):
                node.send(busy)
            await until(lambda: len(busy.inbound.messages) == UNCOMMITTED_MAX, "as many messages as there is credit")
            calls = [node.call(busy, b"still there?"), busy.call(node, b"of course")]
            replies = (node.inbound.replies, busy.inbound.replies)
            await until(lambda: [list(r) for r in replies] == [[call] for call in calls], "both calls are answered")
            assert len(busy.inbound.messages) == UNCOMMITTED_MAX
            busy.inbound.commits = True
            busy.inbound.commit(node.identity, node.epoch, Message(sequence=UNCOMMITTED_MAX))
            await until(lambda: node.inbound.acknowledged == wanted, "every message is acknowledged")
            assert busy.inbound.messages == list(range(1, wanted + 1))

    asyncio.run(scenario())


def test_r12_a_peer_that_ignores_its_credit_is_cut_off(homes: tuple[Path, Path]) -> None:
    async def scenario() -> None:
        node, peer = TransportNode(homes[0]), ScriptedPeer(homes[1])
        node.inbound.commits = False
        async with node.running(), peer.exchange(node.identity) as exchange:
            await exchange.hello(peer.hello(node.identity))
            first = await exchange.read()
            assert first is not None
            assert first.messages_until == UNCOMMITTED_MAX
            for start in range(1, UNCOMMITTED_MAX, FRAME_ENTRIES_MAX):
                frame = [Message(sequence=sequence) for sequence in range(start, start + FRAME_ENTRIES_MAX)]
                await exchange.write(Frame(messages=frame))
            await until(lambda: len(node.inbound.messages) == UNCOMMITTED_MAX, "all that it may send has come")
            await exchange.write(Frame(messages=[Message(sequence=UNCOMMITTED_MAX + 1)]))
            status, text = await exchange.ended()
            assert status is grpc.StatusCode.INVALID_ARGUMENT
            assert text == f"message {UNCOMMITTED_MAX + 1} came, but {UNCOMMITTED_MAX} is the last that may come"
            assert len(node.inbound.messages) == UNCOMMITTED_MAX

    asyncio.run(scenario())


def test_r12_a_node_sends_no_further_than_its_credit(homes: tuple[Path, Path]) -> None:
    """It waits for more; credit that goes back is no credit."""

    async def scenario() -> None:
        node, peer = TransportNode(homes[0]), ScriptedPeer(homes[1])
        for _ in range(9):
            node.send(peer.identity)
        async with node.running(), peer.exchange(node.identity) as exchange:
            await exchange.write(Frame(hello=peer.hello(node.identity), messages_until=3))
            assert await _messages(exchange) == [1, 2, 3]
            await exchange.write(Frame(acknowledged=2, messages_until=2))
            call = node.call(peer.identity)
            assert await _calls(exchange) == [call]
            await exchange.write(Frame(messages_until=5))
            assert await _messages(exchange) == [4, 5]
            await exchange.write(Frame(messages_until=100))
            assert await _messages(exchange) == [6, 7, 8, 9]

    asyncio.run(scenario())


def test_r20_a_peer_of_the_version_without_credits_gets_and_gives_any(homes: tuple[Path, Path]) -> None:
    """It says no credit in its hello; and it sends all that it has, whatever it is told."""

    async def scenario() -> None:
        node, peer = TransportNode(homes[0]), ScriptedPeer(homes[1])
        count = UNCOMMITTED_MAX + 10
        for _ in range(count):
            node.send(peer.identity)
        hello = peer.hello(node.identity)
        # It knows us no longer; of what it sent before, much has been acknowledged.
        hello.last_sent = first = 3 * UNCOMMITTED_MAX
        async with node.running(), peer.exchange(node.identity) as exchange:
            await exchange.hello(hello)
            received: list[int] = []
            while len(received) < WINDOW_MESSAGES_MAX:
                received += await _messages(exchange)
            await exchange.write(Frame(acknowledged=received[-1]))
            await exchange.write(Frame(messages=[Message(sequence=first)]))
            while len(received) < count:
                received += await _messages(exchange)
                await exchange.write(Frame(acknowledged=received[-1]))
            assert received == list(range(1, count + 1))
            await until(lambda: node.inbound.messages == [first], "its first message has arrived")

    asyncio.run(scenario())


def test_r12_a_peer_that_lost_its_data_directory_has_credit_for_what_comes_next(homes: tuple[Path, Path]) -> None:
    """To it the first message is a number far beyond all credit that it would count from nothing."""

    async def scenario() -> None:
        node, before, after = TransportNode(homes[0]), TransportNode(homes[1]), TransportNode(homes[1])
        count = UNCOMMITTED_MAX + 5
        async with before.running():
            for _ in range(count):
                node.send(before)
            await until(lambda: node.inbound.acknowledged == count, "every message is acknowledged")
            await before.transport.stop()
        async with after.running():
            last = node.send(after)
            answer = after.send(node)
            await until(lambda: after.inbound.messages == [last], "the next message has arrived")
            await until(lambda: node.inbound.messages == [answer], "so has one of the new data directory")
            await node.transport.stop()

    asyncio.run(scenario())


def test_r12_a_peer_that_acknowledges_nothing_is_sent_one_window(homes: tuple[Path, Path]) -> None:
    """However much it permits: memory holds no more for it, and the rest comes from the store."""

    async def scenario() -> None:
        node, peer = TransportNode(homes[0]), ScriptedPeer(homes[1])
        async with node.running(), peer.exchange(node.identity) as exchange:
            await exchange.write(Frame(hello=peer.hello(node.identity), messages_until=2**63))
            received: list[int] = []
            for _ in range(3 * WINDOW_MESSAGES_MAX):
                node.send(peer.identity)
            while len(received) < WINDOW_MESSAGES_MAX:
                received += await _messages(exchange)
            call = node.call(peer.identity)
            assert await _calls(exchange) == [call]
            assert received == list(range(1, WINDOW_MESSAGES_MAX + 1))
            assert node.transport.outbox_length(peer.identity) == 3 * WINDOW_MESSAGES_MAX
            assert node.pages_read == 0
            while len(received) < 3 * WINDOW_MESSAGES_MAX:
                await exchange.write(Frame(acknowledged=received[-1]))
                received += await _messages(exchange)
            assert received == list(range(1, 3 * WINDOW_MESSAGES_MAX + 1))
            assert node.pages_read >= 2 * WINDOW_MESSAGES_MAX // PAGE

    asyncio.run(scenario())


def test_r12_a_peer_for_which_too_much_waits_gets_no_credit_until_it_takes_some(
    homes: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every session that it opens may make the node write another answer for it."""
    monkeypatch.setattr(link, "OUTBOX_CREDIT_MAX", 10)

    async def scenario() -> None:
        node, peer = TransportNode(homes[0]), ScriptedPeer(homes[1])
        for _ in range(11):
            node.send(peer.identity)
        async with node.running(), peer.exchange(node.identity) as exchange:
            await exchange.hello(peer.hello(node.identity))
            first = await exchange.read()
            assert first is not None
            assert first.messages_until == 1
            assert await _messages(exchange) == list(range(1, 12))
            await exchange.write(Frame(messages=[Message(sequence=1)]))
            while (frame := await exchange.read()) is not None and frame.acknowledged < 1:
                pass
            assert frame is not None
            assert frame.messages_until == 1
            await exchange.write(Frame(acknowledged=5))
            while (frame := await exchange.read()) is not None and frame.messages_until == 1:
                pass
            assert frame is not None
            assert frame.messages_until == 1 + UNCOMMITTED_MAX

    asyncio.run(scenario())


def test_r12_calls_that_were_given_up_take_no_memory_while_the_peer_is_away(homes: tuple[Path, Path]) -> None:
    """One that waits on must not keep them."""

    async def scenario() -> None:
        node, peer = TransportNode(homes[0]), ScriptedPeer(homes[1])
        kept = node.call(peer.identity)
        for _ in range(1_000):
            node.transport.forget_call(peer.identity, node.call(peer.identity))
        again = node.call(peer.identity)
        async with node.running(), peer.exchange(node.identity) as exchange:
            await exchange.hello(peer.hello(node.identity))
            assert await _calls(exchange) == [kept, again]

    asyncio.run(scenario())


def test_r14_a_peer_has_a_bounded_number_of_streams(homes: tuple[Path, Path]) -> None:
    """However many it opens without a word; when they have ended it is welcome again."""

    async def scenario() -> None:
        node, peer = TransportNode(homes[0]), ScriptedPeer(homes[1])
        async with node.running():
            async with contextlib.AsyncExitStack() as stack:
                silent = [await stack.enter_async_context(peer.exchange(node.identity)) for _ in range(STREAMS_MAX + 5)]
                ends = [asyncio.create_task(exchange.ended()) for exchange in silent]
                await until(lambda: sum(end.done() for end in ends) == 5, "those beyond the limit have ended")
                assert {await end for end in ends if end.done()} == {
                    (grpc.StatusCode.RESOURCE_EXHAUSTED, f"{STREAMS_MAX} streams of this node stand already")
                }
                for end in ends:
                    end.cancel()
                await asyncio.gather(*ends, return_exceptions=True)

            async def is_welcome() -> bool:
                async with peer.exchange(node.identity) as exchange:
                    await exchange.hello(peer.hello(node.identity))
                    with contextlib.suppress(grpc.aio.AioRpcError):
                        return await exchange.read() is not None
                    return False

            async with asyncio.timeout(STOP_SECONDS_MAX):
                while not await is_welcome():
                    pass

    asyncio.run(scenario())


# Sequences.


@pytest.mark.parametrize("offsets", [((1,), (3,)), ((1, 3),), ((2, 1),)], ids=["between frames", "in one", "backwards"])
def test_r10_messages_around_a_gap_come_again(offsets: tuple[tuple[int, ...], ...], homes: tuple[Path, Path]) -> None:
    async def scenario() -> None:
        node, peer = TransportNode(homes[0]), ScriptedPeer(homes[1])
        async with node.running():
            async with peer.exchange(node.identity) as exchange:
                await exchange.hello(peer.hello(node.identity))
                await exchange.write(Frame(messages=[Message(sequence=10)]))
                for frame in offsets:
                    await exchange.write(Frame(messages=[Message(sequence=10 + offset) for offset in frame]))
                status, _ = await exchange.ended()
                assert status is grpc.StatusCode.INVALID_ARGUMENT
            async with peer.exchange(node.identity) as exchange:
                await exchange.hello(peer.hello(node.identity))
                await exchange.write(Frame(messages=[Message(sequence=10 + offset) for offset in range(4)]))
                await until(lambda: node.inbound.messages[-1:] == [13], "all messages have arrived")
            assert node.inbound.messages == [10, 11, 12, 13]

    asyncio.run(scenario())


async def _hello_of(exchange: Exchange) -> Hello:
    frame = await exchange.read()
    assert frame is not None
    assert frame.HasField("hello")
    hello: Hello = frame.hello
    return hello


async def _calls(exchange: Exchange) -> list[bytes]:
    """The ids of the calls in the next frame that holds some."""
    while (frame := await exchange.read()) is not None:
        if frame.calls:
            return [call.call_id for call in frame.calls]
    raise AssertionError("the stream ended without calls")


async def _messages(exchange: Exchange) -> list[int]:
    """The sequences of the next frame that holds messages."""
    while (frame := await exchange.read()) is not None:
        if frame.messages:
            return [message.sequence for message in frame.messages]
    raise AssertionError("the stream ended without messages")
