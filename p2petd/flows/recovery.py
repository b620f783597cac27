"""What a node asks others for when it has lost its vault: asked within a time limit, and verified beside the engine.

A service of the node for itself, so that asking is a call like any other in a flow's journal.
"""

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError
from p2pet.flows.v1.sessions_pb2 import Final, SharedReply
from p2pet.peer.v1.peer_pb2 import Reply
from p2pet.store.v1.store_pb2 import StateRow

from p2petd import native
from p2petd.errors import (
    HistoryBusy,
    HistoryForged,
    HistoryUnavailable,
    InternalError,
    NodeError,
    UnknownParty,
    UnknownService,
    spoken,
)
from p2petd.flows.backchain import CallPeer, ChainResolver
from p2petd.flows.chain_check import ChainVerifier, Link
from p2petd.flows.shared_service import SHARED
from p2petd.ledger.groups import KEY_BYTES, Group
from p2petd.ledger.proposal import Proposal, check_signatures
from p2petd.ledger.refs import StateRef
from p2petd.network.network_map import NetworkMap
from p2petd.network.parameters import NotaryMode
from p2petd.observe.log import log_unexpected
from p2petd.store.changes import Reader
from p2petd.store.tables import Table
from p2petd.vault.parties import names

log = logging.getLogger(__name__)

ASK = "recovery.ask"
ANSWER_SECONDS_MAX = 10.0
BUSY_SECONDS = 0.1
FINALS_MAX = 4096
PAGE_ID_BYTES = 16
SIGNATURE_MISSING = "signature.missing"


@dataclass(frozen=True)
class Recovered:
    """A final transaction that names this node, verified."""

    id: bytes
    groups: Sequence[Sequence[bytes]]
    signed_transaction: bytes
    finality_proof: bytes


@dataclass
class RecoveredPages:
    """Pages between their verification and their recording; a restart, or too many of them, loses some: they are asked
    for again. From any thread."""

    _pages: OrderedDict[bytes, tuple[Recovered, ...]] = field(default_factory=OrderedDict)

    PAGES_MAX = 8

    def put(self, page: Sequence[Recovered]) -> bytes:
        """The id under which it can be taken, once."""
        page_id = secrets.token_bytes(PAGE_ID_BYTES)
        self._pages[page_id] = tuple(page)
        if len(self._pages) > self.PAGES_MAX:
            self._pages.popitem(last=False)
        return page_id

    def take(self, page_id: bytes) -> tuple[Recovered, ...] | None:
        return self._pages.pop(page_id, None)


class _VaultWith:
    """The vault, and what the transactions of a page create, whatever their order."""

    def __init__(self, store: Reader, page: Sequence[Recovered]) -> None:
        self._store = store
        self._made = {
            StateRef(one.id, index).encode(): component
            for one in page
            for index, component in enumerate(one.groups[Group.OUTPUTS])
        }

    def get(self, table: int, key: bytes) -> bytes | None:
        made = self._made.get(key) if table == Table.STATE else None
        return self._store.get(table, key) if made is None else StateRow(output=made).SerializeToString()

    def scan(
        self, table: int, start: bytes, end: bytes | None, limit: int, *, reverse: bool = False
    ) -> list[tuple[bytes, bytes]]:
        return self._store.scan(table, start, end, limit, reverse=reverse)


@dataclass(frozen=True)
class Verifying:
    """What verifying a page takes."""

    me: bytes
    network_id: bytes
    network_map: NetworkMap
    verifier: ChainVerifier
    resolver: ChainResolver
    store: Reader


class RecoveryDesk:
    """On the event loop's thread; verifies on others."""

    def __init__(self, parts: Verifying, call: CallPeer, pages: RecoveredPages) -> None:
        """`call` asks a service of a peer until it answers, over reconnects."""
        self._parts = parts
        self._call = call
        self._pages = pages
        self._tasks: set[asyncio.Task[None]] = set()

    def serve(self, peer: bytes, payload: bytes, answer: Callable[[Reply], None]) -> None:
        """Answers `ASK` of this node's own flows (see `ask_request`): a `Reply` in a reply, as `read_answer` takes it.

        An error of the outer reply would make the engine ask again.
        """
        if peer != self._parts.me:
            unknown = UnknownService(f"this node has no service {ASK!r} for others")
            answer(Reply(error_code=unknown.code, error_message=unknown.message))
            return
        task = asyncio.create_task(self._serve(payload, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Give up what is under way; a restart asks again."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, payload: bytes, answer: Callable[[Reply], None]) -> None:
        party, (service, _, request) = payload[:KEY_BYTES], payload[KEY_BYTES:].partition(b"\x00")
        try:
            outcome = await self._ask(party, service.decode(), request)
            if service.decode() == SHARED:
                outcome = await self._take_in(party, outcome)
        except NodeError as error:
            outcome = Reply(error_code=error.code, error_message=error.message)
        except Exception:  # noqa: BLE001 - a flow that is never answered would wait for good
            error_id = log_unexpected(log, "asking for what was lost")
            outcome = Reply(error_code=InternalError.code, error_message=f"the node's log has error id {error_id}")
        answer(Reply(payload=outcome.SerializeToString()))

    async def _ask(self, party: bytes, service: str, request: bytes) -> Reply:
        """The party's answer. Raises HistoryUnavailable."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                while True:
                    reply = await self._call(party, service, request)
                    if reply.error_code != HistoryBusy.code:
                        break
                    await asyncio.sleep(BUSY_SECONDS)
        except TimeoutError:
            raise HistoryUnavailable("it does not answer") from None
        except UnknownParty as error:
            raise HistoryUnavailable(error.message) from None
        if reply.error_code:
            raise HistoryUnavailable(f"it says {spoken(reply.error_code)}")
        return Reply(payload=reply.payload)

    async def _take_in(self, party: bytes, reply: Reply) -> Reply:
        """Verify a page and hold it for the flow. Raises HistoryError, and nothing of the page is held.

        1. Each is a final transaction with all its signatures; those that a verifying notary has seen may lack.
        2. It names this node; one that may only have consumed what this node had, and has not got back, is left out.
        3. Under a uniqueness-only notary its whole history verifies, which the party hands out too.
        """
        try:
            shared = SharedReply.FromString(reply.payload)
        except DecodeError:
            raise HistoryForged("it sends no valid transactions") from None
        if len(shared.finals) > FINALS_MAX:
            raise HistoryForged(f"it sends {len(shared.finals)} transactions at once, at most {FINALS_MAX} are taken")
        page = await asyncio.to_thread(self._verify, shared.finals)
        ancestry = self._parts.verifier.ancestry
        for one in page:
            if ancestry.is_unseen(one.groups) and not ancestry.knows(one.id):
                parents = ancestry.parents_of(one.groups)
                await self._parts.resolver.resolve(party, one.id, parents)
                cited = tuple(one.groups[Group.ATTACHMENTS])
                link = Link(one.id, parents, cited, one.signed_transaction, one.finality_proof)
                await asyncio.to_thread(self._parts.verifier.verify, [link])
        return Reply(payload=self._pages.put(page) + shared.next)

    def _verify(self, finals: Sequence[Final]) -> list[Recovered]:
        parts = self._parts
        pairs = [(final.signed_transaction, final.finality_proof) for final in finals]
        proven = []
        for (signed, proof), verdict in zip(pairs, parts.verifier.rules.check_finals(pairs), strict=True):
            # 1.
            if isinstance(verdict, native.Checked):
                found = Recovered(verdict.id, verdict.groups, signed, proof)
            elif verdict.code == SIGNATURE_MISSING:
                found = self._proven(signed, proof)
            else:
                raise HistoryForged(f"it sends a transaction that is refused: {verdict.code}: {verdict.message}")
            proven.append(found)
        # 2.
        held, page = _VaultWith(parts.store, proven), []
        for found in proven:
            if names(found.groups, parts.me, held):
                page.append(found)
            elif all(held.get(Table.STATE, ref) is not None for ref in found.groups[Group.INPUTS]):
                raise HistoryForged(f"it sends the transaction {found.id.hex()}, which does not concern this node")
        return page

    def _proven(self, signed: bytes, proof: bytes) -> Recovered:
        """A transaction that lacks signatures, if a verifying notary has decided it: that one has seen them."""
        proposal = Proposal.decode(signed)
        transaction = proposal.transaction
        decoded = native.Transaction.decode(transaction)
        check_signatures(self._parts.network_id, decoded.id, proposal.signatures)
        cited = decoded.groups[Group.PARAMETERS][0]
        known = self._parts.network_map.parameters.get(cited)
        listed = () if known is None else known.parameters.notaries
        verifying = [(one.service_key, int(one.mode)) for one in listed if one.mode is NotaryMode.VERIFYING]
        try:
            native.verify_finality(self._parts.network_id, transaction, proof, cited, verifying)
        except native.NativeError as error:
            raise HistoryForged(f"it sends a transaction that lacks signatures and a proof: {error}") from error
        return Recovered(decoded.id, decoded.groups, signed, proof)


def ask_request(party: bytes, service: str, request: bytes) -> bytes:
    """The payload of `ASK`: whom to ask ‖ which service ‖ 0x00 ‖ the service's own request."""
    return party + service.encode() + b"\x00" + request


def read_answer(answer: bytes) -> bytes:
    """What the service answered; of `SHARED` the id of a verified page ‖ where to go on. Raises HistoryUnavailable with
    what went wrong, in words that follow the party's name."""
    reply = Reply.FromString(answer)
    if reply.error_code:
        raise HistoryUnavailable(reply.error_message)
    return reply.payload
