"""Writing a final transaction into the vault: whole or not at all, once however often it is told."""

import struct
from collections.abc import Sequence

from p2pet.store.v1.store_pb2 import StateRow, TransactionRow

from p2petd.ledger.groups import Group
from p2petd.ledger.refs import StateRef
from p2petd.ledger.resolved import OutputState
from p2petd.store.changes import Changes, Reader
from p2petd.store.tables import Table, order_key
from p2petd.vault.buckets import spendable


def record_final(
    changes: Changes,
    store: Reader,
    me: bytes,
    transaction_id: bytes,
    groups: Sequence[Sequence[bytes]],
    signed_transaction: bytes,
    finality_proof: bytes,
    now_ns: int,
) -> None:
    """Consume its inputs, add its outputs that `me` owns, keep its bytes. A repeat changes nothing."""
    if changes.holds(Table.TRANSACTION, transaction_id) or store.get(Table.TRANSACTION, transaction_id) is not None:
        return
    # Everything that can fail comes before the first change.
    outputs = [(component, spendable(OutputState.decode(component))) for component in groups[Group.OUTPUTS]]
    row = TransactionRow(signed_transaction=signed_transaction, finality_proof=finality_proof, recorded_at_ns=now_ns)
    changes.put(Table.TRANSACTION, transaction_id, row.SerializeToString())
    changes.put(Table.TRANSACTION_ORDER, order_key(now_ns, transaction_id), b"")
    for ref in groups[Group.INPUTS]:
        _consume(changes, store, ref, transaction_id, now_ns)
    for index, (component, worth) in enumerate(outputs):
        if worth is not None and worth.owner == me:
            ref = StateRef(transaction_id, index).encode()
            state = StateRow(output=component, recorded_at_ns=now_ns)
            changes.put(Table.STATE, ref, state.SerializeToString())
            changes.put(Table.SPENDABLE, worth.bucket + ref, struct.pack(">Q", worth.amount))


def _consume(changes: Changes, store: Reader, ref: bytes, consumer: bytes, now_ns: int) -> None:
    held = store.get(Table.STATE, ref)
    if held is None:
        return
    state = StateRow.FromString(held)
    state.consumed_by = consumer
    state.consumed_at_ns = now_ns
    changes.put(Table.STATE, ref, state.SerializeToString())
    worth = spendable(OutputState.decode(state.output))
    if worth is not None:
        changes.delete(Table.SPENDABLE, worth.bucket + ref)
