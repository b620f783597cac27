"""Files of readings: each line once, over restarts, and bad ones told."""

import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from scribe import METER, NOW_NS, START_NS, UNIT_NS, Scribe

from p2petd.errors import OracleError
from p2petd.oracle.book import Book
from p2petd.oracle.feeds import BLOCK_BYTES, FILES_TOGETHER_MAX, TOLD_MAX, FeedFolder, parse_start

HEADER = "meter,start,energy_wh\n"
Write = Callable[[str], None]


class Feed:
    """A directory with one file, and the folder that reads it."""

    def __init__(self, directory: Path, scribe: Scribe) -> None:
        self.file = directory / "day.csv"
        self._directory = directory
        self._scribe = scribe
        self.folder = FeedFolder(directory, scribe.book, UNIT_NS)
        self._writes = 0

    def write(self, text: str) -> None:
        """Always with another time of change: a fast test is no reason to miss one."""
        self.file.write_text(text)
        self._writes += 1
        os.utime(self.file, ns=(self._writes, self._writes))

    def read_all(self) -> None:
        while self.folder.poll(NOW_NS):
            self._scribe.commit()
        self._scribe.commit()

    def restart(self) -> None:
        self._scribe.book = Book(self._scribe.store)
        self.folder = FeedFolder(self._directory, self._scribe.book, UNIT_NS)

    def known(self, unit: int = 0) -> tuple[int, int]:
        """Value and revision of a unit; zeros for one that is unknown."""
        row = self._scribe.book.reading(METER, START_NS + unit * UNIT_NS)
        return (0, 0) if row is None else (row.energy_wh, row.revision)


@pytest.fixture
def feed(tmp_path: Path, scribe: Scribe) -> Feed:
    directory = tmp_path / "readings"
    directory.mkdir()
    return Feed(directory, scribe)


def line(energy_wh: object, unit: int = 0, *revision: int) -> str:
    start = datetime.fromtimestamp((START_NS + unit * UNIT_NS) / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return ",".join([METER, start, str(energy_wh), *map(str, revision)]) + "\n"


def test_a_file_is_read_once_and_what_is_added_later_too(feed: Feed, scribe: Scribe) -> None:
    feed.write(HEADER + line(500) + line(600, 1))
    feed.read_all()
    assert (feed.known(0), feed.known(1)) == ((500, 1), (600, 1))
    sequence = scribe.store.sequence
    feed.read_all()
    assert scribe.store.sequence == sequence
    feed.write(HEADER + line(500) + line(600, 1) + line(700, 2))
    feed.read_all()
    assert feed.known(2) == (700, 1)


def test_reading_goes_on_after_a_restart(feed: Feed, caplog: pytest.LogCaptureFixture) -> None:
    # Read again from its start, the first line would be a second correction.
    text = HEADER + line(500) + line(480)
    feed.write(text)
    feed.read_all()
    feed.restart()
    feed.write(text + line(600, 1))
    feed.read_all()
    assert (feed.known(0), feed.known(1)) == ((480, 2), (600, 1))


def test_a_file_that_was_replaced_is_read_from_its_start(feed: Feed) -> None:
    feed.write(HEADER + line(500) + line(600, 1))
    feed.read_all()
    feed.write(HEADER + line(450) + line(600, 1))
    feed.read_all()
    assert (feed.known(0), feed.known(1)) == ((450, 2), (600, 1))


def test_a_line_counts_when_it_is_complete(feed: Feed) -> None:
    feed.write(HEADER + line(500) + line(6)[:-2])
    assert feed.folder.poll(NOW_NS)
    assert not feed.folder.poll(NOW_NS)
    assert feed.known(0) == (500, 1)
    feed.write(HEADER + line(500) + line(600, 1))
    feed.read_all()
    assert (feed.known(0), feed.known(1)) == ((500, 1), (600, 1))


def test_the_last_line_needs_no_end_when_the_file_stays_as_it_is(feed: Feed) -> None:
    feed.write(HEADER + line(500).rstrip("\n"))
    feed.read_all()
    assert feed.known() == (0, 0)
    feed.read_all()
    assert feed.known() == (500, 1)


def test_bad_lines_are_told_with_file_and_line_and_skipped(feed: Feed, caplog: pytest.LogCaptureFixture) -> None:
    bad = ["meter-1,2023,5", f"{METER},noon,5", line("5.5").strip(), "a,b", line(-5).strip(), line(2**63).strip()]
    bad += [line(5, 0, 7).strip(), line(5, 5000).strip(), '"', "\x00\x1b[0m,,"]
    feed.write(HEADER + line(500) + "\n".join(bad) + "\n\n" + line(600, 1))
    with caplog.at_level(logging.WARNING):
        feed.read_all()
    assert (feed.known(0), feed.known(1)) == ((500, 1), (600, 1))
    told = [record.getMessage() for record in caplog.records]
    assert [text.split(" is skipped")[0] for text in told] == [f"day.csv line {n}" for n in range(3, 13)]
    assert all("\x1b" not in text for text in told)


def test_many_bad_lines_are_counted(feed: Feed, caplog: pytest.LogCaptureFixture) -> None:
    feed.write(HEADER + "bad\n" * (TOLD_MAX + 5) + line(500))
    with caplog.at_level(logging.WARNING):
        feed.read_all()
    assert len(caplog.records) == TOLD_MAX + 1
    assert "5 further lines" in caplog.records[-1].getMessage()
    assert feed.known() == (500, 1)


def test_a_line_without_end_does_not_stop_the_file(feed: Feed) -> None:
    feed.write(HEADER + "x" * (2 * BLOCK_BYTES) + "\n" + line(500))
    feed.read_all()
    assert feed.known() == (500, 1)


def test_a_large_file_is_read_block_by_block(feed: Feed) -> None:
    rows = [line(n % 7, n) for n in range(899)] * 3
    feed.write(HEADER + "".join(rows) + line(3, 899))
    assert feed.folder.poll(NOW_NS)
    assert feed.known(899) == (0, 0)
    feed.read_all()
    assert feed.known(899) == (3, 1)


def test_the_revisions_of_the_file_count(feed: Feed) -> None:
    feed.write("\ufeffmeter,start,energy_wh,revision\r\n" + line(500, 0, 1).strip() + "\r\n" + line(480, 0, 2))
    feed.read_all()
    assert feed.known() == (480, 2)


def test_other_files_are_left_alone_and_a_missing_directory_is_told_once(
    feed: Feed, scribe: Scribe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "readings" / "notes.txt").write_text(HEADER + line(500))
    (tmp_path / "readings" / "directory.csv").mkdir()
    feed.read_all()
    assert feed.known() == (0, 0)
    gone = FeedFolder(tmp_path / "gone", scribe.book, UNIT_NS)
    with caplog.at_level(logging.WARNING):
        assert not gone.poll(NOW_NS)
        assert not gone.poll(NOW_NS)
    assert len(caplog.records) == 1


def test_many_files_are_read_and_one_that_cannot_be_stops_no_other(
    feed: Feed, scribe: Scribe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "readings"
    for number in range(FILES_TOGETHER_MAX + 4):
        (directory / f"{number:02}.csv").write_text(HEADER + line(number, number))
    os.mkfifo(directory / "fifo.csv")
    broken = directory / "00.csv"
    broken.unlink()
    broken.symlink_to("/proc/self/mem")
    with caplog.at_level(logging.WARNING):
        feed.read_all()
    assert [feed.known(number)[1] for number in range(FILES_TOGETHER_MAX + 4)] == [0] + [1] * (FILES_TOGETHER_MAX + 3)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["00.csv cannot be read"]


def test_a_start_is_in_utc() -> None:
    assert parse_start("2023-11-14T22:15:00Z") == 1_700_000_100 * 10**9
    assert parse_start("2023-11-14T22:15:00+00:00") == 1_700_000_100 * 10**9
    for text in ("2023-11-14T22:15:00", "2023-11-14T23:15:00+01:00", "1700000100", ""):
        with pytest.raises(OracleError):
            parse_start(text)
