"""Reading and verifying the network's certificates.

Root (ECDSA P-256, since every TLS and X.509 library knows it) → identity authority (Ed25519) → nodes' identities;
root → TLS authority (ECDSA P-256) → nodes' TLS leaves; root → network map. The extended key usage keeps them apart:
a ledger certificate can never authenticate a TLS connection, nor a TLS certificate a signature on the ledger.
"""

import calendar
import enum
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from p2petd.errors import CertificateError
from p2petd.units import SECOND_NS

# Our own arc: 2.25 holds UUIDs (ITU-T X.667), so it needs no registration.
OID_ARC = "2.25.243714175966518653229526523791746842630"
OID_ROLES = x509.ObjectIdentifier(OID_ARC + ".1")
OID_LEDGER_USAGE = x509.ObjectIdentifier(OID_ARC + ".2")
TLS_USAGES = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)

CHAIN_MAX = 4
CERTIFICATE_BYTES_MAX = 8192
CERTIFICATE_FILE_BYTES_MAX = 65_536

_KNOWN_EXTENSIONS = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        OID_ROLES,
    }
)


class Role(enum.StrEnum):
    """What the network lets a node be."""

    PARTY = "party"
    NOTARY = "notary"
    ORACLE = "oracle"
    MAP = "map"
    MARKET = "market"
    GATEWAY = "gateway"
    ESTIMATOR = "estimator"


def load_certificates(path: Path) -> tuple[x509.Certificate, ...]:
    """The certificates of a PEM file in its order, at least one; raises CertificateError."""
    try:
        with path.open("rb") as file:
            content = file.read(CERTIFICATE_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise CertificateError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > CERTIFICATE_FILE_BYTES_MAX:
        raise CertificateError(f"{path} has more than {CERTIFICATE_FILE_BYTES_MAX} bytes; it is not a certificate file")
    try:
        return tuple(x509.load_pem_x509_certificates(content))
    except ValueError:
        raise CertificateError(f"{path} holds no PEM certificate, or a damaged one") from None


def load_root(path: Path) -> x509.Certificate:
    """The network root's certificate: the only one in its file, self-signed; raises CertificateError."""
    certificates = load_certificates(path)
    if len(certificates) != 1:
        raise CertificateError(f"{path} holds {len(certificates)} certificates; the network root is exactly one")
    root = certificates[0]
    _check_issued(root, root)
    _check_authority(root, below=0)
    return root


def decode_certificates(encoded: Sequence[bytes]) -> tuple[x509.Certificate, ...]:
    """DER certificates as they stand in signed messages; raises CertificateError."""
    if not 1 <= len(encoded) <= CHAIN_MAX:
        raise CertificateError(f"a certificate chain has 1 to {CHAIN_MAX} certificates, not {len(encoded)}")
    if any(len(one) > CERTIFICATE_BYTES_MAX for one in encoded):
        raise CertificateError(f"a certificate has at most {CERTIFICATE_BYTES_MAX} bytes")
    try:
        return tuple(x509.load_der_x509_certificate(one) for one in encoded)
    except ValueError:
        raise CertificateError("a certificate of the chain is damaged") from None


def encode_certificates(chain: Iterable[x509.Certificate]) -> tuple[bytes, ...]:
    """The certificates as DER."""
    return tuple(one.public_bytes(serialization.Encoding.DER) for one in chain)


def network_id(root: x509.Certificate) -> bytes:
    """SHA-256 of the root key's DER SubjectPublicKeyInfo (docs/protocol.md, section 4)."""
    der = serialization.Encoding.DER
    info = root.public_key().public_bytes(der, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(info).digest()


def verify_chain(
    chain: Sequence[x509.Certificate], root: x509.Certificate, at_ns: int, usage: x509.ObjectIdentifier
) -> None:
    """Proves that the root vouches for chain[0] and for its use at that moment; raises CertificateError.

    1. The chain has 1 to CHAIN_MAX certificates, leaf first, and the root is not among them.
    2. The leaf is no authority, may sign, and is for `usage`; no authority above it excludes that usage.
    3. Every certificate, the root too, is valid at `at_ns`.
    4. Each is issued by the next and the last by the root: names match, signature verifies.
    5. Each issuer is an authority that may sign certificates, with room for those below it.
    6. No certificate has a critical extension that is unknown here.
    """
    if not 1 <= len(chain) <= CHAIN_MAX or root in chain:
        raise CertificateError(f"a certificate chain has 1 to {CHAIN_MAX} certificates and leaves the root out")
    _check_leaf(chain[0], usage)
    _check_usages(chain[1:], usage)
    issuers = (*chain[1:], root)
    for certificate in (*chain, root):
        _check_extensions(certificate)
        check_validity(certificate, at_ns)
    for below, (certificate, issuer) in enumerate(zip(chain, issuers, strict=True)):
        _check_issued(certificate, issuer)
        _check_authority(issuer, below)


def verify_issued(
    leaf: x509.Certificate, anchors: Sequence[x509.Certificate], root: x509.Certificate, at_ns: int
) -> None:
    """Proves that one of the anchors, TLS authorities of this network, issued the TLS leaf.

    Steps as in `verify_chain`, with the anchor as the chain's second certificate. Raises CertificateError.
    """
    for anchor in anchors:
        if anchor.subject == leaf.issuer:
            return verify_chain((leaf, anchor), root, at_ns, ExtendedKeyUsageOID.SERVER_AUTH)
    raise CertificateError(
        f"{_name(leaf)} was issued by {leaf.issuer.rfc4514_string()}, no TLS authority of this network"
    )


def check_validity(certificate: x509.Certificate, at_ns: int) -> None:
    """Raises CertificateError when the moment is outside the certificate's lifetime."""
    if at_ns < not_before_ns(certificate):
        raise CertificateError(
            f"{_name(certificate)} is not valid before {certificate.not_valid_before_utc}; check the clock"
        )
    if at_ns >= not_after_ns(certificate):
        raise CertificateError(
            f"{_name(certificate)} expired at {certificate.not_valid_after_utc}; have a new one issued"
        )


def not_before_ns(certificate: x509.Certificate) -> int:
    """Start of the lifetime, UTC nanoseconds."""
    return calendar.timegm(certificate.not_valid_before_utc.utctimetuple()) * SECOND_NS


def not_after_ns(certificate: x509.Certificate) -> int:
    """End of the lifetime, UTC nanoseconds."""
    return calendar.timegm(certificate.not_valid_after_utc.utctimetuple()) * SECOND_NS


def ledger_key(certificate: x509.Certificate) -> bytes:
    """The certificate's Ed25519 key, 32 bytes; raises CertificateError when it is of another kind."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise CertificateError(f"{_name(certificate)} certifies a key of another kind; a ledger key is Ed25519")
    return key.public_bytes_raw()


def roles(certificate: x509.Certificate) -> frozenset[Role]:
    """The roles that the issuer granted; raises CertificateError when there are none or an unknown one."""
    extension = next((e for e in _extensions(certificate) if e.oid == OID_ROLES), None)
    if extension is None or not isinstance(extension.value, x509.UnrecognizedExtension):
        raise CertificateError(f"{_name(certificate)} grants no roles; have the network issue another one")
    der = extension.value.value
    if len(der) < 3 or der[0] != 0x0C or der[1] != len(der) - 2 or der[1] > 127:
        raise CertificateError(f"{_name(certificate)} has damaged roles")
    try:
        return frozenset(Role(role) for role in der[2:].decode("utf-8").split(","))
    except ValueError:
        raise CertificateError(f"{_name(certificate)} grants a role that this version does not know") from None


def encode_roles(granted: Iterable[Role]) -> x509.UnrecognizedExtension:
    """The roles extension: one DER UTF8String, the names in alphabetical order, separated by commas."""
    text = ",".join(sorted(granted)).encode("utf-8")
    if not 1 <= len(text) <= 127:
        raise CertificateError("a certificate grants at least one role")
    return x509.UnrecognizedExtension(OID_ROLES, bytes((0x0C, len(text))) + text)


def dns_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names of the SAN, as they stand there."""
    for extension in _extensions(certificate):
        if isinstance(extension.value, x509.SubjectAlternativeName):
            return tuple(extension.value.get_values_for_type(x509.DNSName))
    return ()


def _name(certificate: x509.Certificate) -> str:
    return f"the certificate of {certificate.subject.rfc4514_string() or '(no name)'}"


def _extensions(certificate: x509.Certificate) -> x509.Extensions:
    try:
        return certificate.extensions
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise CertificateError(f"{_name(certificate)} has damaged extensions") from None


def _check_extensions(certificate: x509.Certificate) -> None:
    for extension in _extensions(certificate):
        if extension.critical and extension.oid not in _KNOWN_EXTENSIONS:
            raise CertificateError(
                f"{_name(certificate)} has an unknown critical extension {extension.oid.dotted_string}"
            )


def _check_leaf(leaf: x509.Certificate, usage: x509.ObjectIdentifier) -> None:
    constraints, key_usage, extended = None, None, None
    for extension in _extensions(leaf):
        match extension.value:
            case x509.BasicConstraints():
                constraints = extension.value
            case x509.KeyUsage():
                key_usage = extension.value
            case x509.ExtendedKeyUsage():
                extended = extension.value
    if constraints is None or constraints.ca:
        raise CertificateError(f"{_name(leaf)} is an authority's, not a node's")
    if key_usage is None or not key_usage.digital_signature:
        raise CertificateError(f"{_name(leaf)} is not for signing")
    if extended is None or usage not in extended:
        raise CertificateError(f"{_name(leaf)} is for another use")


def _check_usages(authorities: Sequence[x509.Certificate], usage: x509.ObjectIdentifier) -> None:
    for authority in authorities:
        for extension in _extensions(authority):
            if isinstance(extension.value, x509.ExtendedKeyUsage) and usage not in extension.value:
                raise CertificateError(f"{_name(authority)} may not issue certificates for this use")


def _check_issued(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    key = issuer.public_key()
    if not isinstance(key, Ed25519PublicKey | ec.EllipticCurvePublicKey):
        raise CertificateError(f"{_name(issuer)} has a key of a kind that this network does not use")
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        raise CertificateError(f"{_name(certificate)} was not issued by {issuer.subject.rfc4514_string()}") from None


def _check_authority(issuer: x509.Certificate, below: int) -> None:
    """Raises unless the issuer may have `below` authorities between itself and the leaf."""
    may_sign, depth = False, -1
    for extension in _extensions(issuer):
        match extension.value:
            case x509.BasicConstraints(ca=True, path_length=length):
                depth = CHAIN_MAX if length is None else length
            case x509.KeyUsage():
                may_sign = extension.value.key_cert_sign
    if not may_sign or depth < below:
        raise CertificateError(f"{_name(issuer)} may not issue a certificate at this place of a chain")
