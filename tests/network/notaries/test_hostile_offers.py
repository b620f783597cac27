"""Trades between two notaries with a counterparty that lies of notaries, terms or coins: nothing is lost (N13, F10)."""

import asyncio
import secrets
import time
from collections.abc import Iterator

import pytest
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_FAILED, FlowOutcome
from p2pet.flows.v1.sessions_pb2 import MovesAnnounced, OfferedInput, SignedProposal, TradeOffer
from p2pet.localnet import LocalNetwork
from p2pet.peer.v1.peer_pb2 import SessionMessage

from p2petd.contracts import payment
from p2petd.contracts.payment import PaymentIssue, PaymentState
from p2petd.flows.notary_change import STATES_MAX
from p2petd.ledger.refs import StateRef
from p2petd.ledger.resolved import OutputState
from p2petd.ledger.transaction import TransactionBuilder
from p2petd.units import SECOND_NS, NanoMoney
from tests.support.community import CURRENCY, EURO_NANO, completed, make_community
from tests.support.drafts import Held, builder_of, built, notarised
from tests.support.peer import Connection
from tests.support.rogue import RogueNotary, held_by
from tests.support.scripted import REAL, Holdings, ScriptedCommunity, eventually, told
from tests.support.two_notaries import FIRST, SECOND, TwoNotaries

PEER = "home-2"
QUANTITY_WH, PAID_NANO = 1_000, 250_000_000


class Lying(ScriptedCommunity, TwoNotaries):
    """home-1 is real, home-2 says what the test says."""


@pytest.fixture(scope="module")
def lying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lying]:
    directory = tmp_path_factory.mktemp("lying") / "net"
    made = make_community(directory, homes=2, notaries=2)
    with LocalNetwork(directory) as network:
        asyncio.run(network.start(FIRST, SECOND, REAL))
        yield Lying(made, network)


async def _buy(community: Lying, peer: Connection, answers: list[bytes]) -> tuple[FlowOutcome, list[TradeOffer]]:
    """A trade of the real home, to whose offers the seller answers with notaries; what it offered, and its outcome."""
    trade = asyncio.create_task(community.trade(REAL, PEER, QUANTITY_WH))
    opening = await peer.opened()
    offers = [TradeOffer.FromString(opening.payload)]
    for number, notary in enumerate(answers):
        await peer.say(opening.flow_id, SignedProposal(notary=notary), to_initiator=True)
        heard = await peer.hear(opening.flow_id)
        if heard.kind == SessionMessage.KIND_ERROR:
            break
        assert number == 0
        offers.append(TradeOffer.FromString(heard.payload))
    return await trade, offers


def test_n13_a_seller_cannot_send_the_money_to_a_notary_that_is_not_listed(lying: Lying) -> None:
    async def scenario() -> None:
        await lying.fund_real_home(EURO_NANO)
        before = await lying.holdings()
        async with lying.connect(PEER, REAL) as peer:
            outcome, offers = await _buy(lying, peer, [secrets.token_bytes(32)])
        assert (outcome.status, outcome.error_code) == (FLOW_STATUS_FAILED, "flow.refused")
        assert len(offers) == 1
        assert await lying.holdings() == before
        assert await lying.guarded(REAL) == {FIRST: 1, SECOND: 0}

    asyncio.run(scenario())


def test_n13_a_seller_makes_the_money_move_once_and_no_more(lying: Lying) -> None:
    async def scenario() -> None:
        before = await lying.holdings()
        async with lying.connect(PEER, REAL) as peer:
            there, back = lying.service_key(SECOND), lying.service_key(FIRST)
            outcome, (first, second) = await _buy(lying, peer, [there, back])
        assert outcome.status == FLOW_STATUS_FAILED
        assert (first.notary, second.notary) == (back, there)
        assert first.terms == second.terms
        assert [one.ref for one in first.payment_inputs] != [one.ref for one in second.payment_inputs]
        # The money has moved, and is all there.
        assert await lying.holdings() == before
        assert await lying.guarded(REAL) == {FIRST: 0, SECOND: 1}
        completed(await lying.move(REAL, FIRST))

    asyncio.run(scenario())


@pytest.mark.parametrize("lie", ["more energy", "another notary", "coins that have not moved", "nothing more"])
def test_n13_a_buyer_that_offers_something_else_again_gets_nothing(lying: Lying, lie: str) -> None:
    async def scenario() -> None:
        completed(await lying.issue_energy(REAL, QUANTITY_WH + 1, period=len(lie)))
        energy = [state.ref for state in await lying.states(REAL, "energy")]
        completed(await lying.move(REAL, SECOND, energy))
        before = await lying.holdings()
        buyer = lying.peer(PEER)
        (coin,) = await lying.coins([buyer.identity], PAID_NANO)
        async with lying.connect(PEER, REAL) as seller:
            flow_id = await seller.open("energy.trade", _offer(lying, coin, len(lie), FIRST))
            answer = SignedProposal.FromString((await seller.hear(flow_id)).payload)
            assert (answer.proposal, answer.notary) == (b"", lying.service_key(SECOND))
            assert (await lying.holdings()).locked == QUANTITY_WH + 1
            again = _offer(lying, coin, len(lie), SECOND)
            if lie == "more energy":
                again.terms.quantity_wh += 1
            elif lie == "another notary":
                again.notary = lying.service_key(FIRST)
            if lie == "nothing more":
                await seller.fail(flow_id, "not any more")
            else:
                await seller.say(flow_id, again)
                assert (await seller.hear(flow_id)).kind == SessionMessage.KIND_ERROR
            await eventually(lying.holdings, before)
        completed(await lying.move(REAL, FIRST, [state.ref for state in await lying.states(REAL, "energy")]))
        async with lying.connect(PEER, REAL) as seller:
            # The coin is reserved by nothing any more.
            fair = await seller.open("energy.trade", _offer(lying, coin, len(lie), FIRST))
            assert SignedProposal.FromString((await seller.hear(fair)).payload).proposal
            await seller.fail(fair, "not any more")
            await eventually(lambda: lying.holdings(), before)

    asyncio.run(scenario())


def _offer(community: Lying, coin: Held, period: int, notary: str) -> TradeOffer:
    buyer = community.peer(PEER)
    (parameters_hash,) = buyer.network_map.parameters
    return TradeOffer(
        terms=community.trade_terms(REAL, QUANTITY_WH, period),
        buyer=buyer.identity,
        notary=community.service_key(notary),
        parameters_hash=parameters_hash,
        window_until_ns=time.time_ns() + 4 * SECOND_NS,
        payment_inputs=[OfferedInput(ref=coin.ref.encode(), proof=coin.proof)],
    )


@pytest.mark.parametrize("lie", ["a notary made it up", "it is somebody else's", "its notary is not listed"])
def test_n13_lots_are_not_kept_for_coins_that_the_buyer_cannot_move(lying: Lying, lie: str) -> None:
    """The coin seems to be guarded by another notary than the energy; the seller does not ask for it."""

    async def scenario() -> None:
        period = 50 + len(lie)
        completed(await lying.issue_energy(REAL, 1, period))
        before = await lying.holdings()
        buyer, rogue = lying.peer(PEER), RogueNotary(lying.peer(PEER).network_id)
        owner = lying.identity["community"] if lie.endswith("else's") else buyer.identity
        guard = rogue.key if lie.endswith("not listed") else lying.service_key(SECOND)
        (parameters_hash,) = buyer.network_map.parameters
        state = PaymentState(CURRENCY, NanoMoney(PAID_NANO), lying.identity["community"], owner)
        draft = built(TransactionBuilder(guard, parameters_hash).add_output(payment.NAME, payment.VERSION, state))
        coin = held_by(draft, rogue.decide(draft, claimed=guard))
        if lie.endswith("else's"):
            issuer = lying.peer("community")
            builder = TransactionBuilder(guard, parameters_hash)
            builder.add_output(payment.NAME, payment.VERSION, state)
            builder.add_command(payment.NAME, PaymentIssue(secrets.token_bytes(32)), [issuer.identity])
            async with lying.connect("community", SECOND) as notary:
                coin = (await notarised(notary, issuer, built(builder), [issuer])).held()
        offer = _offer(lying, coin, period, SECOND)
        offer.terms.quantity_wh = 1
        async with lying.connect(PEER, REAL) as seller:
            flow_id = await seller.open("energy.trade", offer)
            assert (await seller.hear(flow_id)).kind == SessionMessage.KIND_ERROR
        await eventually(lying.holdings, before)

    asyncio.run(scenario())


@pytest.mark.parametrize("announced", [0, STATES_MAX + 1])
def test_n13_moves_are_announced_in_bounds(lying: Lying, announced: int) -> None:
    async def scenario() -> None:
        before = await lying.holdings()
        async with lying.connect(PEER, REAL) as home:
            flow_id = await home.open("ledger.notary_change", MovesAnnounced(transactions=announced))
            assert (await home.hear(flow_id)).kind == SessionMessage.KIND_ERROR
        assert await lying.holdings() == before

    asyncio.run(scenario())


def test_n13_holdings_are_whole_at_the_end(lying: Lying) -> None:
    """Nothing that a liar made the home do has cost it anything."""

    async def scenario() -> None:
        assert await lying.holdings() == Holdings(4 * (QUANTITY_WH + 1) + 3, EURO_NANO, 0)
        refs = [StateRef.decode(state.ref) for state in await lying.states(REAL)]
        assert len(set(refs)) == 8

    asyncio.run(scenario())


def test_n13_companions_move_together_when_one_is_named(lying: Lying) -> None:
    """Two coins that must be consumed together, and one that is free."""

    async def scenario() -> None:
        issuer, amount = lying.peer("community"), NanoMoney(11)
        builder = builder_of(issuer)
        for encumbered_by in (2, 1, 0):
            state = PaymentState(CURRENCY, amount, issuer.identity, lying.identity[REAL])
            builder.add_output(payment.NAME, payment.VERSION, state, encumbered_by)
            builder.add_command(payment.NAME, PaymentIssue(secrets.token_bytes(32)), [issuer.identity])
        async with lying.connect("community") as notary:
            final = await notarised(notary, issuer, built(builder), [issuer])
        before = await lying.guarded(REAL)
        async with lying.connect("community", REAL) as home:
            await home.open("payment.issue", told(final))
            await eventually(lambda: lying.guarded(REAL), {**before, FIRST: before[FIRST] + 3})
        named = final.draft.output_ref(1).encode()
        moved = completed(await lying.move(REAL, SECOND, [named]))
        assert await lying.guarded(REAL) == {FIRST: before[FIRST] + 1, SECOND: before[SECOND] + 2}
        states = [state for state in await lying.states(REAL) if state.ref[:32] == moved.transaction_id]
        outputs = {int.from_bytes(state.ref[32:]): OutputState.decode(state.output) for state in states}
        assert [outputs[index].encumbered_by for index in (0, 1)] == [2, 1]
        completed(await lying.move(REAL, FIRST, [states[0].ref]))
        assert await lying.guarded(REAL) == {FIRST: before[FIRST] + 3, SECOND: before[SECOND]}

    asyncio.run(scenario())
