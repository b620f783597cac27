"""Real gRPC connections: who gets in, who does not, and who the server says the other one is."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2petd.errors import CertificateError
from p2petd.identity import issuing
from p2petd.identity.certificates import Role
from p2petd.identity.fingerprint import fingerprint
from p2petd.identity.keys import create_tls_key, private_pem
from p2petd.identity.tls import TlsMaterial, dial_options, load_tls, peer_identity

# TLS libraries read the wall clock, so these certificates are of today.
NOW_NS = time.time_ns()


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


@dataclass(frozen=True)
class Node:
    identity: bytes
    directory: Path
    tls: TlsMaterial


class Network:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = issuing.create_root("CN=root", NOW_NS)
        self.identity = issuing.issue_identity_authority(self.root, "CN=identity authority", NOW_NS)
        self.tls = issuing.issue_tls_authority(self.root, "CN=TLS authority", NOW_NS)
        self.trust = directory / "tls-trust.crt"
        self.trust.write_bytes(pem(self.tls.certificate))

    def node(self, name: str) -> Node:
        directory = self.directory / name
        directory.mkdir()
        identity = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
        key = create_tls_key(directory / "tls.key")
        leaf = issuing.issue_tls_certificate(self.tls, identity, key.public_key(), NOW_NS)
        (directory / "tls.crt").write_bytes(pem(leaf, self.tls.certificate))
        return Node(identity, directory, self.load(directory, identity))

    def load(self, directory: Path, identity: bytes) -> TlsMaterial:
        return load_tls(
            directory / "tls.key", directory / "tls.crt", self.trust, self.root.certificate, identity, NOW_NS
        )


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return Network(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def alice(network: Network) -> Node:
    return network.node("alice")


@pytest.fixture(scope="module")
def bob(network: Network) -> Node:
    return network.node("bob")


async def dial(server: grpc.ServerCredentials, client: grpc.ChannelCredentials, expected: bytes) -> str:
    """Who the server says that its caller is; the caller accepts `expected` only."""
    seen: list[str] = []

    async def who(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        seen.append(peer_identity(context.auth_context()))
        return request

    handler = grpc.unary_unary_rpc_method_handler(who)
    listener = grpc.aio.server()
    listener.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Who", {"Am": handler}),))
    port = listener.add_secure_port("127.0.0.1:0", server)
    await listener.start()
    options = dial_options(fingerprint(expected))
    try:
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", client, options=options) as channel:
            await channel.unary_unary("/test.Who/Am")(b"", timeout=10)
    finally:
        await listener.stop(None)
    return seen[0]


def refused(server: grpc.ServerCredentials, client: grpc.ChannelCredentials, expected: bytes) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        asyncio.run(dial(server, client, expected))
    assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN)


def test_the_tls_authority_alone_is_anchor_enough(alice: Node, bob: Node) -> None:
    caller = asyncio.run(dial(alice.tls.peer_server_credentials(), bob.tls.peer_channel_credentials(), alice.identity))
    assert caller == fingerprint(bob.identity)


def test_r15_a_dialer_refuses_another_node_at_the_address(alice: Node, bob: Node) -> None:
    refused(alice.tls.peer_server_credentials(), bob.tls.peer_channel_credentials(), bob.identity)


def test_r15_a_caller_without_certificate_is_refused(alice: Node) -> None:
    client = grpc.ssl_channel_credentials(alice.tls.trust_pem)
    refused(alice.tls.peer_server_credentials(), client, alice.identity)


@pytest.mark.parametrize("authority", ["identity", "root", "own"])
def test_r15_a_caller_certified_by_another_authority_is_refused(network: Network, alice: Node, authority: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = {
        "identity": network.identity,
        "root": network.root,
        "own": issuing.create_root("CN=TLS authority", NOW_NS),
    }
    leaf = issuing.issue_tls_certificate(issuer[authority], alice.identity, key.public_key(), NOW_NS)
    chain = pem(leaf, issuer[authority].certificate)
    client = grpc.ssl_channel_credentials(alice.tls.trust_pem, private_pem(key), chain)
    refused(alice.tls.peer_server_credentials(), client, alice.identity)


def test_r15_an_expired_caller_is_refused(network: Network, alice: Node) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    long_ago = NOW_NS - 3 * 365 * 86_400 * 10**9
    leaf = issuing.issue_tls_certificate(network.tls, alice.identity, key.public_key(), long_ago)
    client = grpc.ssl_channel_credentials(alice.tls.trust_pem, private_pem(key), pem(leaf))
    refused(alice.tls.peer_server_credentials(), client, alice.identity)


def test_r15_a_node_identity_certificate_is_no_tls_certificate(network: Network, alice: Node) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = issuing._builder_under(
        network.tls, issuing.x500_name("CN=Mallory"), key.public_key(), NOW_NS, issuing.NODE_LIFETIME
    )
    leaf = issuing._sign(issuing._as_ledger_leaf(builder, {Role.PARTY}), network.tls.key)
    client = grpc.ssl_channel_credentials(alice.tls.trust_pem, private_pem(key), pem(leaf))
    refused(alice.tls.peer_server_credentials(), client, alice.identity)


def test_tls_material_of_another_key_or_node_is_refused(
    network: Network, alice: Node, bob: Node, tmp_path: Path
) -> None:
    with pytest.raises(CertificateError, match="is of another node"):
        network.load(alice.directory, bob.identity)
    with pytest.raises(CertificateError, match="does not certify the key"):
        load_tls(
            bob.directory / "tls.key",
            alice.directory / "tls.crt",
            network.trust,
            network.root.certificate,
            alice.identity,
            NOW_NS,
        )
    wrong = tmp_path / "trust.crt"
    for anchors, why in (
        ((network.identity.certificate,), "no TLS authority"),
        ((network.root.certificate,), "no TLS authority"),
        ((network.tls.certificate,) * 5, "more than|at most"),
    ):
        wrong.write_bytes(pem(*anchors))
        with pytest.raises(CertificateError, match=why):
            load_tls(
                alice.directory / "tls.key",
                alice.directory / "tls.crt",
                wrong,
                network.root.certificate,
                alice.identity,
                NOW_NS,
            )


def test_tls_material_does_not_print_its_key(alice: Node) -> None:
    assert "PRIVATE" not in repr(alice.tls)


@pytest.mark.parametrize(
    "context",
    [
        {},
        {"transport_security_type": [b"insecure"], "x509_subject_alternative_name": [b"a" * 52 + b".node.p2pet"]},
        {"transport_security_type": [b"ssl"], "x509_common_name": [b"a" * 52 + b".node.p2pet"]},
        {"transport_security_type": [b"ssl"], "x509_subject_alternative_name": [b"a" * 52 + b".node.p2pet"] * 2},
        {"transport_security_type": [b"ssl"], "x509_subject_alternative_name": [b"localhost"]},
        {"transport_security_type": [b"ssl"], "x509_subject_alternative_name": [b"\xff" * 63]},
    ],
)
def test_r15_a_peer_without_exactly_one_node_name_is_refused(context: dict[str, list[bytes]]) -> None:
    with pytest.raises(CertificateError):
        peer_identity(context)
