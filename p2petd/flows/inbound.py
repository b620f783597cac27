"""What peers send, handed to whom it concerns: the engine, or the notary of this node."""

import asyncio
import logging
import random
from collections.abc import Callable

from google.protobuf.message import DecodeError
from p2pet.notary.v1.notary_pb2 import StatusRequest
from p2pet.peer.v1.peer_pb2 import Message, Reply

from p2petd.errors import MalformedTransaction, RolledBack, UnknownService, spoken
from p2petd.flows.agreement import STATUS
from p2petd.flows.events import Acknowledged, Arrived, CallAnswered, Event, RetryCall
from p2petd.flows.finality import NOTARISE
from p2petd.notary.service import NotaryService

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.25


class FlowInbound:
    """The transport's `Inbound`, on the event loop's thread."""

    def __init__(self, notary: NotaryService | None, rolled_back: Callable[[RolledBack], None]) -> None:
        self._notary = notary
        self._rolled_back = rolled_back
        self.submit: Callable[[Event], None] = _not_started

    def on_messages(self, peer: bytes, epoch: bytes, messages: tuple[Message, ...]) -> None:
        self.submit(Arrived(peer, epoch, messages))

    def on_acknowledged(self, peer: bytes, first: int, last: int, token: bytes) -> None:
        self.submit(Acknowledged(peer, first, last, token))

    def on_reply(self, reply: Reply) -> None:
        """A service that could not answer has decided nothing: it is asked again, at another moment by each asker."""
        if reply.error_code:
            log.warning("a service gives no answer, it is asked again: %s", spoken(reply.error_message))
            delay = RETRY_SECONDS * random.uniform(0.5, 2.0)
            asyncio.get_running_loop().call_later(delay, self.submit, RetryCall(reply.call_id))
        else:
            self.submit(CallAnswered(reply.call_id, reply.payload))

    def on_call(self, peer: bytes, service: str, payload: bytes, answer: Callable[[Reply], None]) -> None:
        if self._notary is None or service not in (NOTARISE, STATUS):
            unknown = UnknownService(f"this node has no service {service[:100]!r}")
            answer(Reply(error_code=unknown.code, error_message=unknown.message))
        elif service == NOTARISE:
            self._notary.notarise(peer, payload, answer)
        else:
            try:
                self._notary.status(StatusRequest.FromString(payload), answer)
            except (DecodeError, MalformedTransaction) as error:
                refusal = MalformedTransaction(f"the status request does not decode: {error}")
                answer(Reply(error_code=refusal.code, error_message=refusal.message))

    def on_rolled_back(self, error: RolledBack) -> None:
        self._rolled_back(error)


def _not_started(event: Event) -> None:
    raise RuntimeError("the transport was started before the engine")
