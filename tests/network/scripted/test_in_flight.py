"""F20, F21: what is in flight with a counterparty that refuses, spends twice, or falls silent; one real home."""

import asyncio
import time
from dataclasses import replace

import pytest
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_COMPLETED, FLOW_STATUS_FAILED, FlowInfo
from p2pet.flows.v1.sessions_pb2 import OfferedInput, SignedProposal, TradeOffer
from p2pet.peer.v1.peer_pb2 import SessionMessage
from p2pet.vault.v1.vault_pb2 import InFlight

from p2petd.contracts import energy
from p2petd.contracts.energy import EnergySplit
from p2petd.ledger.proposal import Proposal
from p2petd.ledger.transaction import Draft, TransactionBuilder
from p2petd.units import SECOND_NS, WattHours
from tests.support.community import EURO_NANO, completed
from tests.support.drafts import Final, Held, TradePlan, builder_of, built, notarised, pay
from tests.support.peer import Connection, ScriptedPeer
from tests.support.scripted import REAL, Holdings, ScriptedCommunity, eventually, told

OTHER, THIRD = "home-2", "home-3"
OWNED_WH, OWNED_NANO = 1_000, 100 * EURO_NANO
QUANTITY_WH, PRICE = 400, 250_000
AMOUNT_NANO = QUANTITY_WH * PRICE
OWNED = Holdings(OWNED_WH, OWNED_NANO, 0)
LONG_SECONDS, SHORT_SECONDS = 25.0, 1.0


@pytest.fixture(scope="module")
def owning(scripted: ScriptedCommunity) -> ScriptedCommunity:
    """home-1 owns energy and money."""

    async def fund() -> None:
        completed(await scripted.issue_energy(REAL, OWNED_WH))
        await scripted.fund_real_home(OWNED_NANO)

    asyncio.run(fund())
    return scripted


async def in_flight(owning: ScriptedCommunity) -> list[InFlight]:
    async with owning.client(REAL) as client:
        return list((await client.vault.in_flight()).transactions)


async def responder(owning: ScriptedCommunity) -> FlowInfo:
    """home-1's newest flow."""
    async with owning.client(REAL) as client:
        return (await client.flows.list(page_size=1)).flows[0]


def offer_of(owning: ScriptedCommunity, coin: Held, seconds: float) -> TradeOffer:
    buyer = owning.peer(OTHER)
    (parameters_hash,) = buyer.network_map.parameters
    return TradeOffer(
        terms=owning.trade_terms(REAL, QUANTITY_WH, price=PRICE),
        buyer=buyer.identity,
        notary=coin.output.notary,
        parameters_hash=parameters_hash,
        window_until_ns=time.time_ns() + int(seconds * SECOND_NS),
        payment_inputs=[OfferedInput(ref=coin.ref.encode(), proof=coin.proof)],
    )


async def sold(owning: ScriptedCommunity, home: Connection, coin: Held, seconds: float) -> tuple[bytes, Proposal]:
    """The real seller has signed; its flow's id at the buyer, and what it proposes."""
    flow_id = await home.open("energy.trade", offer_of(owning, coin, seconds))
    answer = await home.hear(flow_id)
    assert answer.kind == SessionMessage.KIND_DATA, answer.error_message
    return flow_id, Proposal.decode(SignedProposal.FromString(answer.payload).proposal)


def test_f20_a_refusal_of_the_notary_ends_it_at_the_one_who_waits_too(owning: ScriptedCommunity) -> None:
    """The buyer spends its coin elsewhere: the notary knows at once that nothing can come of the trade, and the
    seller asks it when it is told, long before the window is over."""

    async def scenario() -> None:
        buyer = owning.peer(OTHER)
        (coin,) = await owning.coins([buyer.identity], AMOUNT_NANO)
        async with owning.connect(OTHER, REAL) as home, owning.connect(OTHER) as notary:
            flow_id, proposal = await sold(owning, home, coin, LONG_SECONDS)
            (row,) = await in_flight(owning)
            assert row.id == Draft.decode(proposal.transaction).id
            assert not row.asks_notary
            assert row.until_ns > time.time_ns() + 10 * SECOND_NS
            assert row.since_ns <= time.time_ns()
            elsewhere = built(pay(buyer, [coin], owning.identity[THIRD]))
            await notarised(notary, buyer, elsewhere, [buyer], [coin.proof])
            # Nobody has told the seller: it keeps what it has signed for.
            assert (await owning.holdings()).locked == OWNED_WH
            await home.fail(flow_id, "the notary has refused the transaction: another one came first")
            await eventually(owning.holdings, OWNED)
            assert time.time_ns() < row.until_ns
            assert await in_flight(owning) == []
            flow = await responder(owning)
            assert flow.outcome.status == FLOW_STATUS_FAILED
            assert "another one came first" in flow.outcome.error_message

    asyncio.run(scenario())


def test_f20_a_buyer_whom_the_notary_refuses_tells_the_seller_why(owning: ScriptedCommunity) -> None:
    async def scenario() -> None:
        seller = owning.peer(OTHER)
        lot = await owning.lot(OTHER, QUANTITY_WH)
        terms = owning.trade_terms(OTHER, QUANTITY_WH, price=PRICE)
        async with owning.connect(OTHER, REAL) as home, owning.connect(OTHER) as notary:
            async with owning.client(REAL) as client:
                purchase = asyncio.create_task(client.flows.run("energy.trade", terms, deadline_seconds=20))
                opening = await home.opened()
                offer = TradeOffer.FromString(opening.payload)
                coin = await offered_coin(owning, offer)
                parties = (seller.identity, owning.identity[REAL])
                plan = TradePlan(lot, coin, *parties, QUANTITY_WH, PRICE, offer.window_until_ns)
                draft = built(plan.build(builder_of(seller)))
                proposal = draft.proposal([seller.sign(draft.id)], plan.proofs)
                # It has split the lot before that.
                await notarised(notary, seller, built(split(seller, lot)), [seller], [lot.proof])
                await home.say(opening.flow_id, SignedProposal(proposal=proposal.encode()), to_initiator=True)
                outcome = (await purchase).outcome
            heard = await home.hear(opening.flow_id)
        assert outcome.error_code == "notary.conflict"
        assert "another transaction came first" in outcome.error_message
        assert heard.kind == SessionMessage.KIND_ERROR
        assert heard.error_message == f"the notary has refused the transaction: {outcome.error_message}"
        assert await in_flight(owning) == []
        assert await owning.holdings() == OWNED

    asyncio.run(scenario())


def test_f21_a_peer_that_asked_the_notary_gets_the_lacking_signature_when_its_buyer_is_back(
    owning: ScriptedCommunity,
) -> None:
    """Moves what home-1 owns: the last test of the module."""

    async def scenario() -> None:
        buyer = owning.peer(OTHER)
        (coin,) = await owning.coins([buyer.identity], AMOUNT_NANO)
        async with owning.connect(OTHER, REAL) as home, owning.connect(OTHER) as notary:
            flow_id, proposal = await sold(owning, home, coin, SHORT_SECONDS)
            draft = Draft.decode(proposal.transaction)
            signed = draft.proposal([*proposal.signatures, buyer.sign(draft.id)], proposal.input_proofs)
            reply = await notary.ask(buyer.request(draft, signed))
            assert reply.HasField("finality_proof")
            # The buyer is silent: after the window the seller has asked by itself.
            await eventually(owning.holdings, Holdings(OWNED_WH - QUANTITY_WH, OWNED_NANO + AMOUNT_NANO, 0))
            assert await in_flight(owning) == []
            async with owning.client(REAL) as client:
                kept = Proposal.decode((await client.vault.transaction(draft.id)).signed_transaction)
                assert {one.key for one in kept.signatures} == {owning.identity[REAL]}
                final = Final(draft, draft.proposal(signed.signatures), reply.finality_proof)
                await home.say(flow_id, told(final))
                await eventually(lambda: signers(owning, draft.id), {owning.identity[REAL], buyer.identity})
            await eventually(lambda: status(owning), FLOW_STATUS_COMPLETED)

    asyncio.run(scenario())


def split(owner: ScriptedPeer, lot: Held) -> TransactionBuilder:
    builder = builder_of(owner).add_input(lot.ref, lot.component)
    for part_wh in (1, lot.energy.quantity_wh - 1):
        builder.add_output(energy.NAME, energy.VERSION, replace(lot.energy, quantity_wh=WattHours(part_wh)))
    return builder.add_command(energy.NAME, EnergySplit(), [owner.identity])


async def status(owning: ScriptedCommunity) -> int:
    return (await responder(owning)).outcome.status


async def signers(owning: ScriptedCommunity, transaction_id: bytes) -> set[bytes]:
    async with owning.client(REAL) as client:
        kept = Proposal.decode((await client.vault.transaction(transaction_id)).signed_transaction)
    return {one.key for one in kept.signatures}


async def offered_coin(owning: ScriptedCommunity, offer: TradeOffer) -> Held:
    ref = offer.payment_inputs[0].ref
    async with owning.client(REAL) as client:
        recorded = await client.vault.transaction(ref[:32])
    signed = Proposal.decode(recorded.signed_transaction)
    return Final(Draft.decode(signed.transaction), signed, recorded.finality_proof).held(int.from_bytes(ref[32:]))
