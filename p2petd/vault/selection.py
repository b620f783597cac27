"""Coin selection on the view: which unconsumed, unreserved states a flow shall spend."""

import heapq
import struct
from dataclasses import dataclass, field
from functools import lru_cache

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
from p2petd.vault.locks import Reservations

# Enough candidates to find a good fit without reading a large wallet.
CANDIDATES_MAX = 64
# Read at once; the states that other flows have reserved are among them.
FIRST_PAGE = 128
# A flow that refers to a state proves it as often as it refers to it.
PROOFS_CACHED = 64
_WORTH = struct.Struct(">Q32s")


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
        return _proof(creator.signed_transaction, self.ref.index, creator.finality_proof)


@lru_cache(maxsize=PROOFS_CACHED)
def _proof(signed_transaction: bytes, index: int, finality_proof: bytes) -> bytes:
    return native.input_proof(Proposal.decode(signed_transaction).transaction, index, finality_proof)


def encode_worth(amount: int, notary: bytes) -> bytes:
    """What the view says of a spendable state: its amount and the notary that guards it."""
    return _WORTH.pack(amount, notary)


@dataclass
class _Purse:
    """The unreserved coins of one notary, as far as they were read: one transaction spends from one purse."""

    coins_max: int
    candidates: list[tuple[int, bytes]] = field(default_factory=list)
    # The coins_max largest of them, smallest first, and their sum: what one transaction could pay at most.
    largest: list[int] = field(default_factory=list)
    most: int = 0
    total: int = 0

    def add(self, worth: int, ref: bytes) -> None:
        self.candidates.append((worth, ref))
        self.total += worth
        self.most += worth
        heapq.heappush(self.largest, worth)
        if len(self.largest) > self.coins_max:
            self.most -= heapq.heappop(self.largest)


def select(
    store: Reader, locks: Reservations, bucket: bytes, amount: int, coins_max: int, what: str, notary: bytes = b""
) -> tuple[Coin, ...]:
    """At most `coins_max` unreserved coins of `bucket` worth at least `amount`, all guarded by one notary: the smallest
    single one that suffices among the candidates, else the largest first. An empty `notary` takes any.

    Raises InsufficientFunds with the shortfall in the unit of `what`.
    """
    purses: dict[bytes, _Purse] = {}
    locked = 0
    for key, value in scan_prefix(store, Table.SPENDABLE, bucket, FIRST_PAGE):
        worth, guard = _WORTH.unpack(value)
        if notary and guard != notary:
            continue
        if locks.is_locked(key[-36:]):
            locked += worth
            continue
        purse = purses.get(guard)
        if purse is None:
            purse = purses[guard] = _Purse(coins_max)
        purse.add(worth, key[-36:])
        if purse.most >= amount and len(purse.candidates) >= CANDIDATES_MAX:
            break
    best = max(purses.values(), key=lambda purse: (purse.most, purse.total), default=_Purse(coins_max))
    if best.total < amount:
        reserved = f", and {locked} more is reserved by other flows" if locked else ""
        elsewhere = sum(purse.total for purse in purses.values()) - best.total
        spread = f", and {elsewhere} more is guarded by other notaries" if elsewhere else ""
        short = amount - best.total
        raise InsufficientFunds(f"{what}: {amount} wanted, {best.total} available, {short} short{reserved}{spread}")
    chosen = _choose(sorted(best.candidates), amount)
    if len(chosen) > coins_max:
        raise InsufficientFunds(
            f"{what}: {amount} would need {len(chosen)} states in one transaction, at most {coins_max}"
        )
    return tuple(Coin.load(store, StateRef.decode(ref)) for ref in chosen)


def unreserved(store: Reader, locks: Reservations, bucket: bytes) -> tuple[Coin, ...]:
    """All coins of `bucket` that no flow has reserved, the largest first."""
    found = [
        (_WORTH.unpack(value)[0], key[-36:])
        for key, value in scan_prefix(store, Table.SPENDABLE, bucket, FIRST_PAGE)
        if not locks.is_locked(key[-36:])
    ]
    return tuple(Coin.load(store, StateRef.decode(ref)) for _, ref in sorted(found, reverse=True))


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
