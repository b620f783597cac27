"""A flow's side of recovering a vault: recording what others gave, and comparing it with what the notaries know."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from p2pet.store.v1.store_pb2 import StateRow

from p2petd.flows.flow_history import FlowHistory
from p2petd.flows.services import FlowServices, RunView
from p2petd.ledger.groups import Group
from p2petd.ledger.refs import StateRef
from p2petd.ledger.resolved import OutputState
from p2petd.store.changes import Latest
from p2petd.store.tables import Table
from p2petd.vault.recording import consume_unknown, record_final

STATES_PER_STEP = 1000
_COUNTS = struct.Struct(">QQ")


@dataclass(frozen=True)
class Counts:
    """What one step of a recovery has found; journaled as its result."""

    transactions: int = 0
    states: int = 0

    def encode(self) -> bytes:
        return _COUNTS.pack(self.transactions, self.states)

    @staticmethod
    def decode(data: bytes) -> "Counts":
        return Counts(*_COUNTS.unpack(data))

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.transactions + other.transactions, self.states + other.states)


class FlowRecovery:
    """Called inside journaled steps: changes go into the batch that is running."""

    def __init__(self, services: FlowServices, run: RunView, history: FlowHistory) -> None:
        self._services = services
        self._run = run
        self._history = history

    def record_page(self, page_id: bytes) -> bytes:
        """Record a verified page; what was new, encoded, or nothing when a restart has lost the page.

        A repeat changes nothing, in whatever order transactions come. Raises HistoryMissing as `FlowVault.record`.
        """
        services, changes = self._services, self._run.changes()
        page = services.recovered.take(page_id)
        if page is None:
            return b""
        latest, found = Latest(services.store, changes), Counts()
        for one in page:
            new = latest.get(Table.TRANSACTION, one.id) is None
            self._history.record(one.id, one.groups)
            record_final(
                changes,
                services.store,
                services.identity,
                one.id,
                one.groups,
                one.signed_transaction,
                one.finality_proof,
                services.clock(),
                recovered=True,
            )
            if new:
                kept = sum(
                    latest.get(Table.STATE, StateRef(one.id, n).encode()) is not None
                    for n in range(len(one.groups[Group.OUTPUTS]))
                )
                found += Counts(transactions=1, states=kept)
        return found.encode()

    def unconsumed(self, after: bytes) -> bytes:
        """How far the next states of the vault reach, as the last reference, and those of them that nothing recorded
        here has consumed and no flow has reserved; empty at the end."""
        start = after + b"\x00" if after else b""
        rows = self._services.store.scan(Table.STATE, start, None, STATES_PER_STEP)
        if not rows:
            return b""
        locks = self._services.locks
        open_refs = [ref for ref, row in rows if not StateRow.FromString(row).consumed_by and not locks.is_locked(ref)]
        return rows[-1][0] + b"".join(open_refs)

    def by_notary(self, refs: Sequence[bytes]) -> dict[bytes, list[bytes]]:
        """The references by the service key of the notary that guards them."""
        found: dict[bytes, list[bytes]] = {}
        for ref in refs:
            found.setdefault(self._output(ref).notary, []).append(ref)
        return found

    def compare(self, refs: Sequence[bytes], consumer_hashes: Sequence[bytes]) -> bytes:
        """Mark as consumed what the notary has seen consumed, by what nobody has given; how many, encoded."""
        services, changes = self._services, self._run.changes()
        held, found = Latest(services.store, changes), Counts()
        for ref, consumer_hash in zip(refs, consumer_hashes, strict=True):
            row = held.get(Table.STATE, ref)
            if consumer_hash and row is not None and not StateRow.FromString(row).consumed_by:
                consume_unknown(changes, held, services.identity, ref, consumer_hash, services.clock())
                found += Counts(states=1)
        return found.encode()

    def _output(self, ref: bytes) -> OutputState:
        row = self._services.store.get(Table.STATE, ref)
        assert row is not None
        return OutputState.decode(StateRow.FromString(row).output)
