"""Coins of several notaries: of one where one suffices, and never of one whose states cannot move."""

import pytest
from wallet import BUCKET, NOTARY, Wallet

from p2petd.errors import InsufficientFunds
from p2petd.store.changes import Changes
from p2petd.vault.locks import SoftLocks
from p2petd.vault.spread import Guards, most_guarding, select_spread

SECOND, LEFT, BLIND = (bytes([number]) * 32 for number in (0x0B, 0x0C, 0x0D))
GUARDS = Guards((NOTARY, SECOND), frozenset({NOTARY, SECOND, LEFT}))


def chosen(
    wallet: Wallet, amount: int, guards: Guards = GUARDS, inputs_max: int = 256, locks: SoftLocks | None = None
) -> list[tuple[bytes, int]]:
    """The notary and the worth of each selected coin."""
    coins = select_spread(
        wallet.store, locks or SoftLocks(wallet.store), BUCKET, amount, inputs_max, "nano-EUR", guards
    )
    return [(coin.output.notary, coin.money.amount_nano) for coin in coins]


def test_n13_coins_of_one_notary_are_taken_where_they_suffice(wallet: Wallet) -> None:
    wallet.receive(100)
    wallet.receive(60, 60, notary=SECOND)
    assert chosen(wallet, 100) == [(NOTARY, 100)]
    assert chosen(wallet, 110) == [(SECOND, 60), (SECOND, 60)]
    preferred = Guards((SECOND, NOTARY), GUARDS.movable)
    assert chosen(wallet, 100, preferred) == [(SECOND, 60), (SECOND, 60)]


def test_n13_what_lacks_is_taken_from_others_after_the_one_that_guards_most(wallet: Wallet) -> None:
    wallet.receive(100, 5)
    wallet.receive(60, 60, notary=SECOND)
    assert chosen(wallet, 200) == [(SECOND, 60), (SECOND, 60), (NOTARY, 100)]
    with pytest.raises(InsufficientFunds, match="226 wanted"):
        chosen(wallet, 226)
    with pytest.raises(InsufficientFunds):
        chosen(wallet, 200, inputs_max=2)


def test_n12_coins_of_a_notary_that_has_left_are_taken_last(wallet: Wallet) -> None:
    wallet.receive(50, notary=LEFT)
    wallet.receive(20)
    assert chosen(wallet, 20) == [(NOTARY, 20)]
    assert chosen(wallet, 50) == [(LEFT, 50)]
    assert chosen(wallet, 70) == [(NOTARY, 20), (LEFT, 50)]


def test_n13_coins_that_cannot_move_are_never_mixed_with_others(wallet: Wallet) -> None:
    wallet.receive(50, notary=BLIND)
    wallet.receive(20)
    assert chosen(wallet, 50) == [(BLIND, 50)]
    with pytest.raises(InsufficientFunds):
        chosen(wallet, 70)


def test_n13_reserved_coins_are_not_spread_over(wallet: Wallet) -> None:
    draft = wallet.receive(20)
    wallet.receive(20, notary=SECOND)
    locks = SoftLocks(wallet.store)
    locks.lock(Changes(), b"f" * 16, [draft.output_ref(0)])
    with pytest.raises(InsufficientFunds, match="20 more is reserved"):
        chosen(wallet, 40, locks=locks)


def test_n13_the_notary_that_guards_most_is_one_that_is_permitted(wallet: Wallet) -> None:
    wallet.receive(90, notary=LEFT)
    wallet.receive(20, 20)
    wallet.receive(30, notary=SECOND)
    coins = select_spread(wallet.store, SoftLocks(wallet.store), BUCKET, 160, 256, "nano-EUR", GUARDS)
    assert most_guarding(coins, GUARDS.listed) == NOTARY
    assert most_guarding(coins, (SECOND,)) == SECOND
    assert most_guarding(coins, (BLIND,)) is None
    assert most_guarding((), GUARDS.listed) is None
