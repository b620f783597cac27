"""Writing a final transaction into the vault: whole or not at all, once however often it is told."""

from collections.abc import Sequence
from dataclasses import dataclass

from p2pet.store.v1.store_pb2 import StateRow, TransactionRow

from p2petd.ledger.groups import Group
from p2petd.ledger.proposal import Proposal
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
    *,
    recovered: bool = False,
) -> None:
    """Consume its inputs, add its outputs that concern `me`, keep its bytes. A repeat changes nothing, but that
    signatures which lacked are kept.

    Of a `recovered` transaction it is remembered what else it consumes: states whose creators come later. Raises
    MalformedTransaction before the first change.
    """
    held = Latest(store, changes)
    known = held.get(Table.TRANSACTION, transaction_id)
    if known is not None:
        _complete(changes, transaction_id, TransactionRow.FromString(known), signed_transaction)
        return
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
        if not _consume(changes, held, me, ref, transaction_id, now_ns) and recovered:
            changes.put(Table.SPENT, ref, transaction_id)
    for ref, component, places in kept:
        state = StateRow(output=component, recorded_at_ns=now_ns)
        consumer = held.get(Table.SPENT, ref) if recovered else None
        if consumer is not None:
            state.consumed_by, state.consumed_at_ns = consumer, now_ns
        changes.put(Table.STATE, ref, state.SerializeToString())
        if consumer is not None:
            continue
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


def consume_unknown(changes: Changes, held: Reader, me: bytes, ref: bytes, consumer_hash: bytes, now_ns: int) -> None:
    """Mark a state as consumed by a transaction that nobody has given: only SHA-256 of its id is known."""
    _consume(changes, held, me, ref, consumer_hash, now_ns, unknown=True)


def _complete(changes: Changes, transaction_id: bytes, known: TransactionRow, signed_transaction: bytes) -> None:
    """Whoever records has verified the signatures, so more of them are better."""
    if len(signed_transaction) <= len(known.signed_transaction):
        return
    held, told = Proposal.decode(known.signed_transaction), Proposal.decode(signed_transaction)
    if {signature.key for signature in held.signatures} < {signature.key for signature in told.signatures}:
        known.signed_transaction = signed_transaction
        changes.put(Table.TRANSACTION, transaction_id, known.SerializeToString())


def _consume(
    changes: Changes, held: Reader, me: bytes, ref: bytes, consumer: bytes, now_ns: int, *, unknown: bool = False
) -> bool:
    """Whether the vault holds the state, which is consumed then."""
    row = held.get(Table.STATE, ref)
    if row is None:
        return False
    state = StateRow.FromString(row)
    state.consumed_by = consumer
    state.consumed_at_ns = now_ns
    state.consumer_unknown = unknown
    changes.put(Table.STATE, ref, state.SerializeToString())
    places = _Places.of(OutputState.decode(state.output), me)
    if places.spendable is not None:
        changes.delete(Table.SPENDABLE, places.spendable.bucket + ref)
    if places.known is not None:
        changes.delete(Table.KNOWN, places.known + ref)
    return True
