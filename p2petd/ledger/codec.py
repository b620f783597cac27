"""Bytes of messages and components: canonical, or refused (docs/protocol.md, section 1)."""

import struct
from collections.abc import Iterable
from functools import lru_cache
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from p2petd.errors import MalformedTransaction, QuantityOverflow
from p2petd.ledger.groups import KEY_BYTES

M = TypeVar("M", bound=Message)

CACHED_BYTES_MAX = 1024
"""Decoders remember only small inputs, so that a peer cannot fill the memory through a cache."""
CACHED_ENTRIES_MAX = 4096

_SIGNER_BYTES = 2 + KEY_BYTES
_LENGTH = struct.pack(">H", KEY_BYTES)


def parse_strict(message_type: type[M], data: bytes) -> M:
    """The message, of which `data` is the one canonical encoding.

    1. it parses;
    2. without unknown fields and serialised again in the order of the field numbers, it gives the same bytes: that
       excludes unknown and repeated singular fields, explicit defaults, longer varints and trailing bytes.
    Raises MalformedTransaction.
    """
    message = message_type()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise MalformedTransaction(f"these bytes are not a {message_type.DESCRIPTOR.name}: {error}") from error
    message.DiscardUnknownFields()
    if message.SerializeToString(deterministic=True) != data:
        raise MalformedTransaction(
            f"the encoding of this {message_type.DESCRIPTOR.name} is not canonical: an unknown or repeated field, "
            "an explicit default, a long varint or trailing bytes"
        )
    return message


def encode_canonical(message_type: type[M], **fields: object) -> bytes:
    """The canonical encoding; raises QuantityOverflow for a number that its field cannot hold."""
    try:
        message = message_type(**fields)
    except ValueError as error:
        raise QuantityOverflow(f"a field of {message_type.DESCRIPTOR.name} cannot hold its value: {error}") from error
    return message.SerializeToString(deterministic=True)


def u16_prefixed(text: str) -> bytes:
    """u16 length ‖ UTF-8; raises MalformedTransaction above 65 535 bytes."""
    data = text.encode()
    if len(data) > 0xFFFF:
        raise MalformedTransaction("a text inside a hash has at most 65535 bytes")
    return struct.pack(">H", len(data)) + data


def encode_signers(keys: Iterable[bytes]) -> bytes:
    """One component of group 4: the distinct keys, ascending, each after its length."""
    ascending = sorted(set(keys))
    for key in ascending:
        if len(key) != KEY_BYTES:
            raise MalformedTransaction(f"a signer's key is {KEY_BYTES} bytes, not {len(key)}")
    return b"".join(_LENGTH + key for key in ascending)


@lru_cache(maxsize=CACHED_ENTRIES_MAX)
def _small_signers(component: bytes) -> frozenset[bytes]:
    return _signers(component)


def decode_signers(component: bytes) -> frozenset[bytes]:
    """The keys of one component of group 4; raises MalformedTransaction unless distinct, ascending and well-formed."""
    return _small_signers(component) if len(component) <= CACHED_BYTES_MAX else _signers(component)


def _signers(component: bytes) -> frozenset[bytes]:
    if len(component) % _SIGNER_BYTES:
        raise MalformedTransaction("a list of signers holds 32-byte keys, each after its 16-bit length")
    keys: list[bytes] = []
    for start in range(0, len(component), _SIGNER_BYTES):
        if component[start : start + 2] != _LENGTH:
            raise MalformedTransaction("only 32-byte keys can sign")
        key = component[start + 2 : start + _SIGNER_BYTES]
        if keys and key <= keys[-1]:
            raise MalformedTransaction("the keys of a list of signers are distinct and ascend")
        keys.append(key)
    return frozenset(keys)
