"""Which certificate may sign network parameters: docs/protocol.md, section 6, "Certificates"."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.interop.wire import Refused, require

ARC = "2.25.243714175966518653229526523791746842630"
ROLE, IDENTITY_USE = x509.ObjectIdentifier(f"{ARC}.1"), x509.ObjectIdentifier(f"{ARC}.2")
MAP_ROLE = b"\x0c\x03map"
UNDERSTOOD = (x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage)
# What the library raises for a certificate that is malformed, not signed by the issuer, or of a kind unknown to it.
FAILURES = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
)


def map_key(root: x509.Certificate, certificates: Sequence[bytes], at_ns: int) -> bytes:
    """The 32-byte key of the network map's certificate, the first of `certificates`, which lead to the root."""
    try:
        chain = [x509.load_der_x509_certificate(one) for one in certificates]
        require(bool(chain) and root not in chain, "certificates", "none, or the root among them")
        at = datetime.fromtimestamp(at_ns // 10**9, UTC) + timedelta(microseconds=at_ns % 10**9 // 1000)
        for below, certificate in enumerate(chain):
            issuer = [*chain, root][below + 1]
            certificate.verify_directly_issued_by(issuer)
            _check_issuer(issuer, below)
            valid = certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc
            require(valid, "certificates", f"not valid at {at}")
            for extension in certificate.extensions:
                understood = isinstance(extension.value, UNDERSTOOD) or extension.oid == ROLE
                require(understood or not extension.critical, "certificates", "unknown critical extension")
        return _leaf_key(chain[0])
    except FAILURES as error:
        raise Refused("certificates", str(error)) from error


def _check_issuer(issuer: x509.Certificate, below: int) -> None:
    """The issuer is an authority that allows for `below` authorities below it."""
    constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
    require(constraints.ca, "certificates", "an issuer is no authority")
    require(constraints.path_length is None or below <= constraints.path_length, "certificates", "path length")
    usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
    require(usage.key_cert_sign, "certificates", "an issuer may not certify")


def _leaf_key(leaf: x509.Certificate) -> bytes:
    extensions = leaf.extensions
    require(not extensions.get_extension_for_class(x509.BasicConstraints).value.ca, "certificates", "an authority")
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    require(usage.digital_signature, "certificates", "may not sign")
    require(IDENTITY_USE in extensions.get_extension_for_class(x509.ExtendedKeyUsage).value, "certificates", "use")
    role = extensions.get_extension_for_oid(ROLE).value
    require(isinstance(role, x509.UnrecognizedExtension) and role.value == MAP_ROLE, "certificates", "role")
    key = leaf.public_key()
    if not isinstance(key, Ed25519PublicKey):
        raise Refused("certificates", "the signer's key is not Ed25519")
    return key.public_bytes_raw()
