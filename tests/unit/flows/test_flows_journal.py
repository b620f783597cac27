"""What the journal keeps for a restart, and how long."""

from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from p2pet.flows.v1.flows_pb2 import FlowStatus
from p2pet.store.v1.store_pb2 import FlowRow, MailRow, StepRow

from p2petd import native
from p2petd.flows import journal
from p2petd.flows.journal import MAIL_UNREAD_BYTES_MAX, MAIL_UNREAD_MAX, FlowJournal
from p2petd.flows.run import MAIL_DATA, Run
from p2petd.store.changes import Changes, scan_prefix
from p2petd.store.tables import Table, step_key

PEER = b"p" * 32
PARKED = b"P" * 16


@pytest.fixture
def store(tmp_path: Path) -> Iterator[native.Store]:
    opened = native.Store.open(str(tmp_path / "node"))
    yield opened
    opened.close()


async def _nothing() -> None:
    """A flow's code, which these tests never run."""


def _run(flow_id: bytes, row: FlowRow) -> Run:
    coroutine: Coroutine[Any, Any, None] = _nothing()
    coroutine.close()
    return Run(flow_id, row, coroutine)


def _begin_and_end(store: native.Store, flows: FlowJournal, count: int) -> None:
    """Each in a batch of its own."""
    for number in range(count):
        changes, flow_id = Changes(), number.to_bytes(16)
        row = FlowRow(flow="x", started_at_ns=100 + number, status=FlowStatus.FLOW_STATUS_RUNNING)
        flows.begin(changes, flow_id, row)
        row.status = FlowStatus.FLOW_STATUS_COMPLETED
        flows.end(changes, _run(flow_id, row))
        flows.batch_ended()
        store.commit(changes.record())


def test_f06_a_parked_flow_outlives_a_restart_and_any_number_of_others(
    store: native.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is older than all that have ended since, and keeps its row, its steps and what it has reserved."""
    monkeypatch.setattr(journal, "ENDED_KEPT_MAX", 3)
    row = FlowRow(flow="payment.pay", version=1, started_at_ns=1, status=FlowStatus.FLOW_STATUS_RUNNING)
    changes, before = Changes(), FlowJournal(store)
    before.begin(changes, PARKED, row)
    run = _run(PARKED, row)
    run.steps_taken = 1
    before.add_step(changes, run, StepRow(name="lock money", result=b"refs"))
    row.status = FlowStatus.FLOW_STATUS_PARKED
    before.park(changes, run)
    store.commit([*changes.record(), (Table.LOCK, b"R" * 36, PARKED)])

    after = FlowJournal(store)
    assert after.unfinished() == [(PARKED, row)]
    _begin_and_end(store, after, 10)
    kept = {flow_id for flow_id, _ in scan_prefix(store, Table.FLOW, b"")}
    assert len(kept) == 3 + 1
    assert after.row(PARKED) == row
    steps, _ = after.rows_of(PARKED)
    assert steps[0].result == b"refs"
    assert store.get(Table.LOCK, b"R" * 36) == PARKED


def test_f03_mail_of_a_flow_that_does_not_run_is_kept_up_to_a_limit(store: native.Store) -> None:
    changes, flows = Changes(), FlowJournal(store)
    mail = MailRow(peer=PEER, kind=MAIL_DATA, payload=b"hello")
    assert [flows.keep_mail(changes, PARKED, mail) for _ in range(MAIL_UNREAD_MAX + 1)] == [True] * 256 + [False]
    store.commit(changes.record())
    # A restart counts what is there.
    again = FlowJournal(store)
    assert not again.keep_mail(Changes(), PARKED, mail)
    _, kept = again.rows_of(PARKED)
    assert list(kept) == [mail] * MAIL_UNREAD_MAX


def test_r12_mail_of_a_flow_that_does_not_run_is_bounded_in_bytes(store: native.Store) -> None:
    flows = FlowJournal(store)
    mail = MailRow(peer=PEER, kind=MAIL_DATA, payload=bytes(MAIL_UNREAD_BYTES_MAX // 2 - 100))
    assert [flows.keep_mail(Changes(), PARKED, mail) for _ in range(3)] == [True, True, False]


def test_f01_an_ended_flow_leaves_no_steps_and_no_mail(store: native.Store) -> None:
    changes, flows = Changes(), FlowJournal(store)
    row = FlowRow(flow="x", started_at_ns=1, input=b"arguments")
    flows.begin(changes, PARKED, row)
    run = _run(PARKED, row)
    flows.add_mail(changes, run, MailRow(peer=PEER, kind=MAIL_DATA))
    run.steps_taken = 1
    flows.add_step(changes, run, StepRow(name="once"))
    store.commit(changes.record())
    changes = Changes()
    row.status = FlowStatus.FLOW_STATUS_COMPLETED
    flows.end(changes, run)
    store.commit(changes.record())
    assert store.get(Table.STEP, step_key(PARKED, 0)) is None
    assert store.get(Table.MAIL, step_key(PARKED, 0)) is None
    ended = FlowRow.FromString(store.get(Table.FLOW, PARKED) or b"")
    assert (ended.status, ended.input) == (FlowStatus.FLOW_STATUS_COMPLETED, b"")
