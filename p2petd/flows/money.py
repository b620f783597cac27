"""The money leg of a transaction: choosing coins, paying, change."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from p2petd.contracts import payment
from p2petd.contracts.payment import PaymentState
from p2petd.errors import InsufficientFunds
from p2petd.flows.context import FlowContext
from p2petd.flows.moving import guards_of
from p2petd.ledger.refs import StateRef
from p2petd.ledger.transaction import TransactionBuilder
from p2petd.units import NanoMoney
from p2petd.vault.buckets import money_bucket
from p2petd.vault.selection import Coin
from p2petd.vault.spread import select_spread


async def lock_money(ctx: FlowContext, currency: str, amount_nano: int, issuer: bytes = b"") -> tuple[Coin, ...]:
    """Coins of one issuer. Without an `issuer` any listed one of the currency will do, tried in turn.

    They are of one notary where one notary's suffice, else of several, to be moved together. Raises InsufficientFunds
    naming the shortfall.
    """
    what, inputs_max, guards = f"nano-{currency}", ctx.parameters.inputs_max, guards_of(ctx)
    issuers = [issuer] if issuer else sorted(one.issuer for one in ctx.parameters.currencies if one.code == currency)
    shortfall: InsufficientFunds | None = None
    for candidate in issuers:
        pick = partial(
            select_spread,
            bucket=money_bucket(currency, candidate),
            amount=amount_nano,
            coins_max=inputs_max,
            what=what,
            guards=guards,
        )
        try:
            return await ctx.vault.lock_chosen("lock money", pick)
        except InsufficientFunds as error:
            shortfall = error
    raise shortfall or InsufficientFunds(f"nobody in this network issues {currency!r}")


def add_payment(
    builder: TransactionBuilder, coins: Sequence[Coin], amount_nano: int, payer: bytes, payee: bytes
) -> None:
    """Consume the coins; `amount_nano` to the payee, the rest back to the payer."""
    add_payment_inputs(builder, [(coin.ref, coin.output.raw, coin.money) for coin in coins], amount_nano, payer, payee)


def add_payment_inputs(
    builder: TransactionBuilder,
    inputs: Sequence[tuple[StateRef, bytes, PaymentState]],
    amount_nano: int,
    payer: bytes,
    payee: bytes,
) -> None:
    """The same for inputs that another party offered: (reference, output component, state), all of one issuer."""
    for ref, component, _ in inputs:
        builder.add_input(ref, component)
    first = inputs[0][2]
    change = sum(state.amount_nano for _, _, state in inputs) - amount_nano
    paid = replace(first, amount_nano=NanoMoney(amount_nano), owner=payee)
    builder.add_output(payment.NAME, payment.VERSION, paid)
    if change > 0:
        builder.add_output(payment.NAME, payment.VERSION, replace(first, amount_nano=NanoMoney(change), owner=payer))
