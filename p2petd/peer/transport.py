"""Connections to all peers: dialling, accepting, hello, frames in and out (docs/protocol.md, section 8)."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from p2pet.peer.v1.peer_pb2 import ExchangeRequest, Frame, Hello, Reply

from p2petd.errors import CertificateError, RolledBack, UnknownParty
from p2petd.identity.tls import TlsMaterial, dial_options, peer_identity
from p2petd.network.network_map import NetworkMap
from p2petd.network.node_info import PLATFORM_VERSION
from p2petd.peer.link import FRAME_HARD_BYTES, Link, PeerState

log = logging.getLogger(__name__)

PROTOCOL_VERSION = 1
EXCHANGE = "/p2pet.peer.v1.PeerService/Exchange"
HELLO_SECONDS_MAX = 10
BACKOFF_FIRST_SECONDS, BACKOFF_MAX_SECONDS = 0.05, 5.0
CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", FRAME_HARD_BYTES + 1024),
    ("grpc.max_send_message_length", FRAME_HARD_BYTES + 1024),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # Our own backoff dials again; a channel is used for one connection.
    ("grpc.enable_retries", 0),
)


class Inbound(Protocol):
    """Who takes what arrives. All methods return at once."""

    def on_messages(self, peer: bytes, epoch: bytes, messages: tuple[Any, ...]) -> None: ...

    def on_acknowledged(self, peer: bytes, first: int, last: int) -> None: ...

    def on_reply(self, reply: Reply) -> None: ...

    def on_call(self, peer: bytes, service: str, payload: bytes, answer: Callable[[Reply], None]) -> None: ...

    def on_rolled_back(self, error: RolledBack) -> None: ...


@dataclass(frozen=True)
class LocalNode:
    """What this node says of itself in a hello."""

    identity: bytes
    fingerprint: str
    network_id: bytes
    epoch: bytes


class Stream(Protocol):
    """One side of an Exchange, client or server."""

    async def read(self) -> Frame | None: ...

    async def write(self, envelope: ExchangeRequest) -> None:
        """Requests and responses have the same bytes, so that one type serves both directions."""


class HelloRefused(Exception):
    """The other side cannot be talked to; the text says why."""


class PeerTransport:
    """The engine's PeerPort and the PeerService's handler."""

    def __init__(
        self,
        local: LocalNode,
        network_map: NetworkMap,
        tls: TlsMaterial,
        states: Mapping[bytes, PeerState],
        inbound: Inbound,
    ) -> None:
        self._local = local
        self._map = network_map
        self._tls = tls
        self._states = states
        self._inbound = inbound
        self._links: dict[bytes, Link] = {}
        self._current: dict[bytes, asyncio.Task[None]] = {}
        self._dialled_here: dict[bytes, bool] = {}
        self._dialers: dict[bytes, asyncio.Task[None]] = {}
        self.counters = {"frames_sent": 0, "frames_received": 0, "messages_sent": 0, "messages_received": 0}

    # What the engine asks for.

    def send(self, peer: bytes, sequence: int, message: bytes) -> None:
        link = self._link(peer)
        link.unacknowledged.append((sequence, message))
        link.last_sent = sequence
        self._nudge(link)

    def acknowledge(self, peer: bytes, sequence: int) -> None:
        link = self._link(peer)
        link.durable = max(link.durable, sequence)
        link.acknowledge_due = True
        link.wake.set()

    def call(self, peer: bytes, call_id: bytes, service: str, payload: bytes) -> None:
        if peer == self._local.identity:
            self._inbound.on_call(peer, service, payload, _OwnAnswer(self._inbound, call_id))
            return
        link = self._link(peer)
        link.calls[call_id] = (service, payload)
        link.calls_to_send.append(call_id)
        self._nudge(link)

    # The life of the transport.

    def start(self) -> None:
        """Dial every peer for which something has waited since the last run."""
        for peer in self._states:
            try:
                link = self._link(peer)
            except UnknownParty as error:
                log.warning("messages wait for a peer that has left the network: %s", error)
                continue
            if link.has_work:
                self._nudge(link)

    async def stop(self) -> None:
        tasks = [*self._dialers.values(), *self._current.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def is_connected(self, peer: bytes) -> bool:
        return peer in self._current

    def outbox_length(self, peer: bytes) -> int:
        link = self._links.get(peer)
        return len(link.unacknowledged) if link else 0

    async def exchange(self, _: AsyncIterator[bytes], context: Any) -> None:
        """Handler of PeerService.Exchange: the other side has dialled."""
        try:
            info = self._map.by_fingerprint(peer_identity(context.auth_context()))
        except (CertificateError, UnknownParty) as error:
            log.warning("refused a connection from %s: %s", context.peer(), error)
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, error.message)
        stream = _ServerStream(context)
        try:
            await self._converse(self._link(info.identity), stream, dialled_here=False)
        except HelloRefused as refused:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(refused))
        except (DecodeError, ValueError) as error:
            log.warning("closing the stream of %s: %s", info.name, error)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a frame does not decode or breaks the protocol")

    # Dialling.

    def _link(self, peer: bytes) -> Link:
        if peer not in self._links:
            self._links[peer] = Link.load(self._map.by_identity(peer), self._states.get(peer, PeerState()))
        return self._links[peer]

    def _nudge(self, link: Link) -> None:
        link.wake.set()
        if link.peer not in self._current and link.peer not in self._dialers:
            self._dialers[link.peer] = asyncio.create_task(self._dial(link))

    async def _dial(self, link: Link) -> None:
        """Connect, and connect again, as long as there is something for the peer and it has not dialled us."""
        backoff = BACKOFF_FIRST_SECONDS
        attempt = 0
        try:
            while link.has_work and link.peer not in self._current:
                address = link.info.addresses[attempt % len(link.info.addresses)]
                attempt += 1
                if await self._dial_once(link, address):
                    backoff = BACKOFF_FIRST_SECONDS
                # Jitter, so that the peers of a node that restarts do not come all at once.
                await asyncio.sleep(backoff * random.uniform(0.5, 1.5))
                backoff = min(backoff * 2, BACKOFF_MAX_SECONDS)
        finally:
            del self._dialers[link.peer]

    async def _dial_once(self, link: Link, address: str) -> bool:
        """Returns when the connection has ended; whether it ever stood."""
        options = (*CHANNEL_OPTIONS, *dial_options(link.info.fingerprint))
        stood = False
        async with grpc.aio.secure_channel(address, self._tls.peer_channel_credentials(), options) as channel:
            call: Any = channel.stream_stream(EXCHANGE)()
            stream = _ClientStream(call)
            try:
                await self._converse(link, stream, dialled_here=True)
                stood = True
            except grpc.aio.AioRpcError as error:
                log.debug("%s at %s: %s %s", link.info.name, address, error.code().name, error.details())
                stood = error.code() != grpc.StatusCode.UNAVAILABLE
                if error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.FAILED_PRECONDITION):
                    log.warning("%s at %s refuses us: %s", link.info.name, address, error.details())
            except (HelloRefused, DecodeError, ValueError) as error:
                log.warning("closing the stream to %s: %s", link.info.name, error)
            finally:
                call.cancel()
        return stood

    # One connection.

    async def _converse(self, link: Link, stream: Stream, *, dialled_here: bool) -> None:
        if dialled_here:
            await stream.write(ExchangeRequest(frame=Frame(hello=self._hello(link))))
        first = await asyncio.wait_for(stream.read(), HELLO_SECONDS_MAX)
        hello = self._check_hello(link, first)
        if not self._prevails(link, dialled_here):
            raise HelloRefused("another connection between these nodes stays")
        if not dialled_here:
            await stream.write(ExchangeRequest(frame=Frame(hello=self._hello(link))))
        self._attach(link, hello)
        task = asyncio.current_task()
        assert task is not None
        replaced = self._current.get(link.peer)
        self._current[link.peer], self._dialled_here[link.peer] = task, dialled_here
        if replaced is not None:
            replaced.cancel()
        writer = asyncio.create_task(self._write(link, stream))
        try:
            await self._read(link, stream, hello.epoch)
        finally:
            writer.cancel()
            if self._current.get(link.peer) is task:
                del self._current[link.peer]
                if link.has_work:
                    self._nudge(link)

    def _hello(self, link: Link) -> Hello:
        local = self._local
        return Hello(
            protocol_min=PROTOCOL_VERSION,
            protocol_max=PROTOCOL_VERSION,
            network_id=local.network_id,
            identity=local.identity,
            epoch=local.epoch,
            last_sent=link.last_sent,
            last_received=link.durable,
            received_epoch=link.received_epoch,
            platform_version=PLATFORM_VERSION,
        )

    def _check_hello(self, link: Link, frame: Frame | None) -> Hello:
        """Raises HelloRefused unless it is the node that TLS says, of our network, with a common protocol."""
        if frame is None or not frame.HasField("hello"):
            raise HelloRefused("the first frame must hold a hello")
        hello = frame.hello
        if hello.identity != link.peer or len(hello.epoch) != 16:
            raise HelloRefused("the hello is of another node than the TLS certificate")
        if hello.network_id != self._local.network_id:
            raise HelloRefused("the hello is of another network")
        if not hello.protocol_min <= PROTOCOL_VERSION <= hello.protocol_max:
            raise HelloRefused(f"this node speaks protocol {PROTOCOL_VERSION} only")
        return hello

    def _prevails(self, link: Link, dialled_here: bool) -> bool:
        """The connection dialled by the smaller fingerprint stays; of two dialled by one side, the newer."""
        if link.peer not in self._current or self._dialled_here[link.peer] == dialled_here:
            return True
        return (self._local.fingerprint < link.info.fingerprint) == dialled_here

    def _attach(self, link: Link, hello: Hello) -> None:
        received = hello.last_received if hello.received_epoch == self._local.epoch else 0
        if received > link.last_sent:
            error = RolledBack(
                f"{link.info.name} has received message {received} from this node, which knows of {link.last_sent}; "
                "this data directory is an old copy: restore the newest one"
            )
            self._inbound.on_rolled_back(error)
            raise HelloRefused("this node was restored from an old copy and stops")
        acknowledged = link.connected(hello.epoch, received)
        if acknowledged is not None:
            self._inbound.on_acknowledged(link.peer, *acknowledged)

    async def _write(self, link: Link, stream: Stream) -> None:
        while True:
            link.wake.clear()
            while link.fill((envelope := ExchangeRequest()).frame):
                frame = envelope.frame
                self.counters["frames_sent"] += 1
                self.counters["messages_sent"] += len(frame.messages) + len(frame.calls) + len(frame.replies)
                try:
                    await stream.write(envelope)
                except (grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
                    return  # The reader ends the connection and says why.
            await link.wake.wait()

    async def _read(self, link: Link, stream: Stream, epoch: bytes) -> None:
        while (frame := await stream.read()) is not None:
            if frame.HasField("hello"):
                raise ValueError("a second hello")
            self.counters["frames_received"] += 1
            self.counters["messages_received"] += len(frame.messages) + len(frame.calls) + len(frame.replies)
            if frame.acknowledged and (acknowledged := link.acknowledged(frame.acknowledged)) is not None:
                self._inbound.on_acknowledged(link.peer, *acknowledged)
            if frame.messages and (fresh := link.accept(list(frame.messages))):
                self._inbound.on_messages(link.peer, epoch, fresh)
            for reply in frame.replies:
                if link.calls.pop(reply.call_id, None) is not None:
                    self._inbound.on_reply(reply)
            for call in frame.calls:
                answer = _Answer(link, call.call_id)
                self._inbound.on_call(link.peer, call.service, call.payload, answer)


@dataclass(frozen=True)
class _Answer:
    """Sends a service's reply; on a connection that has ended it is lost, and the caller asks again."""

    link: Link
    call_id: bytes

    def __call__(self, reply: Reply) -> None:
        reply.call_id = self.call_id
        self.link.replies.append(reply)
        self.link.wake.set()


@dataclass(frozen=True)
class _OwnAnswer:
    """The reply of a service of this very node."""

    inbound: Inbound
    call_id: bytes

    def __call__(self, reply: Reply) -> None:
        reply.call_id = self.call_id
        self.inbound.on_reply(reply)


@dataclass(frozen=True)
class _ClientStream:
    call: Any

    async def read(self) -> Frame | None:
        data = await self.call.read()
        return None if data is grpc.aio.EOF else ExchangeRequest.FromString(data).frame

    async def write(self, envelope: ExchangeRequest) -> None:
        await self.call.write(envelope.SerializeToString())


@dataclass(frozen=True)
class _ServerStream:
    context: Any

    async def read(self) -> Frame | None:
        data = await self.context.read()
        return None if data is grpc.aio.EOF else ExchangeRequest.FromString(data).frame

    async def write(self, envelope: ExchangeRequest) -> None:
        await self.context.write(envelope.SerializeToString())


def peer_handlers(transport: PeerTransport) -> grpc.GenericRpcHandler:
    """The PeerService with raw bytes in and out."""
    method: Any = grpc.stream_stream_rpc_method_handler(transport.exchange)
    return grpc.method_handlers_generic_handler("p2pet.peer.v1.PeerService", {"Exchange": method})
