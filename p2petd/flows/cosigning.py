"""A transaction that one other party must sign too: it signs first and waits, the initiator signs last and finishes."""

from collections.abc import Callable

from p2pet.flows.v1.sessions_pb2 import SignatureRequest, SignatureResponse

from p2petd.errors import FlowError
from p2petd.flows.agreement import (
    CLOCK_SKEW_NS,
    SIGNING_WINDOW_NS,
    ask_to_sign,
    await_final,
    need_signatures,
    need_untied,
)
from p2petd.flows.context import FlowContext
from p2petd.flows.finality import finalise
from p2petd.ledger.proposal import Proposal, Signature
from p2petd.ledger.resolved import LedgerTransaction
from p2petd.ledger.transaction import Draft
from p2petd.units import TimeNs


def signing_deadline(ctx: FlowContext) -> TimeNs:
    """Until when a transaction that this flow starts can be signed and notarised."""
    return TimeNs(ctx.started_at_ns + SIGNING_WINDOW_NS)


async def finalise_with(ctx: FlowContext, other: bytes, draft: Draft, input_proofs: tuple[bytes, ...]) -> bytes:
    """Have `other` sign the draft, sign it, finish it and tell `other`; returns its id.

    The draft's window ends at `signing_deadline`. Nobody is asked when `other` is this node. Raises FlowError.
    """
    signatures = []
    if other != ctx.me:
        ctx.progress("collecting signatures")
        asked = SignatureRequest(proposal=ask_to_sign(ctx, draft, input_proofs, other))
        answer = await ctx.ask(other, asked, SignatureResponse, signing_deadline(ctx))
        signatures.append(Signature(answer.key, answer.signature, answer.scheme))
        if answer.key != other:
            raise FlowError("the counterparty answered with a signature of another key")
    ctx.progress("signing")
    # We sign last: until here nobody can notarise; from here only we can, inside the draft's window.
    signed = draft.signed([*signatures, ctx.ledger.sign(draft.id)])
    return await finalise(ctx, signed, input_proofs, (other,))


async def cosign(ctx: FlowContext, initiator: bytes, agree: Callable[[LedgerTransaction], None]) -> Draft:
    """Sign what the initiator asks for and `agree` does not refuse, wait until it is final and record it.

    Raises what `agree` raises, and FlowError for a transaction without a window that ends soon.
    """
    request = await ctx.receive(initiator, SignatureRequest)
    ctx.progress("checking the proposal")
    resolved = await ctx.ledger.check_proposal(request.proposal)
    agree(resolved)
    need_untied(resolved.outputs)
    latest_ns = ctx.started_at_ns + SIGNING_WINDOW_NS + CLOCK_SKEW_NS
    if resolved.window is None or resolved.window.until_ns > latest_ns:
        raise FlowError("the transaction has no time window that ends soon; check the clocks")
    proposal = Proposal.decode(request.proposal)
    draft = Draft.decode(proposal.transaction)
    need_signatures(ctx, draft, proposal.signatures)
    ctx.progress("signing")
    mine = ctx.ledger.sign(resolved.id)
    ctx.send(initiator, SignatureResponse(key=mine.key, scheme=mine.scheme, signature=mine.signature))
    await await_final(ctx, initiator, draft, (*proposal.signatures, mine), resolved.window.until_ns)
    return draft
