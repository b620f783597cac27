"""Logs and notary records, read as sections 10 and 11 of docs/protocol.md describe them."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from tests.interop.verifier import REQUEST, SCHEME, check_signature, request_digest, sha256, signed_message
from tests.interop.wire import require

HEADER, RECORD = 64, 48
NO_CHAIN = bytes(32)


def _crc_table() -> tuple[int, ...]:
    table = []
    for number in range(256):
        for _ in range(8):
            number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
        table.append(number)
    return tuple(table)


_CRC_TABLE = _crc_table()


def crc32c(data: bytes) -> int:
    """The Castagnoli checksum of RFC 3720."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _CRC_TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


@dataclass(frozen=True)
class Record:
    sequence: int
    chain: bytes
    payload: bytes


def scan(segments: Sequence[tuple[str, bytes]]) -> list[Record]:
    """All records of a log from its first; `segments` are its files in order, each as (name, bytes)."""
    sequence, chain = 1, NO_CHAIN
    records: list[Record] = []
    for name, data in segments:
        require(name == f"{sequence:020}.log", "log name", name)
        found = scan_segment(data, sequence, chain)
        records += found
        if found:
            sequence, chain = found[-1].sequence + 1, found[-1].chain
    return records


def scan_segment(data: bytes, first: int, chain: bytes) -> list[Record]:
    """The records of one segment file that begins with sequence `first` after the chain value `chain`."""
    require(len(data) >= HEADER, "log header", "cut short")
    require(data[:12] == b"p2petlog" + struct.pack(">I", 2), "log header", "magic or version")
    salt = data[12:16]
    require(data[16:56] == struct.pack(">Q", first) + chain, "log header", "does not follow what is before it")
    require(data[56:64] == struct.pack(">II", crc32c(data[:56]), 0), "log header", "checksum")
    records: list[Record] = []
    position, sequence = HEADER, first
    while any(data[position : position + RECORD]):
        require(position + RECORD <= len(data), "log record", "cut short")
        length, checksum = struct.unpack(">II", data[position : position + 8])
        end = position + RECORD + length
        aligned = -(-end // 8) * 8
        require(aligned <= len(data), "log record", "longer than its segment")
        payload = data[position + RECORD : end]
        require(crc32c(salt + data[position + 8 : end]) == checksum, "log checksum", f"record {sequence}")
        require(data[position + 8 : position + 16] == struct.pack(">Q", sequence), "log sequence", f"not {sequence}")
        chain = sha256(b"\x20", chain, struct.pack(">Q", sequence), payload)
        require(data[position + 16 : position + 48] == chain, "log chain", f"record {sequence}")
        require(not any(data[end:aligned]), "log record", "padding")
        records.append(Record(sequence, chain, payload))
        position, sequence = aligned, sequence + 1
    require(not any(data[position:]), "log tail", "not zero")
    return records


class _Cursor:
    """Takes numbers and byte strings from the front of a payload, and refuses to run past its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, size: int) -> bytes:
        end = self._position + size
        require(end <= len(self._data), "payload", "cut short")
        chunk = self._data[self._position : end]
        self._position = end
        return chunk

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def end(self) -> None:
        require(self._position == len(self._data), "payload", "trailing bytes")


@dataclass(frozen=True)
class Change:
    """A put, or a delete when the value is None."""

    table: int
    key: bytes
    value: bytes | None


def read_changes(payload: bytes) -> list[Change]:
    """The changes of a node's record."""
    cursor = _Cursor(payload)
    require(cursor.number(1) == 1, "payload", "not a list of changes")
    changes = []
    for _ in range(cursor.number(4)):
        kind, table = cursor.number(1), cursor.number(1)
        require(kind in (1, 2), "payload", f"kind {kind}")
        key = cursor.take(cursor.number(2))
        changes.append(Change(table, key, cursor.take(cursor.number(4)) if kind == 1 else None))
    cursor.end()
    return changes


@dataclass(frozen=True)
class Accepted:
    id: bytes
    caller: bytes
    inputs: tuple[bytes, ...]
    references: tuple[bytes, ...]
    claims: tuple[bytes, ...]
    signature: bytes


@dataclass(frozen=True)
class RefusedRequest:
    id: bytes
    caller: bytes
    verdict: int
    signature: bytes


@dataclass(frozen=True)
class NotaryRecord:
    decided_at_ns: int
    accepted: tuple[Accepted, ...]
    refused: tuple[RefusedRequest, ...]


def read_notary_record(payload: bytes) -> NotaryRecord:
    cursor = _Cursor(payload)
    require(cursor.number(1) == 16, "payload", "not a notary's record")
    decided_at_ns = struct.unpack(">q", cursor.take(8))[0]
    accepted_count, refused_count = cursor.number(4), cursor.number(4)
    accepted = tuple(_accepted(cursor) for _ in range(accepted_count))
    refused = tuple(
        RefusedRequest(cursor.take(32), cursor.take(32), cursor.number(1), cursor.take(64))
        for _ in range(refused_count)
    )
    require(all(1 <= entry.verdict <= 4 for entry in refused), "payload", "verdict")
    cursor.end()
    return NotaryRecord(decided_at_ns, accepted, refused)


def read_certificate_record(payload: bytes) -> bytes | None:
    """The serialised worker certificate under which later records are decided; None for a record of another kind."""
    return payload[1:] if payload[:1] == b"\x11" else None


def _accepted(cursor: _Cursor) -> Accepted:
    id_, caller = cursor.take(32), cursor.take(32)
    counts = cursor.number(2), cursor.number(2), cursor.number(2)
    inputs, references, claims = (
        tuple(cursor.take(size) for _ in range(count)) for count, size in zip(counts, (36, 36, 32), strict=True)
    )
    return Accepted(id_, caller, inputs, references, claims, cursor.take(64))


def check_accepted(network_id: bytes, accepted: Accepted) -> None:
    """The caller signed the request that the record says was accepted."""
    message = signed_message(REQUEST, network_id, request_digest(accepted.inputs, accepted.id))
    check_signature(accepted.caller, SCHEME, message, accepted.signature)
