"""Issuing the network's certificates: what only the holders of the offline keys do."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import NameOID

from p2petd.errors import CertificateError
from p2petd.identity.certificates import OID_LEDGER_USAGE, TLS_USAGES, Role, encode_roles, not_after_ns
from p2petd.identity.fingerprint import fingerprint, san_name
from p2petd.identity.keys import PrivateKey
from p2petd.units import HOUR_NS, SECOND_NS

# Clocks of a new network's machines may differ by as much.
BACKDATE_NS = HOUR_NS
ROOT_LIFETIME = timedelta(days=20 * 365)
AUTHORITY_LIFETIME = timedelta(days=10 * 365)
MAP_LIFETIME = timedelta(days=5 * 365)
NODE_LIFETIME = timedelta(days=2 * 365)

PublicKey = Ed25519PublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True)
class Authority:
    """A key that issues certificates, with its own."""

    key: PrivateKey
    certificate: x509.Certificate


def x500_name(text: str) -> x509.Name:
    """The name of an RFC 4514 text such as `CN=Alice,O=Alice,L=Berlin,C=DE`; raises CertificateError.

    It must be in its canonical form, so that one party has one name, and hold a CN.
    """
    try:
        name = x509.Name.from_rfc4514_string(text)
    except ValueError as error:
        raise CertificateError(f"{text!r} is not an X.500 name such as CN=Alice,O=Alice,C=DE: {error}") from error
    if not name.get_attributes_for_oid(NameOID.COMMON_NAME):
        raise CertificateError(f"the X.500 name {text!r} has no CN")
    if name.rfc4514_string() != text:
        raise CertificateError(f"the X.500 name {text!r} should be written {name.rfc4514_string()!r}")
    return name


def create_root(name: str, now_ns: int) -> Authority:
    """A new network root with a new P-256 key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x500_name(name)
    builder = _builder(subject, subject, key.public_key(), now_ns, now_ns + _ns(ROOT_LIFETIME))
    certificate = _sign(_as_authority(builder, path_length=2), key)
    return Authority(key, certificate)


def issue_identity_authority(root: Authority, name: str, now_ns: int) -> Authority:
    """The Ed25519 authority for ledger keys; there is room below it for the nodes' own authorities."""
    key = Ed25519PrivateKey.generate()
    builder = _builder_under(root, x500_name(name), key.public_key(), now_ns, AUTHORITY_LIFETIME)
    builder = _with_usages(_as_authority(builder, path_length=1), (OID_LEDGER_USAGE,))
    return Authority(key, _sign(builder, root.key))


def issue_tls_authority(root: Authority, name: str, now_ns: int) -> Authority:
    """The P-256 authority for TLS leaves: the only trust anchor of every listener and dialer."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder_under(root, x500_name(name), key.public_key(), now_ns, AUTHORITY_LIFETIME)
    builder = _with_usages(_as_authority(builder, path_length=0), TLS_USAGES)
    return Authority(key, _sign(builder, root.key))


def issue_map_certificate(root: Authority, name: str, key: Ed25519PublicKey, now_ns: int) -> x509.Certificate:
    """The network map's certificate: its key signs the network parameters."""
    builder = _builder_under(root, x500_name(name), key, now_ns, MAP_LIFETIME)
    return _sign(_as_ledger_leaf(builder, (Role.MAP,)), root.key)


def issue_identity_certificate(
    authority: Authority, name: str, key: Ed25519PublicKey, granted: Iterable[Role], now_ns: int
) -> x509.Certificate:
    """A node's identity certificate: X.500 name, ledger key, roles."""
    builder = _builder_under(authority, x500_name(name), key, now_ns, NODE_LIFETIME)
    return _sign(_as_ledger_leaf(builder, granted), authority.key)


def issue_tls_certificate(
    authority: Authority, identity: bytes, key: ec.EllipticCurvePublicKey, now_ns: int
) -> x509.Certificate:
    """A node's TLS certificate: its SAN is the fingerprint of the 32-byte identity key, for server and client use."""
    san = san_name(fingerprint(identity))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, san)])
    builder = _as_leaf(_builder_under(authority, subject, key, now_ns, NODE_LIFETIME))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(san)]), critical=False)
    return _sign(_with_usages(builder, TLS_USAGES), authority.key)


def _ns(lifetime: timedelta) -> int:
    return lifetime // timedelta(seconds=1) * SECOND_NS


def _moment(at_ns: int) -> datetime:
    return datetime.fromtimestamp(at_ns // SECOND_NS, UTC)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, now_ns: int, not_after_ns: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_moment(now_ns - BACKDATE_NS))
        .not_valid_after(_moment(not_after_ns))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _builder_under(
    authority: Authority, subject: x509.Name, key: PublicKey, now_ns: int, lifetime: timedelta
) -> x509.CertificateBuilder:
    end = not_after_ns(authority.certificate)
    builder = _builder(subject, authority.certificate.subject, key, now_ns, min(now_ns + _ns(lifetime), end))
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    return builder.add_extension(identifier, critical=False)


def _as_authority(builder: x509.CertificateBuilder, path_length: int) -> x509.CertificateBuilder:
    return builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True).add_extension(
        _key_usage(authority=True), critical=True
    )


def _as_leaf(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
    return builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True).add_extension(
        _key_usage(authority=False), critical=True
    )


def _as_ledger_leaf(builder: x509.CertificateBuilder, granted: Iterable[Role]) -> x509.CertificateBuilder:
    return _with_usages(_as_leaf(builder).add_extension(encode_roles(granted), critical=False), (OID_LEDGER_USAGE,))


def _with_usages(builder: x509.CertificateBuilder, usages: Sequence[x509.ObjectIdentifier]) -> x509.CertificateBuilder:
    return builder.add_extension(x509.ExtendedKeyUsage(usages), critical=True)


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _sign(builder: x509.CertificateBuilder, key: PrivateKey) -> x509.Certificate:
    if isinstance(key, Ed25519PrivateKey):
        return builder.sign(key, None)
    return builder.sign(key, hashes.SHA256())
