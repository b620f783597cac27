"""payment.issue: the issuer of a currency creates money, under any notary that serves.

Nothing that exists already is consumed, so no notary can see that another has notarised the same issue: the transaction
has a time window, and only when its notary will never notarise it any more is another one made.
"""

import hashlib

from p2pet.flows.v1.arguments_pb2 import PaymentIssueArguments

from p2petd.contracts import payment
from p2petd.contracts.payment import PaymentIssue, PaymentState
from p2petd.errors import FlowArgumentsInvalid, FlowError, TimeWindowInvalid, UnknownParty
from p2petd.flows.arguments import need_party, need_positive, need_text
from p2petd.flows.context import FlowContext
from p2petd.flows.finality import finalise, receive_final
from p2petd.flows.moving import verifying
from p2petd.flows.registry import FlowDefinition
from p2petd.ledger.transaction import SignedTransaction, TransactionBuilder
from p2petd.units import NO_LOWER_BOUND, SECOND_NS, NanoMoney, TimeNs

# How long one notary may take to decide an issue before another transaction is made.
ISSUE_WINDOW_NS = 30 * SECOND_NS
# Windows that are tried one right after the other, and the pause before each further one.
AT_ONCE_MAX = 2
ANEW_PAUSE_NS = 5 * SECOND_NS
ATTEMPTS_MAX = 100


async def issue_payment(ctx: FlowContext, arguments: PaymentIssueArguments) -> bytes:
    """Create `amount_nano` of this node's currency, owned by the recipient, once.

    A notary that is down is waited for, because only it can say that it has not notarised the issue.
    """
    need_text("currency", arguments.currency)
    need_positive("amount_nano", arguments.amount_nano)
    recipient = arguments.recipient or ctx.me
    await need_party(ctx, "recipient", recipient)
    notaries = await _candidates(ctx, arguments.notary)
    until_ns = TimeNs(ctx.started_at_ns + ISSUE_WINDOW_NS)
    for attempt in range(ATTEMPTS_MAX):
        ctx.progress("retrieving notary")
        notary = notaries[attempt % len(notaries)]
        ctx.progress("building")
        signed = _signed(ctx, arguments, recipient, notary, until_ns, attempt)
        ctx.progress("signing")
        try:
            return await finalise(ctx, signed, (), (recipient,))
        except TimeWindowInvalid:
            # The notary has said *never*.
            ctx.progress("issuing anew")
        if attempt >= AT_ONCE_MAX:
            # A clock that is far behind the notary's finds every window over.
            await ctx.pause_for(ANEW_PAUSE_NS)
        until_ns = TimeNs(await ctx.now_ns("issue anew at") + ISSUE_WINDOW_NS)
    raise FlowError(f"no notary has decided the issue in {ATTEMPTS_MAX} time windows; check the clocks")


async def _candidates(ctx: FlowContext, wanted: bytes) -> list[bytes]:
    """The notaries to ask, in an order of chance; journaled, since nodes come and go. Raises FlowArgumentsInvalid."""
    if wanted:
        if wanted not in {notary.service_key for notary in ctx.parameters.notaries}:
            raise FlowArgumentsInvalid("notary must be the service key of a notary that the network parameters list")
        return [wanted]

    def serving() -> bytes:
        chance = ctx.random("order of the notaries")
        found = [notary for notary in verifying(ctx.parameters) if _has_worker(ctx, notary)]
        return b"".join(sorted(found or [ctx.notary()], key=lambda notary: hashlib.sha256(chance + notary).digest()))

    keys = await ctx.once("choose notaries", serving)
    return [keys[at : at + 32] for at in range(0, len(keys), 32)]


def _has_worker(ctx: FlowContext, notary: bytes) -> bool:
    try:
        return bool(ctx.network_map.notary_workers(notary))
    except UnknownParty:
        return False


def _signed(
    ctx: FlowContext,
    arguments: PaymentIssueArguments,
    recipient: bytes,
    notary: bytes,
    until_ns: TimeNs,
    attempt: int,
) -> SignedTransaction:
    state = PaymentState(arguments.currency, NanoMoney(arguments.amount_nano), ctx.me, recipient)
    builder = TransactionBuilder(notary, ctx.parameters_hash).window(NO_LOWER_BOUND, until_ns)
    builder.add_output(payment.NAME, payment.VERSION, state)
    builder.add_command(payment.NAME, PaymentIssue(ctx.random("reference")), [ctx.me])
    draft = ctx.history.build(builder, ctx.random(f"salt {attempt}"))
    ctx.ledger.check_draft(draft)
    return draft.signed([ctx.ledger.sign(draft.id)])


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
