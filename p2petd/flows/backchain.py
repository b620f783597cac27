"""Resolving histories: fetched from the party that gives a state, verified from the oldest on, kept for the next time.

A service of the node for itself, so that resolving is a call like any other in a flow's journal.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence

from google.protobuf.message import DecodeError
from p2pet.ledger.v1.chain_pb2 import ChainReply, ChainRequest
from p2pet.peer.v1.peer_pb2 import Reply

from p2petd.attachments.library import Attachments
from p2petd.errors import (
    HistoryBusy,
    HistoryCyclic,
    HistoryForged,
    HistoryMissing,
    HistoryTooLarge,
    HistoryUnavailable,
    InternalError,
    NodeError,
    UnknownParty,
    UnknownService,
    error_from_code,
)
from p2petd.flows.chain_check import ChainVerifier, Link, oldest_first
from p2petd.flows.chain_service import TRANSACTIONS, WANTED_MAX
from p2petd.ledger.groups import KEY_BYTES
from p2petd.observe.log import log_unexpected
from p2petd.store.room import LOOK_AGAIN_SECONDS

log = logging.getLogger(__name__)

RESOLVE = "transactions.resolve"
# What one history may hold that is not known here yet.
TRANSACTIONS_MAX = 100_000
BYTES_MAX = 128 * 1024 * 1024
# Histories that are fetched at once, one of each peer; further ones wait.
FETCHED_AT_ONCE_MAX = 4
STALL_SECONDS_MAX = 30.0
FETCH_SECONDS_MAX = 300.0
# Most histories are known but for their end: the first replies are small.
FIRST_REPLY_MAX = 16
REPLY_GROWTH = 8
REPLY_UNBOUNDED = 2048
# Transactions that are verified and committed together.
PORTION = 256

CallPeer = Callable[[bytes, str, bytes], Awaitable[Reply]]


class ChainResolver:
    """On the event loop's thread; verifies on others. Resolving again what is known asks nobody."""

    def __init__(self, me: bytes, verifier: ChainVerifier, attachments: Attachments, call: CallPeer) -> None:
        """`call` asks a service of a peer until it answers, over reconnects."""
        self._me = me
        self._verifier = verifier
        self._ancestry = verifier.ancestry
        self._attachments = attachments
        self._call = call
        self._turns: defaultdict[bytes, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._places = asyncio.Semaphore(FETCHED_AT_ONCE_MAX)
        self._tasks: set[asyncio.Task[None]] = set()

    def serve(self, peer: bytes, payload: bytes, answer: Callable[[Reply], None]) -> None:
        """Answers `RESOLVE` of this node's own flows (see `resolve_request`): a `Reply` in a reply.

        An error of the outer reply would make the engine ask again.
        """
        if peer != self._me:
            unknown = UnknownService(f"this node has no service {RESOLVE!r} for others")
            answer(Reply(error_code=unknown.code, error_message=unknown.message))
            return
        task = asyncio.create_task(self._serve(payload, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Give up what is under way; what is verified stays."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, payload: bytes, answer: Callable[[Reply], None]) -> None:
        outcome = Reply()
        try:
            request = ChainRequest.FromString(payload[KEY_BYTES:])
            await self.resolve(payload[:KEY_BYTES], request.root, tuple(request.wanted))
        except NodeError as error:
            log.info("the history behind %s is not accepted: %s: %s", request.root.hex(), error.code, error.message)
            outcome = Reply(error_code=error.code, error_message=error.message)
        except Exception:  # noqa: BLE001 - a flow that is never answered would wait for good
            error_id = log_unexpected(log, "resolving a history")
            outcome = Reply(error_code=InternalError.code, error_message=f"the node's log has error id {error_id}")
        answer(Reply(payload=outcome.SerializeToString()))

    async def resolve(self, peer: bytes, root: bytes, wanted: Sequence[bytes]) -> None:
        """The wanted transactions and everything behind them are verified and durable here afterwards.

        Raises HistoryError for a history that lacks something, does not verify, or is too large. What has been verified
        until then is kept: each transaction stands for itself.
        """
        async with self._turns[peer], self._places:
            if all(map(self._ancestry.knows, wanted)):
                return
            try:
                async with asyncio.timeout(FETCH_SECONDS_MAX):
                    fetched = await self._fetch(peer, root, wanted)
            except TimeoutError:
                raise HistoryUnavailable("the peer gives the history of a state too slowly") from None
            ordered = await asyncio.to_thread(oldest_first, fetched)
            for start in range(0, len(ordered), PORTION):
                portion = ordered[start : start + PORTION]
                await self._fetch_attachments(peer, portion)
                await self._keep(portion)

    async def _keep(self, portion: Sequence[Link]) -> None:
        """Verified and durable; on a full disk once it has room."""
        rows = await asyncio.to_thread(self._verifier.verify, portion)
        while not await asyncio.to_thread(self._ancestry.add, rows):  # noqa: ASYNC110 - no event tells of free space
            await asyncio.sleep(LOOK_AGAIN_SECONDS)

    async def _fetch_attachments(self, peer: bytes, portion: Sequence[Link]) -> None:
        """What its contracts read; one that the peer does not give is missed when they do."""
        cited = dict.fromkeys(attachment for link in portion for attachment in link.attachments)
        for attachment in cited:
            if self._attachments.missing([attachment]):
                await self._attachments.fetch_all(peer, [attachment])

    async def _fetch(self, peer: bytes, root: bytes, wanted: Sequence[bytes]) -> Mapping[bytes, Link]:
        """Every transaction behind the wanted ones that is not known here, and they themselves."""
        download = _Download(self._verifier, wanted)
        reply_max = FIRST_REPLY_MAX
        while download.awaited:
            request = ChainRequest(root=root, wanted=download.next_wanted(), transactions_max=reply_max)
            reply = await self._ask(peer, request)
            await asyncio.to_thread(download.take, reply)
            reply_max = reply_max * REPLY_GROWTH if 0 < reply_max * REPLY_GROWTH < REPLY_UNBOUNDED else 0
        return download.links

    async def _ask(self, peer: bytes, request: ChainRequest) -> ChainReply:
        payload = request.SerializeToString()
        try:
            async with asyncio.timeout(STALL_SECONDS_MAX):
                while True:
                    reply = await self._call(peer, TRANSACTIONS, payload)
                    if reply.error_code != HistoryBusy.code:
                        break
                    await asyncio.sleep(0.1)
            if reply.error_code:
                raise HistoryUnavailable(f"the peer does not give histories: {reply.error_code}")
            return ChainReply.FromString(reply.payload)
        except TimeoutError:
            raise HistoryUnavailable("the peer does not answer when it is asked for the history of a state") from None
        except UnknownParty as error:
            raise HistoryUnavailable(error.message) from None
        except DecodeError:
            raise HistoryForged("the peer sends no valid histories") from None


class _Download:
    """What has come of a history; every transaction in it was awaited when it came."""

    def __init__(self, verifier: ChainVerifier, wanted: Sequence[bytes]) -> None:
        self._ancestry = verifier.ancestry
        self.links: dict[bytes, Link] = {}
        self.awaited: dict[bytes, None] = {}
        self._bytes = 0
        self._await(wanted)

    def next_wanted(self) -> list[bytes]:
        return [wanted for wanted, _ in zip(self.awaited, range(WANTED_MAX), strict=False)]

    def take(self, reply: ChainReply) -> None:
        """Take in one reply.

        1. Each transaction is awaited, as wanted or as a parent of one before it: else HistoryCyclic.
        2. All are within the limits: else HistoryTooLarge.
        3. The reply brings something that is not known here: else HistoryMissing.
        """
        before = len(self.links), len(self.awaited)
        for entry in reply.transactions:
            link = Link.read(entry, self._ancestry)
            # What is known here may come again: the peer cannot know it, nor that we have learned it since we asked.
            if self._ancestry.knows(link.id):
                self.awaited.pop(link.id, None)
                continue
            # 1.
            if link.id not in self.awaited:
                raise HistoryCyclic(f"the peer sends {link.id.hex()}, which nothing that it sent before names")
            del self.awaited[link.id]
            self.links[link.id] = link
            self._await(link.parents)
            # 2.
            self._bytes += len(link.signed_transaction) + len(link.finality_proof)
            if len(self.links) > TRANSACTIONS_MAX or self._bytes > BYTES_MAX:
                raise HistoryTooLarge(
                    f"behind a state stand more than {TRANSACTIONS_MAX} transactions or {BYTES_MAX} bytes"
                )
        # 3.
        if (len(self.links), len(self.awaited)) == before:
            raise HistoryMissing(f"the peer does not hand out {next(iter(self.awaited)).hex()}, which is wanted")

    def _await(self, identifiers: Sequence[bytes]) -> None:
        for identifier in identifiers:
            if identifier not in self.links and not self._ancestry.knows(identifier):
                self.awaited[identifier] = None


def resolve_request(peer: bytes, root: bytes, wanted: Sequence[bytes]) -> bytes:
    """The payload of `RESOLVE`: whom to ask ‖ `ledger.v1.ChainRequest`."""
    return peer + ChainRequest(root=root, wanted=wanted).SerializeToString()


def read_outcome(answer: bytes) -> None:
    """Raises the error with which a resolution ended; nothing when the history is verified."""
    reply = Reply.FromString(answer)
    if reply.error_code:
        raise error_from_code(reply.error_code, reply.error_message)
