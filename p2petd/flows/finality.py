"""The end that all flows share: notarise, record, tell the others; and the half of those who are told."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from p2pet.flows.v1.sessions_pb2 import Final
from p2pet.notary.v1 import notary_pb2
from p2pet.store.v1.store_pb2 import InFlightRow

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
from p2petd.ledger.groups import DIGEST_BYTES, Group
from p2petd.ledger.proposal import ED25519, Proposal
from p2petd.ledger.refs import StateRef
from p2petd.ledger.transaction import Draft, SignedTransaction
from p2petd.ledger.window import TimeWindow
from p2petd.notary.queries import REFS_MAX, STATUS
from p2petd.units import MINUTE_NS, NO_UPPER_BOUND, SECOND_NS

NOTARISE = "notarise"
STATUS_POLL_NS = 2 * SECOND_NS
_CONFLICTS = {
    notary_pb2.Conflict.KIND_INPUT: "of the states to consume are consumed",
    notary_pb2.Conflict.KIND_REFERENCE: "of the states referred to are consumed",
    notary_pb2.Conflict.KIND_CLAIM: "of the claims (the name, units or readings of a meter) are used",
}
# With what surrounds it, a request must fit into one frame.
PROPOSAL_BYTES_MAX = 960 * 1024
TROUBLED_RETRY_NS = 5 * SECOND_NS
TROUBLED_RETRY_MAX_NS = MINUTE_NS


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
    observers: tuple[bytes, ...] = (),
) -> bytes:
    """Notarise, record here, and send it to each of `tell`; returns the transaction's id.

    From the journaled step on the transaction is in flight, and only the notary's answer decides: a restart asks again
    with the same bytes. A uniqueness-only notary is shown locks instead of the transaction; `unlocks` are the other
    parties' signatures by the keys of their inputs' locks (`FlowHistory.unlocks`), and the input proofs are left out.
    `observers` are told by the flow itself; should it be ended before, they are told in its place. Raises NotaryError
    when the notary refuses; nothing is consumed then, and nothing is in flight any more.
    """
    sent = await _take_off(ctx, signed, input_proofs, unlocks, (*tell, *observers))
    draft, kept = sent.draft, sent.kept
    ctx.progress("notarising")
    proof = await _decided(ctx, sent)
    ctx.progress("recording")
    ctx.vault.record(draft.id, draft.groups, kept, proof)
    ctx.in_flight.end(draft.id)
    tell_all(ctx, draft, kept, proof, tell)
    return draft.id


def tell_all(ctx: FlowContext, draft: Draft, kept: bytes, proof: bytes, peers: Sequence[bytes]) -> None:
    """Send a final transaction to these peers, and let them have what stands behind it where they need that."""
    others = [peer for peer in dict.fromkeys(peers) if peer != ctx.me]
    if others:
        ctx.progress("broadcasting")
    for peer in others:
        if ctx.history.is_unseen(draft.groups):
            ctx.history.grant(peer, draft.id, (draft.id,))
        ctx.send(peer, Final(signed_transaction=kept, finality_proof=proof))


@dataclass(frozen=True)
class Sent:
    """What the notary is asked: `kept` is the signed transaction to record, `request` the bytes for the notary."""

    draft: Draft
    kept: bytes
    request: bytes


async def _take_off(
    ctx: FlowContext,
    signed: SignedTransaction,
    input_proofs: tuple[bytes, ...],
    unlocks: Sequence[bytes],
    tell: Sequence[bytes],
) -> Sent:
    """The transaction is in flight afterwards. Raises TransactionRefused, FlowError for an input that stays locked."""
    draft = signed.draft
    unseen = ctx.history.is_unseen(draft.groups)
    proposal = signed.proposal(() if unseen else input_proofs).encode()
    kept = signed.proposal().encode()
    _check_size(ctx, len(draft.transaction), len(proposal))
    request = b""

    def put_down() -> bytes:
        nonlocal request
        request = _request(ctx, draft, proposal, unlocks).SerializeToString()
        row = InFlightRow(
            # Under a verifying notary the request holds it.
            signed_transaction=kept if unseen else b"",
            request=request,
            until_ns=until_of(draft),
            tell=tell,
        )
        ctx.in_flight.begin(draft.id, row)
        return draft.id

    journaled = await ctx.once("in flight", put_down)
    return Sent(draft, kept, request) if request else _again(ctx, signed, journaled, unlocks)


def _again(ctx: FlowContext, signed: SignedTransaction, journaled: bytes, unlocks: Sequence[bytes]) -> Sent:
    """After a restart: what was sent counts, also where other code would build another draft today."""
    if len(journaled) > DIGEST_BYTES:
        # An older version has journaled the whole proposal.
        proposal = Proposal.decode(journaled)
        draft = Draft.decode(proposal.transaction)
        kept = Proposal(proposal.transaction, proposal.signatures).encode()
        return Sent(draft, kept, _request(ctx, draft, journaled, unlocks).SerializeToString())
    found = ctx.in_flight.resume(journaled)
    if found is not None:
        return Sent(found.draft, found.signed.encode(), found.row.request)
    # It is decided, and so is the next journaled answer: nobody is asked again.
    if ctx.vault.has_recorded(journaled):
        kept = ctx.vault.final(journaled)[0]
        return Sent(Draft.decode(Proposal.decode(kept).transaction), kept, b"")
    return Sent(signed.draft, signed.proposal().encode(), b"")


def until_of(draft: Draft) -> int:
    """The end of the draft's time window; NO_UPPER_BOUND when it has none."""
    windows = draft.groups[Group.TIME_WINDOW]
    return TimeWindow.decode(windows[0]).until_ns if windows else NO_UPPER_BOUND


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


async def _decided(ctx: FlowContext, sent: Sent) -> bytes:
    """The notary's proof, verified. Raises NotaryError when it refuses; the transaction is not in flight then."""
    try:
        return await notarise(ctx, sent.draft, sent.kept, sent.request)
    except NotaryError:
        ctx.in_flight.end(sent.draft.id)
        raise


async def notarise(ctx: FlowContext, draft: Draft, kept: bytes, request: bytes) -> bytes:
    """Ask the draft's notary until it has decided; its proof, verified. Repeating it answers the same.

    A notary that is in trouble is asked again, and so is one whose proof does not verify: what it says may have
    happened all the same. When the window is over, only *never* is believed. Raises NotaryError when it refuses.
    """
    notary = draft.groups[Group.NOTARY][0]
    pause_ns = TROUBLED_RETRY_NS
    while True:
        try:
            proof: bytes | None = read_reply(await call_notary(ctx, notary, NOTARISE, request))
            await ctx.ledger.check_final(kept, proof or b"", signers=False)
            return proof or b""
        except TimeWindowInvalid:
            until_ns = until_of(draft)
            proof = None if until_ns == NO_UPPER_BOUND else await ask_outcome(ctx, draft, until_ns)
            if proof is None:
                raise
            return proof
        except (NotaryTroubled, TransactionRefused):
            ctx.progress("waiting for the notary")
            await ctx.pause_for(pause_ns)
            pause_ns = min(2 * pause_ns, TROUBLED_RETRY_MAX_NS)


async def ask_outcome(ctx: FlowContext, draft: Draft, until_ns: int) -> bytes | None:
    """The notary's proof of the draft, verified; None when it will never be notarised.

    That is when the notary's clock has reached `until_ns`, or when another transaction has consumed one of its inputs.
    Asks until one of them is final.
    """
    request = notary_pb2.StatusRequest(
        transaction_id=draft.id,
        until_ns=until_ns,
        inputs=[ref.encode() for ref in draft.inputs[:REFS_MAX]],
    ).SerializeToString()
    while True:
        answer = await call_notary(ctx, draft.groups[Group.NOTARY][0], STATUS, request)
        reply = notary_pb2.StatusReply.FromString(answer)
        if reply.never:
            return None
        try:
            if reply.finality_proof:
                ctx.ledger.check_proof(draft, reply.finality_proof)
                return reply.finality_proof
        except TransactionRefused:
            ctx.progress("waiting for a proof that verifies")
        await ctx.pause_for(STATUS_POLL_NS)


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
    ctx.in_flight.end(checked.id)
    return checked.id
