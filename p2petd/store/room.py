"""A store whose disk, or the map of its view, is full: it keeps what it has and takes records again later."""

import logging
from collections.abc import Sequence

from p2petd import native
from p2petd.errors import DiskFull

log = logging.getLogger(__name__)

# Such a batch is small; a larger one that meets the full disk all the same is committed again.
BATCH_BYTES = 1024 * 1024
LOOK_AGAIN_SECONDS = 1.0
_FULL_CODES = frozenset({"store.disk_full", "store.map_full"})


def is_full(error: native.StoreError) -> bool:
    """Whether nothing was written because disk or map are full; anything else is a fault."""
    return error.code in _FULL_CODES


class Fullness:
    """What was seen last; the log says so when that changes, once each time. Can be read from any thread."""

    def __init__(self, whose: str) -> None:
        """`whose` disk it is, for the log, such as "node"."""
        self._whose = whose
        self.is_full = False

    def now(self, *, full: bool) -> None:
        if full and not self.is_full:
            text = "the disk of the %s is full, or the map of its view: it changes nothing until it has room"
            log.error(text, self._whose)
        elif self.is_full and not full:
            log.info("the disk of the %s has room again: it goes on", self._whose)
        self.is_full = full


class Room:
    """Whether a store takes records at present. Used by the thread that writes the store, but for `is_full`."""

    def __init__(self, store: native.Store, whose: str) -> None:
        """`whose` store it is, such as "node"."""
        self._store = store
        self._whose = whose
        self._fullness = Fullness(whose)

    @property
    def is_full(self) -> bool:
        """What `look` or `commit` has found last."""
        return self._fullness.is_full

    def look(self) -> bool:
        """Whether there is room for a batch now."""
        self._fullness.now(full=not self._store.has_room(BATCH_BYTES))
        return not self.is_full

    def commit(self, record: Sequence[tuple[int, bytes, bytes | None]]) -> bool:
        """True when the record is durable, False, with nothing changed, when there was no room for it.

        Raises native.StoreError for anything else.
        """
        try:
            self._store.commit(record)
        except native.StoreError as error:
            if not is_full(error):
                raise
            self._fullness.now(full=True)
            return False
        self._fullness.now(full=False)
        return True

    def refusal(self) -> DiskFull:
        """What is answered meanwhile."""
        return DiskFull(f"the disk of this {self._whose} is full: it changes nothing until space is free again")


def close_store(store: native.Store | native.Notary, whose: str) -> None:
    """Close it. On a full disk its end may not be noted as clean: then the next start checks it as after a kill."""
    try:
        store.close()
    except native.StoreError as error:
        if not is_full(error):
            raise
        log.warning("the store of the %s was closed on a full disk: %s", whose, error)
