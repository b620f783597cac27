"""Waiting for the outcome of a transaction that this node has signed and another party finishes."""

import contextlib
from collections.abc import Iterable, Sequence

from p2pet.flows.v1.sessions_pb2 import SignatureResponse, UnlockSignatures
from p2pet.store.v1.store_pb2 import InFlightRow

from p2petd import native
from p2petd.errors import FlowError, FlowTimeout, NodeError
from p2petd.flows.context import FlowContext
from p2petd.flows.finality import ask_outcome, receive_final
from p2petd.ledger.proposal import Proposal, Signature
from p2petd.ledger.resolved import OutputState
from p2petd.ledger.transaction import Draft
from p2petd.units import MINUTE_NS, SECOND_NS

# A transaction that two parties sign can be notarised for so long after its flow started.
SIGNING_WINDOW_NS = 30 * SECOND_NS
# How far the clocks of two nodes may differ.
CLOCK_SKEW_NS = 5 * SECOND_NS
# How long a peer that has not told us the outcome may take to come back with its signature.
COMPLETING_NS = 2 * MINUTE_NS


async def await_final(
    ctx: FlowContext, peer: bytes, draft: Draft, signatures: Sequence[Signature], until_ns: int
) -> bytes:
    """Record the transaction that we signed when it becomes final; returns its id. `signatures` are ours and those that
    we have, all of them under a uniqueness-only notary (`need_signatures`).

    It is in flight from the batch on in which our signature leaves. Having signed, we believe only the notary that it
    came to nothing: whatever the peer says or keeps from us, the reserved states stay reserved until the notary has
    notarised it or never will. Raises FlowError then, with what the peer has said of it.
    """
    signed = Proposal(draft.transaction, tuple(signatures)).encode()
    ctx.in_flight.begin(draft.id, InFlightRow(signed_transaction=signed, until_ns=until_ns))
    try:
        return await receive_final(ctx, peer, draft.id, until_ns + CLOCK_SKEW_NS)
    except NodeError as error:  # Silence, a refusal, a forged or another transaction: all the same.
        said = error
    ctx.progress("asking the notary")
    proof = await ask_outcome(ctx, draft, until_ns)
    if proof is None:
        ctx.in_flight.end(draft.id)
        raise FlowError(f"the transaction came to nothing, says the notary; before that: {said.message}")
    ctx.vault.record(draft.id, draft.groups, signed, proof)
    ctx.in_flight.end(draft.id)
    if isinstance(said, FlowTimeout):
        await _complete(ctx, peer, draft)
    return draft.id


async def _complete(ctx: FlowContext, peer: bytes, draft: Draft) -> None:
    """Wait a while for the peer's signature, which the notary has seen and does not keep: a peer that comes back after
    a crash still sends it. What is recorded stays recorded without it."""
    # Journaled, because others may complete it meanwhile: a repetition must go the same way.
    if await ctx.once("signatures here", lambda: bytes([ctx.vault.has_all_signatures(draft)])) == b"\x01":
        return
    ctx.progress("waiting for the other signatures")
    deadline_ns = await ctx.now_ns("final at") + COMPLETING_NS
    with contextlib.suppress(NodeError):
        await receive_final(ctx, peer, draft.id, deadline_ns)


def ask_to_sign(ctx: FlowContext, draft: Draft, input_proofs: tuple[bytes, ...], other: bytes) -> bytes:
    """The `ledger.v1.Proposal` with which `other` is asked to sign what consumes only our states.

    Where the notary sees the transaction, we sign last: until then nobody can notarise it. Where it does not, it asks
    for our unlock signatures, so that we can sign before, and `other` may fetch what stands behind our states.
    """
    if not ctx.history.is_unseen(draft.groups):
        return draft.proposal((), input_proofs).encode()
    ctx.history.grant_proposal(other, draft.groups, draft.id)
    return draft.proposal([ctx.ledger.sign(draft.id)]).encode()


def need_signatures(ctx: FlowContext, draft: Draft, signatures: Sequence[Signature]) -> None:
    """Raises FlowError when a signature but ours lacks that the notary will not ask for.

    A uniqueness-only notary takes a transaction that not everybody has signed, if its inputs are unlocked. Whoever
    unlocks something, or counts on it, has all signatures first: later they could be kept from it.
    """
    if not ctx.history.is_unseen(draft.groups):
        return
    signed = {signature.key for signature in signatures} | {ctx.me}
    if not all(native.key_is_satisfied(key, list(signed)) for key in draft.signer_keys.values()):
        raise FlowError("under a uniqueness-only notary everybody else signs before this node does")


def need_untied(outputs: Iterable[OutputState]) -> None:
    """Raises FlowError when an output is encumbered: whoever has its companion decides whether it can be spent."""
    if any(output.encumbered_by for output in outputs):
        raise FlowError("the counterparty's transaction ties an output to another one")


async def exchange_for_unlocks(ctx: FlowContext, other: bytes, draft: Draft, until_ns: int) -> tuple[bytes, ...]:
    """The unlock signatures of `other`, who has signed and gets our signature first; none under a verifying notary.

    Raises FlowError, FlowTimeout.
    """
    if not ctx.history.is_unseen(draft.groups):
        return ()
    ctx.progress("collecting unlock signatures")
    mine = ctx.ledger.sign(draft.id)
    response = SignatureResponse(key=mine.key, scheme=mine.scheme, signature=mine.signature)
    unlocks = await ctx.ask(other, response, UnlockSignatures, until_ns)
    if len(unlocks.signatures) != len(draft.inputs):
        raise FlowError("the counterparty sent unlock signatures for other inputs than the transaction has")
    return tuple(unlocks.signatures)


async def unlock_for_signature(ctx: FlowContext, other: bytes, draft: Draft, until_ns: int) -> tuple[Signature, ...]:
    """Let `other` consume our inputs of a draft that we have signed, once its signature is here; returns that.

    Under a verifying notary nobody waits, and there is none. Raises FlowError, FlowTimeout; nothing is unlocked then.
    """
    if not ctx.history.is_unseen(draft.groups):
        return ()
    answer = await ctx.receive(other, SignatureResponse, until_ns)
    theirs = Signature(answer.key, answer.signature, answer.scheme)
    ctx.ledger.check_signature(draft.id, theirs)
    need_signatures(ctx, draft, (theirs,))
    ctx.progress("unlocking")
    ctx.send(other, UnlockSignatures(signatures=ctx.history.unlocks(draft)))
    return (theirs,)
