"""Attachments for flows: a service of the node for itself, so that a fetch is a call like any other in the journal."""

import asyncio
import logging
from collections.abc import Callable

from p2pet.attachments.v1.attachments_pb2 import FetchRequest
from p2pet.peer.v1.peer_pb2 import Reply

from p2petd.attachments.library import Attachments
from p2petd.errors import InternalError, NodeError, UnknownService
from p2petd.observe.log import log_unexpected

log = logging.getLogger(__name__)

FETCH = "attachment.fetch"


class FetchForFlows:
    """Answers `FETCH` of this node's own flows, when the attachment is here or cannot be had: a `Reply` in a reply.

    An error of the outer reply would make the engine ask again. On the event loop's thread.
    """

    def __init__(self, me: bytes, attachments: Attachments) -> None:
        self._me = me
        self._attachments = attachments
        self._tasks: set[asyncio.Task[None]] = set()

    def serve(self, peer: bytes, payload: bytes, answer: Callable[[Reply], None]) -> None:
        if peer != self._me:
            unknown = UnknownService(f"this node has no service {FETCH!r} for others")
            answer(Reply(error_code=unknown.code, error_message=unknown.message))
            return
        task = asyncio.create_task(self._fetch(payload, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fetch(self, payload: bytes, answer: Callable[[Reply], None]) -> None:
        outcome = Reply()
        try:
            request = FetchRequest.FromString(payload)
            await self._attachments.fetch(request.peer, request.hash)
        except NodeError as error:
            outcome = Reply(error_code=error.code, error_message=error.message)
        except Exception:  # noqa: BLE001 - a flow that is never answered would wait for good
            error_id = log_unexpected(log, "fetching an attachment")
            outcome = Reply(error_code=InternalError.code, error_message=f"the node's log has error id {error_id}")
        answer(Reply(payload=outcome.SerializeToString()))


def read_outcome(answer: bytes) -> str:
    """Why a fetch came to nothing, in one sentence; empty when the attachment is here."""
    reply = Reply.FromString(answer)
    return f"{reply.error_message} [{reply.error_code}]" if reply.error_code else ""
