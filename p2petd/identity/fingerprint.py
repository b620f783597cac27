"""The short name of an identity key, and where TLS carries it (docs/protocol.md, section 8)."""

import base64
import hashlib
import re

from p2petd.errors import CertificateError

SAN_SUFFIX = ".node.p2pet"
_FINGERPRINT = re.compile(r"[a-z2-7]{52}")


def fingerprint(identity: bytes) -> str:
    """SHA-256 of the 32-byte identity key in lower-case base32 without padding: 52 characters."""
    if len(identity) != 32:
        raise CertificateError(f"an identity key has 32 bytes, not {len(identity)}")
    return base64.b32encode(hashlib.sha256(identity).digest()).decode("ascii").rstrip("=").lower()


def san_name(node_fingerprint: str) -> str:
    """The DNS name that the node's TLS certificate must carry."""
    return node_fingerprint + SAN_SUFFIX


def fingerprint_of_san(name: str) -> str:
    """The fingerprint inside a SAN; raises CertificateError when the name is not `<fingerprint>.node.p2pet`."""
    node_fingerprint = name.removesuffix(SAN_SUFFIX)
    if node_fingerprint == name or not _FINGERPRINT.fullmatch(node_fingerprint):
        raise CertificateError(f"{name[:100]!r} is not a node's name; it should be <fingerprint>{SAN_SUFFIX}")
    return node_fingerprint
