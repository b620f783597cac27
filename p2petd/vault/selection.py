"""Coin selection on the view: which unconsumed, unreserved states a flow shall spend."""

import heapq
import struct
from dataclasses import dataclass

from p2pet.store.v1.store_pb2 import StateRow, TransactionRow

from p2petd import native
from p2petd.contracts.energy import EnergyState
from p2petd.contracts.payment import PaymentState
from p2petd.errors import InsufficientFunds, TransactionNotFound
from p2petd.ledger.proposal import Proposal
from p2petd.ledger.refs import StateRef
from p2petd.ledger.resolved import OutputState
from p2petd.store.changes import Reader, scan_prefix
from p2petd.store.tables import Table
from p2petd.vault.locks import SoftLocks

# Enough candidates to find a good fit without reading a large wallet.
CANDIDATES_MAX = 64
# Read at once; the states that other flows have reserved are among them.
FIRST_PAGE = 128


@dataclass(frozen=True)
class Coin:
    """An unconsumed state of this vault."""

    ref: StateRef
    output: OutputState

    @staticmethod
    def load(store: Reader, ref: StateRef) -> "Coin":
        """Raises TransactionNotFound when the vault does not hold it."""
        row = store.get(Table.STATE, ref.encode())
        if row is None:
            raise TransactionNotFound(f"the vault holds no state {ref}")
        return Coin(ref, OutputState.decode(StateRow.FromString(row).output))

    @property
    def energy(self) -> EnergyState:
        return EnergyState.from_payload(self.output.payload)

    @property
    def money(self) -> PaymentState:
        return PaymentState.from_payload(self.output.payload)

    def proof(self, store: Reader) -> bytes:
        """Its `ledger.v1.InputProof`. Raises TransactionNotFound when the creating transaction is not in the vault."""
        row = store.get(Table.TRANSACTION, self.ref.transaction_id)
        if row is None:
            raise TransactionNotFound(f"the vault holds no transaction {self.ref.transaction_id.hex()}")
        creator = TransactionRow.FromString(row)
        transaction = Proposal.decode(creator.signed_transaction).transaction
        return native.input_proof(transaction, self.ref.index, creator.finality_proof)


def select(store: Reader, locks: SoftLocks, bucket: bytes, amount: int, coins_max: int, what: str) -> tuple[Coin, ...]:
    """At most `coins_max` unreserved coins of `bucket` worth at least `amount`: the smallest single one that suffices
    among the candidates, else the largest first.

    Raises InsufficientFunds with the shortfall in the unit of `what`.
    """
    candidates: list[tuple[int, bytes]] = []
    # The coins_max largest of them, smallest first: what one transaction could pay at most.
    largest: list[int] = []
    total = locked = most = 0
    for key, value in scan_prefix(store, Table.SPENDABLE, bucket, FIRST_PAGE):
        ref, worth = key[-36:], struct.unpack(">Q", value)[0]
        if locks.is_locked(ref):
            locked += worth
            continue
        candidates.append((worth, ref))
        total += worth
        most += worth
        heapq.heappush(largest, worth)
        if len(largest) > coins_max:
            most -= heapq.heappop(largest)
        if most >= amount and len(candidates) >= CANDIDATES_MAX:
            break
    if total < amount:
        reserved = f", and {locked} more is reserved by other flows" if locked else ""
        raise InsufficientFunds(f"{what}: {amount} wanted, {total} available, {amount - total} short{reserved}")
    chosen = _choose(sorted(candidates), amount)
    if len(chosen) > coins_max:
        raise InsufficientFunds(
            f"{what}: {amount} would need {len(chosen)} states in one transaction, at most {coins_max}"
        )
    return tuple(Coin.load(store, StateRef.decode(ref)) for ref in chosen)


def _choose(ascending: list[tuple[int, bytes]], amount: int) -> list[bytes]:
    for worth, ref in ascending:
        if worth >= amount:
            return [ref]
    chosen, total = [], 0
    for worth, ref in reversed(ascending):
        chosen.append(ref)
        total += worth
        if total >= amount:
            break
    return chosen
