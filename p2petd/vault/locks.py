"""Soft locks: a state that one flow has chosen is not offered to another until that flow ends."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from p2petd.ledger.refs import StateRef
from p2petd.store.changes import Changes, Reader, scan_prefix
from p2petd.store.tables import Table


class Reservations(Protocol):
    """What selection asks of them."""

    def is_locked(self, ref: bytes) -> bool: ...


class NoReservations:
    """As if no flow had reserved anything."""

    def is_locked(self, ref: bytes) -> bool:
        return False


class SoftLocks:
    """Held in memory for selection and in the log for restarts; the two change with the same batch."""

    def __init__(self, store: Reader) -> None:
        self._owner: dict[bytes, bytes] = {ref: flow for ref, flow in scan_prefix(store, Table.LOCK, b"")}
        self._held: dict[bytes, list[bytes]] = {}
        for ref, flow in self._owner.items():
            self._held.setdefault(flow, []).append(ref)

    def is_locked(self, ref: bytes) -> bool:
        return ref in self._owner

    def lock(self, changes: Changes, flow_id: bytes, refs: Sequence[StateRef]) -> None:
        """All or none; the caller has seen that none is locked."""
        encoded = [ref.encode() for ref in refs]
        assert not any(ref in self._owner for ref in encoded)
        for ref in encoded:
            self._owner[ref] = flow_id
            changes.make(Table.LOCK, ref, flow_id)
        self._held.setdefault(flow_id, []).extend(encoded)

    def unlock(self, changes: Changes, flow_id: bytes) -> Iterable[bytes]:
        """Drop the flow's locks from the log; returns the refs to `forget` once the batch is applied.

        Until then they stay locked in memory, because the view does not yet show what the flow consumed.
        """
        refs = self._held.pop(flow_id, [])
        for ref in refs:
            changes.delete(Table.LOCK, ref)
        return refs

    def hand_over(self, changes: Changes, flow_id: bytes, heir: bytes, refs: Iterable[bytes]) -> None:
        """Those of `refs` that the flow has reserved are the heir's from now on."""
        held = self._held.get(flow_id, [])
        wanted = set(refs)
        passed = [ref for ref in held if ref in wanted]
        for ref in passed:
            self._owner[ref] = heir
            changes.put(Table.LOCK, ref, heir)
        self._held[flow_id] = [ref for ref in held if ref not in wanted]
        self._held.setdefault(heir, []).extend(passed)

    def forget(self, refs: Iterable[bytes]) -> None:
        for ref in refs:
            self._owner.pop(ref, None)

    def locked_refs(self) -> frozenset[bytes]:
        """A copy, safe to read from another thread."""
        return frozenset(self._owner.copy())
