"""Waiting for the outcome of a transaction that this node has signed and another party finishes."""

from p2pet.notary.v1.notary_pb2 import StatusReply, StatusRequest

from p2petd.errors import FlowError, NodeError, UnknownParty
from p2petd.flows.context import FlowContext
from p2petd.flows.finality import receive_final
from p2petd.ledger.groups import Group
from p2petd.ledger.proposal import Proposal, Signature
from p2petd.ledger.transaction import Draft
from p2petd.units import SECOND_NS

# A transaction that two parties sign can be notarised for so long after its flow started.
SIGNING_WINDOW_NS = 30 * SECOND_NS
# How far the clocks of two nodes may differ.
CLOCK_SKEW_NS = 5 * SECOND_NS
STATUS = "status"
STATUS_POLL_NS = 2 * SECOND_NS


async def await_final(ctx: FlowContext, peer: bytes, draft: Draft, mine: Signature, until_ns: int) -> bytes:
    """Record the transaction that we signed when it becomes final; returns its id.

    Having signed, we believe only the notary that it came to nothing: whatever the peer says or keeps from us, the
    reserved states stay reserved until the notary has notarised it or never will. Raises FlowError then.
    """
    try:
        return await receive_final(ctx, peer, draft.id, until_ns + CLOCK_SKEW_NS)
    except NodeError:  # Silence, a refusal, a forged or another transaction: all the same.
        ctx.progress("asking the notary")
    request = StatusRequest(transaction_id=draft.id, until_ns=until_ns).SerializeToString()
    while True:
        reply = await _ask(ctx, draft.groups[Group.NOTARY][0], request)
        outcome = reply.WhichOneof("result")
        if outcome == "finality_proof":
            signed = Proposal(draft.transaction, (mine,)).encode()
            ctx.ledger.check_proof(draft, reply.finality_proof)
            ctx.vault.record(draft.id, draft.groups, signed, reply.finality_proof)
            return draft.id
        if outcome == "never":
            raise FlowError("the counterparty did not finish the transaction inside its time window")
        await ctx.pause_for(STATUS_POLL_NS)


async def _ask(ctx: FlowContext, service_key: bytes, request: bytes) -> StatusReply:
    """What the notary knows; *unknown* while the map does not know the notary."""
    try:
        worker = ctx.network_map.notary_workers(service_key)[0]
    except UnknownParty:
        return StatusReply(unknown=True)
    return StatusReply.FromString(await ctx.call(worker.identity, STATUS, request))
