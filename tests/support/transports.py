"""Peer transports of two homes inside the test's own process: real streams and certificates, no engine and no store."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from p2pet.peer.v1.peer_pb2 import Message, Reply

from p2petd.config import load_config
from p2petd.errors import RolledBack
from p2petd.membership import Membership
from p2petd.peer.hello import EPOCH_BYTES, LocalNode
from p2petd.peer.link import KnownPeers
from p2petd.peer.tokens import Tokens
from p2petd.peer.transport import CHANNEL_OPTIONS, PeerTransport

WAIT_SECONDS_MAX = 15.0


class Recorder:
    """The transport's `Inbound`: what has arrived, in the order of arrival.

    Messages are as good as durable when they arrive; calls are answered at once, unless the test wants otherwise.
    """

    def __init__(self) -> None:
        self.messages: list[int] = []
        self.acknowledged = 0
        self.replies: list[bytes] = []
        self.calls: list[bytes] = []
        self.rolled_back: list[RolledBack] = []
        self.answers = True
        self.commits = True
        self.fails = False
        self.failures = 0
        # Set by who owns both.
        self.transport: PeerTransport

    def on_messages(self, peer: bytes, epoch: bytes, messages: tuple[Message, ...]) -> None:
        if self.fails:
            self.failures += 1
            raise RuntimeError("the test wants this handler to fail")
        self.messages += [message.sequence for message in messages]
        last = messages[-1]
        if self.commits:
            self.commit(peer, epoch, last)

    def commit(self, peer: bytes, epoch: bytes, last: Message) -> None:
        """Everything up to `last` is durable from now on."""
        asyncio.get_running_loop().call_soon(self.transport.acknowledge, peer, epoch, last.sequence, last.token)

    def on_acknowledged(self, peer: bytes, first: int, last: int, token: bytes) -> None:
        assert first == self.acknowledged + 1
        self.acknowledged = last

    def on_reply(self, reply: Reply) -> None:
        self.replies.append(reply.call_id)

    def on_call(self, peer: bytes, service: str, payload: bytes, answer: Callable[[Reply], None]) -> None:
        self.calls.append(payload)
        if self.answers:
            answer(Reply(payload=payload))

    def on_rolled_back(self, error: RolledBack) -> None:
        self.rolled_back.append(error)


class TransportNode:
    """A home of which only the transport runs."""

    def __init__(self, directory: Path) -> None:
        self.config = load_config(directory)
        member = Membership.load(self.config)
        self.identity = member.identity.public
        self.fingerprint = member.identity.fingerprint
        self.inbound = Recorder()
        self.epoch, self.tokens = secrets.token_bytes(EPOCH_BYTES), Tokens(secrets.token_bytes(32))
        local = LocalNode(self.identity, self.fingerprint, member.identity.network_id, self.epoch, self.tokens)
        # What a node has in its store; how often it was read.
        self.outbox: dict[bytes, dict[int, bytes]] = {}
        self.pages_read = 0
        self.transport = PeerTransport(local, member.network_map, member.tls, KnownPeers({}, self._page), self.inbound)
        self.inbound.transport = self.transport
        self._credentials = member.tls.peer_server_credentials()
        self._sent = 0

    @contextlib.asynccontextmanager
    async def serving(self, handler: Callable[[AsyncIterator[bytes], Any], Any] | None = None) -> AsyncIterator[None]:
        """Listen at the home's address; `handler` takes the streams in place of the transport."""
        server = grpc.aio.server(options=(*CHANNEL_OPTIONS, ("grpc.so_reuseport", 0)))
        method: Any = grpc.stream_stream_rpc_method_handler(handler or self.transport.exchange)
        methods = {"Exchange": method}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("p2pet.peer.v1.PeerService", methods),))
        server.add_secure_port(self.config.peer.listen, self._credentials)
        await server.start()
        try:
            yield
        finally:
            await server.stop(None)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["TransportNode"]:
        """Listen, and stop the transport at the end."""
        async with self.serving():
            try:
                yield self
            finally:
                await self.transport.stop()

    def send(self, to: "TransportNode | bytes", message: bytes = b"") -> int:
        """A message with the next sequence, which it returns."""
        self._sent += 1
        peer = to if isinstance(to, bytes) else to.identity
        message = message or b"message %d" % self._sent
        self.outbox.setdefault(peer, {})[self._sent] = message
        self.transport.send(peer, self._sent, message)
        return self._sent

    def _page(self, peer: bytes, start: int, limit: int) -> list[tuple[int, bytes]]:
        self.pages_read += 1
        rows = self.outbox.get(peer, {})
        return [(sequence, rows[sequence]) for sequence in range(start, start + limit) if sequence in rows]

    def call(self, to: "TransportNode | bytes", payload: bytes = b"") -> bytes:
        """A call that is asked until it is answered; its id."""
        call_id = secrets.token_bytes(20)
        self.transport.call(to if isinstance(to, bytes) else to.identity, call_id, "service", payload)
        return call_id


async def until(look: Callable[[], object], what: str) -> None:
    """Until `look` gives something true; fails naming `what` otherwise."""
    try:
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while not look():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"this did not happen: {what}") from None
