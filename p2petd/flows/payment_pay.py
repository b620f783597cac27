"""payment.pay: money goes to another party; what is too much comes back as change."""

from p2pet.flows.v1.arguments_pb2 import PaymentPayArguments

from p2petd.contracts import payment
from p2petd.contracts.payment import PaymentPay
from p2petd.flows.arguments import need_party, need_positive, need_text
from p2petd.flows.context import FlowContext
from p2petd.flows.finality import finalise, receive_final
from p2petd.flows.money import add_payment, lock_money
from p2petd.flows.moving import gather
from p2petd.flows.registry import FlowDefinition
from p2petd.ledger.transaction import TransactionBuilder


async def pay(ctx: FlowContext, arguments: PaymentPayArguments) -> bytes:
    """Pay `amount_nano` to the recipient."""
    need_text("currency", arguments.currency)
    need_positive("amount_nano", arguments.amount_nano)
    await need_party(ctx, "recipient", arguments.recipient)
    ctx.progress("selecting coins")
    coins = await lock_money(ctx, arguments.currency, arguments.amount_nano, arguments.issuer, patient=True)
    coins = await gather(ctx, coins)

    ctx.progress("building")
    builder = TransactionBuilder(coins[0].output.notary, ctx.parameters_hash)
    add_payment(builder, coins, arguments.amount_nano, ctx.me, arguments.recipient)
    builder.add_command(payment.NAME, PaymentPay(), [ctx.me])
    draft = ctx.history.build(builder, ctx.random("salt"))
    ctx.ledger.check_draft(draft)

    ctx.progress("signing")
    proofs = tuple(ctx.vault.input_proof(coin.ref) for coin in coins)
    return await finalise(ctx, draft.signed([ctx.ledger.sign(draft.id)]), proofs, (arguments.recipient,))


async def accept_payment(ctx: FlowContext, payer: bytes) -> bytes:
    """Record the money that we were paid."""
    return await receive_final(ctx, payer)


FLOW = FlowDefinition(
    name="payment.pay",
    version=1,
    arguments=PaymentPayArguments,
    description="Pay another party",
    initiator=pay,
    responder=accept_payment,
)
