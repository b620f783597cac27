"""payment.issue: the issuer of a currency creates money."""

from p2pet.flows.v1.arguments_pb2 import PaymentIssueArguments

from p2petd.contracts import payment
from p2petd.contracts.payment import PaymentIssue, PaymentState
from p2petd.flows.arguments import need_party, need_positive, need_text
from p2petd.flows.context import FlowContext
from p2petd.flows.finality import finalise, receive_final
from p2petd.flows.registry import FlowDefinition
from p2petd.ledger.transaction import TransactionBuilder
from p2petd.units import NanoMoney


async def issue_payment(ctx: FlowContext, arguments: PaymentIssueArguments) -> bytes:
    """Create `amount_nano` of this node's currency, owned by the recipient."""
    need_text("currency", arguments.currency)
    need_positive("amount_nano", arguments.amount_nano)
    recipient = arguments.recipient or ctx.me
    await need_party(ctx, "recipient", recipient)
    ctx.progress("building")
    state = PaymentState(arguments.currency, NanoMoney(arguments.amount_nano), ctx.me, recipient)
    builder = TransactionBuilder(ctx.notary(), ctx.parameters_hash)
    builder.add_output(payment.NAME, payment.VERSION, state)
    builder.add_command(payment.NAME, PaymentIssue(ctx.random("reference")), [ctx.me])
    draft = builder.build(ctx.random("salt"))
    ctx.ledger.check_draft(draft)

    ctx.progress("signing")
    return await finalise(ctx, draft.signed([ctx.ledger.sign(draft.id)]), (), (recipient,))


async def accept_payment(ctx: FlowContext, issuer: bytes) -> bytes:
    """Record the money that we were given."""
    return await receive_final(ctx, issuer)


FLOW = FlowDefinition(
    name="payment.issue",
    version=1,
    arguments=PaymentIssueArguments,
    description="Create money of the currency that this node issues",
    initiator=issue_payment,
    responder=accept_payment,
)
