"""energy.transfer: energy goes to another party without payment; both sides sign."""

from p2pet.flows.v1.arguments_pb2 import EnergyTransferArguments
from p2pet.flows.v1.sessions_pb2 import SignatureRequest, SignatureResponse

from p2petd.contracts import energy
from p2petd.contracts.energy import EnergyState, EnergyTransfer, decode_command
from p2petd.errors import FlowArgumentsInvalid, FlowError
from p2petd.flows.agreement import SIGNING_WINDOW_NS, ask_to_sign, await_final, need_signatures, need_untied
from p2petd.flows.arguments import need_party, need_positive
from p2petd.flows.context import FlowContext
from p2petd.flows.energy_leg import add_energy, lock_energy, need_selection
from p2petd.flows.finality import finalise
from p2petd.flows.moving import gather, signing_window
from p2petd.flows.registry import FlowDefinition
from p2petd.ledger.proposal import Proposal, Signature
from p2petd.ledger.resolved import LedgerTransaction
from p2petd.ledger.transaction import Draft, TransactionBuilder
from p2petd.units import NO_LOWER_BOUND, WattHours


async def transfer_energy(ctx: FlowContext, arguments: EnergyTransferArguments) -> bytes:
    """Give `quantity_wh` of our energy to the recipient, who consents by signing."""
    need_positive("quantity_wh", arguments.quantity_wh)
    need_selection(arguments.energy)
    await need_party(ctx, "recipient", arguments.recipient)
    recipient = arguments.recipient
    if recipient == ctx.me:
        raise FlowArgumentsInvalid("the recipient must be another party than this node")
    ctx.progress("selecting energy")
    chosen = await lock_energy(ctx, arguments.energy, arguments.quantity_wh)
    lots = await gather(ctx, chosen)

    ctx.progress("building")
    until_ns = await signing_window(ctx, chosen, lots)
    builder = TransactionBuilder(lots[0].output.notary, ctx.parameters_hash).window(NO_LOWER_BOUND, until_ns)
    add_energy(builder, lots, arguments.quantity_wh, recipient)
    command = EnergyTransfer(ctx.me, recipient, WattHours(arguments.quantity_wh))
    builder.add_command(energy.NAME, command, [ctx.me, recipient])
    draft = ctx.history.build(builder, ctx.random("salt"))
    ctx.ledger.check_draft(draft)
    proofs = tuple(ctx.vault.input_proof(lot.ref) for lot in lots)

    ctx.progress("collecting signatures")
    asked = SignatureRequest(proposal=ask_to_sign(ctx, draft, proofs, recipient))
    answer = await ctx.ask(recipient, asked, SignatureResponse, until_ns)
    theirs = Signature(answer.key, answer.signature, answer.scheme)
    if theirs.key != recipient:
        raise FlowError("the recipient answered with a signature of another key")
    # We sign last: until here nobody can notarise; from here only we can, inside the draft's window.
    signed = draft.signed([theirs, ctx.ledger.sign(draft.id)])
    return await finalise(ctx, signed, proofs, (recipient,))


async def accept_energy(ctx: FlowContext, owner: bytes) -> bytes:
    """Sign for energy that is given to us, and for nothing else."""
    request = await ctx.receive(owner, SignatureRequest)
    ctx.progress("checking the proposal")
    resolved = await ctx.ledger.check_proposal(request.proposal)
    until_ns = _accept_only_a_gift(ctx, resolved, owner)

    proposal = Proposal.decode(request.proposal)
    draft = Draft.decode(proposal.transaction)
    need_signatures(ctx, draft, proposal.signatures)
    ctx.progress("signing")
    mine = ctx.ledger.sign(resolved.id)
    ctx.send(owner, SignatureResponse(key=mine.key, scheme=mine.scheme, signature=mine.signature))
    return await await_final(ctx, owner, draft, (*proposal.signatures, mine), until_ns)


def _accept_only_a_gift(ctx: FlowContext, resolved: LedgerTransaction, owner: bytes) -> int:
    """The end of the window. Raises FlowError unless the transaction only gives us energy of the peer."""
    named = {command.contract for command, _ in resolved.commands} | {state.contract for _, state in resolved.inputs}
    command = decode_command(resolved.commands[0][0]) if len(resolved.commands) == 1 else None
    if not isinstance(command, EnergyTransfer) or named != {energy.NAME}:
        raise FlowError("only a single energy transfer is accepted here")
    if (command.old_owner, command.new_owner) != (owner, ctx.me):
        raise FlowError("the transfer is not from its sender to this node")
    if any(EnergyState.from_payload(state.payload).owner != owner for _, state in resolved.inputs):
        raise FlowError("the transfer consumes energy that is not its sender's")
    need_untied(resolved.outputs)
    if resolved.window is None or resolved.window.until_ns > ctx.started_at_ns + 2 * SIGNING_WINDOW_NS:
        raise FlowError("the transfer has no time window that ends soon")
    return resolved.window.until_ns


FLOW = FlowDefinition(
    name="energy.transfer",
    version=1,
    arguments=EnergyTransferArguments,
    description="Give energy to another party without payment",
    initiator=transfer_energy,
    responder=accept_energy,
)
