"""Names that follow from their content: docs/protocol.md, sections 8 and 9."""

import base64
import struct
from collections.abc import Mapping

from tests.interop.verifier import sha256


def peer_name(identity: bytes) -> str:
    """The DNS name in the TLS certificate of the node with this identity key."""
    return base64.b32encode(sha256(identity)).decode().lower().rstrip("=") + ".node.p2pet"


def issue_claims(meter: str, start_ns: int, end_ns: int, unit_ns: int) -> list[bytes]:
    """One claim for each market time unit of a lot."""
    name = _text(meter)
    return [sha256(b"issue", name, struct.pack(">q", unit)) for unit in range(start_ns, end_ns, unit_ns)]


def lot_id(issuer: bytes, meter: str, start_ns: int, end_ns: int, issued_wh: int) -> bytes:
    return sha256(b"lot", issuer, _text(meter), struct.pack(">qqq", start_ns, end_ns, issued_wh))


def code_hash(modules: Mapping[str, bytes]) -> bytes:
    """Of a contract, from the sources of its modules by dotted name."""
    parts = [_text(name) + struct.pack(">I", len(source)) + source for name, source in sorted(modules.items())]
    return sha256(*parts)


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack(">H", len(encoded)) + encoded
