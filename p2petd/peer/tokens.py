"""Proofs to oneself: what lets a node recognise that its own data directory is an old copy, and nobody pretend it is.

A node gives a token with each message and each acknowledgement. A peer that says "I have your message 9" returns the
token of message 9; only if it is genuine has this node really sent that message, and forgotten it.
"""

import hmac
import struct
from dataclasses import dataclass

TOKEN_BYTES = 16
_SENT, _ACKNOWLEDGED = b"sent", b"acknowledged"


@dataclass(frozen=True)
class Tokens:
    """`secret` is made with the data directory and is part of each copy of it."""

    secret: bytes

    def of_message(self, peer: bytes, sequence: int) -> bytes:
        return self._token(_SENT, peer, sequence)

    def of_acknowledgement(self, peer: bytes, epoch: bytes, sequence: int) -> bytes:
        """Sequences of one epoch of the peer mean nothing in another."""
        return self._token(_ACKNOWLEDGED, peer + epoch, sequence)

    def is_message(self, token: bytes, peer: bytes, sequence: int) -> bool:
        return hmac.compare_digest(token, self.of_message(peer, sequence))

    def is_acknowledgement(self, token: bytes, peer: bytes, epoch: bytes, sequence: int) -> bool:
        return hmac.compare_digest(token, self.of_acknowledgement(peer, epoch, sequence))

    def _token(self, what: bytes, whom: bytes, sequence: int) -> bytes:
        return hmac.digest(self.secret, what + whom + struct.pack(">Q", sequence), "sha256")[:TOKEN_BYTES]
