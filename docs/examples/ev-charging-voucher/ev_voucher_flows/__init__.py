"""Flows that issue and redeem vouchers. They run in the node of the party that installs them."""

from dataclasses import replace
from typing import Any

from ev_voucher.states import NAME, VERSION, Voucher, VoucherIssue, VoucherRedeem
from p2pet.flows.v1.sessions_pb2 import SignatureRequest, SignatureResponse

from ev_voucher_flows.messages import IssueArguments, RedeemArguments
from p2petd.errors import FlowArgumentsInvalid, FlowError
from p2petd.flows.agreement import SIGNING_WINDOW_NS, await_final
from p2petd.flows.arguments import need_party, need_positive
from p2petd.flows.context import FlowContext
from p2petd.flows.finality import finalise, receive_final
from p2petd.flows.registry import FlowDefinition
from p2petd.ledger.proposal import Proposal, Signature
from p2petd.ledger.refs import StateRef
from p2petd.ledger.transaction import Draft, TransactionBuilder
from p2petd.units import NO_LOWER_BOUND, TimeNs, WattHours


async def issue(ctx: FlowContext, arguments: Any) -> bytes:
    """Make a voucher of this node, the operator, for a holder."""
    need_positive("energy_wh", arguments.energy_wh)
    await need_party(ctx, "holder", arguments.holder)
    voucher = Voucher(
        operator=ctx.me,
        holder=arguments.holder,
        number=ctx.random("number"),
        energy_wh=WattHours(arguments.energy_wh),
        valid_until_ns=TimeNs(arguments.valid_until_ns),
    )
    builder = TransactionBuilder(ctx.notary(), ctx.parameters_hash)
    builder.add_output(NAME, VERSION, voucher)
    builder.add_command(NAME, VoucherIssue(), [ctx.me])
    draft = builder.build(ctx.random("salt"))
    ctx.ledger.check_draft(draft)
    return await finalise(ctx, draft.signed([ctx.ledger.sign(draft.id)]), (), (arguments.holder,))


async def accept(ctx: FlowContext, operator: bytes) -> bytes:
    """Record a voucher that somebody made for this node."""
    return await receive_final(ctx, operator)


async def redeem(ctx: FlowContext, arguments: Any) -> bytes:
    """Give `charged_wh` of a voucher back to its operator, who signs too; what is left stays a voucher."""
    ref = StateRef.decode(arguments.state)
    output = (await ctx.vault.lock_state("lock the voucher", ref)).output
    if output.contract != NAME:
        raise FlowArgumentsInvalid(f"the state {ref} is no voucher")
    voucher = Voucher.from_payload(output.payload)
    left = voucher.energy_wh - arguments.charged_wh
    if arguments.charged_wh <= 0 or left < 0:
        raise FlowArgumentsInvalid(f"charged_wh must be 1 to {voucher.energy_wh}, what the voucher holds")
    until_ns = TimeNs(ctx.started_at_ns + SIGNING_WINDOW_NS)
    builder = TransactionBuilder(output.notary, ctx.parameters_hash).window(NO_LOWER_BOUND, until_ns)
    builder.add_input(ref, output.raw)
    if left:
        builder.add_output(NAME, VERSION, replace(voucher, energy_wh=WattHours(left)))
    builder.add_command(NAME, VoucherRedeem(WattHours(arguments.charged_wh)), [ctx.me, voucher.operator])
    draft = builder.build(ctx.random("salt"))
    ctx.ledger.check_draft(draft)
    proofs = (ctx.vault.input_proof(ref),)
    asked = SignatureRequest(proposal=draft.proposal((), proofs).encode())
    answer = await ctx.ask(voucher.operator, asked, SignatureResponse, until_ns)
    theirs = Signature(answer.key, answer.signature, answer.scheme)
    signed = draft.signed([theirs, ctx.ledger.sign(draft.id)])
    return await finalise(ctx, signed, proofs, (voucher.operator,))


async def take_back(ctx: FlowContext, holder: bytes) -> bytes:
    """The operator's side: sign for a redemption of one's own voucher, and for nothing else."""
    request = await ctx.receive(holder, SignatureRequest)
    resolved = await ctx.ledger.check_proposal(request.proposal)
    named = [command.type_name for command, _ in resolved.commands]
    soon = ctx.started_at_ns + 2 * SIGNING_WINDOW_NS
    if named != [VoucherRedeem.type_name] or resolved.window is None or resolved.window.until_ns > soon:
        raise FlowError("only one redemption that ends soon is signed here")
    if any(Voucher.from_payload(state.payload).operator != ctx.me for _, state in resolved.inputs):
        raise FlowError("that voucher is another operator's")
    mine = ctx.ledger.sign(resolved.id)
    ctx.send(holder, SignatureResponse(key=mine.key, scheme=mine.scheme, signature=mine.signature))
    draft = Draft.decode(Proposal.decode(request.proposal).transaction)
    return await await_final(ctx, holder, draft, mine, resolved.window.until_ns)


FLOWS = (
    FlowDefinition(
        name="ev-voucher.issue",
        version=1,
        arguments=IssueArguments,
        description="Make a charging voucher for another party",
        initiator=issue,
        responder=accept,
    ),
    FlowDefinition(
        name="ev-voucher.redeem",
        version=1,
        arguments=RedeemArguments,
        description="Give a charging voucher back to its operator",
        initiator=redeem,
        responder=take_back,
    ),
)
