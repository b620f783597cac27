"""Selection when one notary's coins need not suffice: what lacks is taken from others, to be moved together."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from p2petd.errors import InsufficientFunds
from p2petd.store.changes import Reader
from p2petd.vault.buckets import spendable
from p2petd.vault.locks import Reservations
from p2petd.vault.selection import Coin, select, unreserved


@dataclass(frozen=True)
class Guards:
    """Notaries by their service keys: those that new states may have, the preferred one of them first, and all those,
    left ones included, whose states may be moved to the first kind."""

    listed: tuple[bytes, ...]
    movable: frozenset[bytes]


def worth_of(coin: Coin) -> int:
    """Wh or nano-currency."""
    worth = spendable(coin.output)
    return 0 if worth is None else worth.amount


def most_guarding(coins: Sequence[Coin], among: Sequence[bytes]) -> bytes | None:
    """The notary that guards most of the coins' worth, the earlier of two; None when `among` guards none of them."""
    totals: Counter[bytes] = Counter()
    for coin in coins:
        totals[coin.output.notary] += worth_of(coin)
    return max((notary for notary in among if notary in totals), key=lambda notary: totals[notary], default=None)


def select_spread(
    store: Reader, locks: Reservations, bucket: bytes, amount: int, coins_max: int, what: str, guards: Guards
) -> tuple[Coin, ...]:
    """Unreserved coins worth `amount` at least: of one listed notary when one suffices, else of several.

    1. What `select` finds under the first listed notary, then under any other listed one.
    2. What it finds under a notary that is not listed any more.
    3. Of all that can be moved together: the coins of the notary that guards most of it first, then the largest.
    Raises InsufficientFunds as `select`.
    """
    for notary in guards.listed:
        try:
            return select(store, locks, bucket, amount, coins_max, what, notary)
        except InsufficientFunds:
            continue
    try:
        return select(store, locks, bucket, amount, coins_max, what)
    except InsufficientFunds:
        coins = [coin for coin in unreserved(store, locks, bucket) if coin.output.notary in guards.movable]
        main = most_guarding(coins, guards.listed)
        # Sorting is stable: the largest stay first within each half.
        coins.sort(key=lambda coin: coin.output.notary != main)
        chosen, total = _first_worth(coins, amount)
        if total < amount or len(chosen) > coins_max:
            raise
        return chosen


def _first_worth(coins: Sequence[Coin], amount: int) -> tuple[tuple[Coin, ...], int]:
    total = 0
    for count, coin in enumerate(coins, 1):
        total += worth_of(coin)
        if total >= amount:
            return tuple(coins[:count]), total
    return tuple(coins), total
