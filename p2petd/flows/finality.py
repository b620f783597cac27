"""The end that all flows share: notarise, record, tell the others; and the half of those who are told."""

import hashlib
from collections import Counter
from collections.abc import Sequence

from p2pet.flows.v1.sessions_pb2 import Final
from p2pet.notary.v1 import notary_pb2

from p2petd.errors import (
    FlowError,
    InvalidRequestSignature,
    InvalidTransaction,
    NotaryConflict,
    NotaryError,
    NotaryTroubled,
    TimeWindowInvalid,
    TransactionRefused,
    UnknownParty,
)
from p2petd.flows.context import FlowContext
from p2petd.ledger.groups import Group
from p2petd.ledger.proposal import ED25519, Proposal
from p2petd.ledger.refs import StateRef
from p2petd.ledger.transaction import Draft, SignedTransaction
from p2petd.units import SECOND_NS

NOTARISE = "notarise"
_CONFLICTS = {
    notary_pb2.Conflict.KIND_INPUT: "of the states to consume are consumed",
    notary_pb2.Conflict.KIND_REFERENCE: "of the states referred to are consumed",
    notary_pb2.Conflict.KIND_CLAIM: "of the claims (the name, units or readings of a meter) are used",
}
# With what surrounds it, a request must fit into one frame.
PROPOSAL_BYTES_MAX = 960 * 1024
TROUBLED_RETRY_NS = 5 * SECOND_NS


def request_digest(inputs: tuple[StateRef, ...], transaction_id: bytes) -> bytes:
    """What the caller of a notary signs (docs/protocol.md, section 7)."""
    refs = sorted(ref.encode() for ref in inputs)
    return hashlib.sha256(len(refs).to_bytes(4) + b"".join(refs) + transaction_id).digest()


async def finalise(
    ctx: FlowContext,
    signed: SignedTransaction,
    input_proofs: tuple[bytes, ...],
    tell: tuple[bytes, ...],
    unlocks: Sequence[bytes] = (),
) -> bytes:
    """Notarise, record here, and send it to each of `tell`; returns the transaction's id.

    From the journaled step on only the notary's answer decides: a restart asks again with the same bytes. A
    uniqueness-only notary is shown locks instead of the transaction; `unlocks` are the other parties' signatures by the
    keys of their inputs' locks (`FlowHistory.unlocks`), and the input proofs are left out. Raises NotaryError when the
    notary refuses; nothing is consumed then.
    """
    draft = signed.draft
    proposal = signed.proposal(() if ctx.history.is_unseen(draft.groups) else input_proofs)
    built = proposal.encode()
    _check_size(ctx, len(draft.transaction), len(built))
    complete = await ctx.once("in flight", lambda: built)
    if complete != built:
        # A restart with other code would build another draft; what counts is what was sent.
        proposal = Proposal.decode(complete)
        draft = Draft.decode(proposal.transaction)
    kept = Proposal(proposal.transaction, proposal.signatures).encode()
    request = _request(ctx, draft, complete, unlocks)
    ctx.progress("notarising")
    proof = await _notarise(ctx, draft.groups[Group.NOTARY][0], request.SerializeToString())
    await ctx.ledger.check_final(kept, proof, signers=False)
    ctx.progress("recording")
    ctx.vault.record(draft.id, draft.groups, kept, proof)
    others = [peer for peer in dict.fromkeys(tell) if peer != ctx.me]
    if others:
        ctx.progress("broadcasting")
    for peer in others:
        if ctx.history.is_unseen(draft.groups):
            ctx.history.grant(peer, draft.id, (draft.id,))
        ctx.send(peer, Final(signed_transaction=kept, finality_proof=proof))
    return draft.id


def _request(
    ctx: FlowContext, draft: Draft, proposal: bytes, unlocks: Sequence[bytes]
) -> notary_pb2.NotarisationRequest:
    """What the draft's notary takes. Raises FlowError for an input that stays locked, TransactionRefused."""
    request = notary_pb2.NotarisationRequest(
        caller=ctx.me,
        scheme=ED25519,
        signature=ctx.ledger.sign_notarisation(request_digest(draft.inputs, draft.id)),
    )
    if ctx.history.is_unseen(draft.groups):
        request.uniqueness_proposal = ctx.history.uniqueness_proposal(draft, unlocks)
        _check_size(ctx, len(draft.transaction), len(request.uniqueness_proposal))
    else:
        request.proposal = proposal
    return request


def _check_size(ctx: FlowContext, transaction_bytes: int, proposal_bytes: int) -> None:
    """Raises TransactionRefused for what no notary takes and no frame carries, before it is journaled to be sent."""
    permitted = ctx.parameters.transaction_bytes_max
    if transaction_bytes > permitted or proposal_bytes > PROPOSAL_BYTES_MAX:
        raise TransactionRefused(
            "transaction.too_large",
            f"the transaction has {transaction_bytes} bytes, {proposal_bytes} with its proofs; the network permits "
            f"{permitted} and {PROPOSAL_BYTES_MAX}",
        )


async def call_notary(ctx: FlowContext, service_key: bytes, service: str, payload: bytes) -> bytes:
    """The answer of the node that works for a notary service.

    While the map knows none, the flow waits. The map is read at a start; so that a start with another one replays the
    same steps, whom the flow calls is no part of them.
    """
    try:
        worker = ctx.network_map.notary_workers(service_key)[0].identity
    except UnknownParty:
        ctx.progress("waiting for the notary")
        worker = b""
    return await ctx.call(worker, service, payload)


async def _notarise(ctx: FlowContext, service_key: bytes, request: bytes) -> bytes:
    """The finality proof. A notary that is in trouble is asked again until it has decided."""
    while True:
        try:
            return read_reply(await call_notary(ctx, service_key, NOTARISE, request))
        except NotaryTroubled:
            ctx.progress("waiting for the notary")
            await ctx.pause_for(TROUBLED_RETRY_NS)


def read_reply(answer: bytes) -> bytes:
    """The finality proof of a `NotarisationReply`; raises the NotaryError that it holds instead."""
    reply = notary_pb2.NotarisationReply.FromString(answer)
    if reply.WhichOneof("result") == "finality_proof":
        return reply.finality_proof
    error = reply.error
    match error.code:
        case InvalidTransaction.code:
            raise InvalidTransaction(error.message, error.cause, tuple(error.missing_keys))
        case InvalidRequestSignature.code:
            raise InvalidRequestSignature(error.message)
        case NotaryConflict.code:
            raise NotaryConflict(_conflicts_in_words(error) or error.message)
        case TimeWindowInvalid.code:
            raise TimeWindowInvalid(error.message)
        case NotaryTroubled.code:
            raise NotaryTroubled(error.message)
    raise NotaryError(error.message or "the notary answered neither a proof nor an error")


def _conflicts_in_words(error: notary_pb2.NotaryError) -> str:
    """What other transactions have consumed or claimed before; empty when the notary does not say."""
    counts = Counter(conflict.kind for conflict in error.conflicts)
    found = [f"{counts[kind]} {words}" for kind, words in _CONFLICTS.items() if counts[kind]]
    return f"another transaction came first: {', '.join(found)}" if found else ""


async def receive_final(
    ctx: FlowContext, peer: bytes, expected_id: bytes | None = None, deadline_ns: int | None = None
) -> bytes:
    """Record the final transaction that `peer` sends; returns its id. Raises FlowTimeout after the deadline.

    1. A listed notary's proof and all signatures verify; else TransactionRefused.
    2. It is the one that this flow signed, when it signed one; else FlowError.
    3. We signed it or take part in it (`p2petd.vault.parties`); else FlowError, and nothing is recorded.
    4. Under a uniqueness-only notary all that a verifying one would have seen: its states with their whole history, its
       contracts and its locks; else HistoryError, and nothing is recorded. The peer is waited for.
    """
    return await record_told(ctx, peer, await ctx.receive(peer, Final, deadline_ns), expected_id)


async def record_told(ctx: FlowContext, peer: bytes, final: Final, expected_id: bytes | None = None) -> bytes:
    """`receive_final` of what the peer has sent already."""
    checked = await ctx.ledger.check_final(final.signed_transaction, final.finality_proof)
    if expected_id is not None and checked.id != expected_id:
        raise FlowError("the counterparty finished another transaction than the one that was agreed")
    if expected_id is None and not ctx.vault.takes_part(checked.groups):
        raise FlowError("the counterparty sent a transaction that does not concern this node")
    if ctx.history.is_unseen(checked.groups):
        await ctx.history.check_final(peer, checked, final.signed_transaction, final.finality_proof)
    ctx.progress("recording")
    ctx.vault.record(checked.id, checked.groups, final.signed_transaction, final.finality_proof)
    return checked.id
