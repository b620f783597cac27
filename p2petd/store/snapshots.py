"""Snapshots of the views of a node, so that neither its log nor the time that a lost view costs grows for ever.

A snapshot is taken beside running commits, by a thread of its own, once so much of a log was written since the last
one. Where the log is not evidence, what the second newest snapshot covers is then removed from it: the newest one may
turn out to be damaged, and nothing is lost.
"""

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from p2petd import native

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
TRY_AGAIN_SECONDS = 60.0
_CLOSED = "store.closed"
_TOLD = ("snapshots_taken", "snapshot_ns_total", "snapshot_sequence", "log_first_sequence")


class Snapshotting(Protocol):
    """The log and view of a store or a notary."""

    def take_snapshot(self) -> int: ...

    def stats(self) -> Mapping[str, int]: ...


class Trimming(Snapshotting, Protocol):
    """One whose log need not be kept for ever."""

    def trim(self) -> int: ...


class NotaryLog:
    """The log and index of a notary."""

    def __init__(self, notary: native.Notary) -> None:
        self._notary = notary

    def take_snapshot(self) -> int:
        return self._notary.take_snapshot()

    def stats(self) -> Mapping[str, int]:
        return self._notary.store_stats()


@dataclass
class _Kept:
    whose: str
    store: Snapshotting
    trimming: Trimming | None
    # When a snapshot that failed is tried again, on the monotonic clock.
    again_at: float = 0.0


class SnapshotKeeper:
    """One thread for all logs of a node. What fails here is logged and tried again; it never stops the node."""

    def __init__(self, log_bytes: int, look_seconds: float = LOOK_SECONDS) -> None:
        """A snapshot for each `log_bytes` of a log; 0 takes none."""
        self._log_bytes = log_bytes
        self._look_seconds = look_seconds
        self._kept: list[_Kept] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="snapshots", daemon=True)

    def keep(self, whose: str, store: Trimming) -> None:
        """From the start on, take snapshots of this one and trim its log."""
        self._kept.append(_Kept(whose, store, store))

    def keep_whole(self, whose: str, store: Snapshotting) -> None:
        """The same, and never remove a record: the log is evidence."""
        self._kept.append(_Kept(whose, store, None))

    def start(self) -> None:
        """All are open."""
        if self._log_bytes:
            self._thread.start()

    def stop(self) -> None:
        """Begin no further snapshot. Closing a store ends the one that is under way."""
        self._stopping.set()

    def join(self) -> None:
        """Wait for the thread's end; the stores are closed."""
        if self._thread.is_alive():
            self._thread.join()

    def counters(self) -> Mapping[str, int]:
        """What was done for each log, by its name."""
        found: dict[str, int] = {}
        for kept in self._kept:
            stats = kept.store.stats()
            found |= {f"{kept.whose}_{name}": stats[name] for name in _TOLD}
        return found

    def look(self) -> None:
        """Take the snapshots that are due."""
        for kept in self._kept:
            if time.monotonic() < kept.again_at or self._stopping.is_set():
                continue
            try:
                if kept.store.stats()["log_bytes_since_snapshot"] >= self._log_bytes:
                    _take(kept)
            except native.NativeError as error:
                kept.again_at = time.monotonic() + TRY_AGAIN_SECONDS
                if error.code == _CLOSED:
                    return
                log.warning("a snapshot of the %s failed and will be tried again: %s", kept.whose, error)

    def _run(self) -> None:
        while not self._stopping.wait(self._look_seconds):
            self.look()


def _take(kept: _Kept) -> None:
    began = time.monotonic()
    sequence = kept.store.take_snapshot()
    seconds = time.monotonic() - began
    if kept.trimming is None:
        log.info("snapshot of the %s after record %d in %.1f s", kept.whose, sequence, seconds)
        return
    first = kept.trimming.trim()
    text = "snapshot of the %s after record %d in %.1f s; its log begins at record %d"
    log.info(text, kept.whose, sequence, seconds, first)
