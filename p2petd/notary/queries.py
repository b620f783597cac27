"""What parties ask a notary beside a decision: what became of a transaction, and which states are consumed."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError
from p2pet.notary.v1.notary_pb2 import SpentReply, SpentRequest, StatusReply, StatusRequest
from p2pet.peer.v1.peer_pb2 import Reply

from p2petd import native
from p2petd.errors import MalformedTransaction, NotaryTroubled
from p2petd.ledger.groups import DIGEST_BYTES
from p2petd.ledger.refs import STATE_REF_BYTES

SPENT = "spent"
STATUS = "status"
REFS_MAX = 1000
# What a query holds while it waits, about, beside the references that it names.
QUERY_BYTES = 256


@dataclass(frozen=True)
class Query:
    """A question that waits for its turn."""

    request: StatusRequest | SpentRequest
    answer: Callable[[Reply], None]

    @property
    def size(self) -> int:
        refs = self.request.inputs if isinstance(self.request, StatusRequest) else self.request.refs
        return QUERY_BYTES + STATE_REF_BYTES * len(refs)

    @staticmethod
    def read(service: str, payload: bytes, answer: Callable[[Reply], None]) -> "Query":
        """Raises MalformedTransaction."""
        try:
            if service == SPENT:
                spent = SpentRequest.FromString(payload)
                _need_refs(spent.refs)
                return Query(spent, answer)
            status = StatusRequest.FromString(payload)
        except DecodeError as error:
            raise MalformedTransaction(f"the request {service!r} does not decode: {error}") from error
        if len(status.transaction_id) != DIGEST_BYTES:
            raise MalformedTransaction(f"a transaction id is {DIGEST_BYTES} bytes, not {len(status.transaction_id)}")
        _need_refs(status.inputs)
        return Query(status, answer)


def _need_refs(refs: Sequence[bytes]) -> None:
    if len(refs) > REFS_MAX or any(len(ref) != STATE_REF_BYTES for ref in refs):
        raise MalformedTransaction(f"a question names at most {REFS_MAX} states, {STATE_REF_BYTES} bytes each")


def look_up(notary: native.Notary, request: StatusRequest | SpentRequest, now_ns: int) -> Reply:
    """The reply as the notary's log and clock stand now, between two batches. A repeat is answered anew.

    A status is *never* when the notary's clock has reached the end of the window, or when another transaction has
    consumed one of the inputs: both are final. Who consumed a state is told as a conflict tells it.
    """
    try:
        if isinstance(request, SpentRequest):
            answer: SpentReply | StatusReply = SpentReply(consumer_hashes=notary.consumer_hashes(list(request.refs)))
        else:
            answer = _status(notary, request, now_ns)
    except native.ProofError as error:
        return Reply(error_code=NotaryTroubled.code, error_message=str(error))
    return Reply(payload=answer.SerializeToString())


def _status(notary: native.Notary, request: StatusRequest, now_ns: int) -> StatusReply:
    proof, never = notary.status(request.transaction_id, request.until_ns, now_ns)
    if proof is not None:
        return StatusReply(finality_proof=proof)
    # It is not decided here, so whoever has consumed an input is another one. What cannot be proven is decided, though.
    mine = hashlib.sha256(request.transaction_id).digest()
    if never or any(consumer not in (b"", mine) for consumer in notary.consumer_hashes(list(request.inputs))):
        return StatusReply(never=True)
    return StatusReply(unknown=True)
