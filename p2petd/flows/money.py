"""The money leg of a transaction: choosing coins, paying, change."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from p2petd.contracts import payment
from p2petd.contracts.payment import PaymentState
from p2petd.errors import InsufficientFunds
from p2petd.flows.context import FlowContext
from p2petd.flows.moving import guards_of
from p2petd.ledger.refs import StateRef
from p2petd.ledger.transaction import TransactionBuilder
from p2petd.store.changes import Reader
from p2petd.units import SECOND_NS, NanoMoney
from p2petd.vault.buckets import money_bucket
from p2petd.vault.locks import NoReservations, Reservations, SoftLocks
from p2petd.vault.selection import Coin
from p2petd.vault.spread import select_spread

# How long a payment waits for the change of others that have reserved the coins, and how often it looks.
CHANGE_WAIT_NS = 30 * SECOND_NS
LOOK_AGAIN_NS, LOOK_AGAIN_MAX_NS = SECOND_NS // 20, SECOND_NS


async def lock_money(
    ctx: FlowContext, currency: str, amount_nano: int, issuer: bytes = b"", *, patient: bool = False
) -> tuple[Coin, ...]:
    """Coins of one issuer. Without an `issuer` any listed one of the currency will do, tried in turn.

    They are of one notary where one notary's suffice, else of several, to be moved together. A patient one waits a
    while for the change of other flows, when what these have reserved would do. Raises InsufficientFunds naming the
    shortfall.
    """
    issuers = [issuer] if issuer else sorted(one.issuer for one in ctx.parameters.currencies if one.code == currency)
    waited_ns, pause_ns = (0 if patient else CHANGE_WAIT_NS), LOOK_AGAIN_NS
    while True:
        shortfall: InsufficientFunds | None = None
        change_comes = False
        for candidate in issuers:
            pick = _picker(ctx, currency, amount_nano, candidate, wait=waited_ns < CHANGE_WAIT_NS)
            try:
                coins = await ctx.vault.lock_chosen("lock money", pick)
            except InsufficientFunds as error:
                shortfall = error
                continue
            if coins:
                return coins
            change_comes = True
        if not change_comes:
            raise shortfall or InsufficientFunds(f"nobody in this network issues {currency!r}")
        ctx.progress("waiting for change")
        # Those who wait together must not all come back together.
        jitter = int.from_bytes(ctx.random(f"wait {waited_ns}")[:2]) % 1000
        await ctx.pause_for(pause_ns + pause_ns * jitter // 1000)
        waited_ns, pause_ns = waited_ns + pause_ns, min(2 * pause_ns, LOOK_AGAIN_MAX_NS)


def _picker(
    ctx: FlowContext, currency: str, amount_nano: int, issuer: bytes, *, wait: bool
) -> Callable[[Reader, SoftLocks], Sequence[Coin]]:
    """Picks coins; with `wait` none, instead of raising, when other flows have reserved what would do."""
    bucket, guards = money_bucket(currency, issuer), guards_of(ctx)
    what, inputs_max = f"nano-{currency}", ctx.parameters.inputs_max

    def choose(store: Reader, locks: Reservations) -> Sequence[Coin]:
        return select_spread(store, locks, bucket, amount_nano, inputs_max, what, guards)

    def pick(store: Reader, locks: SoftLocks) -> Sequence[Coin]:
        try:
            return choose(store, locks)
        except InsufficientFunds as error:
            if not wait:
                raise
            try:
                choose(store, NoReservations())
            except InsufficientFunds:
                raise error from None
            return ()

    return pick


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
