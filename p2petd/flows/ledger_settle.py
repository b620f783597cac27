"""ledger.settle: a flow that was ended has left a transaction in flight; this one learns from the notary what became of
it, in its place and with what it had reserved."""

from p2pet.flows.v1.arguments_pb2 import LedgerSettleArguments

from p2petd.errors import FlowError, NotaryError
from p2petd.flows.context import FlowContext
from p2petd.flows.finality import ask_outcome, notarise, receive_final, tell_all
from p2petd.flows.flow_in_flight import InFlight
from p2petd.flows.registry import FlowDefinition


async def settle(ctx: FlowContext, arguments: LedgerSettleArguments) -> bytes | None:
    """Record the transaction and tell the others, or learn that it never will be final; a dead notary is waited for.

    The node starts it by itself, with the reservations of the flow that was ended: they end with it. Returns the
    transaction's id. Raises FlowError when nothing came of it.
    """
    key = arguments.in_flight
    left = await ctx.once("what was left", lambda: ctx.in_flight.left_by(key))
    if not left:
        return None
    found = InFlight.read(left)
    draft, row = found.draft, found.row
    kept = found.signed.encode()
    ctx.progress("asking the notary")
    proof, reason = await _outcome(ctx, found, kept)
    if proof is None:
        ctx.in_flight.settled(key)
        raise FlowError(f"the transaction {draft.id.hex()} came to nothing: {reason}")
    ctx.progress("recording")
    # First: what cannot be recorded now stays in flight, and this flow is parked.
    ctx.vault.record(draft.id, draft.groups, kept, proof)
    ctx.in_flight.settled(key)
    tell_all(ctx, draft, kept, proof, tuple(row.tell))
    return draft.id


async def _outcome(ctx: FlowContext, found: InFlight, kept: bytes) -> tuple[bytes | None, str]:
    """The proof; None with the reason when there never will be one.

    Who holds the request repeats it: the notary answers a repeat as it answered the first. Who only signed asks.
    """
    row = found.row
    if row.request:
        try:
            return await notarise(ctx, found.draft, kept, row.request), ""
        except NotaryError as error:
            return None, error.message
    proof = await ask_outcome(ctx, found.draft, row.until_ns)
    return proof, "the notary will never notarise it"


async def hear_of_settled(ctx: FlowContext, settler: bytes) -> bytes:
    """Record what a party tells of a transaction whose flow it has ended."""
    return await receive_final(ctx, settler)


FLOW = FlowDefinition(
    name="ledger.settle",
    version=1,
    arguments=LedgerSettleArguments,
    description="Learn what became of a transaction whose flow was ended; the node starts it by itself",
    initiator=settle,
    responder=hear_of_settled,
    internal=True,
)
