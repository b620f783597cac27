"""payment.redeem: the owner gives money back to its issuer, who pays it out elsewhere; both sides sign."""

from dataclasses import replace

from p2pet.flows.v1.arguments_pb2 import PaymentRedeemArguments

from p2petd.contracts import payment
from p2petd.contracts.payment import PaymentRedeem, PaymentState
from p2petd.errors import FlowError
from p2petd.flows.arguments import need_party, need_positive, need_text
from p2petd.flows.context import FlowContext
from p2petd.flows.cosigning import cosign, finalise_with
from p2petd.flows.money import lock_money
from p2petd.flows.moving import gather, signing_window
from p2petd.flows.registry import FlowDefinition
from p2petd.ledger.resolved import LedgerTransaction
from p2petd.ledger.transaction import TransactionBuilder
from p2petd.units import NO_LOWER_BOUND, NanoMoney


async def redeem_payment(ctx: FlowContext, arguments: PaymentRedeemArguments) -> bytes:
    """Give `amount_nano` back to its issuer; what is too much comes back as change."""
    need_text("currency", arguments.currency)
    need_positive("amount_nano", arguments.amount_nano)
    if arguments.issuer:
        await need_party(ctx, "issuer", arguments.issuer)
    ctx.progress("selecting coins")
    chosen = await lock_money(ctx, arguments.currency, arguments.amount_nano, arguments.issuer)
    coins = await gather(ctx, chosen)
    first = coins[0].money
    await need_party(ctx, "issuer of the coins", first.issuer)

    ctx.progress("building")
    builder = TransactionBuilder(coins[0].output.notary, ctx.parameters_hash)
    builder.window(NO_LOWER_BOUND, await signing_window(ctx, chosen, coins))
    for coin in coins:
        builder.add_input(coin.ref, coin.output.raw)
    change = sum(coin.money.amount_nano for coin in coins) - arguments.amount_nano
    if change:
        builder.add_output(payment.NAME, payment.VERSION, replace(first, amount_nano=NanoMoney(change)))
    builder.add_command(payment.NAME, PaymentRedeem(), sorted({ctx.me, first.issuer}))
    draft = ctx.history.build(builder, ctx.random("salt"))
    ctx.ledger.check_draft(draft)
    proofs = tuple(ctx.vault.input_proof(coin.ref) for coin in coins)
    return await finalise_with(ctx, first.issuer, draft, proofs)


async def take_back(ctx: FlowContext, owner: bytes) -> bytes:
    """Sign for our own money that its owner gives back, and for nothing else."""

    def agree(resolved: LedgerTransaction) -> None:
        _only_our_money(resolved, ctx.me, owner)

    return (await cosign(ctx, owner, agree)).id


def _only_our_money(resolved: LedgerTransaction, issuer: bytes, owner: bytes) -> None:
    """Raises FlowError unless the transaction only gives back money of `issuer` that `owner` owns."""
    if [command.type_name for command, _ in resolved.commands] != [PaymentRedeem.type_name]:
        raise FlowError("only a single redemption is accepted here")
    states = [state for _, state in resolved.inputs] + list(resolved.outputs)
    if any(state.contract != payment.NAME for state in states) or resolved.references or resolved.claims:
        raise FlowError("a redemption holds money and nothing else")
    for state in states:
        money = PaymentState.from_payload(state.payload)
        if money.issuer != issuer or money.owner != owner:
            raise FlowError("the redemption is not of this issuer's money, or not of its sender's")


FLOW = FlowDefinition(
    name="payment.redeem",
    version=1,
    arguments=PaymentRedeemArguments,
    description="Give money back to its issuer, who pays it out elsewhere",
    initiator=redeem_payment,
    responder=take_back,
)
