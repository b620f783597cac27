"""V05: soft locks: all or none, one owner each, gone with their flow, kept over a restart of a flow that still runs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from p2petd import native
from p2petd.ledger.refs import StateRef
from p2petd.store.changes import Changes
from p2petd.vault.locks import SoftLocks

REFS = tuple(StateRef(bytes([n]) * 32, n) for n in range(5))
FLOWS = tuple(bytes([n]) * 16 for n in range(4))
SOME = st.sets(st.sampled_from(REFS), min_size=1, max_size=3)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[native.Store]:
    opened = native.Store.open(str(tmp_path / "node"))
    yield opened
    opened.close()


class Reserving:
    """Flows that reserve as `FlowVault` does: they look, and take all or nothing, in one batch."""

    def __init__(self, store: native.Store) -> None:
        self.store = store
        self.locks = SoftLocks(store)

    def reserve(self, flow: bytes, wanted: list[StateRef]) -> bool:
        changes = Changes()
        if any(self.locks.is_locked(ref.encode()) for ref in wanted):
            return False
        self.locks.lock(changes, flow, wanted)
        self.store.commit(changes.record())
        return True

    def end(self, flow: bytes) -> None:
        changes = Changes()
        freed = list(self.locks.unlock(changes, flow))
        if changes:
            self.store.commit(changes.record())
        self.locks.forget(freed)

    def restart(self) -> None:
        self.locks = SoftLocks(self.store)


def test_v05_of_those_who_want_the_same_three_states_one_gets_three_and_the_others_none(store: native.Store) -> None:
    flows = Reserving(store)
    wanted = list(REFS[:3])
    got = [flows.reserve(flow, wanted) for flow in FLOWS]
    assert got == [True, False, False, False]
    # One that overlaps in a single state gets none of its three either.
    assert not flows.reserve(FLOWS[1], [REFS[2], REFS[3], REFS[4]])
    assert not flows.locks.is_locked(REFS[3].encode())
    flows.end(FLOWS[0])
    assert flows.reserve(FLOWS[1], wanted)


def test_v05_a_freed_state_stays_reserved_until_its_batch_is_in_the_view(store: native.Store) -> None:
    flows = Reserving(store)
    assert flows.reserve(FLOWS[0], [REFS[0]])
    freed = list(flows.locks.unlock(Changes(), FLOWS[0]))
    assert flows.locks.is_locked(REFS[0].encode())
    flows.locks.forget(freed)
    assert not flows.locks.is_locked(REFS[0].encode())


def test_v05_a_reservation_that_was_not_committed_is_gone_after_a_crash(store: native.Store) -> None:
    flows = Reserving(store)
    flows.locks.lock(Changes(), FLOWS[0], [REFS[0]])
    flows.restart()
    assert not flows.locks.is_locked(REFS[0].encode())


def test_v05_an_heir_holds_what_was_handed_over_over_a_restart_and_the_rest_is_freed(store: native.Store) -> None:
    flows = Reserving(store)
    assert flows.reserve(FLOWS[0], list(REFS[:3]))
    changes = Changes()
    flows.locks.hand_over(changes, FLOWS[0], FLOWS[1], [REFS[0].encode(), REFS[4].encode()])
    store.commit(changes.record())
    flows.end(FLOWS[0])
    flows.restart()
    assert [flows.locks.is_locked(ref.encode()) for ref in REFS] == [True, False, False, False, False]
    flows.end(FLOWS[1])
    assert not flows.locks.locked_refs()


class AnyOrder(RuleBasedStateMachine):
    """Flows that reserve, end and are restarted in any order, against a dictionary."""

    directory: Path
    opened = 0

    def __init__(self) -> None:
        super().__init__()
        AnyOrder.opened += 1
        self.store = native.Store.open(str(self.directory / str(AnyOrder.opened)), map_bytes=1 << 24)
        self.flows = Reserving(self.store)
        self.model: dict[StateRef, bytes] = {}

    @rule(flow=st.sampled_from(FLOWS), wanted=SOME)
    def reserve(self, flow: bytes, wanted: set[StateRef]) -> None:
        free = not wanted & self.model.keys()
        assert self.flows.reserve(flow, sorted(wanted)) == free
        if free:
            self.model |= dict.fromkeys(wanted, flow)

    @rule(flow=st.sampled_from(FLOWS))
    def end(self, flow: bytes) -> None:
        self.flows.end(flow)
        self.model = {ref: owner for ref, owner in self.model.items() if owner != flow}

    @rule()
    def restart(self) -> None:
        self.flows.restart()

    @invariant()
    def exactly_these_are_reserved(self) -> None:
        assert self.flows.locks.locked_refs() == {ref.encode() for ref in self.model}

    def teardown(self) -> None:
        self.store.close()


def test_v05_nobody_ever_holds_what_another_flow_holds(tmp_path: Path) -> None:
    AnyOrder.directory = tmp_path
    case = AnyOrder.TestCase
    case.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
    case().runTest()
