"""Readings from files: every `*.csv` of a directory, read when it appears or changes, each line once.

The first line names the columns, `meter,start,energy_wh` or `meter,start,energy_wh,revision`; the start of the market
time unit is ISO 8601 in UTC, such as 2026-07-01T12:00:00Z.
"""

import csv
import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from p2pet.oracle.v1.oracle_pb2 import UnitReading
from p2pet.store.v1.store_pb2 import FeedRow

from p2petd.errors import NodeError, OracleError, spoken
from p2petd.oracle.book import Book
from p2petd.oracle.telling import take_reading

log = logging.getLogger(__name__)

HEADERS = ("meter,start,energy_wh", "meter,start,energy_wh,revision")
# What is taken in between two looks at what else waits; a line that is longer is a bad one.
BLOCK_BYTES = 64 * 1024
FILES_TOGETHER_MAX = 16
FILES_MAX = 10_000
# So many bad lines of a block are told one by one.
TOLD_MAX = 20
_NUMBER = re.compile(r"-?[0-9]{1,19}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Stamp = tuple[int, int, int]


@dataclass
class _Progress:
    """How far a file was read while it looked like `stamp`: inode, size, time of change."""

    stamp: Stamp
    offset: int
    lines: int
    digest: "hashlib._Hash"
    # Nothing more to read until it changes, but for a last line without an end.
    waited: bool = False
    done: bool = False

    def row(self) -> FeedRow:
        return FeedRow(offset=self.offset, lines=self.lines, digest=self.digest.digest())


class FeedFolder:
    """The files of one directory. How far each is read stands in the book, in one commit with what it said."""

    def __init__(self, directory: Path, book: Book, unit_ns: int) -> None:
        self._directory = directory
        self._book = book
        self._unit_ns = unit_ns
        self._files: dict[str, _Progress] = {}
        self._trouble = ""

    def poll(self, now_ns: int) -> bool:
        """Take in one block of some files that have something new; whether there is more."""
        try:
            changed = self._changed()
            self._trouble = ""
        except OSError as error:
            if str(error) != self._trouble:
                log.warning("the readings' directory cannot be read: %s", error)
            self._trouble = str(error)
            return False
        more = [self._try_file(name, stamp, now_ns) for name, stamp in changed[:FILES_TOGETHER_MAX]]
        return any(more) or len(changed) > FILES_TOGETHER_MAX

    def _try_file(self, name: str, stamp: Stamp, now_ns: int) -> bool:
        """Like `_read_on`; a file that cannot be read is told, and tried again when it has changed."""
        try:
            return self._read_on(name, stamp, now_ns)
        except OSError as error:
            log.warning("%s cannot be read: %s", spoken(name), error.strerror)
            self._files[name] = _Progress(stamp, 0, 0, hashlib.sha256(), done=True)
            return False

    def _changed(self) -> list[tuple[str, Stamp]]:
        with os.scandir(self._directory) as entries:
            names = sorted(entry.name for entry in entries if entry.name.endswith(".csv") and entry.is_file())
        if len(names) > FILES_MAX and not self._trouble:
            log.warning("%s holds more than %d files; the last ones are not read", self._directory, FILES_MAX)
        changed = []
        for name in names[:FILES_MAX]:
            status = (self._directory / name).stat()
            stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
            known = self._files.get(name)
            if known is None or known.stamp != stamp or not known.done:
                changed.append((name, stamp))
        return changed

    def _read_on(self, name: str, stamp: Stamp, now_ns: int) -> bool:
        """One block; whether there is more."""
        with (self._directory / name).open("rb") as file:
            progress = self._files.get(name)
            if progress is None or progress.stamp != stamp:
                progress = self._files[name] = self._resume(name, stamp, file.read)
            file.seek(progress.offset)
            block = file.read(BLOCK_BYTES)
        end = block.rfind(b"\n") + 1
        if not end and block and (len(block) == BLOCK_BYTES or progress.waited):
            # A line that is too long, or the last one of a file that has not changed since the last look.
            end = len(block)
        if end:
            self._take_lines(name, progress, block[:end], now_ns)
            self._book.put_feed(name, progress.row())
        progress.done = not block or progress.done
        progress.waited = not end
        return end > 0 and not progress.done

    def _resume(self, name: str, stamp: Stamp, read: Callable[[int], bytes]) -> _Progress:
        """Where the file was left, if all of it up to there is as it was; else its start."""
        row = self._book.feed(name)
        digest, left = hashlib.sha256(), row.offset
        while left and (block := read(min(left, BLOCK_BYTES))):
            digest.update(block)
            left -= len(block)
        if left or (row.offset and digest.digest() != row.digest):
            log.info("%s is another file than before and is read from its start", spoken(name))
            return _Progress(stamp, 0, 0, hashlib.sha256())
        return _Progress(stamp, row.offset, row.lines, digest)

    def _take_lines(self, name: str, progress: _Progress, block: bytes, now_ns: int) -> None:
        bad = taken = 0
        for line in _lines(block):
            progress.lines += 1
            try:
                if progress.lines == 1:
                    _check_header(line)
                elif line.strip():
                    take_reading(self._book, _parse(line), self._unit_ns, now_ns)
                    taken += 1
            except NodeError as error:
                bad += 1
                if bad <= TOLD_MAX:
                    log.warning("%s line %d is skipped: %s", spoken(name), progress.lines, error)
        if bad > TOLD_MAX:
            log.warning("%s: %d further lines up to %d are skipped", spoken(name), bad - TOLD_MAX, progress.lines)
        progress.offset += len(block)
        progress.digest.update(block)
        log.info("%s: %d readings up to line %d", spoken(name), taken, progress.lines)


def _lines(block: bytes) -> Iterator[bytes]:
    yield from block.removesuffix(b"\n").split(b"\n")


def _check_header(line: bytes) -> None:
    header = line.decode("utf-8-sig", errors="replace").strip().replace(" ", "")
    if header not in HEADERS:
        raise OracleError(f"the columns are {header[:100]!r}; lines are read as {HEADERS[1]}")


def _parse(line: bytes) -> UnitReading:
    """Raises OracleError."""
    try:
        (fields,) = csv.reader([line.decode()], strict=True)
    except (UnicodeDecodeError, csv.Error) as error:
        raise OracleError(f"it is no line of CSV: {error}") from None
    if len(fields) not in (3, 4):
        raise OracleError(f"it has {len(fields)} columns, not 3 or 4")
    meter, start, energy, revision = [field.strip() for field in (*fields, "")][:4]
    return UnitReading(
        meter=meter,
        start_ns=parse_start(start),
        energy_wh=_whole(energy, "energy_wh", 2**63 - 1),
        revision=_whole(revision or "0", "revision", 2**32 - 1),
    )


def parse_start(text: str) -> int:
    """UTC nanoseconds. Raises OracleError."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise OracleError(f"{text[:100]!r} is not a time such as 2026-07-01T12:00:00Z") from None
    if at.utcoffset() != timedelta(0):
        raise OracleError(f"{text[:100]!r} is not in UTC; write 2026-07-01T12:00:00Z")
    return (at - _EPOCH) // timedelta(microseconds=1) * 1000


def _whole(text: str, what: str, most: int) -> int:
    if not _NUMBER.fullmatch(text) or not -most <= int(text) <= most:
        raise OracleError(f"{what} is {text[:100]!r}, not a whole number")
    return int(text)
