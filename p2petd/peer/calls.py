"""Calls of services of peers by coroutines of this process; flows call through the engine instead."""

import asyncio
import secrets
from collections.abc import Callable
from typing import Protocol

from p2pet.peer.v1.peer_pb2 import Reply

CALL_ID_BYTES = 24


class CallPort(Protocol):
    """The transport as seen from here. On the event loop's thread."""

    def call(self, peer: bytes, call_id: bytes, service: str, payload: bytes) -> None: ...

    def forget_call(self, peer: bytes, call_id: bytes) -> None: ...


class PeerCalls:
    """Each call is asked until it is answered, over as many connections as that takes, or until it is cancelled."""

    def __init__(self, entropy: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._entropy = entropy
        self._waiting: dict[bytes, asyncio.Future[Reply]] = {}
        # Set by who owns both.
        self.port: CallPort

    async def call(self, peer: bytes, service: str, payload: bytes) -> Reply:
        """What the peer answers, an error of its service included. Raises UnknownParty."""
        call_id = self._entropy(CALL_ID_BYTES)
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[call_id] = future
        try:
            self.port.call(peer, call_id, service, payload)
            return await future
        finally:
            del self._waiting[call_id]
            self.port.forget_call(peer, call_id)

    def on_reply(self, reply: Reply) -> bool:
        """Whether the reply is to one of these calls, which gets it."""
        future = self._waiting.get(reply.call_id)
        if future is None:
            # A call that was given up; the ids of flows' calls are shorter.
            return len(reply.call_id) == CALL_ID_BYTES
        if not future.done():
            future.set_result(reply)
        return True
