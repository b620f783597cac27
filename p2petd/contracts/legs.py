"""Who pays whom in a transaction that delivers against payment, and whether the payment states flow just so (C09)."""

from collections.abc import Iterable
from dataclasses import dataclass

from p2petd.contracts import payment
from p2petd.contracts.rules import Rule, short, violated
from p2petd.ledger.resolved import LedgerTransaction


@dataclass(frozen=True, slots=True)
class Leg:
    """`amount_nano`, above zero, from one key to another; a fee is a leg of its own."""

    payer: bytes
    payee: bytes
    amount_nano: int


@dataclass(frozen=True, slots=True)
class LegRules:
    """The rules that a contract names when the money is of another kind or owner, or flows otherwise."""

    other_money: Rule
    other_owner: Rule
    wrong: Rule


def net_gains(legs: Iterable[Leg]) -> dict[bytes, int]:
    """What each party gains by all legs together, negative for who pays; the gains sum to zero."""
    gains: dict[bytes, int] = {}
    for leg in legs:
        gains[leg.payer] = gains.get(leg.payer, 0) - leg.amount_nano
        gains[leg.payee] = gains.get(leg.payee, 0) + leg.amount_nano
    return gains


def verify_legs(
    legs: Iterable[Leg], currency: str, issuer: bytes, transaction: LedgerTransaction, rules: LegRules
) -> None:
    """The payment states of the transaction move exactly what the legs say, for however many matches and fees.

    1. every payment state is of that currency and issuer;
    2. and of a party of the legs;
    3. each party gains exactly what the legs give it.
    That money is conserved and its owners sign is the payment contract's to check, under its own command.
    """
    expected = net_gains(legs)
    gained = dict.fromkeys(expected, 0)
    taken, given = payment.own_states(transaction)
    for sign, states in ((-1, taken), (1, given)):
        for state in states:
            if state.currency != currency or state.issuer != issuer:
                violated(
                    rules.other_money,
                    f"{state.currency!r} of {short(state.issuer)} instead of {currency!r} of {short(issuer)}",
                )
            if state.owner not in gained:
                violated(rules.other_owner, f"a payment state of {short(state.owner)}")
            gained[state.owner] += sign * state.amount_nano
    if gained != expected:
        seen = ", ".join(
            f"{short(owner)} gains {gained[owner]} nano-{currency} instead of {gain}"
            for owner, gain in expected.items()
            if gained[owner] != gain
        )
        violated(rules.wrong, seen)


def names_payment(transaction: LedgerTransaction) -> int:
    """How many inputs, outputs and commands of the payment contract there are."""
    named = [state.contract for _, state in transaction.inputs]
    named += [state.contract for state in transaction.outputs]
    named += [command.contract for command, _ in transaction.commands]
    return named.count(payment.NAME)
