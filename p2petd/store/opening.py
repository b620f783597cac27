"""What a node says of itself while it opens a log: checking and rebuilding can take long."""

import logging
import time
from collections.abc import Mapping

log = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0
_WORK = {
    "checking_log": "checking the log",
    "restoring_snapshot": "restoring a snapshot of the view",
    "rebuilding_view": "rebuilding the view",
}
_UNITS = {"rebuilding_view": "records"}


def how_far(phase: str, whose: str, done: int, total: int) -> str:
    """One line, such as `rebuilding the view of the node: 42 % (420 of 1 000 records)`."""
    percent = 100 * done // total if total else 100
    amounts = _spaced(done), _spaced(total), _UNITS.get(phase, "bytes")
    return f"{_WORK.get(phase, phase)} of the {whose}: {percent} % ({amounts[0]} of {amounts[1]} {amounts[2]})"


def _spaced(number: int) -> str:
    return f"{number:,}".replace(",", " ")


class Opening:
    """One opening; what is over in a moment says nothing. To be called as a `progress` of the extension."""

    def __init__(self, whose: str) -> None:
        """`whose` log it is, such as "node"."""
        self._whose = whose
        self._began = time.monotonic()
        self._told_at: float | None = None

    def __call__(self, phase: str, done: int, total: int) -> None:
        now = time.monotonic()
        if self._told_at is None or now - self._told_at >= PAUSE_SECONDS:
            self._told_at = now
            log.info("%s", how_far(phase, self._whose, done, total))

    def opened(self, stats: Mapping[str, int]) -> None:
        """It is open; `stats` are those of its store."""
        seconds = time.monotonic() - self._began
        if stats["view_rebuilt"]:
            snapshot, records = stats["snapshot_restored"], stats["replayed_records"]
            since = f"the snapshot of record {snapshot}" if snapshot else "the log's start"
            text = "the view of the %s was rebuilt from %s with %d records in %.1f s"
            log.info(text, self._whose, since, records, seconds)
        elif self._told_at is not None:
            log.info("the log of the %s was opened in %.1f s", self._whose, seconds)
