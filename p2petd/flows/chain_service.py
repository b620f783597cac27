"""The service "transactions": the history of a transaction, for a node that was sent it (docs/protocol.md, 8)."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from google.protobuf.message import DecodeError
from p2pet.ledger.v1.chain_pb2 import ChainReply, ChainRequest, ChainTransaction
from p2pet.peer.v1.peer_pb2 import Reply

from p2petd.errors import HistoryBusy, RequestMalformed
from p2petd.vault.ancestry import Ancestry

TRANSACTIONS = "transactions"
# With what surrounds it, a reply must fit into one frame.
REPLY_BYTES_MAX = 768 * 1024
WANTED_MAX = 1024
# Further requests of a peer are answered that it shall ask again.
WAITING_PER_PEER_MAX = 4
# What one request may make us look through.
WALK_MAX = 500_000


class ChainService:
    """Answers out of the view, on a thread of its own. A repeat of a request returns the same."""

    def __init__(self, ancestry: Ancestry, shares: Callable[[bytes, bytes], bool] = lambda peer, root: False) -> None:
        """`shares` says of a peer and a transaction whether the peer takes part in it: it may lose what it was sent."""
        self._ancestry = ancestry
        self._shares = shares
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="histories")
        self._waiting: dict[bytes, int] = {}

    def serve(self, peer: bytes, payload: bytes, answer: Callable[[Reply], None]) -> None:
        """A `PeerService`. Who may not have a transaction gets a reply without it."""
        try:
            request = ChainRequest.FromString(payload)
            if len(request.wanted) > WANTED_MAX:
                raise RequestMalformed(f"{len(request.wanted)} transactions are asked for, {WANTED_MAX} can be at once")
        except (DecodeError, RequestMalformed) as error:
            answer(Reply(error_code=RequestMalformed.code, error_message=f"the request is malformed: {error}"))
            return
        if self._waiting.get(peer, 0) >= WAITING_PER_PEER_MAX:
            answer(Reply(error_code=HistoryBusy.code, error_message="too many requests of this peer; ask again"))
            return
        self._waiting[peer] = self._waiting.get(peer, 0) + 1
        loop = asyncio.get_running_loop()
        done = loop.run_in_executor(self._executor, self.reply, peer, request)
        done.add_done_callback(lambda future: self._answer(peer, future, answer))

    def stop(self) -> None:
        """What is being answered is answered still."""
        self._executor.shutdown()

    def _answer(self, peer: bytes, future: "asyncio.Future[ChainReply]", answer: Callable[[Reply], None]) -> None:
        self._waiting[peer] -= 1
        if not self._waiting[peer]:
            del self._waiting[peer]
        answer(Reply(payload=future.result().SerializeToString()))

    def reply(self, peer: bytes, request: ChainRequest) -> ChainReply:
        """The wanted ones that are ancestors of what the peer was sent, and on from there, up to the limits."""
        heads = self._ancestry.heads(peer, request.root)
        if not heads and self._shares(peer, request.root):
            heads = (request.root,)
        permitted = self._permitted(heads, request.wanted)
        reply, size = ChainReply(), 0
        for transaction_id in self._downwards([wanted for wanted in request.wanted if wanted in permitted]):
            final = self._ancestry.final(transaction_id)
            if final is None:
                continue
            size += len(final.signed_transaction) + len(final.finality_proof) + 16
            full = request.transactions_max and len(reply.transactions) >= request.transactions_max
            if reply.transactions and (size > REPLY_BYTES_MAX or full):
                break
            reply.transactions.append(
                ChainTransaction(signed_transaction=final.signed_transaction, finality_proof=final.finality_proof)
            )
        return reply

    def _permitted(self, heads: Iterable[bytes], wanted: Sequence[bytes]) -> frozenset[bytes]:
        """Which of the wanted ones stand behind the heads, or are among them."""
        missing = set(wanted)
        for transaction_id in self._downwards(heads):
            missing.discard(transaction_id)
            if not missing:
                break
        return frozenset(wanted) - missing

    def _downwards(self, heads: Iterable[bytes]) -> Iterator[bytes]:
        """The heads and everything behind them, children before parents as far as their distance tells."""
        waiting = deque(dict.fromkeys(heads))
        seen = set(waiting)
        while waiting and len(seen) < WALK_MAX:
            transaction_id = waiting.popleft()
            yield transaction_id
            for parent in self._ancestry.parents(transaction_id) or ():
                if parent not in seen:
                    seen.add(parent)
                    waiting.append(parent)
