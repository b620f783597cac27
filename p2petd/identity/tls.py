"""What gRPC needs for TLS: checked once when the node starts, then plain bytes.

grpcio's BoringSSL accepts an intermediate as its only trust anchor, so listeners and dialers trust the TLS authority
alone: neither the root nor the identity authority can issue anything that they accept.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from p2petd.errors import CertificateError
from p2petd.identity.certificates import dns_names, load_certificates, not_after_ns, verify_issued
from p2petd.identity.fingerprint import fingerprint, fingerprint_of_san, san_name
from p2petd.identity.keys import load_tls_key, private_pem

TRUST_ANCHORS_MAX = 4


@dataclass(frozen=True)
class TlsMaterial:
    """A node's TLS key and certificate, and what it trusts."""

    key_pem: bytes
    certificate_pem: bytes
    trust_pem: bytes
    expires_at_ns: int

    def __repr__(self) -> str:
        return f"TlsMaterial(expires_at_ns={self.expires_at_ns})"

    def peer_server_credentials(self) -> grpc.ServerCredentials:
        """For the peer listener: a client without a certificate of the TLS authority is refused in the handshake."""
        pair = (self.key_pem, self.certificate_pem)
        return grpc.ssl_server_credentials([pair], self.trust_pem, require_client_auth=True)

    def client_server_credentials(self) -> grpc.ServerCredentials:
        """For the client listener: TLS of the server; the client shows its token in the metadata."""
        return grpc.ssl_server_credentials([(self.key_pem, self.certificate_pem)])

    def peer_channel_credentials(self) -> grpc.ChannelCredentials:
        """For dialing another node, together with `dial_options`."""
        return grpc.ssl_channel_credentials(self.trust_pem, self.key_pem, self.certificate_pem)


def load_tls(
    key_file: Path, certificate_file: Path, trust_file: Path, root: x509.Certificate, identity: bytes, at_ns: int
) -> TlsMaterial:
    """The node's TLS material; raises KeyFileError or CertificateError.

    1. The trust file holds 1 to TRUST_ANCHORS_MAX certificates.
    2. One of them, itself issued by the root, issued the leaf for server and client use; both are valid now.
    3. The leaf certifies the key of the key file.
    4. Its only SAN is the fingerprint of the node's identity key.
    """
    anchors = load_certificates(trust_file)
    if len(anchors) > TRUST_ANCHORS_MAX:
        raise CertificateError(
            f"{trust_file} holds {len(anchors)} certificates; at most {TRUST_ANCHORS_MAX} are trusted"
        )
    chain = load_certificates(certificate_file)
    leaf = chain[0]
    verify_issued(leaf, anchors, root, at_ns)
    key = load_tls_key(key_file)
    if leaf.public_key() != key.public_key():
        raise CertificateError(f"{certificate_file} does not certify the key in {key_file}")
    expected = san_name(fingerprint(identity))
    if dns_names(leaf) != (expected,):
        raise CertificateError(f"{certificate_file} is of another node: its name should be {expected}")
    pem = serialization.Encoding.PEM
    return TlsMaterial(
        key_pem=private_pem(key),
        certificate_pem=b"".join(one.public_bytes(pem) for one in chain),
        trust_pem=b"".join(one.public_bytes(pem) for one in anchors),
        expires_at_ns=not_after_ns(leaf),
    )


def dial_options(node_fingerprint: str) -> tuple[tuple[str, str], ...]:
    """Channel options with which gRPC accepts no other node than this one, whatever its address."""
    return (("grpc.ssl_target_name_override", san_name(node_fingerprint)),)


def peer_identity(auth_context: Mapping[str, Iterable[bytes]]) -> str:
    """The fingerprint of the peer that the TLS handshake authenticated; raises CertificateError.

    Takes `context.auth_context()` of a server whose credentials require client certificates. The name comes from
    the SAN, of which there must be exactly one, never from the CN.
    """
    if tuple(auth_context.get("transport_security_type", ())) != (b"ssl",):
        raise CertificateError("the connection is not authenticated by TLS")
    names = tuple(auth_context.get("x509_subject_alternative_name", ()))
    if len(names) != 1:
        raise CertificateError(f"the peer's certificate has {len(names)} names; a node's has exactly one")
    return fingerprint_of_san(names[0].decode("ascii", errors="replace"))
