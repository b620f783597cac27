"""Whoever talks wrongly to a daemon is turned away; the daemon lives, and others go on trading."""

import asyncio
import contextlib
import os
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from p2pet.flows.v1 import arguments_pb2 as args
from p2pet.notary.v1.notary_pb2 import NotarisationRequest
from p2pet.peer.v1.peer_pb2 import Call, Frame, Hello, Message, Reply, SessionMessage

from p2petd.identity.issuing import Authority, create_root, issue_tls_authority, issue_tls_certificate
from p2petd.identity.keys import private_pem
from p2petd.peer.link import FRAME_ENTRIES_MAX, FRAME_HARD_BYTES
from p2petd.peer.transport import HELLO_SECONDS_MAX
from tests.support.community import CURRENCY, EURO_NANO, completed
from tests.support.peer import ScriptedPeer
from tests.support.scripted import REAL, Holdings, ScriptedCommunity, eventually

HOSTILE, HONEST, SILENT, FRESH = "home-2", "home-3", "home-4", "home-5"
DAEMONS = ("notary", REAL)
OWNED = Holdings(0, 10 * EURO_NANO, 0)


@pytest.fixture(scope="module")
def owning(scripted: ScriptedCommunity) -> ScriptedCommunity:
    asyncio.run(scripted.fund_real_home(OWNED.money_nano))
    return scripted


async def assert_unharmed(owning: ScriptedCommunity) -> None:
    """Both daemons run; a payment goes through, to the notary and back, and nothing is reserved."""
    assert all(owning.network.is_running(name) for name in DAEMONS)
    pay = args.PaymentPayArguments(currency=CURRENCY, amount_nano=5, recipient=owning.identity[REAL])
    completed(await owning.run(REAL, "payment.pay", pay))
    assert await owning.holdings() == OWNED
    for name in DAEMONS:
        async with owning.connect(HONEST, name) as node:
            await node.settled()


# Hellos.


def _frame(change: Callable[[Hello], None]) -> Callable[[Hello], Frame]:
    def spoil(hello: Hello) -> Frame:
        change(hello)
        return Frame(hello=hello)

    return spoil


def _set(**fields: object) -> Callable[[Hello], Frame]:
    def change(hello: Hello) -> None:
        for name, value in fields.items():
            setattr(hello, name, value)

    return _frame(change)


BAD_HELLOS: dict[str, Callable[[Hello], Frame]] = {
    "another network": _set(network_id=bytes(32)),
    "no network": _set(network_id=b""),
    "another identity": _set(identity=b"\x07" * 32),
    "no identity": _set(identity=b""),
    "a later protocol": _set(protocol_min=2, protocol_max=3),
    "no protocol": _set(protocol_min=0, protocol_max=0),
    "a range the wrong way round": _set(protocol_min=2, protocol_max=1),
    "an epoch of 15 bytes": _set(epoch=bytes(15)),
    "no epoch": _set(epoch=b""),
    "no hello but messages": lambda hello: Frame(messages=[Message(sequence=1, session=b"")]),
    "an empty frame": lambda hello: Frame(),
    "a hello with a call": lambda hello: Frame(hello=hello, calls=[Call(call_id=b"1", service="status")]),
    "a hello with a message": lambda hello: Frame(hello=hello, messages=[Message(sequence=1)]),
}


@pytest.mark.parametrize("node", DAEMONS)
@pytest.mark.parametrize("fault", BAD_HELLOS)
def test_r13_bad_hello_is_refused_with_one_sentence(fault: str, node: str, owning: ScriptedCommunity) -> None:
    async def scenario() -> None:
        peer, to = owning.peer(HOSTILE), owning.identity[node]
        async with peer.exchange(to) as exchange:
            await exchange.write(BAD_HELLOS[fault](peer.hello(to)))
            status, text = await exchange.ended()
        assert status in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT), (status, text)
        assert text
        assert "\n" not in text
        assert "Unexpected" not in text
        await assert_unharmed(owning)

    asyncio.run(scenario())


def test_r13_a_second_hello_ends_the_connection(owning: ScriptedCommunity) -> None:
    async def scenario() -> None:
        peer, to = owning.peer(HOSTILE), owning.identity[REAL]
        async with peer.exchange(to) as exchange:
            for _ in range(2):
                await exchange.hello(peer.hello(to))
            assert await exchange.ended() == (grpc.StatusCode.INVALID_ARGUMENT, "a second hello")
        await assert_unharmed(owning)

    asyncio.run(scenario())


# Certificates.


def credentials(
    authority: Authority, key: ec.EllipticCurvePrivateKey, leaf: x509.Certificate, trust: bytes
) -> grpc.ChannelCredentials:
    pem = serialization.Encoding.PEM
    chain = leaf.public_bytes(pem) + authority.certificate.public_bytes(pem)
    return grpc.ssl_channel_credentials(trust, private_pem(key), chain)


def _tls_authority(directory: Path) -> Authority:
    """The network's own, whose key its operator keeps offline."""
    key = serialization.load_pem_private_key((directory / "network/offline/tls-authority.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return Authority(key, x509.load_pem_x509_certificate((directory / "network/tls-trust.crt").read_bytes()))


def _own_authority() -> Authority:
    now_ns = time.time_ns()
    return issue_tls_authority(create_root("CN=nobody", now_ns), "CN=nobody", now_ns)


async def _end_at_the_door(peer: ScriptedPeer, to: bytes, tls: grpc.ChannelCredentials) -> tuple[grpc.StatusCode, str]:
    """How a node ends a stream on which nothing was said."""
    async with peer.exchange(to, tls) as exchange:
        with contextlib.suppress(grpc.aio.AioRpcError):
            await exchange.start()
        return await exchange.ended()


def test_r15_peer_that_is_not_in_the_map_is_refused(owning: ScriptedCommunity) -> None:
    async def scenario() -> None:
        peer, authority = owning.peer(HOSTILE), _tls_authority(owning.made.directory)
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = issue_tls_certificate(authority, b"\x07" * 32, key.public_key(), time.time_ns())
        tls = credentials(authority, key, leaf, peer.tls.trust_pem)
        for node in DAEMONS:
            status, text = await _end_at_the_door(peer, owning.identity[node], tls)
            assert status is grpc.StatusCode.UNAUTHENTICATED
            assert "no node of the network" in text
        await assert_unharmed(owning)

    asyncio.run(scenario())


def test_r15_certificates_of_another_authority_or_none_fail_the_handshake(owning: ScriptedCommunity) -> None:
    async def scenario() -> None:
        peer, authority = owning.peer(HOSTILE), _own_authority()
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = issue_tls_certificate(authority, peer.identity, key.public_key(), time.time_ns())
        right = _tls_authority(owning.made.directory)
        # Rightly named, but it certifies another key than the one that signs the handshake.
        stolen = x509.load_pem_x509_certificate(peer.tls.certificate_pem)
        for tls in (
            credentials(authority, key, leaf, peer.tls.trust_pem),
            credentials(right, key, stolen, peer.tls.trust_pem),
            grpc.ssl_channel_credentials(peer.tls.trust_pem),
        ):
            status, _ = await _end_at_the_door(peer, owning.identity[REAL], tls)
            assert status is grpc.StatusCode.UNAVAILABLE
        await assert_unharmed(owning)

    asyncio.run(scenario())


def test_r15_certificate_of_another_node_does_not_carry_our_hello(owning: ScriptedCommunity) -> None:
    async def scenario() -> None:
        peer, other = owning.peer(HOSTILE), owning.peer(HONEST)
        to, tls = owning.identity[REAL], other.tls.peer_channel_credentials()
        async with peer.exchange(to, tls) as exchange:
            await exchange.hello(peer.hello(to))
            status, text = await exchange.ended()
        assert status is grpc.StatusCode.FAILED_PRECONDITION
        assert text == "the hello is of another node than the TLS certificate"
        await assert_unharmed(owning)

    asyncio.run(scenario())


# Frames.


def filled(size: int) -> Frame:
    """A frame of exactly `size` bytes: a call of a service that nobody offers."""
    frame = Frame(calls=[Call(call_id=b"0123456789abcdef", service="none", payload=bytes(size - 64))])
    frame.calls[0].payload += bytes(size - frame.ByteSize())
    assert frame.ByteSize() == size
    return frame


def test_r14_frame_of_the_limit_is_taken_and_a_larger_one_ends_the_connection(owning: ScriptedCommunity) -> None:
    async def scenario() -> None:
        async with owning.connect(HOSTILE, REAL) as home:
            await home.raw.write(filled(FRAME_HARD_BYTES))
            await home.settled()
        for size in (FRAME_HARD_BYTES + 1, 3 * FRAME_HARD_BYTES):
            peer, to = owning.peer(HOSTILE), owning.identity[REAL]
            async with peer.exchange(to, send_bytes_max=-1) as exchange:
                await exchange.hello(peer.hello(to))
                await exchange.write(filled(size))
                status, text = await exchange.ended()
                assert status in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT), (size, text)
        await assert_unharmed(owning)

    asyncio.run(scenario())


@pytest.mark.parametrize("node", DAEMONS)
def test_r13_bytes_that_are_no_frame_end_the_connection(node: str, owning: ScriptedCommunity) -> None:
    async def scenario() -> None:
        peer, to = owning.peer(HOSTILE), owning.identity[node]
        for noise in (b"\xff" * 64, b"\x0a\xff\xff\xff\xff\x0f", os.urandom(2000)):
            async with peer.exchange(to) as exchange:
                await exchange.hello(peer.hello(to))
                assert await exchange.read() is not None
                await exchange.write(noise + b"\xff")
                status, text = await exchange.ended()
                assert status is grpc.StatusCode.INVALID_ARGUMENT, (status, text)
                assert "\n" not in text
        await assert_unharmed(owning)

    asyncio.run(scenario())


def test_r14_frame_of_many_entries_is_taken_up_to_the_limit(owning: ScriptedCommunity) -> None:
    def calls(count: int) -> Frame:
        return Frame(calls=[Call(call_id=number.to_bytes(16), service="none") for number in range(count)])

    async def scenario() -> None:
        async with owning.connect(HOSTILE, REAL) as home:
            await home.raw.write(calls(FRAME_ENTRIES_MAX))
            await home.settled()
        peer, to = owning.peer(HOSTILE), owning.identity[REAL]
        async with peer.exchange(to) as exchange:
            await exchange.hello(peer.hello(to))
            assert await exchange.read() is not None
            await exchange.write(calls(FRAME_ENTRIES_MAX + 1))
            status, _ = await exchange.ended()
            assert status is grpc.StatusCode.INVALID_ARGUMENT
        await assert_unharmed(owning)

    asyncio.run(scenario())


def _session(**fields: object) -> bytes:
    message = SessionMessage()
    for name, value in fields.items():
        setattr(message, name, value)
    return message.SerializeToString()


ODD_SESSIONS: tuple[bytes, ...] = (
    b"",
    b"\xff\xff",
    os.urandom(300),
    *(_session(kind=SessionMessage.KIND_OPEN, flow_id=bytes(n), flow="energy.trade") for n in (0, 15, 17, 600)),
    _session(kind=SessionMessage.KIND_OPEN, flow_id=bytes(16), to_initiator=True, flow="energy.trade"),
    _session(kind=SessionMessage.KIND_DATA, flow_id=os.urandom(16), payload=b"late"),
    _session(kind=SessionMessage.KIND_ERROR, flow_id=os.urandom(16), to_initiator=True, error_code="x"),
    _session(kind=SessionMessage.KIND_UNSPECIFIED, flow_id=os.urandom(16), flow="energy.trade"),
    _session(kind=SessionMessage.KIND_OPEN, flow_id=os.urandom(16), flow="energy.trade", flow_version=2**32 - 1),
    _session(kind=SessionMessage.KIND_OPEN, flow_id=os.urandom(16), flow="energy.trade", payload=b"\xff"),
    _session(kind=SessionMessage.KIND_OPEN, flow_id=os.urandom(16), flow="payment.pay", payload=os.urandom(200)),
    _session(kind=SessionMessage.KIND_OPEN, flow_id=os.urandom(16), flow="energy.transfer", payload=os.urandom(200)),
)


@pytest.mark.parametrize("node", DAEMONS)
def test_r13_session_messages_without_sense_have_no_effect(node: str, owning: ScriptedCommunity) -> None:
    async def scenario() -> None:
        async with owning.connect(HOSTILE, node) as there:
            for session in ODD_SESSIONS:
                await there.send_bytes(session)
            await there.settled()
        await assert_unharmed(owning)

    asyncio.run(scenario())


ODD_FRAMES: dict[str, Frame] = {
    "an acknowledgement of everything": Frame(acknowledged=2**64 - 1),
    "the last of all sequences": Frame(messages=[Message(sequence=2**64 - 1)]),
    "sequence zero": Frame(messages=[Message(sequence=0, session=b"\xff")]),
    "replies to nobody": Frame(replies=[Reply(call_id=bytes(n)) for n in range(40)]),
    "calls without an id": Frame(calls=[Call(service="notarise"), Call(service="status"), Call()]),
    "a call with a long id": Frame(calls=[Call(call_id=bytes(100_000), service="s" * 100_000)]),
    "a thousand malformed requests": Frame(
        calls=[
            Call(
                call_id=n.to_bytes(16),
                service="notarise",
                payload=NotarisationRequest(proposal=b"\x0a").SerializeToString(),
            )
            for n in range(1_000)
        ]
    ),
}


@pytest.mark.parametrize("name", ODD_FRAMES)
def test_r13_frames_without_sense_have_no_effect(name: str, owning: ScriptedCommunity) -> None:
    async def scenario() -> None:
        for node in DAEMONS:
            peer, to = owning.fresh_peer(FRESH), owning.identity[node]
            async with peer.exchange(to) as exchange:
                await exchange.hello(peer.hello(to))
                assert await exchange.read() is not None
                await exchange.write(ODD_FRAMES[name])
                # What comes back is an answer to what follows, or the end.
                with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    await exchange.write(Frame(calls=[Call(call_id=b"last", service="none")]))
                await exchange.answered(b"last")
        await assert_unharmed(owning)

    asyncio.run(scenario())


# Below gRPC.


@pytest.mark.parametrize("below", ["TCP", "TLS"])
def test_r13_noise_below_grpc_ends_only_its_own_connection(below: str, owning: ScriptedCommunity) -> None:
    peer = owning.peer(HOSTILE)
    for node in DAEMONS:
        host, port = peer.network_map.by_identity(owning.identity[node]).addresses[0].rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=5) as plain:
            _make_noise(_secured(plain, owning) if below == "TLS" else plain)
    asyncio.run(assert_unharmed(owning))


def _secured(plain: socket.socket, owning: ScriptedCommunity) -> ssl.SSLSocket:
    directory = owning.network.node_directory(HOSTILE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(directory / "tls.crt", directory / "tls.key")
    context.set_alpn_protocols(["h2"])
    return context.wrap_socket(plain)


def _make_noise(stream: socket.socket) -> None:
    """Until the other side has had enough."""
    try:
        stream.sendall(os.urandom(100_000))
        while stream.recv(65_536):
            pass
    except TimeoutError:
        raise AssertionError("the daemon keeps a connection that speaks no gRPC") from None
    except OSError:
        pass
    finally:
        stream.close()


# Silence; at the end, because a flow waits through it.


def test_r12_a_peer_that_never_says_hello_is_left_and_dialled_again(owning: ScriptedCommunity) -> None:
    """Both ways at once, because each takes as long as a node waits for a hello."""

    async def scenario() -> None:
        async with asyncio.TaskGroup() as both:
            both.create_task(_dialled_and_silent(owning))
            both.create_task(_dialling_and_silent(owning))
        await eventually(owning.holdings, OWNED)
        await assert_unharmed(owning)

    log = owning.network.node_directory(REAL) / "node.log"
    logged_before = log.stat().st_size
    asyncio.run(scenario())
    assert b"Traceback" not in log.read_bytes()[logged_before:]


async def _dialled_and_silent(owning: ScriptedCommunity) -> None:
    terms = owning.trade_terms(SILENT, 10)
    async with owning.client(REAL) as client, owning.peer(SILENT).listen() as dialled:
        flow_id = await client.flows.start("energy.trade", terms)
        # Not a word to the first; the home dials again.
        async with asyncio.timeout(HELLO_SECONDS_MAX * 2):
            await dialled.get()
            await dialled.get()
    async with owning.connect(SILENT, REAL) as home:
        session = await home.opened()
        assert session.flow_id == flow_id
        await home.fail(session.flow_id, "not now", to_initiator=True)
        await home.settled()


async def _dialling_and_silent(owning: ScriptedCommunity) -> None:
    async with owning.peer(HOSTILE).exchange(owning.identity[REAL]) as exchange:
        await exchange.start()
        status, text = await exchange.ended(seconds=HELLO_SECONDS_MAX * 2)
        assert (status, text) == (grpc.StatusCode.DEADLINE_EXCEEDED, "no hello came")
