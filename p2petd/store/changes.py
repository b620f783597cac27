"""The changes of one batch, gathered while its flows run and committed as one log record."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from p2petd.store.tables import FLOW_ID_BYTES, Table, after_prefix

SCAN_PAGE = 1000
# A node that writes nothing but what is lazy, such as one whose backlog is taken by a peer, writes that after so many.
LAZY_MAX = 4096


class Reader(Protocol):
    """What anything but the commit may do with the store."""

    def get(self, table: int, key: bytes) -> bytes | None: ...

    def scan(
        self, table: int, start: bytes, end: bytes | None, limit: int, *, reverse: bool = ...
    ) -> list[tuple[bytes, bytes]]: ...


class Latest:
    """A reader that sees what a batch puts before it is committed; scans see the committed rows alone."""

    def __init__(self, store: Reader, changes: "Changes") -> None:
        self._store = store
        self._changes = changes

    def get(self, table: int, key: bytes) -> bytes | None:
        return self._changes.value(Table(table), key) or self._store.get(table, key)

    def scan(
        self, table: int, start: bytes, end: bytes | None, limit: int, *, reverse: bool = False
    ) -> list[tuple[bytes, bytes]]:
        return self._store.scan(table, start, end, limit, reverse=reverse)


class Changes:
    """Later changes of a key replace earlier ones; a key that is made and dropped in one batch leaves no trace."""

    def __init__(self) -> None:
        self._rows: dict[tuple[int, bytes], bytes | None] = {}
        self._made_here: set[tuple[int, bytes]] = set()
        self._lazy: dict[tuple[int, bytes], bytes | None] = {}
        # Keys of IN_FLIGHT that were changed, by flow id: a flow that fails is asked what it leaves behind.
        self._in_flight: dict[bytes, set[bytes]] = {}

    def put(self, table: Table, key: bytes, value: bytes) -> None:
        if table is Table.IN_FLIGHT:
            self._in_flight.setdefault(key[:FLOW_ID_BYTES], set()).add(key)
        self._rows[table, key] = value

    def make(self, table: Table, key: bytes, value: bytes) -> None:
        """Put a key that the view does not hold yet."""
        if table is Table.IN_FLIGHT:
            self._in_flight.setdefault(key[:FLOW_ID_BYTES], set()).add(key)
        self._made_here.add((table, key))
        self._rows[table, key] = value

    def delete(self, table: Table, key: bytes) -> None:
        if table is Table.IN_FLIGHT:
            self._in_flight.setdefault(key[:FLOW_ID_BYTES], set()).add(key)
        if (table, key) in self._made_here:
            self._rows.pop((table, key), None)
        else:
            self._rows[table, key] = None

    def delete_lazily(self, table: Table, key: bytes) -> None:
        """Delete with the next record that is written anyway; losing it to a crash must be harmless."""
        self._lazy[table, key] = None

    def put_lazily(self, table: Table, key: bytes, value: bytes) -> None:
        """Put with the next record that is written anyway; losing it to a crash must be harmless."""
        if (table, key) in self._rows:
            self._rows[table, key] = value
        else:
            self._lazy[table, key] = value

    def holds(self, table: Table, key: bytes) -> bool:
        """Whether this batch puts the key."""
        return self._rows.get((table, key)) is not None

    def value(self, table: Table, key: bytes) -> bytes | None:
        """What this batch puts under the key; None when it puts nothing."""
        return self._rows.get((table, key))

    def in_flight(self, store: Reader, flow_id: bytes) -> dict[bytes, bytes]:
        """The rows of a flow's transactions in flight, as they are with this batch, by key."""
        rows = dict(scan_prefix(store, Table.IN_FLIGHT, flow_id, first_page=16))
        for key in self._in_flight.get(flow_id, ()):
            value = self._rows.get((Table.IN_FLIGHT, key))
            if value is None:
                rows.pop(key, None)
            else:
                rows[key] = value
        return dict(sorted(rows.items()))

    def __bool__(self) -> bool:
        """Whether there is a record to write: for what is lazy alone only when there is much of it."""
        return bool(self._rows) or len(self._lazy) >= LAZY_MAX

    def record(self) -> Sequence[tuple[int, bytes, bytes | None]]:
        """The changes for `native.Store.commit`."""
        merged: Mapping[tuple[int, bytes], bytes | None] = {**self._lazy, **self._rows} if self._lazy else self._rows
        return [(table, key, value) for (table, key), value in merged.items()]

    def next_batch(self) -> "Changes":
        """Empty changes that inherit the lazy deletions when these were not committed."""
        following = Changes()
        if not self:
            following._lazy = self._lazy
        return following


def scan_prefix(
    store: Reader, table: Table, prefix: bytes, first_page: int = SCAN_PAGE
) -> Iterator[tuple[bytes, bytes]]:
    """All rows whose key starts with `prefix`, in key order, in pages; a short first one for who may stop early."""
    start, end, limit = prefix, after_prefix(prefix), first_page
    while True:
        page = store.scan(table, start, end, limit)
        yield from page
        if len(page) < limit:
            return
        start, limit = page[-1][0] + b"\x00", SCAN_PAGE
