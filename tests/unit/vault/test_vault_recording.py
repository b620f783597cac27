"""V07: a transaction is recorded whole or not at all; recording it twice changes nothing."""

import pytest
from wallet import BUCKET, ME, OTHER, Wallet, issue, record

from p2petd.errors import NodeError
from p2petd.ledger.groups import Group
from p2petd.store.changes import Changes, scan_prefix
from p2petd.store.tables import Table
from p2petd.vault.recording import record_final


def count(wallet: Wallet, table: Table) -> int:
    return len(list(scan_prefix(wallet.store, table, b"")))


def test_v07_recording_twice_in_one_batch_lists_the_transaction_once(wallet: Wallet) -> None:
    """Two sessions can tell the same transaction before either is in the view."""
    draft, changes = issue([5, 6]), Changes()
    record(changes, wallet.store, draft, now_ns=1)
    once = changes.record()
    record(changes, wallet.store, draft, now_ns=2)
    assert changes.record() == once
    wallet.store.commit(once)
    assert [count(wallet, t) for t in (Table.TRANSACTION, Table.TRANSACTION_ORDER, Table.STATE)] == [1, 1, 2]


def test_v07_recording_again_later_changes_nothing(wallet: Wallet) -> None:
    draft, changes = wallet.receive(5), Changes()
    record(changes, wallet.store, draft, now_ns=2)
    assert not changes


def test_v07_only_own_outputs_become_spendable(wallet: Wallet) -> None:
    changes = Changes()
    record(changes, wallet.store, issue([5], owner=OTHER))
    wallet.store.commit(changes.record())
    assert not list(scan_prefix(wallet.store, Table.SPENDABLE, BUCKET))
    assert [count(wallet, t) for t in (Table.TRANSACTION, Table.STATE)] == [1, 0]


def test_v07_a_transaction_with_a_bad_output_leaves_nothing(wallet: Wallet) -> None:
    draft, changes = issue([5, 6]), Changes()
    groups = [list(group) for group in draft.groups]
    groups[Group.OUTPUTS][1] = b"\xff"
    with pytest.raises(NodeError):
        record_final(changes, wallet.store, ME, draft.id, groups, b"signed", b"proof", 1)
    assert not changes
