"""What a notary daemon answers about references, batches and states that never were."""

import asyncio
import hashlib

from p2pet.ledger.v1.transaction_pb2 import FinalityProof
from p2pet.notary.v1.notary_pb2 import Conflict, NotarisationReply, NotarisationRequest

from p2petd.ledger.refs import StateRef
from p2petd.ledger.transaction import Draft
from tests.support.drafts import Held, built, money_issue, pay, refusal
from tests.support.peer import Connection, ScriptedPeer
from tests.support.scripted import ScriptedCommunity

CONFLICT, INVALID = "notary.conflict", "notary.invalid_transaction"
AMOUNT = 1_000
TRIES_MAX = 200


def _proof(reply: NotarisationReply) -> FinalityProof:
    assert reply.WhichOneof("result") == "finality_proof", f"{reply.error.code}: {reply.error.message}"
    return FinalityProof.FromString(reply.finality_proof)


def _reading(peer: ScriptedPeer, coin: Held, reference: Held) -> tuple[Draft, NotarisationRequest]:
    """Spend the coin, and refer to another state."""
    draft = built(pay(peer, [coin], peer.identity).add_reference(reference.ref, reference.component))
    return draft, peer.request(draft, draft.proposal([peer.sign(draft.id)], [coin.proof, reference.proof]))


def _spending(peer: ScriptedPeer, coin: Held) -> tuple[Draft, NotarisationRequest]:
    draft = built(pay(peer, [coin], peer.identity))
    return draft, peer.request(draft, draft.proposal([peer.sign(draft.id)], [coin.proof]))


def test_n04_references_do_not_exclude_each_other_and_a_spent_one_conflicts(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        peer = scripted.peer("home-2")
        shared, *coins = await scripted.coins([peer.identity] * 5, AMOUNT)
        async with scripted.connect("home-2") as notary:
            together = [_reading(peer, coin, shared)[1] for coin in coins[:2]]
            for reply in await notary.ask_all(together):
                _proof(reply)
            _proof(await notary.ask(_reading(peer, coins[2], shared)[1]))
            consumer, spending = _spending(peer, shared)
            _proof(await notary.ask(spending))
            (conflict,) = refusal(await notary.ask(_reading(peer, coins[3], shared)[1]), CONFLICT).error.conflicts
            assert conflict.kind == Conflict.KIND_REFERENCE
            assert conflict.subject == shared.ref.encode()
            assert conflict.consumer_hash == hashlib.sha256(consumer.id).digest()
            # The coin beside the reference is untouched.
            _proof(await notary.ask(_spending(peer, coins[3])[1]))

    asyncio.run(scenario())


def test_n05_a_decision_stands_when_its_reference_is_spent_later(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        peer = scripted.peer("home-2")
        coin, shared = await scripted.coins([peer.identity] * 2, AMOUNT)
        _, first = _reading(peer, coin, shared)
        async with scripted.connect("home-2") as notary:
            decided = _proof(await notary.ask(first)).batch.root
            _proof(await notary.ask(_spending(peer, shared)[1]))
            assert _proof(await notary.ask(first)).batch.root == decided
        scripted.network.stop("notary")
        await scripted.network.start("notary")
        async with scripted.connect("home-2") as notary:
            assert _proof(await notary.ask(first)).batch.root == decided

    asyncio.run(scenario())


def test_n03_n05_order_decides_inside_one_batch(scripted: ScriptedCommunity) -> None:
    """Asked in one frame until the notary has taken all of it into one batch: the first and the last prove it."""

    async def scenario() -> None:
        peer = scripted.peer("home-2")
        async with scripted.connect("home-2") as notary:
            for _ in range(TRIES_MAX):
                if await _all_in_one_batch(scripted, peer, notary):
                    return
        raise AssertionError("the notary never decided a whole frame together")

    asyncio.run(scenario())


async def _all_in_one_batch(scripted: ScriptedCommunity, peer: ScriptedPeer, notary: Connection) -> bool:
    coin, shared, reader, last = await scripted.coins([peer.identity] * 4, AMOUNT)
    tx1, tx2 = (_spending(peer, coin)[1] for _ in range(2))
    reading = _reading(peer, reader, shared)[1]
    spending, end = _spending(peer, shared)[1], _spending(peer, last)[1]
    replies = await notary.ask_all([tx1, tx1, tx2, tx2, reading, spending, reading, end])
    first, again, refused, refused_again, read, spent, read_again, ended = replies
    assert _proof(first).batch.root == _proof(again).batch.root
    for reply in (refused, refused_again):
        refusal(reply, CONFLICT)
    assert _proof(read).batch.root == _proof(read_again).batch.root
    _proof(spent)
    return _proof(first).batch.root.sequence == _proof(ended).batch.root.sequence


def test_n09_a_state_that_never_existed_is_refused(scripted: ScriptedCommunity) -> None:
    """Neither as an output that a transaction does not have, nor of a transaction that nobody notarised."""

    async def scenario() -> None:
        peer = scripted.peer("home-2")
        (coin,) = await scripted.coins([peer.identity], AMOUNT)
        never = built(money_issue(scripted.peer("community"), [peer.identity], AMOUNT))
        made_up = [
            Held(StateRef(coin.ref.transaction_id, 7), coin.component, coin.proof),
            Held(StateRef(bytes(32), 0), coin.component, coin.proof),
            Held(never.output_ref(0), never.outputs[0], coin.proof),
        ]
        async with scripted.connect("home-2") as notary:
            for state in made_up:
                reply = refusal(await notary.ask(_spending(peer, state)[1]), INVALID)
                assert reply.error.cause.startswith("proof.")
            _proof(await notary.ask(_spending(peer, coin)[1]))

    asyncio.run(scenario())


def test_l21_a_party_refers_to_a_state_of_another_one_and_does_not_consume_it(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        reader, owner = scripted.peer("home-2"), scripted.peer("home-3")
        theirs, *coins = await scripted.coins([owner.identity, reader.identity, reader.identity], AMOUNT)
        async with scripted.connect("home-2") as notary:
            _proof(await notary.ask(_reading(reader, coins[0], theirs)[1]))
        async with scripted.connect("home-3") as notary:
            _proof(await notary.ask(_spending(owner, theirs)[1]))
        async with scripted.connect("home-2") as notary:
            refused = refusal(await notary.ask(_reading(reader, coins[1], theirs)[1]), CONFLICT)
        assert [conflict.kind for conflict in refused.error.conflicts] == [Conflict.KIND_REFERENCE]

    asyncio.run(scenario())
