"""Copying a log, or only reading it, while its node may be appending to it (docs/protocol.md, section 10).

A log is append-only: what is whole in a copy is a prefix of it. So a copy ends with the last whole record, whatever the
writer was doing, and each record of it is checked as it passes: checksum, sequence and chain.
"""

import os
import time
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from p2petd import native
from p2petd.errors import BackupRefused

SEGMENT_HEADER_BYTES = 64
RECORD_HEADER_BYTES = 48
ALIGNMENT = 8
CHAIN_START = bytes(32)
BUFFER_BYTES = 1 << 20
# A record that a running node was about to write is looked at again before it is left out.
LOOKS_MAX = 3
LOOK_SECONDS = 0.02


@dataclass(frozen=True)
class Place:
    """Where the next record of a log goes: its sequence, and the chain value before it."""

    sequence: int
    chain_value: bytes


@dataclass(frozen=True)
class Copied:
    """A segment, or what was whole of it: `end` says how it goes on. `size` and `digest` are those of the copy."""

    first: Place
    end: Place
    size: int
    digest: bytes
    # Chain values of the records that were asked for, by sequence.
    chain_values: Mapping[int, bytes] = field(default_factory=dict)
    # Why it ends at `size`, when something stands there that is no record.
    bad: str = ""


def segment_names(directory: Path) -> list[str]:
    """The files of a log, oldest first. Raises OSError."""
    names = (entry.name for entry in os.scandir(directory) if entry.name.endswith(".log"))
    return sorted(name for name in names if len(name) == 24 and name[:20].isdigit())


def copy_segment(source: Path, target: BinaryIO | None, watched: Container[int] = ()) -> Copied:
    """Write what is whole of a segment to `target`, or only read it.

    What is copied is durable in the source when this returns, so that a copy never holds what its log has lost. Raises
    OSError; BackupRefused for a damaged header, and for a bad record with a whole one behind it.
    """
    with source.open("rb", buffering=BUFFER_BYTES) as stream:
        reader = _Reader(source, stream, target)
        seen = {}
        while reader.next_record():
            if reader.place.sequence - 1 in watched:
                seen[reader.place.sequence - 1] = reader.place.chain_value
        if target is not None:
            os.fsync(stream.fileno())
        return Copied(reader.first, reader.place, reader.offset, reader.digest.digest(), seen, reader.bad)


class _Reader:
    """Goes from record to record; `offset` and `place` are those after the last one."""

    def __init__(self, path: Path, stream: BinaryIO, target: BinaryIO | None) -> None:
        self._path = path
        self._stream = stream
        self._target = target
        header = stream.read(SEGMENT_HEADER_BYTES)
        try:
            self._salt, first, chain = native.segment_header(header)
        except native.MalformedError as error:
            raise BackupRefused(f"the log is damaged: {path} at offset 0: {error}") from error
        if path.name != f"{first:020}.log":
            raise BackupRefused(f"the log is damaged: {path} says that it begins with record {first}")
        self.first = self.place = Place(first, chain)
        self.offset = 0
        self.digest = sha256()
        self.bad = ""
        self._keep(header)

    def next_record(self) -> bool:
        """False at the end, or at what is no whole record and no later one follows."""
        for _ in range(LOOKS_MAX):
            record, self.bad = self._read()
            if record:
                self._keep(record)
                return True
            if not self.bad:
                return False
            time.sleep(LOOK_SECONDS)
            # The buffer may hold what was there before the writer was done.
            self._stream.seek(0)
            self._stream.seek(self.offset)
        if (later := self._later_record()) is not None:
            what = f"{self.bad}; a valid record follows at offset {later}"
            raise BackupRefused(f"the log is damaged: {self._path} at offset {self.offset}: {what}")
        return False

    def _read(self) -> tuple[bytes, str]:
        """The next whole record, or why there is none; an empty reason at the end of the segment."""
        header = self._stream.read(RECORD_HEADER_BYTES)
        if not header.strip(b"\0"):
            return b"", "" if self._rest_is_zero() else "zeros where a record should begin"
        size = native.record_size(header) if len(header) == RECORD_HEADER_BYTES else None
        if size is None:
            return b"", "no header of a record"
        record = header + self._stream.read(size - RECORD_HEADER_BYTES)
        read = native.read_record(self._salt, self.place.chain_value, record) if len(record) == size else None
        if read is None or read[0] != self.place.sequence:
            return b"", "the checksum, the sequence or the chain of the record does not match"
        self.place = Place(read[0] + 1, read[1])
        return record, ""

    def _rest_is_zero(self) -> bool:
        while chunk := self._stream.read(BUFFER_BYTES):
            if chunk.count(0) != len(chunk):
                return False
        return True

    def _keep(self, content: bytes) -> None:
        self.offset += len(content)
        self.digest.update(content)
        if self._target is not None:
            self._target.write(content)

    def _later_record(self) -> int | None:
        """Where a whole record with a later sequence stands: the bad one was durable once, and may not be left out."""
        self._stream.seek(self.offset)
        rest = self._stream.read()
        for at in range(ALIGNMENT, len(rest) - RECORD_HEADER_BYTES + 1, ALIGNMENT):
            ahead = int.from_bytes(rest[at + 8 : at + 16]) - self.place.sequence
            if not 0 < ahead <= len(rest) // RECORD_HEADER_BYTES:
                continue
            size = native.record_size(rest[at : at + RECORD_HEADER_BYTES])
            if size and native.read_record(self._salt, None, rest[at : at + size]) is not None:
                return self.offset + at
        return None
