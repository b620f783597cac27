"""Which coins a flow is given: enough of them whenever the wallet has enough, and never one that is reserved."""

import pytest
from wallet import BUCKET, NOTARY, Wallet

from p2petd.errors import InsufficientFunds
from p2petd.ledger.refs import StateRef
from p2petd.store.changes import Changes
from p2petd.vault.locks import SoftLocks
from p2petd.vault.selection import Coin, select, unreserved

INPUTS_MAX = 256
WHAT = "nano-EUR"
ELSEWHERE = b"\x0b" * 32


def chosen(wallet: Wallet, amount: int, inputs_max: int = INPUTS_MAX, locks: SoftLocks | None = None) -> list[int]:
    """What the selected coins are worth."""
    coins = select(wallet.store, locks or SoftLocks(wallet.store), BUCKET, amount, inputs_max, WHAT)
    return [coin.money.amount_nano for coin in coins]


def test_v06_one_large_coin_among_many_small_ones_is_found(wallet: Wallet) -> None:
    """500 of the small ones would do, but are too many for a transaction."""
    # Wherever its reference sorts the large coin among the others.
    for _ in range(6):
        wallet.receive(*[10] * 100)
    wallet.receive(1_000_000)
    assert chosen(wallet, 5_000) == [1_000_000]


def test_v06_small_coins_pay_as_many_as_one_transaction_takes(wallet: Wallet) -> None:
    wallet.receive(*range(1, 21))
    assert chosen(wallet, 39, inputs_max=2) == [20, 19]
    with pytest.raises(InsufficientFunds, match="at most 2"):
        chosen(wallet, 40, inputs_max=2)


def test_v06_the_smallest_single_coin_that_suffices_is_taken(wallet: Wallet) -> None:
    wallet.receive(5, 100, 30, 20)
    assert chosen(wallet, 20) == [20]
    assert chosen(wallet, 21) == [30]


def test_v06_the_shortfall_is_named(wallet: Wallet) -> None:
    wallet.receive(5, 6)
    with pytest.raises(InsufficientFunds, match=r"12 wanted, 11 available, 1 short$"):
        chosen(wallet, 12)


def test_v05_v06_a_reserved_coin_is_not_given_and_not_hidden(wallet: Wallet) -> None:
    draft = wallet.receive(5, 6)
    locks = SoftLocks(wallet.store)
    locks.lock(Changes(), b"f" * 16, [draft.output_ref(1)])
    assert chosen(wallet, 5, locks=locks) == [5]
    with pytest.raises(InsufficientFunds, match="1 short, and 6 more is reserved by other flows"):
        chosen(wallet, 6, locks=locks)


def test_v06_a_coin_knows_its_state(wallet: Wallet) -> None:
    draft = wallet.receive(7)
    coin = Coin.load(wallet.store, StateRef(draft.id, 0))
    assert coin.money.amount_nano == 7


def test_v06_coins_of_several_notaries_are_never_mixed(wallet: Wallet) -> None:
    wallet.receive(5, 6)
    wallet.receive(20, notary=ELSEWHERE)
    assert chosen(wallet, 11) == [20]
    coins = select(wallet.store, SoftLocks(wallet.store), BUCKET, 11, INPUTS_MAX, WHAT, NOTARY)
    assert sorted(coin.money.amount_nano for coin in coins) == [5, 6]
    with pytest.raises(InsufficientFunds, match="21 wanted, 20 available, 1 short, and 11 more is guarded by other"):
        chosen(wallet, 21)


def test_v06_unreserved_coins_come_the_largest_first(wallet: Wallet) -> None:
    draft = wallet.receive(5, 9, 7)
    locks = SoftLocks(wallet.store)
    locks.lock(Changes(), b"f" * 16, [draft.output_ref(1)])
    assert [coin.money.amount_nano for coin in unreserved(wallet.store, locks, BUCKET)] == [7, 5]
