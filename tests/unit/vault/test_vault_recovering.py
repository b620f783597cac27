"""F25: whatever order transactions come back in, the vault is the one that was lost; lacking signatures are kept."""

from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from p2pet.store.v1.store_pb2 import StateRow, TransactionRow
from wallet import BUCKET, CURRENCY, ISSUER, ME, NOTARY, OTHER, PARAMETERS, Wallet, issue

from p2petd import native
from p2petd.contracts import payment
from p2petd.contracts.payment import PaymentPay, PaymentState
from p2petd.ledger.proposal import Proposal, Signature
from p2petd.ledger.transaction import Draft, TransactionBuilder
from p2petd.store.changes import Changes, Latest, scan_prefix
from p2petd.store.tables import Table
from p2petd.units import NanoMoney
from p2petd.vault.recording import consume_unknown, record_final


def recover(store: native.Store, draft: Draft, signed: bytes = b"signed") -> None:
    changes = Changes()
    record_final(changes, store, ME, draft.id, draft.groups, signed, b"proof", 7, recovered=True)
    if changes:
        store.commit(changes.record())


def chain() -> list[Draft]:
    """Money that goes from hand to hand; half of it stays with who had it."""
    made = [issue([64])]
    owners = [ME, OTHER, ME, ME, OTHER, ME]
    for step, owner in enumerate(owners):
        last = made[-1]
        builder = TransactionBuilder(NOTARY, PARAMETERS)
        builder.add_input(last.output_ref(0), last.outputs[0])
        amount = 64 >> (step + 1)
        for each in (owner, ME):
            state = PaymentState(CURRENCY, NanoMoney(amount), ISSUER, each)
            builder.add_output(payment.NAME, payment.VERSION, state)
        made.append(builder.add_command(payment.NAME, PaymentPay(), [ME]).build(bytes([step]) * 32))
    return made


CHAIN = chain()
# The later half of each payment, and what came to us last.
EXPECTED = {draft.output_ref(1).encode() for draft in CHAIN[1:]} | {CHAIN[-1].output_ref(0).encode()}
CONSUMED_BY = {ref.encode(): draft.id for draft in CHAIN for ref in draft.inputs}


def vault_of(store: native.Store) -> tuple[dict[bytes, bytes], set[bytes]]:
    """Each state with what consumed it, and what can be spent."""
    states = {ref: StateRow.FromString(row).consumed_by for ref, row in scan_prefix(store, Table.STATE, b"")}
    return states, {key[-36:] for key, _ in scan_prefix(store, Table.SPENDABLE, BUCKET)}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(order=st.permutations(range(len(CHAIN))), again=st.lists(st.integers(0, len(CHAIN) - 1), max_size=3))
def test_f25_any_order_and_any_repeat_give_the_same_vault(
    wallet: Wallet, order: Sequence[int], again: Sequence[int]
) -> None:
    for index in (*order, *again):
        recover(wallet.store, CHAIN[index])
    states, spendable = vault_of(wallet.store)
    assert states == {ref: CONSUMED_BY.get(ref, b"") for ref in states}
    assert spendable == {ref for ref, consumer in states.items() if not consumer}
    assert spendable == EXPECTED
    clear(wallet.store)


def clear(store: native.Store) -> None:
    """The next example begins with an empty vault."""
    rows = [(table, key, None) for table in Table for key, _ in scan_prefix(store, table, b"")]
    store.commit(rows)


def test_f25_a_recovered_vault_is_the_one_that_recording_in_order_gives(wallet: Wallet, other: Wallet) -> None:
    for draft in CHAIN:
        changes = Changes()
        record_final(changes, wallet.store, ME, draft.id, draft.groups, b"signed", b"proof", 7)
        wallet.store.commit(changes.record())
    for draft in reversed(CHAIN):
        recover(other.store, draft)
    assert vault_of(other.store) == vault_of(wallet.store)


def test_f25_what_nobody_gives_the_consumer_of_is_consumed_until_somebody_does(wallet: Wallet) -> None:
    first, second = CHAIN[0], CHAIN[1]
    recover(wallet.store, first)
    ref, changes = first.output_ref(0).encode(), Changes()
    consume_unknown(changes, Latest(wallet.store, changes), ME, ref, b"\x0c" * 32, 9)
    wallet.store.commit(changes.record())
    state = _state(wallet, ref)
    assert (state.consumed_by, state.consumer_unknown) == (b"\x0c" * 32, True)
    assert vault_of(wallet.store)[1] == set()
    recover(wallet.store, second)
    state = _state(wallet, ref)
    assert (state.consumed_by, state.consumer_unknown) == (second.id, False)


def _state(wallet: Wallet, ref: bytes) -> StateRow:
    row = wallet.store.get(Table.STATE, ref)
    assert row is not None
    return StateRow.FromString(row)


def test_f21_signatures_that_lacked_are_kept_and_fewer_never_replace_more(wallet: Wallet) -> None:
    draft = CHAIN[0]
    bare, half, whole = (
        Proposal(draft.transaction, tuple(Signature(bytes([n]) * 32, bytes(64)) for n in range(count))).encode()
        for count in (0, 1, 2)
    )
    for told, kept in ((half, half), (bare, half), (whole, whole), (half, whole), (whole, whole)):
        recover(wallet.store, draft, told)
        row = wallet.store.get(Table.TRANSACTION, draft.id)
        assert row is not None
        assert TransactionRow.FromString(row).signed_transaction == kept
        assert TransactionRow.FromString(row).recorded_at_ns == 7
