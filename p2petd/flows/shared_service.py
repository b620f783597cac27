"""The service "transactions.shared": what this node and the asking one both take part in, if that one lost its own."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from google.protobuf.message import DecodeError
from p2pet.flows.v1.sessions_pb2 import Final, SharedReply, SharedRequest
from p2pet.peer.v1.peer_pb2 import Reply
from p2pet.store.v1.store_pb2 import TransactionRow

from p2petd import native
from p2petd.errors import HistoryBusy, RequestMalformed
from p2petd.ledger.groups import DIGEST_BYTES
from p2petd.ledger.proposal import Proposal
from p2petd.store.changes import Reader
from p2petd.store.tables import Table
from p2petd.units import SECOND_NS
from p2petd.vault.parties import names

SHARED = "transactions.shared"
REPLY_BYTES_MAX = 512 * 1024
# What one request may make us look through, so that no asker keeps us busy for long.
LOOKED_THROUGH_MAX = 256
# u64 recorded at ‖ id.
PLACE_BYTES = 8 + DIGEST_BYTES
BUSY_RETRY_NS = SECOND_NS // 10
# How much longer than the search itself an answer is held back: who asks on and on takes little from everybody else.
REST_FACTOR = 4


class SharedTransactions:
    """Answers out of the view, on a thread of its own, one request of a peer at a time. Who asks is who TLS says, and
    is shown nothing that does not name it."""

    def __init__(self, store: Reader) -> None:
        self._store = store
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="shared")
        self._asking: set[bytes] = set()

    def serve(self, peer: bytes, payload: bytes, answer: Callable[[Reply], None]) -> None:
        """A `PeerService`: a `SharedReply` to a `SharedRequest`."""
        try:
            request = SharedRequest.FromString(payload)
            if len(request.after) not in (0, PLACE_BYTES):
                raise RequestMalformed("the place to go on from is not one that this node gave")
        except (DecodeError, RequestMalformed) as error:
            answer(Reply(error_code=RequestMalformed.code, error_message=f"the request is malformed: {error}"))
            return
        if peer in self._asking:
            busy = "an earlier request of this peer is being answered; ask again"
            answer(Reply(error_code=HistoryBusy.code, error_message=busy, retry_after_ns=BUSY_RETRY_NS))
            return
        self._asking.add(peer)
        loop = asyncio.get_running_loop()
        done = loop.run_in_executor(self._executor, self._timed, peer, request)
        done.add_done_callback(lambda future: self._answer(peer, future, answer))

    def stop(self) -> None:
        """What is being answered is answered still."""
        self._executor.shutdown()

    def _timed(self, peer: bytes, request: SharedRequest) -> tuple[SharedReply, float]:
        began = time.thread_time()
        return self.reply(peer, request), time.thread_time() - began

    def _answer(
        self, peer: bytes, future: "asyncio.Future[tuple[SharedReply, float]]", answer: Callable[[Reply], None]
    ) -> None:
        def rested() -> None:
            self._asking.discard(peer)
            answer(Reply(payload=reply.SerializeToString()))

        if future.exception() is not None:
            self._asking.discard(peer)
        reply, seconds = future.result()
        asyncio.get_running_loop().call_later(REST_FACTOR * seconds, rested)

    def reply(self, peer: bytes, request: SharedRequest) -> SharedReply:
        """The next transactions that name the peer, in the order in which they were recorded here, up to the limits."""
        start = request.after + b"\x00" if request.after else b""
        places = [place for place, _ in self._store.scan(Table.TRANSACTION_ORDER, start, None, LOOKED_THROUGH_MAX)]
        reply, size, reached = SharedReply(), 0, b""
        for place in places:
            row = self._store.get(Table.TRANSACTION, place[8:])
            if row is not None and self._names(row, peer):
                kept = TransactionRow.FromString(row)
                size += len(kept.signed_transaction) + len(kept.finality_proof) + 16
                if reply.finals and size > REPLY_BYTES_MAX:
                    reply.next = reached
                    return reply
                final = Final(signed_transaction=kept.signed_transaction, finality_proof=kept.finality_proof)
                reply.finals.append(final)
            reached = place
        if len(places) == LOOKED_THROUGH_MAX:
            reply.next = reached
        return reply

    def shares(self, peer: bytes, transaction_id: bytes) -> bool:
        """Whether the vault holds a transaction that names the peer."""
        row = self._store.get(Table.TRANSACTION, transaction_id)
        return row is not None and self._names(row, peer)

    def _names(self, row: bytes, peer: bytes) -> bool:
        signed = Proposal.decode(TransactionRow.FromString(row).signed_transaction)
        return names(native.Transaction.decode(signed.transaction).groups, peer, self._store)
