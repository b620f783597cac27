"""Streams between two nodes under every bad turn: what was sent arrives once, and no peer takes more than its share."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from p2pet.peer.v1.peer_pb2 import Call, ExchangeRequest, Frame, Hello, Message

from p2petd.peer import transport
from p2petd.peer.link import REPLIES_MAX, UNCOMMITTED_BYTES_MAX
from tests.support.community import make_community
from tests.support.peer import Exchange, ScriptedPeer
from tests.support.transports import TransportNode, until

ROUNDS = 30
STOP_SECONDS_MAX = 5
QUESTIONS = 200
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


async def _messages(exchange: Exchange) -> list[int]:
    """The sequences of the next frame that holds messages."""
    while (frame := await exchange.read()) is not None:
        if frame.messages:
            return [message.sequence for message in frame.messages]
    raise AssertionError("the stream ended without messages")
