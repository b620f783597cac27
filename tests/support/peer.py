"""A certified peer whose every frame a test decides: a home's keys and certificates without the home's daemon."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message as ProtoMessage
from p2pet.notary.v1.notary_pb2 import NotarisationReply, NotarisationRequest
from p2pet.peer.v1.peer_pb2 import Call, ExchangeRequest, ExchangeResponse, Frame, Hello, Message, Reply, SessionMessage

from p2petd.config import load_config
from p2petd.flows.finality import NOTARISE, request_digest
from p2petd.identity.tls import TlsMaterial, dial_options
from p2petd.ledger.proposal import ED25519, PURPOSE_TRANSACTION, Proposal, Signature
from p2petd.ledger.transaction import Draft
from p2petd.membership import Membership
from p2petd.network.network_map import NetworkMap
from p2petd.peer.hello import PROTOCOL_VERSION
from p2petd.peer.transport import CHANNEL_OPTIONS, EXCHANGE

PURPOSE_REQUEST = 3
ANSWER_SECONDS_MAX = 10.0


class Exchange:
    """One raw PeerService.Exchange stream: bytes or frames out, frames in."""

    def __init__(self, call: Any) -> None:
        self._call = call
        # gRPC takes one write at a time.
        self._writing = asyncio.Lock()

    async def write(self, frame: Frame | bytes) -> None:
        data = frame if isinstance(frame, bytes) else ExchangeRequest(frame=frame).SerializeToString()
        async with self._writing:
            await self._call.write(data)

    async def read(self, seconds: float | None = ANSWER_SECONDS_MAX) -> Frame | None:
        """The next frame, None at the end. Raises AioRpcError when the other side ended it with a status."""
        data = await asyncio.wait_for(self._call.read(), seconds)
        return None if data is grpc.aio.EOF else ExchangeResponse.FromString(data).frame

    async def hello(self, hello: Hello) -> None:
        await self.write(Frame(hello=hello))

    async def start(self) -> None:
        """Open the stream without saying anything on it."""
        await self._call.wait_for_connection()

    async def answered(self, call_id: bytes) -> None:
        """Read until the reply to this call, or to the end."""
        with contextlib.suppress(grpc.aio.AioRpcError):
            while (frame := await self.read()) is not None:
                if any(reply.call_id == call_id for reply in frame.replies):
                    return

    async def ended(self, seconds: float = ANSWER_SECONDS_MAX) -> tuple[grpc.StatusCode, str]:
        """Read to the end; how the other side ended it."""
        with contextlib.suppress(grpc.aio.AioRpcError):
            while await self.read(seconds) is not None:
                pass
        code = await asyncio.wait_for(self._call.code(), ANSWER_SECONDS_MAX)
        return code, await self._call.details() or ""


@dataclass(frozen=True)
class Standing:
    """How far one direction has come: whose data directory it belongs to, the sequence, and its sender's token."""

    epoch: bytes = b""
    sequence: int = 0
    token: bytes = b""


class ScriptedPeer:
    """The identity of a home. What it has sent and received is kept over its connections, as a node keeps it."""

    def __init__(self, directory: Path) -> None:
        member = Membership.load(load_config(directory))
        self.member = member
        self.key = member.identity.signing_key
        self.identity: bytes = member.identity.public
        self.network_id: bytes = member.identity.network_id
        self.network_map: NetworkMap = member.network_map
        self.tls: TlsMaterial = member.tls
        self.epoch = secrets.token_bytes(16)
        self.sent: dict[bytes, int] = {}
        self.received: dict[bytes, Standing] = {}
        self.acknowledged: dict[bytes, Standing] = {}

    def sign(self, transaction_id: bytes) -> Signature:
        return Signature(self.identity, self.key.sign(self.network_id, PURPOSE_TRANSACTION, transaction_id))

    def hello(self, to: bytes) -> Hello:
        """The right hello of this peer to the node `to`."""
        received, acknowledged = self.received.get(to, Standing()), self.acknowledged.get(to, Standing())
        return Hello(
            protocol_min=PROTOCOL_VERSION,
            protocol_max=PROTOCOL_VERSION,
            network_id=self.network_id,
            identity=self.identity,
            epoch=self.epoch,
            last_sent=self.sent.get(to, 0),
            last_received=received.sequence,
            received_epoch=received.epoch,
            received_token=received.token,
            last_acknowledged=acknowledged.sequence,
            acknowledged_token=acknowledged.token,
        )

    @contextlib.asynccontextmanager
    async def exchange(
        self, to: bytes, credentials: grpc.ChannelCredentials | None = None, send_bytes_max: int | None = None
    ) -> AsyncIterator[Exchange]:
        """A raw stream to a node, on which nothing has been said."""
        info = self.network_map.by_identity(to)
        options = [*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1), *dial_options(info.fingerprint)]
        if send_bytes_max is not None:
            options = [option for option in options if option[0] != "grpc.max_send_message_length"]
            options.append(("grpc.max_send_message_length", send_bytes_max))
        credentials = credentials or self.tls.peer_channel_credentials()
        async with grpc.aio.secure_channel(info.addresses[0], credentials, options) as channel:
            multicallable: Any = channel.stream_stream(EXCHANGE)
            call = multicallable()
            try:
                yield Exchange(call)
            finally:
                call.cancel()

    @contextlib.asynccontextmanager
    async def connect(self, to: bytes) -> AsyncIterator["Connection"]:
        """A connection after both hellos, whose incoming frames are sorted while it lasts."""
        async with self.exchange(to) as exchange:
            await exchange.hello(self.hello(to))
            first = await exchange.read()
            assert first is not None
            assert first.HasField("hello")
            connection = Connection(self, to, exchange, first.hello)
            reader = asyncio.create_task(connection.sort_frames())
            try:
                yield connection
            finally:
                reader.cancel()
                await asyncio.gather(reader, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def listen(self) -> AsyncIterator[asyncio.Queue[None]]:
        """Accept connections at this node's address and say nothing; each is an entry of the queue."""
        dialled: asyncio.Queue[None] = asyncio.Queue()

        async def stay_silent(_: AsyncIterator[bytes], context: Any) -> None:
            dialled.put_nowait(None)
            while await context.read() is not grpc.aio.EOF:
                pass

        handler: Any = grpc.stream_stream_rpc_method_handler(stay_silent)
        server = grpc.aio.server()
        services = {"Exchange": handler}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("p2pet.peer.v1.PeerService", services),))
        address = self.network_map.by_identity(self.identity).addresses[0]
        server.add_secure_port(address, self.tls.peer_server_credentials())
        await server.start()
        try:
            yield dialled
        finally:
            await server.stop(None)

    def request(self, draft: Draft, proposal: Proposal) -> NotarisationRequest:
        """What this peer asks the notary, rightly signed."""
        digest = request_digest(draft.inputs, draft.id)
        return NotarisationRequest(
            proposal=proposal.encode(),
            caller=self.identity,
            scheme=ED25519,
            signature=self.key.sign(self.network_id, PURPOSE_REQUEST, digest),
        )


class Connection:
    """Session messages by flow and replies by call, acknowledged as they come."""

    def __init__(self, peer: ScriptedPeer, to: bytes, exchange: Exchange, hello: Hello) -> None:
        self.hello = hello
        self.raw = exchange
        self._peer = peer
        self._to = to
        self._heard: dict[bytes, asyncio.Queue[SessionMessage]] = {}
        self._opened: asyncio.Queue[SessionMessage] = asyncio.Queue()
        self._calls: asyncio.Queue[Call] = asyncio.Queue()
        self._replies: dict[bytes, asyncio.Future[Reply]] = {}
        self._acknowledged = 0
        self._progress = asyncio.Event()
        # Every message that came over this connection.
        self.messages: list[Message] = []
        self.acknowledges = True

    # Sessions.

    async def open(self, flow: str, payload: ProtoMessage, version: int = 1, flow_id: bytes = b"") -> bytes:
        """Open a session with the responder of `flow`; the id of our half."""
        flow_id = flow_id or secrets.token_bytes(16)
        opening = SessionMessage(
            kind=SessionMessage.KIND_OPEN,
            flow_id=flow_id,
            step=1,
            flow=flow,
            flow_version=version,
            payload=payload.SerializeToString(),
        )
        await self.send(opening)
        return flow_id

    async def say(self, flow_id: bytes, payload: ProtoMessage, *, to_initiator: bool = False) -> None:
        kind = SessionMessage.KIND_DATA
        data = payload.SerializeToString()
        await self.send(SessionMessage(kind=kind, flow_id=flow_id, to_initiator=to_initiator, payload=data))

    async def fail(self, flow_id: bytes, text: str = "", *, to_initiator: bool = False) -> None:
        """End our half: with a business refusal, or without any words."""
        message = SessionMessage(kind=SessionMessage.KIND_ERROR, flow_id=flow_id, to_initiator=to_initiator)
        message.error_code, message.error_message = ("flow.refused", text) if text else ("", "")
        await self.send(message)

    async def send(self, message: SessionMessage) -> int:
        """Send with the next sequence, which it returns."""
        sequence = self._peer.sent.get(self._to, 0) + 1
        self._peer.sent[self._to] = sequence
        await self.send_again(sequence, message)
        return sequence

    async def send_again(self, sequence: int, message: SessionMessage) -> None:
        """Send with a sequence of the test's choice."""
        numbered = Message(sequence=sequence, session=message.SerializeToString())
        await self.raw.write(Frame(messages=[numbered]))

    async def send_bytes(self, session: bytes) -> None:
        """Send what need not be a session message, with the next sequence."""
        sequence = self._peer.sent.get(self._to, 0) + 1
        self._peer.sent[self._to] = sequence
        await self.raw.write(Frame(messages=[Message(sequence=sequence, session=session)]))

    async def hear(self, flow_id: bytes, seconds: float = ANSWER_SECONDS_MAX) -> SessionMessage:
        """The node's next message of a session that either side opened."""
        return await asyncio.wait_for(self._queue(flow_id).get(), seconds)

    async def opened(self) -> SessionMessage:
        """The next session that the node opens with us: its first message."""
        return await asyncio.wait_for(self._opened.get(), ANSWER_SECONDS_MAX)

    def unheard(self, flow_id: bytes) -> int:
        """How many messages of a session have come that nobody has taken."""
        return self._queue(flow_id).qsize()

    # Calls.

    async def called(self) -> Call:
        """The next call that the node makes of a service of ours; nobody answers it."""
        return await asyncio.wait_for(self._calls.get(), ANSWER_SECONDS_MAX)

    async def call(self, service: str, payload: bytes, call_id: bytes = b"") -> Reply:
        call_id = call_id or secrets.token_bytes(16)
        reply = self._replies.setdefault(call_id, asyncio.get_running_loop().create_future())
        await self.raw.write(Frame(calls=[Call(call_id=call_id, service=service, payload=payload)]))
        return await asyncio.wait_for(reply, ANSWER_SECONDS_MAX)

    async def ask(self, request: NotarisationRequest) -> NotarisationReply:
        reply = await self.call(NOTARISE, request.SerializeToString())
        assert not reply.error_code, f"{reply.error_code}: {reply.error_message}"
        return NotarisationReply.FromString(reply.payload)

    async def ask_all(self, requests: list[NotarisationRequest]) -> list[NotarisationReply]:
        """All requests in one frame; their replies in the order of the requests."""
        ids = [secrets.token_bytes(16) for _ in requests]
        for call_id in ids:
            self._replies[call_id] = asyncio.get_running_loop().create_future()
        calls = [
            Call(call_id=call_id, service=NOTARISE, payload=request.SerializeToString())
            for call_id, request in zip(ids, requests, strict=True)
        ]
        await self.raw.write(Frame(calls=calls))
        replies = asyncio.gather(*(self._replies[call_id] for call_id in ids))
        answered = await asyncio.wait_for(replies, ANSWER_SECONDS_MAX)
        return [NotarisationReply.FromString(reply.payload) for reply in answered]

    async def settled(self) -> None:
        """Until everything that we sent is durable there, and what it caused at once has come back."""
        while self._acknowledged < self._peer.sent.get(self._to, 0):
            self._progress.clear()
            await asyncio.wait_for(self._progress.wait(), ANSWER_SECONDS_MAX)
        # Whatever was to be sent with the acknowledgement leaves before the answer to a later question.
        reply = await self.call("no such service", b"")
        assert reply.error_code == "peer.unknown_service"

    async def sort_frames(self) -> None:
        while (frame := await self.raw.read(None)) is not None:
            if frame.acknowledged:
                standing = Standing(self.hello.epoch, frame.acknowledged, frame.acknowledged_token)
                self._peer.acknowledged[self._to] = standing
            self._acknowledged = max(self._acknowledged, frame.acknowledged)
            self._progress.set()
            for reply in frame.replies:
                future = self._replies.get(reply.call_id)
                if future is not None and not future.done():
                    future.set_result(reply)
            for message in frame.messages:
                self.messages.append(message)
                session = SessionMessage.FromString(message.session)
                queue = self._queue(session.flow_id)
                if session.kind == SessionMessage.KIND_OPEN:
                    self._opened.put_nowait(session)
                else:
                    queue.put_nowait(session)
            for call in frame.calls:
                self._calls.put_nowait(call)
            if frame.messages and self.acknowledges:
                last = frame.messages[-1]
                self._peer.received[self._to] = Standing(self.hello.epoch, last.sequence, last.token)
                await self.raw.write(Frame(acknowledged=last.sequence))

    def _queue(self, flow_id: bytes) -> asyncio.Queue[SessionMessage]:
        return self._heard.setdefault(flow_id, asyncio.Queue())
