"""Fetching from peers that are slow, busy, wrong or gone; the peers are functions here."""

import asyncio
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from p2pet.attachments.v1.attachments_pb2 import ChunkReply, ChunkRequest
from p2pet.peer.v1.peer_pb2 import Reply

from p2petd.attachments import fetcher as fetcher_module
from p2petd.attachments.fetcher import CHUNK_BYTES, DAILY_SHARE, IN_FLIGHT_MAX, AttachmentFetcher
from p2petd.attachments.store import AttachmentStore
from p2petd.errors import (
    AttachmentDiskFull,
    AttachmentHashDiffers,
    AttachmentNotFound,
    AttachmentTooLarge,
    AttachmentUnavailable,
    NodeError,
    UnknownParty,
)
from tests.unit.attachments.conftest import ATTACHMENT_BYTES_MAX, DIRECTORY_BYTES_MAX

ALICE, BOB = b"\x0a" * 32, b"\x0b" * 32
CONTENT = bytes(range(256)) * (6 * CHUNK_BYTES // 256) + b"the end"
HASH = sha256(CONTENT).digest()
Change = Callable[[ChunkRequest, ChunkReply], Reply]


class Peers:
    """Peers that hold CONTENT; `change` decides what becomes of a right answer."""

    def __init__(self, change: Change = lambda _, right: Reply(payload=right.SerializeToString())) -> None:
        self.change = change
        self.silent = False
        self.contents = {HASH: CONTENT}
        self.asked: list[tuple[bytes, int]] = []
        self.in_flight = self.in_flight_most = 0

    async def call(self, peer: bytes, service: str, payload: bytes) -> Reply:
        assert service == "attachment"
        request = ChunkRequest.FromString(payload)
        self.asked.append((peer, request.offset))
        self.in_flight += 1
        self.in_flight_most = max(self.in_flight, self.in_flight_most)
        await (asyncio.Event().wait() if self.silent else asyncio.sleep(0))
        self.in_flight -= 1
        content = self.contents[request.hash]
        part = content[request.offset : request.offset + request.bytes_max]
        return self.change(request, ChunkReply(size_bytes=len(content), content=part))


def as_reply(part: ChunkReply) -> Reply:
    return Reply(payload=part.SerializeToString())


def fetch(store: AttachmentStore, peers: Peers, *who: bytes) -> list[BaseException | None]:
    """One fetch for each of `who`, all at once."""

    async def scenario() -> list[BaseException | None]:
        fetching = AttachmentFetcher(store, peers.call)
        return await asyncio.gather(*(fetching.fetch(peer, HASH) for peer in who), return_exceptions=True)

    return asyncio.run(scenario())


def test_c18_a_fetch_asks_for_each_part_once_with_few_in_flight(store: AttachmentStore) -> None:
    peers = Peers()
    assert fetch(store, peers, ALICE) == [None]
    assert store.verify(HASH, anew=True) == len(CONTENT)
    assert sorted(offset for _, offset in peers.asked) == list(range(0, len(CONTENT), CHUNK_BYTES))
    assert 1 < peers.in_flight_most <= IN_FLIGHT_MAX


def test_c18_who_wants_what_is_on_its_way_shares_the_fetch(store: AttachmentStore) -> None:
    peers = Peers()
    assert fetch(store, peers, ALICE, ALICE, BOB) == [None] * 3
    assert len(peers.asked) == -(-len(CONTENT) // CHUNK_BYTES)
    assert fetch(store, peers, BOB) == [None]
    assert {peer for peer, _ in peers.asked} == {ALICE}


def test_c18_a_peer_that_lies_does_not_keep_another_from_giving(store: AttachmentStore) -> None:
    peers = Peers()
    right = peers.call

    async def call(peer: bytes, service: str, payload: bytes) -> Reply:
        return Reply(error_code="peer.unknown_service") if peer == ALICE else await right(peer, service, payload)

    async def scenario() -> list[BaseException | None]:
        fetching = AttachmentFetcher(store, call)
        return await asyncio.gather(*(fetching.fetch(peer, HASH) for peer in (ALICE, BOB)), return_exceptions=True)

    failed, done = asyncio.run(scenario())
    assert isinstance(failed, AttachmentUnavailable)
    assert done is None
    assert store.holds(HASH)


WRONG: dict[str, tuple[Change, type[NodeError]]] = {
    "other content": (
        lambda _, right: as_reply(ChunkReply(size_bytes=right.size_bytes, content=bytes(len(right.content)))),
        AttachmentHashDiffers,
    ),
    "one byte": (
        lambda request, right: as_reply(
            right if request.offset else ChunkReply(size_bytes=right.size_bytes, content=b"!" + right.content[1:])
        ),
        AttachmentHashDiffers,
    ),
    "not held": (lambda *_: as_reply(ChunkReply()), AttachmentNotFound),
    "gone in the middle": (
        lambda request, right: as_reply(ChunkReply() if request.offset else right),
        AttachmentNotFound,
    ),
    "too large": (
        lambda _, right: as_reply(ChunkReply(size_bytes=ATTACHMENT_BYTES_MAX + 1, content=right.content)),
        AttachmentTooLarge,
    ),
    "another size later": (
        lambda request, right: as_reply(
            ChunkReply(size_bytes=right.size_bytes + bool(request.offset), content=right.content)
        ),
        AttachmentUnavailable,
    ),
    "more than was asked for": (
        lambda _, right: as_reply(ChunkReply(size_bytes=right.size_bytes, content=right.content + b"!")),
        AttachmentUnavailable,
    ),
    "empty parts": (lambda _, right: as_reply(ChunkReply(size_bytes=right.size_bytes)), AttachmentUnavailable),
    "no message": (lambda *_: Reply(payload=b"\xff\xff\xff"), AttachmentUnavailable),
    "no such service": (lambda *_: Reply(error_code="peer.unknown_service"), AttachmentUnavailable),
}


@pytest.mark.parametrize("case", WRONG)
def test_c18_a_wrong_answer_is_refused_and_leaves_nothing(store: AttachmentStore, directory: Path, case: str) -> None:
    change, error = WRONG[case]
    (outcome,) = fetch(store, Peers(change), ALICE)
    assert type(outcome) is error, outcome
    assert not store.holds(HASH)
    assert not list(directory.iterdir())
    assert store.counters() == {"attachments": 0, "attachments_bytes": 0}
    # Nothing of the failure stands in the way of a right answer.
    assert fetch(store, Peers(), ALICE) == [None]


def test_c18_a_busy_peer_is_asked_again(store: AttachmentStore) -> None:
    refused: set[int] = set()

    def busy_once(request: ChunkRequest, right: ChunkReply) -> Reply:
        if request.offset in refused:
            return as_reply(right)
        refused.add(request.offset)
        return Reply(error_code="attachment.busy", retry_after_ns=1)

    assert fetch(store, Peers(busy_once), ALICE) == [None]


def test_c18_a_silent_peer_is_given_up(
    store: AttachmentStore, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetcher_module, "STALL_SECONDS_MAX", 0.05)

    peers = Peers()
    peers.silent = True
    (outcome,) = fetch(store, peers, ALICE)
    assert isinstance(outcome, AttachmentUnavailable)
    assert not list(directory.iterdir())


def test_c18_one_peer_cannot_fill_the_directory(store: AttachmentStore) -> None:
    """A quarter of the directory in a day: one attachment of this size, and not a second one."""
    assert len(CONTENT) < DIRECTORY_BYTES_MAX // DAILY_SHARE < 2 * len(CONTENT)
    other = CONTENT[::-1]
    peers = Peers()
    peers.contents[sha256(other).digest()] = other

    async def scenario() -> None:
        fetching = AttachmentFetcher(store, peers.call)
        await fetching.fetch(ALICE, HASH)
        with pytest.raises(AttachmentDiskFull, match="a day"):
            await fetching.fetch(ALICE, sha256(other).digest())
        assert store.counters()["attachments"] == 1
        await fetching.fetch(BOB, sha256(other).digest())

    asyncio.run(scenario())
    assert store.counters()["attachments"] == 2


def test_c18_a_stranger_gives_nothing(store: AttachmentStore) -> None:
    def unknown(*_: object) -> Reply:
        raise UnknownParty("no node of the network has this key")

    (outcome,) = fetch(store, Peers(unknown), ALICE)
    assert isinstance(outcome, AttachmentUnavailable)


def test_c18_a_fetch_goes_on_when_one_of_two_who_wait_leaves(store: AttachmentStore) -> None:
    async def scenario() -> None:
        fetching = AttachmentFetcher(store, Peers().call)
        leaving = asyncio.create_task(fetching.fetch(ALICE, HASH))
        staying = asyncio.create_task(fetching.fetch(ALICE, HASH))
        await asyncio.sleep(0)
        leaving.cancel()
        await staying

    asyncio.run(scenario())
    assert store.holds(HASH)


def test_c18_a_stop_in_the_middle_leaves_nothing(store: AttachmentStore, directory: Path) -> None:
    async def scenario() -> None:
        stopped = asyncio.Event()

        async def call(peer: bytes, service: str, payload: bytes) -> Reply:
            if ChunkRequest.FromString(payload).offset:
                stopped.set()
                await asyncio.Event().wait()
            return await Peers().call(peer, service, payload)

        fetching = AttachmentFetcher(store, call)
        waiting = asyncio.create_task(fetching.fetch(ALICE, HASH))
        await stopped.wait()
        await fetching.stop()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(scenario())
    assert not list(directory.iterdir())
    assert store.counters() == {"attachments": 0, "attachments_bytes": 0}
