"""What peers send, handed to whom it concerns: the engine, or a service of this node."""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping

from p2pet.peer.v1.peer_pb2 import Message, Reply

from p2petd.errors import MalformedTransaction, RolledBack, UnknownService, spoken
from p2petd.flows.events import Acknowledged, Arrived, CallAnswered, Event, RetryCall
from p2petd.flows.finality import NOTARISE
from p2petd.notary.queries import SPENT, STATUS
from p2petd.notary.queue import retry_after_ns
from p2petd.notary.service import NotaryService
from p2petd.peer.calls import PeerCalls
from p2petd.units import SECOND_NS

log = logging.getLogger(__name__)

# Without an estimate of the service.
RETRY_SECONDS = 0.25

PeerService = Callable[[bytes, bytes, Callable[[Reply], None]], None]
"""Answers a call with (peer, payload, answer), on the event loop's thread and without blocking it."""


class FlowInbound:
    """The transport's `Inbound`, on the event loop's thread."""

    def __init__(
        self,
        notary: NotaryService | None,
        rolled_back: Callable[[RolledBack], None],
        services: Mapping[str, PeerService],
        calls: PeerCalls,
    ) -> None:
        """`services` are those that this node offers beside its notary's, by name; `calls` those that no flow makes."""
        self._notary = notary
        self._rolled_back = rolled_back
        self._services = services
        self._calls = calls
        self.submit: Callable[[Event], None] = _not_started

    def on_messages(self, peer: bytes, epoch: bytes, messages: tuple[Message, ...]) -> None:
        self.submit(Arrived(peer, epoch, messages))

    def on_acknowledged(self, peer: bytes, first: int, last: int, token: bytes) -> None:
        self.submit(Acknowledged(peer, first, last, token))

    def on_reply(self, reply: Reply) -> None:
        """A service that could not answer has decided nothing: it is asked again, at another moment by each asker."""
        if self._calls.on_reply(reply):
            return
        if reply.error_code:
            log.info("a service gives no answer, it is asked again: %s", spoken(reply.error_message))
            asyncio.get_running_loop().call_later(_retry_seconds(reply), self.submit, RetryCall(reply.call_id))
        else:
            self.submit(CallAnswered(reply.call_id, reply.payload))

    def on_call(self, peer: bytes, service: str, payload: bytes, answer: Callable[[Reply], None]) -> None:
        offered = self._services.get(service)
        if offered is not None:
            offered(peer, payload, answer)
        elif self._notary is None or service not in (NOTARISE, STATUS, SPENT):
            unknown = UnknownService(f"this node has no service {service[:100]!r}")
            answer(Reply(error_code=unknown.code, error_message=unknown.message))
        elif service == NOTARISE:
            self._notary.notarise(peer, payload, answer)
        else:
            try:
                self._notary.ask(peer, service, payload, answer)
            except MalformedTransaction as error:
                answer(Reply(error_code=error.code, error_message=error.message))

    def on_rolled_back(self, error: RolledBack) -> None:
        self._rolled_back(error)


def _retry_seconds(reply: Reply) -> float:
    """The service's estimate and up to half of it again, within bounds of our own; never all askers at once."""
    if reply.retry_after_ns <= 0:
        return RETRY_SECONDS * random.uniform(0.5, 2.0)
    return retry_after_ns(reply.retry_after_ns) / SECOND_NS * random.uniform(1.0, 1.5)


def _not_started(event: Event) -> None:
    raise RuntimeError("the transport was started before the engine")
