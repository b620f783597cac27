"""A store with coins in it, whose creating transactions nobody needs."""

from collections.abc import Iterable
from dataclasses import dataclass

from p2petd import native
from p2petd.contracts import payment
from p2petd.contracts.payment import PaymentIssue, PaymentState
from p2petd.ledger.transaction import Draft, TransactionBuilder
from p2petd.store.changes import Changes, Reader
from p2petd.units import NanoMoney
from p2petd.vault.buckets import money_bucket
from p2petd.vault.recording import record_final

CURRENCY, ISSUER, ME, OTHER = "EUR", b"\x01" * 32, b"\x02" * 32, b"\x03" * 32
NOTARY, PARAMETERS, SALT = b"\x04" * 32, b"\x05" * 32, b"\x06" * 32
BUCKET = money_bucket(CURRENCY, ISSUER)


def issue(amounts: Iterable[int], owner: bytes = ME, notary: bytes = NOTARY) -> Draft:
    """Money for the owner, one state for each amount."""
    builder = TransactionBuilder(notary, PARAMETERS)
    for amount in amounts:
        builder.add_output(payment.NAME, payment.VERSION, PaymentState(CURRENCY, NanoMoney(amount), ISSUER, owner))
    return builder.add_command(payment.NAME, PaymentIssue(b"\x07" * 32), [ISSUER]).build(SALT)


def record(changes: Changes, store: Reader, draft: Draft, now_ns: int = 1) -> None:
    """As a flow that was told that it is final."""
    record_final(changes, store, ME, draft.id, draft.groups, b"signed", b"proof", now_ns)


@dataclass(frozen=True)
class Wallet:
    store: native.Store

    def receive(self, *amounts: int, notary: bytes = NOTARY) -> Draft:
        draft, changes = issue(amounts, notary=notary), Changes()
        record(changes, self.store, draft)
        self.store.commit(changes.record())
        return draft
