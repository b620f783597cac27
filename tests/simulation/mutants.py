"""Nodes with a bug each: what the checks must find."""

import shutil
from dataclasses import dataclass
from typing import Any

from p2petd import native
from p2petd.flows.events import Arrived, Event
from p2petd.store.tables import Table
from p2petd.vault.locks import SoftLocks
from tests.simulation.node import Change, Disk, Node, Rows, SteppedLoop
from tests.simulation.world import VERIFYING, Plan


class _Nothing:
    """A reader that finds nothing."""

    def get(self, table: int, key: bytes) -> bytes | None:
        return None

    def scan(
        self, table: int, start: bytes, end: bytes | None, limit: int, *, reverse: bool = False
    ) -> list[tuple[bytes, bytes]]:
        return []


class ForgetsLocks(Node):
    """A start does not know what flows under way have reserved."""

    def _locks(self, store: native.Store) -> SoftLocks:
        return SoftLocks(_Nothing())


class ForgetsDecisions(Node):
    """A notary that starts with an empty log."""

    def start(self) -> None:
        shutil.rmtree(self._directory / "notary", ignore_errors=True)
        super().start()


class _EarlyLoop(SteppedLoop):
    def poke(self) -> None:
        """It takes its time, too."""
        self._at(self._node.chance.uniform(0.0, 0.3))

    def submit(self, event: Event) -> None:
        super().submit(event)
        transport = self._node.transport
        if isinstance(event, Arrived) and transport is not None:
            last = event.messages[-1]
            transport.acknowledge(event.peer, event.epoch, last.sequence, last.token)


class AcknowledgesEarly(Node):
    """It tells a peer that a message is durable before it is."""

    loop_type = _EarlyLoop


class _HastyLoop(SteppedLoop):
    def _commit(self, changes: Any, effects: Any) -> bool:
        actions, effects.actions = effects.actions, []
        for action in actions:
            action()
        return super()._commit(changes, effects)


class ActsBeforeCommit(Node):
    """What a batch causes leaves the node before the batch is durable."""

    loop_type = _HastyLoop


class _Filtering(Disk):
    def commit(self, changes: Any) -> int:
        return super().commit([change for change in changes if not self._is_left_out(change)])

    def _is_left_out(self, change: Change) -> bool:
        raise NotImplementedError


class _WithoutClients(_Filtering):
    def _is_left_out(self, change: Change) -> bool:
        return change[0] == Table.CLIENT_ID


class ForgetsClients(Node):
    """The ids of clients are not kept."""

    disk_type = _WithoutClients


class _KeepsSpent(_Filtering):
    def _is_left_out(self, change: Change) -> bool:
        return change[0] == Table.SPENDABLE and change[2] is None


class KeepsSpent(Node):
    """What is consumed can still be chosen."""

    disk_type = _KeepsSpent


class _Slow(Disk):
    """Commits what the batch before has changed."""

    def __init__(self, node: Node, directory: str, rows: Rows, *, watched: bool) -> None:
        super().__init__(node, directory, rows, watched=watched)
        self._late: list[Change] = []

    def commit(self, changes: Any) -> int:
        lazy = [change for change in changes if change[0] == Table.PEER]
        now = self._late + [change for change in changes if change[0] != Table.PEER]
        self._late = lazy
        return super().commit(now) if now else self.sequence


class CountsLate(Node):
    """How far a peer's messages have been taken is durable one record after what they have caused."""

    disk_type = _Slow


# Much traffic between few nodes, and many crashes.
ROUGH = Plan(homes=2, notaries=(VERIFYING,), storm_seconds=40.0, wants=6.0, faults=2.0)


@dataclass(frozen=True)
class Mutant:
    """A bug, and seeds of which one finds it: more than one, because the product's own changes shift what happens."""

    node: type[Node]
    seeds: tuple[int, ...] = tuple(range(1, 7))


MUTANTS = (
    Mutant(ForgetsLocks),
    Mutant(ForgetsDecisions),
    Mutant(AcknowledgesEarly, tuple(range(4, 16))),
    Mutant(ActsBeforeCommit, tuple(range(2, 14))),
    Mutant(ForgetsClients),
    Mutant(KeepsSpent),
    Mutant(CountsLate, tuple(range(2, 10))),
)
