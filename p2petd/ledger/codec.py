"""Bytes of messages and components: canonical, or refused (docs/protocol.md, section 1)."""

import struct
from collections.abc import Iterable
from functools import lru_cache
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from p2petd import native
from p2petd.errors import MalformedTransaction, QuantityOverflow

M = TypeVar("M", bound=Message)

CACHED_BYTES_MAX = 1024
"""Decoders remember only small inputs, so that a peer cannot fill the memory through a cache."""
CACHED_ENTRIES_MAX = 4096


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
    """One component of group 4: the distinct keys, Ed25519 or composite encodings, ascending, each after its length.

    Raises MalformedTransaction for a key of neither form.
    """
    try:
        return native.encode_signers(list(keys))
    except native.NativeError as error:
        raise MalformedTransaction(f"a signer's key is refused: {error}") from error


def decode_signers(component: bytes) -> frozenset[bytes]:
    """The ids of the keys of one component of group 4: Ed25519 keys themselves, 32-byte ids of composite ones.

    Raises MalformedTransaction unless the keys are distinct, ascending and well-formed.
    """
    return frozenset(signer_id for signer_id, _ in decode_signer_keys(component))


def decode_signer_keys(component: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """The same keys as (id, encoding), ascending by encoding; raises MalformedTransaction."""
    return _small_signers(component) if len(component) <= CACHED_BYTES_MAX else _signers(component)


@lru_cache(maxsize=CACHED_ENTRIES_MAX)
def _small_signers(component: bytes) -> tuple[tuple[bytes, bytes], ...]:
    return _signers(component)


def _signers(component: bytes) -> tuple[tuple[bytes, bytes], ...]:
    try:
        return tuple(native.decode_signers(component))
    except native.MalformedError as error:
        raise MalformedTransaction(str(error)) from error
