"""Writing a final transaction into the vault: whole or not at all, once however often it is told."""

from collections.abc import Sequence
from dataclasses import dataclass

from p2pet.store.v1.store_pb2 import StateRow, TransactionRow

from p2petd.ledger.groups import Group
from p2petd.ledger.refs import StateRef
from p2petd.ledger.resolved import OutputState
from p2petd.store.changes import Changes, Latest, Reader
from p2petd.store.tables import Table, order_key
from p2petd.vault.buckets import Spendable, spendable
from p2petd.vault.known import known_prefix
from p2petd.vault.parties import concerns
from p2petd.vault.selection import encode_worth


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
    """Consume its inputs, add its outputs that concern `me`, keep its bytes. A repeat changes nothing.

    Raises MalformedTransaction before the first change.
    """
    if changes.holds(Table.TRANSACTION, transaction_id) or store.get(Table.TRANSACTION, transaction_id) is not None:
        return
    held = Latest(store, changes)
    outputs = [OutputState.decode(component) for component in groups[Group.OUTPUTS]]
    kept = [
        (StateRef(transaction_id, index).encode(), output.raw, _Places.of(output, me))
        for index, output in enumerate(outputs)
        if concerns(output, me, held)
    ]
    row = TransactionRow(signed_transaction=signed_transaction, finality_proof=finality_proof, recorded_at_ns=now_ns)
    changes.put(Table.TRANSACTION, transaction_id, row.SerializeToString())
    changes.put(Table.TRANSACTION_ORDER, order_key(now_ns, transaction_id), b"")
    for ref in groups[Group.INPUTS]:
        _consume(changes, held, me, ref, transaction_id, now_ns)
    for ref, component, places in kept:
        changes.put(Table.STATE, ref, StateRow(output=component, recorded_at_ns=now_ns).SerializeToString())
        if places.spendable is not None:
            worth = encode_worth(places.spendable.amount, places.notary)
            changes.put(Table.SPENDABLE, places.spendable.bucket + ref, worth)
        if places.known is not None:
            changes.put(Table.KNOWN, places.known + ref, b"")


@dataclass(frozen=True)
class _Places:
    """Where the vault lists an unconsumed state beside the table of all states."""

    spendable: Spendable | None
    known: bytes | None
    notary: bytes

    @staticmethod
    def of(output: OutputState, me: bytes) -> "_Places":
        """Raises MalformedTransaction."""
        worth = spendable(output)
        ours = worth if worth is not None and worth.owner == me else None
        return _Places(ours, None if worth else known_prefix(output), output.notary)


def _consume(changes: Changes, held: Reader, me: bytes, ref: bytes, consumer: bytes, now_ns: int) -> None:
    row = held.get(Table.STATE, ref)
    if row is None:
        return
    state = StateRow.FromString(row)
    state.consumed_by = consumer
    state.consumed_at_ns = now_ns
    changes.put(Table.STATE, ref, state.SerializeToString())
    places = _Places.of(OutputState.decode(state.output), me)
    if places.spendable is not None:
        changes.delete(Table.SPENDABLE, places.spendable.bucket + ref)
    if places.known is not None:
        changes.delete(Table.KNOWN, places.known + ref)
