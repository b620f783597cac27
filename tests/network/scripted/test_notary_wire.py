"""What a notary daemon answers over the peer listener, case by case."""

import asyncio
import hashlib
import time

import pytest
from p2pet.ledger.v1.transaction_pb2 import FinalityProof
from p2pet.notary.v1.notary_pb2 import Conflict, NotarisationReply

from p2petd import native
from p2petd.flows.finality import request_digest
from p2petd.ledger.transaction import Draft
from p2petd.units import NO_LOWER_BOUND, NO_UPPER_BOUND, SECOND_NS, TimeNs
from tests.support.drafts import Held, built, energy_issue, money_issue, notarised, pay, refusal
from tests.support.peer import PURPOSE_REQUEST, Connection, ScriptedPeer
from tests.support.scripted import ScriptedCommunity

INVALID = "notary.invalid_transaction"
CONFLICT = "notary.conflict"
WINDOW = "notary.time_window_invalid"
SIGNATURE = "notary.invalid_request_signature"
PAID_NANO = 1_000


def proof_of(reply: NotarisationReply) -> FinalityProof:
    assert reply.WhichOneof("result") == "finality_proof", f"{reply.error.code}: {reply.error.message}"
    return FinalityProof.FromString(reply.finality_proof)


def verify(peer: ScriptedPeer, draft: Draft, reply: NotarisationReply) -> FinalityProof:
    """The proof, which any member of the network can verify for this transaction and no other."""
    ((parameters_hash, signed),) = peer.network_map.parameters.items()
    notaries = [(notary.service_key, int(notary.mode)) for notary in signed.parameters.notaries]
    proof = proof_of(reply)
    assert (
        native.verify_finality(peer.network_id, draft.transaction, proof.SerializeToString(), parameters_hash, notaries)
        == draft.id
    )
    return proof


async def spend(
    notary: Connection, peer: ScriptedPeer, coins: list[Held], payee: bytes
) -> tuple[Draft, NotarisationReply]:
    draft = built(pay(peer, coins, payee))
    proposal = draft.proposal([peer.sign(draft.id)], [coin.proof for coin in coins])
    return draft, await notary.ask(peer.request(draft, proposal))


async def assert_unspent(notary: Connection, peer: ScriptedPeer, coin: Held) -> None:
    """The notary still takes it."""
    proof_of((await spend(notary, peer, [coin], peer.identity))[1])


def consumer_hashes(reply: NotarisationReply) -> dict[bytes, bytes]:
    assert all(conflict.kind == Conflict.KIND_INPUT for conflict in reply.error.conflicts)
    return {conflict.subject: conflict.consumer_hash for conflict in reply.error.conflicts}


def test_n01_repeats_later_and_after_the_window_get_the_same_decision(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        peer = scripted.peer("home-2")
        coin, clock = await scripted.coins([peer.identity] * 2, PAID_NANO)
        until = TimeNs(time.time_ns() + SECOND_NS // 2)
        draft = built(pay(peer, [coin], peer.identity).window(NO_LOWER_BOUND, until))
        request = peer.request(draft, draft.proposal([peer.sign(draft.id)], [coin.proof]))
        async with scripted.connect("home-2") as notary:
            first = verify(peer, draft, await notary.ask(request))
            again = verify(peer, draft, await notary.ask(request))
            # The log goes on when the notary's clock has passed the end of the window.
            after = built(pay(peer, [clock], peer.identity).window(until, NO_UPPER_BOUND))
            question = peer.request(after, after.proposal([peer.sign(after.id)], [clock.proof]))
            while (await notary.ask(question)).HasField("error"):
                await asyncio.sleep(0.01)
            late = verify(peer, draft, await notary.ask(request))
        # After a restart of the notary, too; only the worker's signature might differ.
        scripted.network.stop("notary")
        await scripted.network.start("notary")
        async with scripted.connect("home-2") as notary:
            restarted = verify(peer, draft, await notary.ask(request))
        roots = {p.batch.root.SerializeToString() for p in (first, again, late, restarted)}
        assert len(roots) == 1
        assert first.batch.root.decided_at_ns < until

    asyncio.run(scenario())


def test_n02_second_spender_learns_the_hash_of_the_first_and_never_its_id(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        peer, thief = scripted.peer("home-2"), scripted.peer("home-3")
        (coin,) = await scripted.coins([peer.identity], PAID_NANO)
        async with scripted.connect("home-2") as notary:
            first, reply = await spend(notary, peer, [coin], thief.identity)
            proof_of(reply)
            _, reply = await spend(notary, peer, [coin], peer.identity)
            refusal(reply, CONFLICT)
            assert consumer_hashes(reply) == {coin.ref.encode(): hashlib.sha256(first.id).digest()}
            for shown in (first.id, first.id.hex().encode()):
                assert shown not in reply.SerializeToString()

    asyncio.run(scenario())


def test_n02_a_mix_lists_each_spent_input_and_leaves_the_fresh_ones_unspent(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        peer = scripted.peer("home-2")
        spent_1, fresh_1, spent_2, fresh_2 = await scripted.coins([peer.identity] * 4, PAID_NANO)
        async with scripted.connect("home-2") as notary:
            by_1, _ = await spend(notary, peer, [spent_1], peer.identity)
            by_2, _ = await spend(notary, peer, [spent_2], peer.identity)
            _, reply = await spend(notary, peer, [spent_1, fresh_1, spent_2, fresh_2], peer.identity)
            refusal(reply, CONFLICT)
            assert consumer_hashes(reply) == {
                spent_1.ref.encode(): hashlib.sha256(by_1.id).digest(),
                spent_2.ref.encode(): hashlib.sha256(by_2.id).digest(),
            }
            await assert_unspent(notary, peer, fresh_1)
            await assert_unspent(notary, peer, fresh_2)

    asyncio.run(scenario())


def test_n03_queue_order_decides_also_within_one_frame(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        peer = scripted.peer("home-2")
        (coin,) = await scripted.coins([peer.identity], PAID_NANO)
        drafts = [built(pay(peer, [coin], peer.identity)) for _ in range(2)]
        requests = [peer.request(d, d.proposal([peer.sign(d.id)], [coin.proof])) for d in drafts]
        async with scripted.connect("home-2") as notary:
            replies = await notary.ask_all([requests[0], requests[0], requests[1], requests[1]])
        for reply in replies[:2]:
            verify(peer, drafts[0], reply)
        for reply in replies[2:]:
            refusal(reply, CONFLICT)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("from_offset_s", "until_offset_s", "accepted"),
    [
        pytest.param(60, 120, False, id="not open yet"),
        pytest.param(-120, -60, False, id="already closed"),
        pytest.param(-60, 60, True, id="open"),
        pytest.param(None, 60, True, id="no lower bound"),
        pytest.param(-60, None, True, id="no upper bound"),
    ],
)
def test_n06_window_is_judged_by_the_notarys_clock(
    scripted: ScriptedCommunity, from_offset_s: int | None, until_offset_s: int | None, accepted: bool
) -> None:
    async def scenario() -> None:
        peer = scripted.peer("home-2")
        (coin,) = await scripted.coins([peer.identity], PAID_NANO)
        before = time.time_ns()
        start = NO_LOWER_BOUND if from_offset_s is None else TimeNs(before + from_offset_s * SECOND_NS)
        end = NO_UPPER_BOUND if until_offset_s is None else TimeNs(before + until_offset_s * SECOND_NS)
        draft = built(pay(peer, [coin], peer.identity).window(start, end))
        request = peer.request(draft, draft.proposal([peer.sign(draft.id)], [coin.proof]))
        async with scripted.connect("home-2") as notary:
            reply = await notary.ask(request)
            if accepted:
                decided = verify(peer, draft, reply).batch.root.decided_at_ns
                assert start <= decided < end
                return
            error = refusal(reply, WINDOW).error
            assert (error.window_from_ns, error.window_until_ns) == (start, end)
            assert before <= error.notary_time_ns <= time.time_ns()
            await assert_unspent(notary, peer, coin)

    asyncio.run(scenario())


def test_n06_a_refused_window_is_not_remembered(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        peer = scripted.peer("home-2")
        (coin,) = await scripted.coins([peer.identity], PAID_NANO)
        opens = TimeNs(time.time_ns() + SECOND_NS // 2)
        draft = built(pay(peer, [coin], peer.identity).window(opens, NO_UPPER_BOUND))
        request = peer.request(draft, draft.proposal([peer.sign(draft.id)], [coin.proof]))
        async with scripted.connect("home-2") as notary:
            refusal(await notary.ask(request), WINDOW)
            while (reply := await notary.ask(request)).HasField("error"):
                error = refusal(reply, WINDOW).error
                assert error.notary_time_ns < opens
                await asyncio.sleep(0.01)
            assert verify(peer, draft, reply).batch.root.decided_at_ns >= opens

    asyncio.run(scenario())


def test_n07_an_issue_without_inputs_is_notarised_once(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        peer = scripted.peer("home-2")
        draft, twin = (built(energy_issue(peer, 100, "n07", period=70)) for _ in range(2))
        assert not draft.inputs
        async with scripted.connect("home-2") as notary:
            request = peer.request(draft, draft.proposal([peer.sign(draft.id)]))
            first, again = [verify(peer, draft, await notary.ask(request)) for _ in range(2)]
            assert first.batch.root == again.batch.root
            reply = await notary.ask(peer.request(twin, twin.proposal([peer.sign(twin.id)])))
            (conflict,) = refusal(reply, CONFLICT).error.conflicts
            assert conflict.kind == Conflict.KIND_CLAIM
            assert conflict.consumer_hash == hashlib.sha256(draft.id).digest()

    asyncio.run(scenario())


FORGERIES = ("signed by another key", "over other inputs", "over another id", "replayed by another peer")


@pytest.mark.parametrize("forgery", FORGERIES)
def test_n08_request_that_its_caller_did_not_sign_is_refused(scripted: ScriptedCommunity, forgery: str) -> None:
    async def scenario() -> None:
        peer, other = scripted.peer("home-2"), scripted.peer("home-3")
        coin, unrelated = await scripted.coins([peer.identity] * 2, PAID_NANO)
        draft = built(pay(peer, [coin], peer.identity))
        request = peer.request(draft, draft.proposal([peer.sign(draft.id)], [coin.proof]))
        right = request.signature
        caller = "home-2"
        if forgery == "signed by another key":
            digest = request_digest(draft.inputs, draft.id)
            request.signature = other.key.sign(peer.network_id, PURPOSE_REQUEST, digest)
        elif forgery == "over other inputs":
            digest = request_digest((unrelated.ref,), draft.id)
            request.signature = peer.key.sign(peer.network_id, PURPOSE_REQUEST, digest)
        elif forgery == "over another id":
            digest = request_digest(draft.inputs, unrelated.ref.transaction_id)
            request.signature = peer.key.sign(peer.network_id, PURPOSE_REQUEST, digest)
        else:
            caller = "home-3"
        async with scripted.connect(caller) as notary:
            refusal(await notary.ask(request), SIGNATURE)
        request.signature = right
        async with scripted.connect("home-2") as notary:
            verify(peer, draft, await notary.ask(request))

    asyncio.run(scenario())


def test_n08_a_signature_for_another_purpose_or_network_is_refused(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        peer = scripted.peer("home-2")
        (coin,) = await scripted.coins([peer.identity], PAID_NANO)
        draft = built(pay(peer, [coin], peer.identity))
        digest = request_digest(draft.inputs, draft.id)
        request = peer.request(draft, draft.proposal([peer.sign(draft.id)], [coin.proof]))
        async with scripted.connect("home-2") as notary:
            for network_id, purpose in ((peer.network_id, 1), (bytes(32), PURPOSE_REQUEST)):
                request.signature = peer.key.sign(network_id, purpose, digest)
                refusal(await notary.ask(request), SIGNATURE)
            await assert_unspent(notary, peer, coin)

    asyncio.run(scenario())


def test_n10_missing_signature_of_a_participant_is_named(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        peer, other = scripted.peer("home-2"), scripted.peer("home-3")
        mine, theirs = await scripted.coins([peer.identity, other.identity], PAID_NANO)
        # One payment of both: both must sign, and the caller has its own signature only.
        draft = built(pay(peer, [mine, theirs], peer.identity))
        proofs = [mine.proof, theirs.proof]
        async with scripted.connect("home-2") as notary:
            alone = peer.request(draft, draft.proposal([peer.sign(draft.id)], proofs))
            error = refusal(await notary.ask(alone), INVALID).error
            assert error.cause == "signature.missing"
            assert list(error.missing_keys) == [other.identity]
            forged = peer.sign(draft.id)
            lie = draft.proposal([forged, type(forged)(other.identity, forged.signature)], proofs)
            assert refusal(await notary.ask(peer.request(draft, lie)), INVALID).error.cause == "signature.invalid"
            both = draft.proposal([peer.sign(draft.id), other.sign(draft.id)], proofs)
            verify(peer, draft, await notary.ask(peer.request(draft, both)))

    asyncio.run(scenario())


def test_n11_a_hundred_concurrent_transactions_each_prove_their_own_id(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        issuer = scripted.peer("community")
        drafts = [built(money_issue(issuer, [issuer.identity], 1 + number)) for number in range(100)]
        requests = [issuer.request(d, d.proposal([issuer.sign(d.id)])) for d in drafts]
        async with scripted.connect("community") as notary:
            replies = await notary.ask_all(requests)
        for draft, reply in zip(drafts, replies, strict=True):
            proof = verify(issuer, draft, reply)
            assert proof.transaction_id == draft.id
        # A proof is of its own id only.
        with pytest.raises(native.ProofError):
            verify(issuer, drafts[0], replies[1])
        # One signature stands for many.
        assert len({proof_of(reply).batch.signature for reply in replies}) < 100

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "payload", [b"", b"\xff" * 100, b"\x0a\x00", bytes(1000)], ids=["empty", "noise", "default", "zeros"]
)
def test_r13_a_request_that_does_not_decode_is_answered_with_one_sentence(
    scripted: ScriptedCommunity, payload: bytes
) -> None:
    async def scenario() -> None:
        async with scripted.connect("home-2") as notary:
            for service in ("notarise", "status"):
                reply = await notary.call(service, payload)
                inner = NotarisationReply.FromString(reply.payload).error if service == "notarise" else None
                text = inner.message if inner is not None else reply.error_message
                assert (inner.code if inner is not None else reply.error_code) in (INVALID, "transaction.malformed")
                assert text
                assert "\n" not in text
            peer = scripted.peer("home-2")
            draft = built(energy_issue(peer, 5, f"r13-{len(payload)}-{payload[:1].hex()}"))
            await notarised(notary, peer, draft, [peer])

    asyncio.run(scenario())
