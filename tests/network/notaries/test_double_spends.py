"""A state that moves between notaries is spent once, in whatever order it is spent and moved, and wherever (N13)."""

import asyncio
import secrets
from collections.abc import Iterator, Sequence

import pytest
from p2pet.localnet import LocalNetwork
from p2pet.notary.v1.notary_pb2 import NotarisationReply

from p2petd.contracts import payment
from p2petd.contracts.payment import PaymentPay
from p2petd.ledger.notary_change import notary_change
from p2petd.ledger.transaction import Draft, TransactionBuilder
from tests.support.community import make_community
from tests.support.drafts import Final, Held, refusal
from tests.support.peer import ScriptedPeer
from tests.support.scripted import ScriptedCommunity

OWNER, THIEF = "home-1", "home-2"
FIRST, SECOND, THIRD = "notary", "notary-2", "notary-3"
AMOUNT = 1_000
CONFLICT, INVALID = "notary.conflict", "notary.invalid_transaction"


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedCommunity]:
    """Three notaries run; every party is scripted."""
    directory = tmp_path_factory.mktemp("three") / "net"
    made = make_community(directory, homes=2, notaries=3)
    with LocalNetwork(directory) as network:
        asyncio.run(network.start(FIRST, SECOND, THIRD))
        yield ScriptedCommunity(made, network)


def _key(community: ScriptedCommunity, notary: str) -> bytes:
    (key,) = (node.notary_service_key for node in community.made.nodes if node.directory.name == notary)
    return key


def _move(community: ScriptedCommunity, states: Sequence[Held], to: bytes, owner: str = OWNER) -> Draft:
    peer = community.peer(owner)
    (parameters_hash,) = peer.network_map.parameters
    return notary_change(
        [(state.ref, state.component) for state in states],
        to,
        parameters_hash=parameters_hash,
        signers=[peer.identity],
        salt=secrets.token_bytes(32),
    )


def _spend(community: ScriptedCommunity, states: Sequence[Held], at: str) -> Draft:
    peer = community.peer(OWNER)
    (parameters_hash,) = peer.network_map.parameters
    builder = TransactionBuilder(_key(community, at), parameters_hash)
    for state in states:
        builder.add_input(state.ref, state.component)
        builder.add_output(payment.NAME, payment.VERSION, state.money)
    return builder.add_command(payment.NAME, PaymentPay(), [peer.identity]).build(secrets.token_bytes(32))


async def _ask(
    community: ScriptedCommunity, at: str, draft: Draft, states: Sequence[Held], owner: str = OWNER
) -> NotarisationReply:
    peer = community.peer(owner)
    proposal = draft.proposal([peer.sign(draft.id)], [state.proof for state in states])
    async with community.connect(owner, at) as notary:
        return await notary.ask(peer.request(draft, proposal))


def _final(peer: ScriptedPeer, draft: Draft, reply: NotarisationReply) -> Final:
    assert reply.WhichOneof("result") == "finality_proof", f"{reply.error.code}: {reply.error.message}"
    return Final(draft, draft.proposal([peer.sign(draft.id)]), reply.finality_proof)


async def _moved(community: ScriptedCommunity, states: Sequence[Held], start: str, to: str) -> list[Held]:
    draft = _move(community, states, _key(community, to))
    final = _final(community.peer(OWNER), draft, await _ask(community, start, draft, states))
    return [final.held(index) for index in range(len(states))]


def test_n13_spent_at_the_old_notary_first_it_moves_no_more(three: ScriptedCommunity) -> None:
    async def scenario() -> None:
        peer = three.peer(OWNER)
        (coin,) = await three.coins([peer.identity], AMOUNT)
        spend = _spend(three, [coin], FIRST)
        _final(peer, spend, await _ask(three, FIRST, spend, [coin]))
        for to in (SECOND, THIRD):
            move = _move(three, [coin], _key(three, to))
            refusal(await _ask(three, FIRST, move, [coin]), CONFLICT)

    asyncio.run(scenario())


def test_n13_moved_first_it_is_spent_at_the_new_notary_only(three: ScriptedCommunity) -> None:
    async def scenario() -> None:
        peer = three.peer(OWNER)
        (coin,) = await three.coins([peer.identity], AMOUNT)
        (moved,) = await _moved(three, [coin], FIRST, SECOND)
        assert moved.output.payload == coin.output.payload
        refusal(await _ask(three, FIRST, _spend(three, [coin], FIRST), [coin]), CONFLICT)
        # The old state at the new notary, and the new one at the old.
        for at, state in ((SECOND, coin), (FIRST, moved), (THIRD, moved)):
            reply = refusal(await _ask(three, at, _spend(three, [state], at), [state]), INVALID)
            assert reply.error.cause == "proof.other_notary"
        spend = _spend(three, [moved], SECOND)
        _final(peer, spend, await _ask(three, SECOND, spend, [moved]))
        refusal(await _ask(three, SECOND, _spend(three, [moved], SECOND), [moved]), CONFLICT)

    asyncio.run(scenario())


def test_n13_it_moves_to_one_notary_and_not_to_two(three: ScriptedCommunity) -> None:
    async def scenario() -> None:
        (coin,) = await three.coins([three.peer(OWNER).identity], AMOUNT)
        (moved,) = await _moved(three, [coin], FIRST, SECOND)
        refusal(await _ask(three, FIRST, _move(three, [coin], _key(three, THIRD)), [coin]), CONFLICT)
        # On, and back again: each time the state before it is used up.
        (on,) = await _moved(three, [moved], SECOND, THIRD)
        (back,) = await _moved(three, [on], THIRD, FIRST)
        refusal(await _ask(three, SECOND, _move(three, [moved], _key(three, FIRST)), [moved]), CONFLICT)
        refusal(await _ask(three, THIRD, _spend(three, [on], THIRD), [on]), CONFLICT)
        spend = _spend(three, [back], FIRST)
        _final(three.peer(OWNER), spend, await _ask(three, FIRST, spend, [back]))

    asyncio.run(scenario())


def test_n13_of_a_race_one_wins_and_the_state_lives_on_there_only(three: ScriptedCommunity) -> None:
    async def scenario() -> None:
        peer = three.peer(OWNER)
        for _ in range(10):
            (coin,) = await three.coins([peer.identity], AMOUNT)
            drafts = [_spend(three, [coin], FIRST)]
            drafts += [_move(three, [coin], _key(three, to)) for to in (SECOND, THIRD)]
            secrets.SystemRandom().shuffle(drafts)
            requests = [peer.request(d, d.proposal([peer.sign(d.id)], [coin.proof])) for d in drafts]
            async with three.connect(OWNER, FIRST) as one, three.connect(OWNER, SECOND) as other:
                replies, (elsewhere,) = await asyncio.gather(one.ask_all(requests), other.ask_all(requests[:1]))
            refusal(elsewhere, INVALID)
            won = [reply.WhichOneof("result") == "finality_proof" for reply in replies]
            assert won == [True, False, False]
            for reply in replies[1:]:
                refusal(reply, CONFLICT)

    asyncio.run(scenario())


def test_n13_a_move_is_whole_or_not_at_all(three: ScriptedCommunity) -> None:
    async def scenario() -> None:
        peer = three.peer(OWNER)
        spent, fresh = await three.coins([peer.identity] * 2, AMOUNT)
        spend = _spend(three, [spent], FIRST)
        _final(peer, spend, await _ask(three, FIRST, spend, [spent]))
        both = _move(three, [fresh, spent], _key(three, SECOND))
        reply = refusal(await _ask(three, FIRST, both, [fresh, spent]), CONFLICT)
        assert [conflict.subject for conflict in reply.error.conflicts] == [spent.ref.encode()]
        await _moved(three, [fresh], FIRST, SECOND)

    asyncio.run(scenario())


def test_n13_nobody_but_the_owner_moves_a_state(three: ScriptedCommunity) -> None:
    async def scenario() -> None:
        (coin,) = await three.coins([three.peer(OWNER).identity], AMOUNT)
        stolen = _move(three, [coin], _key(three, SECOND), THIEF)
        reply = refusal(await _ask(three, FIRST, stolen, [coin], THIEF), INVALID)
        assert reply.error.cause == "contract.move_unsigned"
        await _moved(three, [coin], FIRST, SECOND)

    asyncio.run(scenario())


def test_n13_a_state_moves_only_to_a_notary_that_is_listed(three: ScriptedCommunity) -> None:
    async def scenario() -> None:
        peer = three.peer(OWNER)
        (coin,) = await three.coins([peer.identity], AMOUNT)
        nowhere = _move(three, [coin], three.peer(THIEF).identity)
        reply = refusal(await _ask(three, FIRST, nowhere, [coin]), INVALID)
        assert reply.error.cause == "transaction.notary_not_listed"
        await _moved(three, [coin], FIRST, THIRD)

    asyncio.run(scenario())
