"""Responders check before they sign (F10): a real home against a counterparty that proposes what was not agreed."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Self

import pytest
from p2pet.flows.v1 import arguments_pb2 as args
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_COMPLETED, FLOW_STATUS_FAILED, FlowOutcome
from p2pet.flows.v1.sessions_pb2 import (
    OfferedInput,
    SignatureRequest,
    SignatureResponse,
    SignedProposal,
    TradeOffer,
)
from p2pet.peer.v1.peer_pb2 import SessionMessage

from p2petd import native
from p2petd.contracts import energy, payment
from p2petd.contracts.energy import EnergyTransfer
from p2petd.contracts.payment import PaymentState
from p2petd.ledger.proposal import Proposal
from p2petd.ledger.transaction import Draft, TransactionBuilder
from p2petd.units import NO_LOWER_BOUND, SECOND_NS, NanoMoney, TimeNs, WattHours
from tests.support.community import CURRENCY, EURO_NANO, completed, selection
from tests.support.drafts import Final, Held, TradePlan, builder_of, built
from tests.support.peer import Connection
from tests.support.scripted import REAL, Holdings, ScriptedCommunity, eventually, told

OTHER, THIRD = "home-2", "home-3"
OWNED_WH, OWNED_NANO = 1_000, 100 * EURO_NANO
QUANTITY_WH, PRICE = 400, 250_000
AMOUNT_NANO = QUANTITY_WH * PRICE


@pytest.fixture(scope="module")
def owning(scripted: ScriptedCommunity) -> ScriptedCommunity:
    """home-1 owns energy and money."""

    async def fund() -> None:
        completed(await scripted.issue_energy(REAL, OWNED_WH))
        await scripted.fund_real_home(OWNED_NANO)

    asyncio.run(fund())
    return scripted


OWNED = Holdings(OWNED_WH, OWNED_NANO, 0)


def signature_count(message: SessionMessage) -> int:
    """How many signatures leave with a message, in whichever form."""
    proposal = SignedProposal.FromString(message.payload).proposal
    with contextlib.suppress(Exception):
        return len(Proposal.decode(proposal).signatures)
    return len(SignatureResponse.FromString(message.payload).signature)


async def assert_refused(connection: Connection, flow_id: bytes, owning: ScriptedCommunity) -> SessionMessage:
    """The home ends the session without a signature, and holds what it held, unreserved."""
    answer = await connection.hear(flow_id)
    assert answer.kind == SessionMessage.KIND_ERROR, f"a signature left: {signature_count(answer)}"
    assert not answer.payload
    assert "Traceback" not in answer.error_message
    await connection.settled()
    assert connection.unheard(flow_id) == 0
    await eventually(owning.holdings, OWNED)
    return answer


# A real seller, a scripted buyer.


def until_soon(seconds: float = 3) -> int:
    return time.time_ns() + int(seconds * SECOND_NS)


def right_offer(owning: ScriptedCommunity, coins: list[Held]) -> TradeOffer:
    buyer = owning.peer(OTHER)
    (parameters_hash,) = buyer.network_map.parameters
    return TradeOffer(
        terms=owning.trade_terms(REAL, QUANTITY_WH, price=PRICE),
        buyer=buyer.identity,
        notary=coins[0].output.notary,
        parameters_hash=parameters_hash,
        window_until_ns=until_soon(),
        payment_inputs=[OfferedInput(ref=coin.ref.encode(), proof=coin.proof) for coin in coins],
    )


@dataclass(frozen=True)
class Materials:
    """What a dishonest buyer has at hand."""

    offer: TradeOffer
    mine: Held
    smaller: Held
    foreign: Held
    lot: Held
    third: bytes


def _terms(**changes: object) -> Callable[[Materials], None]:
    def change(m: Materials) -> None:
        for name, value in changes.items():
            setattr(m.offer.terms, name, value)

    return change


def _offer(**changes: object) -> Callable[[Materials], None]:
    def change(m: Materials) -> None:
        for name, value in changes.items():
            setattr(m.offer, name, value)

    return change


def _pays_with(*choose: Callable[[Materials], Held]) -> Callable[[Materials], None]:
    def change(m: Materials) -> None:
        del m.offer.payment_inputs[:]
        for held in (one(m) for one in choose):
            m.offer.payment_inputs.append(OfferedInput(ref=held.ref.encode(), proof=held.proof))

    return change


def _other_proof(m: Materials) -> None:
    m.offer.payment_inputs[0].proof = m.smaller.proof


def _other_index(m: Materials) -> None:
    m.offer.payment_inputs[0].ref = replace(m.mine.ref, index=1).encode()


def _other_zone(m: Materials) -> None:
    m.offer.terms.energy.zone = "feeder-9"


def _other_period(m: Materials) -> None:
    m.offer.terms.energy.CopyFrom(selection(period=1))


BAD_OFFERS: dict[str, Callable[[Materials], None]] = {
    "a price below the asked one": _terms(price_micro_per_kwh=199_999),
    "a price of nothing with coins": _terms(price_micro_per_kwh=0),
    "a negative price": _terms(price_micro_per_kwh=-1),
    "a quantity of zero": _terms(quantity_wh=0),
    "a negative quantity": _terms(quantity_wh=-QUANTITY_WH),
    "more than the seller owns": _terms(quantity_wh=OWNED_WH + 1),
    "more than 64 bits": _terms(quantity_wh=2**62, price_micro_per_kwh=2**62),
    "another seller": _terms(seller=b"\x07" * 32),
    "another currency": _terms(currency="XXX"),
    "no currency": _terms(currency=""),
    "another period": _other_period,
    "another zone": _other_zone,
    "another buyer than who talks": lambda m: _offer(buyer=m.third)(m),
    "another notary": _offer(notary=b"\x07" * 32),
    "no notary": _offer(notary=b""),
    "other parameters": _offer(parameters_hash=bytes(32)),
    "a window that is over": lambda m: _offer(window_until_ns=until_soon(-1))(m),
    "a window that ends too late": lambda m: _offer(window_until_ns=until_soon(120))(m),
    "no window": _offer(window_until_ns=0),
    "no coins": _pays_with(),
    "too small a coin": _pays_with(lambda m: m.smaller),
    "the same coin twice": _pays_with(lambda m: m.mine, lambda m: m.mine),
    "a coin of somebody else": _pays_with(lambda m: m.foreign),
    "energy instead of a coin": _pays_with(lambda m: m.lot),
    "the proof of another coin": _other_proof,
    "the proof of another index": _other_index,
}


async def materials(owning: ScriptedCommunity) -> Materials:
    buyer, third = owning.identity[OTHER], owning.identity[THIRD]
    mine, foreign = await owning.coins([buyer, third], AMOUNT_NANO)
    (smaller,) = await owning.coins([buyer], AMOUNT_NANO - 1)
    lot = await owning.lot(OTHER, 10)
    return Materials(right_offer(owning, [mine]), mine, smaller, foreign, lot, third)


@pytest.mark.parametrize("fault", BAD_OFFERS)
def test_f10_seller_refuses_an_offer_that_is_not_right(fault: str, owning: ScriptedCommunity) -> None:
    async def scenario() -> None:
        m = await materials(owning)
        BAD_OFFERS[fault](m)
        async with owning.connect(OTHER, REAL) as seller:
            flow_id = await seller.open("energy.trade", m.offer)
            answer = await assert_refused(seller, flow_id, owning)
        # How much there is stays the seller's secret.
        assert str(OWNED_WH) not in answer.error_message.replace(str(OWNED_WH + 1), "")

    asyncio.run(scenario())


async def offered(owning: ScriptedCommunity, seller: Connection, seconds: float) -> tuple[bytes, Proposal]:
    """A right offer, which the seller answers with its signature; (flow, proposal)."""
    (coin,) = await owning.coins([owning.identity[OTHER]], AMOUNT_NANO)
    offer = right_offer(owning, [coin])
    offer.window_until_ns = until_soon(seconds)
    flow_id = await seller.open("energy.trade", offer)
    answer = await seller.hear(flow_id)
    assert answer.kind == SessionMessage.KIND_DATA, answer.error_message
    proposal = Proposal.decode(SignedProposal.FromString(answer.payload).proposal)
    assert [signature.key for signature in proposal.signatures] == [owning.identity[REAL]]
    return flow_id, proposal


@contextlib.asynccontextmanager
async def signed_sale(owning: ScriptedCommunity, seconds: float) -> AsyncIterator[tuple[Connection, bytes, Proposal]]:
    """A real seller that has signed and holds its lot; at the end the lot is free again, after the window only."""
    until_ns = until_soon(seconds)
    async with owning.connect(OTHER, REAL) as seller:
        flow_id, proposal = await offered(owning, seller, seconds)
        yield seller, flow_id, proposal
        await seller.settled()
        assert (await owning.locked(REAL)) == OWNED_WH
        while (now_ns := time.time_ns()) < until_ns:
            if await owning.locked(REAL) != OWNED_WH:
                # What was read may be from after the end.
                assert time.time_ns() >= until_ns, f"the lot was free {until_ns - now_ns} ns before the window ended"
            await asyncio.sleep(0.02)
    await eventually(owning.holdings, OWNED)


def _noise() -> bytes:
    return secrets.token_bytes(40)


LIES_AFTER_SIGNING = (
    "noise",
    "an unproven transaction",
    "another transaction",
    "a refusal",
    "a bare failure",
    "nothing",
)


@pytest.mark.parametrize("lie", LIES_AFTER_SIGNING)
def test_f20_seller_that_signed_keeps_its_lot_until_the_window_is_over(lie: str, owning: ScriptedCommunity) -> None:
    async def scenario() -> None:
        seconds = 0.1 if lie == "nothing" else 1.0
        async with signed_sale(owning, seconds) as (seller, flow_id, proposal):
            if lie == "noise":
                await seller.send(SessionMessage(kind=SessionMessage.KIND_DATA, flow_id=flow_id, payload=_noise()))
            elif lie == "an unproven transaction":
                final = Final(Draft.decode(proposal.transaction), proposal, _noise())
                await seller.say(flow_id, told(final))
            elif lie == "another transaction":
                await seller.say(flow_id, told(await owning.issue([owning.identity[REAL]], 1)))
            elif lie == "a refusal":
                await seller.fail(flow_id, "the buyer does not want it any more")
            elif lie == "a bare failure":
                await seller.fail(flow_id)

    asyncio.run(scenario())


def test_f21_seller_records_a_trade_whose_buyer_never_told_it(owning: ScriptedCommunity) -> None:
    """Moves what home-1 owns, and moves it back."""

    async def scenario() -> None:
        buyer = owning.peer(OTHER)
        async with owning.connect(OTHER, REAL) as seller, owning.connect(OTHER) as notary:
            flow_id, proposal = await offered(owning, seller, 10)
            draft = Draft.decode(proposal.transaction)
            signed = draft.proposal([*proposal.signatures, buyer.sign(draft.id)], proposal.input_proofs)
            reply = await notary.ask(buyer.request(draft, signed))
            assert reply.HasField("finality_proof")
            await seller.fail(flow_id, "nothing came of it")
            sold = Holdings(OWNED_WH - QUANTITY_WH, OWNED_NANO + AMOUNT_NANO, 0)
            await eventually(owning.holdings, sold)
            final = Final(draft, signed, reply.finality_proof)
            await _give_back(owning, seller, notary, final)

    asyncio.run(scenario())


async def _give_back(owning: ScriptedCommunity, home: Connection, notary: Connection, sold: Final) -> None:
    giver = owning.peer(OTHER)
    bought = next(
        held
        for index in range(len(sold.draft.outputs))
        if (held := sold.held(index)).output.contract == energy.NAME and held.energy.owner == giver.identity
    )
    draft = built(gift(owning, bought))
    request = SignatureRequest(proposal=draft.proposal((), [bought.proof]).encode())
    flow_id = await home.open("energy.transfer", request)
    answer = SignatureResponse.FromString((await home.hear(flow_id)).payload)
    signatures = [giver.sign(draft.id), replace(giver.sign(draft.id), key=answer.key, signature=answer.signature)]
    reply = await notary.ask(giver.request(draft, draft.proposal(signatures, [bought.proof])))
    final = Final(draft, draft.proposal(signatures), reply.finality_proof)
    await home.say(flow_id, told(final))
    pay = args.PaymentPayArguments(currency=CURRENCY, amount_nano=AMOUNT_NANO, recipient=giver.identity)
    completed(await owning.run(REAL, "payment.pay", pay))
    await eventually(owning.holdings, OWNED)


# A real recipient, a scripted giver.


def gift(owning: ScriptedCommunity, lot: Held, seconds: float = 3) -> TransactionBuilder:
    giver, receiver = owning.identity[OTHER], owning.identity[REAL]
    builder = builder_of(owning.peer(OTHER)).window(NO_LOWER_BOUND, TimeNs(until_soon(seconds)))
    builder.add_input(lot.ref, lot.component)
    builder.add_output(energy.NAME, energy.VERSION, replace(lot.energy, owner=receiver))
    command = EnergyTransfer(giver, receiver, lot.energy.quantity_wh)
    return builder.add_command(energy.NAME, command, [giver, receiver])


@dataclass(frozen=True)
class Gift:
    """A transfer in parts."""

    owning: ScriptedCommunity
    lot: Held
    coin: Held

    @property
    def giver(self) -> bytes:
        return self.owning.identity[OTHER]

    @property
    def receiver(self) -> bytes:
        return self.owning.identity[REAL]

    def builder(self) -> TransactionBuilder:
        builder = builder_of(self.owning.peer(OTHER)).window(NO_LOWER_BOUND, TimeNs(until_soon()))
        return builder.add_input(self.lot.ref, self.lot.component)

    def moved(self, builder: TransactionBuilder, to: bytes) -> TransactionBuilder:
        builder.add_output(energy.NAME, energy.VERSION, replace(self.lot.energy, owner=to))
        command = EnergyTransfer(self.giver, to, self.lot.energy.quantity_wh)
        return builder.add_command(energy.NAME, command, [self.giver, to])


def _no_window(g: Gift) -> TransactionBuilder:
    return g.moved(builder_of(g.owning.peer(OTHER)).add_input(g.lot.ref, g.lot.component), g.receiver)


def _late_window(g: Gift) -> TransactionBuilder:
    builder = builder_of(g.owning.peer(OTHER)).add_input(g.lot.ref, g.lot.component)
    return g.moved(builder.window(NO_LOWER_BOUND, TimeNs(until_soon(600))), g.receiver)


def _to_another(g: Gift) -> TransactionBuilder:
    return g.moved(g.builder(), g.owning.identity[THIRD])


def _extra_payment(g: Gift) -> TransactionBuilder:
    """Adds money that home-1 would create out of nothing."""
    state = PaymentState(CURRENCY, NanoMoney(5), g.receiver, g.giver)
    return g.moved(g.builder(), g.receiver).add_output(payment.NAME, payment.VERSION, state)


def _extra_energy(g: Gift) -> TransactionBuilder:
    more = replace(g.lot.energy, quantity_wh=WattHours(1), owner=g.giver)
    return g.moved(g.builder(), g.receiver).add_output(energy.NAME, energy.VERSION, more)


def _another_quantity(g: Gift) -> TransactionBuilder:
    more = WattHours(g.lot.energy.quantity_wh + 1)
    builder = g.builder()
    builder.add_output(energy.NAME, energy.VERSION, replace(g.lot.energy, owner=g.receiver, quantity_wh=more))
    return builder.add_command(energy.NAME, EnergyTransfer(g.giver, g.receiver, more), [g.giver, g.receiver])


BAD_GIFTS: dict[str, Callable[[Gift], TransactionBuilder]] = {
    "no window": _no_window,
    "a window that ends too late": _late_window,
    "another owner": _to_another,
    "an extra output of money": _extra_payment,
    "an extra output of energy": _extra_energy,
    "another quantity": _another_quantity,
}


@pytest.mark.parametrize("fault", BAD_GIFTS)
def test_f10_recipient_signs_for_a_gift_to_itself_only(fault: str, owning: ScriptedCommunity) -> None:
    async def scenario() -> None:
        lot = await owning.lot(OTHER, 50)
        (coin,) = await owning.coins([owning.identity[OTHER]], 5)
        draft = built(BAD_GIFTS[fault](Gift(owning, lot, coin)))
        request = SignatureRequest(proposal=draft.proposal((), [lot.proof]).encode())
        async with owning.connect(OTHER, REAL) as home:
            flow_id = await home.open("energy.transfer", request)
            await assert_refused(home, flow_id, owning)

    asyncio.run(scenario())


def test_f10_recipient_does_not_sign_its_own_energy_away(owning: ScriptedCommunity) -> None:
    async def scenario() -> None:
        async with owning.client(REAL) as client:
            states = (await client.vault.states(contract=energy.NAME)).states
            # The creator's proof is what every buyer of this lot learns.
            state = next(one for one in states if not one.consumed_by)
            recorded = await client.vault.transaction(state.ref[:32])
        signed = Proposal.decode(recorded.signed_transaction)
        lot = Final(Draft.decode(signed.transaction), signed, recorded.finality_proof).held(state.ref[-1])
        thief, victim = owning.identity[OTHER], owning.identity[REAL]
        builder = builder_of(owning.peer(OTHER)).window(NO_LOWER_BOUND, TimeNs(until_soon()))
        builder.add_input(lot.ref, lot.component)
        builder.add_output(energy.NAME, energy.VERSION, replace(lot.energy, owner=thief))
        builder.add_command(energy.NAME, EnergyTransfer(victim, thief, lot.energy.quantity_wh), [thief, victim])
        draft = built(builder)
        request = SignatureRequest(proposal=draft.proposal((), [lot.proof]).encode())
        async with owning.connect(OTHER, REAL) as home:
            flow_id = await home.open("energy.transfer", request)
            await assert_refused(home, flow_id, owning)

    asyncio.run(scenario())


# A real buyer, a scripted seller.


@dataclass(frozen=True)
class Sale:
    """What a dishonest seller has at hand once a real buyer has made its offer."""

    owning: ScriptedCommunity
    offer: TradeOffer
    plan: TradePlan
    other_coin: Held
    night_lot: Held


BAD_PLANS: dict[str, Callable[[Sale], TradePlan]] = {
    "a higher price": lambda s: replace(s.plan, price=PRICE + 1),
    "a lower price": lambda s: replace(s.plan, price=PRICE - 1),
    "a smaller quantity": lambda s: replace(s.plan, quantity_wh=QUANTITY_WH - 1),
    "less delivered than stated": lambda s: replace(s.plan, delivered_wh=QUANTITY_WH - 1),
    "more paid than stated": lambda s: replace(s.plan, paid_nano=AMOUNT_NANO + 1),
    "energy to another owner": lambda s: replace(s.plan, energy_to=s.owning.identity[THIRD]),
    "money to another owner": lambda s: replace(s.plan, money_to=s.owning.identity[THIRD]),
    "energy kept by the seller": lambda s: replace(s.plan, energy_to=s.owning.identity[OTHER]),
    "a later end of the window": lambda s: replace(s.plan, until_ns=s.plan.until_ns + 1),
    "an earlier end of the window": lambda s: replace(s.plan, until_ns=s.plan.until_ns - 1),
    "another coin": lambda s: replace(s.plan, coin=s.other_coin),
    "energy of another period": lambda s: replace(s.plan, lot=s.night_lot),
}


def _with_extra_coin(s: Sale, builder: TransactionBuilder) -> None:
    builder.add_input(s.other_coin.ref, s.other_coin.component)
    whole = replace(s.other_coin.money, owner=s.owning.identity[OTHER])
    builder.add_output(payment.NAME, payment.VERSION, whole)


def _with_extra_output(s: Sale, builder: TransactionBuilder) -> None:
    state = replace(s.plan.coin.money, amount_nano=NanoMoney(1), owner=s.owning.identity[OTHER])
    builder.add_output(payment.NAME, payment.VERSION, state)


def _with_third_signer(s: Sale, builder: TransactionBuilder) -> None:
    parties = [s.owning.identity[THIRD], s.owning.identity[OTHER]]
    lot = s.night_lot
    builder.add_input(lot.ref, lot.component)
    builder.add_output(energy.NAME, energy.VERSION, lot.energy)
    builder.add_command(energy.NAME, EnergyTransfer(parties[1], parties[0], WattHours(1)), parties)


BAD_ADDITIONS: dict[str, Callable[[Sale, TransactionBuilder], object]] = {
    "an extra coin of the buyer": _with_extra_coin,
    "an extra output": _with_extra_output,
    "an extra command": _with_third_signer,
    "a claim": lambda s, builder: builder.add_claim(b"\x05" * 32),
}


async def run_purchase(
    owning: ScriptedCommunity, answer: Callable[[Sale], tuple[TransactionBuilder, tuple[bytes, ...]]]
) -> tuple[FlowOutcome, SessionMessage | None]:
    """A real buyer and what the scripted seller proposes: (the buyer's outcome, what the seller hears last)."""
    (other_coin,) = await owning.coins([owning.identity[REAL]], AMOUNT_NANO)
    lot, night_lot = await owning.lot(OTHER, OWNED_WH), await owning.lot(OTHER, OWNED_WH, period=48)
    terms = owning.trade_terms(OTHER, QUANTITY_WH, price=PRICE)
    seller = owning.peer(OTHER)
    async with owning.connect(OTHER, REAL) as buyer, owning.client(REAL) as client:
        purchase = asyncio.create_task(client.flows.run("energy.trade", terms, deadline_seconds=20))
        opening = await buyer.opened()
        offer = TradeOffer.FromString(opening.payload)
        assert offer.terms == terms
        coin = await _offered_coin(owning, offer)
        identities = (owning.identity[OTHER], owning.identity[REAL])
        plan = TradePlan(lot, coin, *identities, QUANTITY_WH, PRICE, offer.window_until_ns)
        builder, proofs = answer(Sale(owning, offer, plan, other_coin, night_lot))
        draft = built(builder)
        proposal = draft.proposal([seller.sign(draft.id)], proofs)
        await buyer.say(opening.flow_id, SignedProposal(proposal=proposal.encode()), to_initiator=True)
        outcome = (await purchase).outcome
        return outcome, await buyer.hear(opening.flow_id)


async def _offered_coin(owning: ScriptedCommunity, offer: TradeOffer) -> Held:
    """The coin that the buyer offers, with everything that its own vault knows of it."""
    ref, proof = offer.payment_inputs[0].ref, offer.payment_inputs[0].proof
    async with owning.client(REAL) as client:
        recorded = await client.vault.transaction(ref[:32])
    signed = Proposal.decode(recorded.signed_transaction)
    held = Final(Draft.decode(signed.transaction), signed, recorded.finality_proof).held(int.from_bytes(ref[32:]))
    return replace(held, proof=proof)


async def assert_purchase_refused(
    owning: ScriptedCommunity, answer: Callable[[Sale], tuple[TransactionBuilder, tuple[bytes, ...]]]
) -> None:
    outcome, heard = await run_purchase(owning, answer)
    assert outcome.status == FLOW_STATUS_FAILED
    assert outcome.error_code
    assert outcome.error_message
    assert "error id" not in outcome.error_message
    assert heard is not None
    assert heard.kind == SessionMessage.KIND_ERROR, f"a signature left: {signature_count(heard)}"
    await eventually(owning.holdings, OWNED)


@pytest.mark.parametrize("fault", BAD_PLANS)
def test_f10_buyer_refuses_a_proposal_that_is_not_its_offer(fault: str, owning: ScriptedCommunity) -> None:
    def answer(sale: Sale) -> tuple[TransactionBuilder, tuple[bytes, ...]]:
        plan = BAD_PLANS[fault](sale)
        return plan.build(builder_of(owning.peer(OTHER))), plan.proofs

    asyncio.run(assert_purchase_refused(owning, answer))


@pytest.mark.parametrize("fault", BAD_ADDITIONS)
def test_f10_buyer_refuses_what_comes_on_top(fault: str, owning: ScriptedCommunity) -> None:
    def answer(sale: Sale) -> tuple[TransactionBuilder, tuple[bytes, ...]]:
        builder = sale.plan.build(builder_of(owning.peer(OTHER)))
        BAD_ADDITIONS[fault](sale, builder)
        extra = {"an extra coin of the buyer": (sale.other_coin.proof,), "an extra command": (sale.night_lot.proof,)}
        return builder, (*sale.plan.proofs, *extra.get(fault, ()))

    asyncio.run(assert_purchase_refused(owning, answer))


class _Tying(TransactionBuilder):
    """Ties the first two outputs: neither can be spent without the other."""

    def add_output_component(self, component: bytes) -> Self:
        companion = {0: 2, 1: 1}.get(len(self.outputs), 0)
        return super().add_output_component(native.change_notary(component, self.notary, companion))


def test_f10_buyer_refuses_energy_that_is_tied_to_the_sellers(owning: ScriptedCommunity) -> None:
    async def scenario() -> None:
        def answer(sale: Sale) -> tuple[TransactionBuilder, tuple[bytes, ...]]:
            (parameters_hash,) = owning.peer(OTHER).network_map.parameters
            return sale.plan.build(_Tying(sale.offer.notary, parameters_hash)), sale.plan.proofs

        await assert_purchase_refused(owning, answer)
        outcome, _ = await run_purchase(owning, answer)
        assert "ties an output" in outcome.error_message

    asyncio.run(scenario())


def test_f10_buyer_refuses_another_notary(owning: ScriptedCommunity) -> None:
    def answer(sale: Sale) -> tuple[TransactionBuilder, tuple[bytes, ...]]:
        (parameters_hash,) = owning.peer(OTHER).network_map.parameters
        elsewhere = TransactionBuilder(owning.identity[THIRD], parameters_hash)
        return sale.plan.build(elsewhere), sale.plan.proofs

    asyncio.run(assert_purchase_refused(owning, answer))


def test_c09_the_right_proposal_is_accepted(owning: ScriptedCommunity) -> None:
    """So that the refusals above are refusals of what was wrong."""

    async def scenario() -> None:
        def answer(sale: Sale) -> tuple[TransactionBuilder, tuple[bytes, ...]]:
            return sale.plan.build(builder_of(owning.peer(OTHER))), sale.plan.proofs

        outcome, heard = await run_purchase(owning, answer)
        assert outcome.status == FLOW_STATUS_COMPLETED, outcome.error_message
        assert heard is not None
        assert heard.kind == SessionMessage.KIND_DATA
        bought = Holdings(OWNED_WH + QUANTITY_WH, OWNED_NANO - AMOUNT_NANO, 0)
        await eventually(owning.holdings, bought)

    asyncio.run(scenario())
