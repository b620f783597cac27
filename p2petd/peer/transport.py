"""Connections to all peers: dialling, accepting, hello, frames in and out (docs/protocol.md, section 8)."""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
import grpc.aio
from p2pet.peer.v1.peer_pb2 import ExchangeRequest, Hello, Message, Reply

from p2petd.errors import CertificateError, RolledBack, UnknownParty
from p2petd.identity.tls import TlsMaterial, dial_options, peer_identity
from p2petd.network.network_map import NetworkMap
from p2petd.observe import failpoints
from p2petd.observe.failpoints import Failpoint
from p2petd.observe.log import log_unexpected
from p2petd.peer.hello import HelloRefused, LocalNode, check_hello, make_hello, received_by_peer
from p2petd.peer.intake import ProtocolError
from p2petd.peer.link import FRAME_HARD_BYTES, KnownPeers, Link, PeerState
from p2petd.peer.streams import ClientStream, ServerStream, Stream

log = logging.getLogger(__name__)

EXCHANGE = "/p2pet.peer.v1.PeerService/Exchange"
HELLO_SECONDS_MAX = 10
# One stream of a peer counts; so many more may be about to say hello, or to end.
STREAMS_MAX = 32
DELIVERED_LOOK_SECONDS = 0.02
BACKOFF_FIRST_SECONDS, BACKOFF_MAX_SECONDS = 0.05, 2.5
# A connection that held so long was a good one: the next is dialled at once.
GOOD_CONNECTION_SECONDS = 5.0
# A peer that has greeted us is there: when it breaks off, it is looked for again this soon.
BACKOFF_GREETED_SECONDS = 0.2
# Tag and length of the field that holds the frame.
ENVELOPE_BYTES = 4
CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", FRAME_HARD_BYTES + ENVELOPE_BYTES),
    ("grpc.max_send_message_length", FRAME_HARD_BYTES + ENVELOPE_BYTES),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # How long one attempt to connect takes: TCP asks ever more rarely, and a link that is whole again is to be found.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    # Our own backoff dials again; a channel is used for one connection.
    ("grpc.enable_retries", 0),
)
STREAM_ENDED = (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError)


class Inbound(Protocol):
    """Who takes what arrives. All methods return at once."""

    def on_messages(self, peer: bytes, epoch: bytes, messages: tuple[Message, ...]) -> None: ...

    def on_acknowledged(self, peer: bytes, first: int, last: int, token: bytes) -> None: ...

    def on_reply(self, reply: Reply) -> None: ...

    def on_call(self, peer: bytes, service: str, payload: bytes, answer: Callable[[Reply], None]) -> None: ...

    def on_rolled_back(self, error: RolledBack) -> None: ...


@dataclass(frozen=True)
class _Connection:
    """The one connection with a peer that counts."""

    reader: "asyncio.Task[None]"
    writer: "asyncio.Task[None]"
    dialled_here: bool

    def end(self) -> None:
        self.writer.cancel()
        self.reader.cancel()


class PeerTransport:
    """The engine's PeerPort and the PeerService's handler."""

    def __init__(
        self,
        local: LocalNode,
        network_map: NetworkMap,
        tls: TlsMaterial,
        known: KnownPeers,
        inbound: Inbound,
    ) -> None:
        self._local = local
        self._map = network_map
        self._tls = tls
        self._known = known
        self._inbound = inbound
        self._links: dict[bytes, Link] = {}
        self._current: dict[bytes, _Connection] = {}
        self._dialers: dict[bytes, asyncio.Task[None]] = {}
        # Who has answered our last call with a hello.
        self._greeted: set[bytes] = set()
        # How many streams each peer has dialled that have not ended.
        self._streams: Counter[bytes] = Counter()
        self._stopping = False
        self.counters = {"frames_sent": 0, "frames_received": 0, "messages_sent": 0, "messages_received": 0}

    # What the engine asks for.

    def send(self, peer: bytes, sequence: int, message: bytes) -> None:
        try:
            link = self._link(peer)
        except UnknownParty as error:
            log.warning("a message waits for a peer that has left the network: %s", error)
            return
        link.outbox.add(sequence, message)
        self._nudge(link)

    def acknowledge(self, peer: bytes, epoch: bytes, sequence: int, token: bytes) -> None:
        self._link(peer).committed(epoch, sequence, token)

    def call(self, peer: bytes, call_id: bytes, service: str, payload: bytes) -> None:
        if peer == self._local.identity:
            self._inbound.on_call(peer, service, payload, _OwnAnswer(self._inbound, call_id))
            return
        link = self._link(peer)
        link.ask(call_id, service, payload)
        self._nudge(link)

    def forget_call(self, peer: bytes, call_id: bytes) -> None:
        """Ask no more; repeating it, or for a call that was answered, does nothing."""
        link = self._links.get(peer)
        if link is not None:
            link.forget_call(call_id)

    # The life of the transport.

    def start(self) -> None:
        """Dial every peer for which something has waited since the last run."""
        for peer in self._known.states:
            try:
                link = self._link(peer)
            except UnknownParty as error:
                log.warning("messages wait for a peer that has left the network: %s", error)
                continue
            if link.has_work:
                self._nudge(link)

    async def stop(self) -> None:
        self._stopping = True
        tasks = list(self._dialers.values())
        for connection in self._current.values():
            tasks += [connection.reader, connection.writer]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def deliver(self, seconds: float) -> None:
        """Wait until the peers that are connected hold what was sent to them, but no longer than that."""
        for _ in range(int(seconds / DELIVERED_LOOK_SECONDS)):
            if not any(self.outbox_length(peer) for peer in self._current):
                return
            await asyncio.sleep(DELIVERED_LOOK_SECONDS)

    def is_connected(self, peer: bytes) -> bool:
        return peer in self._current

    def outbox_length(self, peer: bytes) -> int:
        link = self._links.get(peer)
        return len(link.outbox) if link else 0

    async def exchange(self, _: AsyncIterator[bytes], context: Any) -> None:
        """Handler of PeerService.Exchange: the other side has dialled."""
        try:
            info = self._map.by_fingerprint(peer_identity(context.auth_context()))
        except (CertificateError, UnknownParty) as error:
            log.warning("refused a connection from %s: %s", context.peer(), error)
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, error.message)
        if self._streams[info.identity] >= STREAMS_MAX:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{STREAMS_MAX} streams of this node stand already")
        self._streams[info.identity] += 1
        try:
            await self._converse(self._link(info.identity), ServerStream(context), dialled_here=False)
        except HelloRefused as refused:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(refused))
        except ProtocolError as error:
            log.warning("closing the stream of %s: %s", info.name, error)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "no hello came")
        except asyncio.CancelledError:
            if self._stopping:
                raise
            # A handler that is merely cancelled leaves the call open at the other side.
            await context.abort(grpc.StatusCode.ABORTED, "another connection between these nodes stays")
        finally:
            self._streams[info.identity] -= 1

    # Dialling.

    def _link(self, peer: bytes) -> Link:
        """Raises UnknownParty."""
        if peer not in self._links:
            state = self._known.states.get(peer, PeerState())
            info = self._map.by_identity(peer)
            self._links[peer] = Link.load(info, state, self._local.tokens, self._known.read_outbox)
        return self._links[peer]

    def _nudge(self, link: Link) -> None:
        link.wake.set()
        if link.peer not in self._current and link.peer not in self._dialers and not self._stopping:
            self._dialers[link.peer] = asyncio.create_task(self._dial(link))

    async def _dial(self, link: Link) -> None:
        """Connect, and connect again, as long as there is something for the peer and it has not dialled us."""
        backoff = BACKOFF_FIRST_SECONDS
        attempt = 0
        loop = asyncio.get_running_loop()
        try:
            while link.has_work and link.peer not in self._current:
                address = link.info.addresses[attempt % len(link.info.addresses)]
                attempt += 1
                began = loop.time()
                self._greeted.discard(link.peer)
                await self._dial_once(link, address)
                if loop.time() - began > GOOD_CONNECTION_SECONDS:
                    backoff = BACKOFF_FIRST_SECONDS
                elif link.peer in self._greeted:
                    backoff = min(backoff, BACKOFF_GREETED_SECONDS)
                # Jitter, so that the peers of a node that restarts do not come all at once.
                await asyncio.sleep(backoff * random.uniform(0.5, 1.5))
                backoff = min(backoff * 2, BACKOFF_MAX_SECONDS)
        finally:
            del self._dialers[link.peer]
            if link.has_work:
                self._nudge(link)

    async def _dial_once(self, link: Link, address: str) -> None:
        """Returns when the connection has ended, or never stood."""
        options = (*CHANNEL_OPTIONS, *dial_options(link.info.fingerprint))
        async with grpc.aio.secure_channel(address, self._tls.peer_channel_credentials(), options) as channel:
            call: Any = channel.stream_stream(EXCHANGE)()
            try:
                await self._converse(link, ClientStream(call), dialled_here=True)
            except grpc.aio.AioRpcError as error:
                log.debug("%s at %s: %s %s", link.info.name, address, error.code().name, error.details())
                if error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.FAILED_PRECONDITION):
                    log.warning("%s at %s refuses us: %s", link.info.name, address, error.details())
            except (HelloRefused, ProtocolError, TimeoutError, grpc.aio.UsageError, asyncio.InvalidStateError) as error:
                log.warning("closing the stream to %s: %s", link.info.name, str(error) or type(error).__name__)
            except Exception:  # noqa: BLE001 - a dialler that dies would leave its peer unreachable for good
                log_unexpected(log, f"talking to {link.info.name}")
            finally:
                call.cancel()

    # One connection.

    async def _converse(self, link: Link, stream: Stream, *, dialled_here: bool) -> None:
        if dialled_here:
            await stream.write(ExchangeRequest(frame=make_hello(self._local, link)))
        # Not wait_for, which in Python 3.11 forgets a cancellation that comes together with the frame.
        async with asyncio.timeout(HELLO_SECONDS_MAX):
            first = await stream.read()
        hello, permitted = check_hello(self._local, link, first)
        self._check_prevails(link, dialled_here)
        if not dialled_here:
            await stream.write(ExchangeRequest(frame=make_hello(self._local, link)))
            self._check_prevails(link, dialled_here)
        connection = self._attach(link, stream, hello, permitted, dialled_here)
        try:
            await self._read(link, stream, hello.epoch, connection.writer)
        finally:
            connection.writer.cancel()
            if self._current.get(link.peer) is connection:
                del self._current[link.peer]
                if link.has_work:
                    self._nudge(link)

    def _check_prevails(self, link: Link, dialled_here: bool) -> None:
        """The connection dialled by the smaller fingerprint stays; of two dialled by one side, the newer.

        Raises HelloRefused.
        """
        current = self._current.get(link.peer)
        if current is None or current.dialled_here == dialled_here:
            return
        if (self._local.fingerprint < link.info.fingerprint) != dialled_here:
            raise HelloRefused("another connection between these nodes stays")

    def _attach(self, link: Link, stream: Stream, hello: Hello, permitted: int, dialled_here: bool) -> _Connection:
        """Make this the peer's connection. No await in here: the old writer must not write another frame.

        Raises HelloRefused.
        """
        try:
            received = received_by_peer(self._local, link, hello)
        except RolledBack as error:
            self._inbound.on_rolled_back(error)
            raise HelloRefused("this node was restored from an old copy and stops") from error
        previous = self._current.get(link.peer)
        if previous is not None:
            previous.end()
        reader = asyncio.current_task()
        assert reader is not None
        link.connected(hello, received, permitted)
        self._acknowledged(link, received, b"")
        connection = _Connection(reader, asyncio.create_task(self._write(link, stream)), dialled_here)
        self._current[link.peer] = connection
        self._greeted.add(link.peer)
        return connection

    async def _write(self, link: Link, stream: Stream) -> None:
        while True:
            link.wake.clear()
            while link.fill((envelope := ExchangeRequest()).frame):
                frame = envelope.frame
                self.counters["frames_sent"] += 1
                self.counters["messages_sent"] += len(frame.messages) + len(frame.calls) + len(frame.replies)
                failpoints.pass_(Failpoint.PEER_BEFORE_WRITE)
                try:
                    await stream.write(envelope)
                except STREAM_ENDED:
                    # The reader ends the connection and says why; nothing makes room for it any more.
                    link.room.set()
                    return
                failpoints.pass_(Failpoint.PEER_AFTER_WRITE)
            await link.wake.wait()

    async def _read(self, link: Link, stream: Stream, epoch: bytes, writer: "asyncio.Task[None]") -> None:
        while (frame := await stream.read()) is not None:
            failpoints.pass_(Failpoint.PEER_AFTER_READ)
            if frame.HasField("hello"):
                raise ProtocolError("a second hello")
            self.counters["frames_received"] += 1
            self.counters["messages_received"] += len(frame.messages) + len(frame.calls) + len(frame.replies)
            if frame.acknowledged:
                self._acknowledged(link, frame.acknowledged, frame.acknowledged_token)
            link.permit(frame.messages_until)
            if frame.messages and (fresh := link.intake.accept(frame.messages)):
                self._inbound.on_messages(link.peer, epoch, fresh)
            for reply in frame.replies:
                if link.forget_call(reply.call_id):
                    self._inbound.on_reply(reply)
            for call in frame.calls:
                self._inbound.on_call(link.peer, call.service, call.payload, _Answer(link, call.call_id))
            while link.is_full and not writer.done():
                link.room.clear()
                await link.room.wait()

    def _acknowledged(self, link: Link, sequence: int, token: bytes) -> None:
        newly = link.acknowledged(sequence, token)
        if newly is not None:
            self._inbound.on_acknowledged(link.peer, *newly, token)


@dataclass(frozen=True)
class _Answer:
    """Sends a service's reply; on a connection that has ended it is lost, and the caller asks again."""

    link: Link
    call_id: bytes

    def __call__(self, reply: Reply) -> None:
        failpoints.pass_(Failpoint.CALL_BEFORE_ANSWER)
        reply.call_id = self.call_id
        self.link.reply(reply)


@dataclass(frozen=True)
class _OwnAnswer:
    """The reply of a service of this very node."""

    inbound: Inbound
    call_id: bytes

    def __call__(self, reply: Reply) -> None:
        failpoints.pass_(Failpoint.CALL_BEFORE_ANSWER)
        reply.call_id = self.call_id
        self.inbound.on_reply(reply)


def peer_handlers(transport: PeerTransport) -> grpc.GenericRpcHandler:
    """The PeerService with raw bytes in and out."""
    method: Any = grpc.stream_stream_rpc_method_handler(transport.exchange)
    return grpc.method_handlers_generic_handler("p2pet.peer.v1.PeerService", {"Exchange": method})
