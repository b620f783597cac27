"""Direct-input proofs on real nodes (L24): what no listed notary has decided is refused by counterparty and notary."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest
from p2pet.flows.v1.sessions_pb2 import OfferedInput, SignatureRequest, TradeOffer
from p2pet.ledger.v1.transaction_pb2 import InputProof
from p2pet.peer.v1.peer_pb2 import SessionMessage

from p2petd import native
from p2petd.contracts import energy, payment
from p2petd.contracts.energy import EnergyTransfer
from p2petd.contracts.payment import PaymentIssue, PaymentState
from p2petd.ledger.transaction import Draft, TransactionBuilder
from p2petd.units import HOUR_NS, NO_LOWER_BOUND, SECOND_NS, NanoMoney, TimeNs, WattHours
from tests.support.community import CURRENCY, completed
from tests.support.drafts import Held, builder_of, built, energy_issue, money_issue, pay, refusal
from tests.support.rogue import UNIQUENESS_ONLY, RogueNotary, held_by
from tests.support.scripted import REAL, Holdings, ScriptedCommunity, eventually

FORGER = "home-2"
OWNED_WH = 1_000
QUANTITY_WH, PRICE = 400, 250_000
AMOUNT_NANO = QUANTITY_WH * PRICE
OWNED = Holdings(OWNED_WH, 0, 0)


@pytest.fixture(scope="module")
def owning(scripted: ScriptedCommunity) -> ScriptedCommunity:
    completed(asyncio.run(scripted.issue_energy(REAL, OWNED_WH)))
    return scripted


@dataclass(frozen=True)
class Workshop:
    """What a forger has: its node, a notary of its own, and one transaction that makes it rich if it is believed."""

    owning: ScriptedCommunity
    rogue: RogueNotary
    # Makes the wanted state in a way that its contract permits.
    draft: Callable[[TransactionBuilder | None], Draft]
    real: Callable[[], Awaitable[Held]]

    @property
    def named_notary(self) -> bytes:
        return self.owning.made.nodes[0].notary_service_key


async def _missing(w: Workshop) -> Held:
    return replace(await w.real(), proof=b"")


async def _of_another_index(w: Workshop) -> Held:
    real = await w.real()
    return replace(real, ref=replace(real.ref, index=real.ref.index + 1))


async def _of_another_transaction(w: Workshop) -> Held:
    return replace(await w.real(), proof=(await w.real()).proof)


async def _never_notarised(w: Workshop) -> Held:
    """The notary's own signature on a real transaction, under one that it never saw."""
    draft = w.draft(None)
    forged = held_by(draft, w.rogue.decide(draft))
    proof = InputProof.FromString(forged.proof)
    proof.batch.CopyFrom(InputProof.FromString((await w.real()).proof).batch)
    return replace(forged, proof=proof.SerializeToString())


async def _by_another_notary(w: Workshop) -> Held:
    draft = w.draft(None)
    return held_by(draft, w.rogue.decide(draft))


async def _by_a_worker_that_the_notary_did_not_certify(w: Workshop) -> Held:
    draft = w.draft(None)
    return held_by(draft, w.rogue.decide(draft, claimed=w.named_notary))


async def _by_an_unlisted_notary(w: Workshop) -> Held:
    (parameters_hash,) = w.owning.peer(FORGER).network_map.parameters
    draft = w.draft(TransactionBuilder(w.rogue.key, parameters_hash))
    return held_by(draft, w.rogue.decide(draft))


async def _under_unknown_parameters(w: Workshop) -> Held:
    draft = w.draft(TransactionBuilder(w.rogue.key, b"\x05" * 32))
    return held_by(draft, w.rogue.decide(draft))


async def _by_a_notary_that_verifies_nothing(w: Workshop) -> Held:
    draft = w.draft(None)
    return held_by(draft, w.rogue.decide(draft, claimed=w.named_notary, mode=UNIQUENESS_ONLY))


async def _by_an_expired_worker(w: Workshop) -> Held:
    draft = w.draft(None)
    return held_by(draft, w.rogue.decide(draft, at_ns=time.time_ns() + 2 * HOUR_NS))


FORGERIES: dict[str, Callable[[Workshop], Awaitable[Held]]] = {
    "missing": _missing,
    "of another index": _of_another_index,
    "of another transaction": _of_another_transaction,
    "of a transaction that was never notarised": _never_notarised,
    "by another notary than the creator names": _by_another_notary,
    "by a worker that the notary did not certify": _by_a_worker_that_the_notary_did_not_certify,
    "by a notary that the parameters do not list": _by_an_unlisted_notary,
    "under unknown parameters": _under_unknown_parameters,
    "by a notary that verifies nothing": _by_a_notary_that_verifies_nothing,
    "outside the worker's certificate": _by_an_expired_worker,
}


def money_workshop(owning: ScriptedCommunity) -> Workshop:
    """Money of the real issuer, whom nobody asked."""
    forger, issuer = owning.peer(FORGER), owning.peer("community")

    def draft(builder: TransactionBuilder | None) -> Draft:
        if builder is None:
            return built(money_issue(issuer, [forger.identity] * 2, AMOUNT_NANO))
        for _ in range(2):
            state = PaymentState(CURRENCY, NanoMoney(AMOUNT_NANO), issuer.identity, forger.identity)
            builder.add_output(payment.NAME, payment.VERSION, state)
            builder.add_command(payment.NAME, PaymentIssue(bytes(32)), [issuer.identity])
        return built(builder)

    async def real() -> Held:
        return (await owning.coins([forger.identity, forger.identity], AMOUNT_NANO))[0]

    return Workshop(owning, RogueNotary(forger.network_id), draft, real)


def energy_workshop(owning: ScriptedCommunity) -> Workshop:
    """A lot that no claim at the real notary stands behind."""
    forger = owning.peer(FORGER)

    def draft(builder: TransactionBuilder | None) -> Draft:
        whole = built(energy_issue(forger, QUANTITY_WH, "forged", period=9))
        if builder is None:
            return whole
        return built(builder.add_output_component(whole.outputs[0]).add_output_component(whole.outputs[0]))

    async def real() -> Held:
        return await owning.lot(FORGER, QUANTITY_WH, period=9)

    return Workshop(owning, RogueNotary(forger.network_id), draft, real)


@pytest.mark.parametrize("forgery", FORGERIES)
def test_l24_notary_refuses_an_input_proof(forgery: str, owning: ScriptedCommunity) -> None:
    async def scenario() -> None:
        forger = owning.peer(FORGER)
        coin = await FORGERIES[forgery](money_workshop(owning))
        draft = built(pay(forger, [coin], forger.identity))
        request = forger.request(draft, draft.proposal([forger.sign(draft.id)], [coin.proof]))
        async with owning.connect(FORGER) as notary:
            error = refusal(await notary.ask(request), "notary.invalid_transaction").error
        assert not error.conflicts
        assert error.cause

    asyncio.run(scenario())


def test_l24_notary_refuses_a_request_without_proofs_or_with_one_too_many(owning: ScriptedCommunity) -> None:
    async def scenario() -> None:
        forger = owning.peer(FORGER)
        coin = await money_workshop(owning).real()
        draft = built(pay(forger, [coin], forger.identity))
        async with owning.connect(FORGER) as notary:
            for proofs in ([], [coin.proof, coin.proof]):
                request = forger.request(draft, draft.proposal([forger.sign(draft.id)], proofs))
                refusal(await notary.ask(request), "notary.invalid_transaction")
            right = forger.request(draft, draft.proposal([forger.sign(draft.id)], [coin.proof]))
            assert (await notary.ask(right)).HasField("finality_proof")

    asyncio.run(scenario())


@pytest.mark.parametrize("forgery", FORGERIES)
def test_l24_seller_refuses_a_coin_whose_proof_does_not_hold(forgery: str, owning: ScriptedCommunity) -> None:
    async def scenario() -> None:
        forger = owning.peer(FORGER)
        coin = await FORGERIES[forgery](money_workshop(owning))
        (parameters_hash,) = forger.network_map.parameters
        offer = TradeOffer(
            terms=owning.trade_terms(REAL, QUANTITY_WH, price=PRICE),
            buyer=forger.identity,
            notary=owning.made.nodes[0].notary_service_key,
            parameters_hash=parameters_hash,
            window_until_ns=time.time_ns() + 3 * SECOND_NS,
            payment_inputs=[OfferedInput(ref=coin.ref.encode(), proof=coin.proof)],
        )
        async with owning.connect(FORGER, REAL) as seller:
            answer = await seller.hear(await seller.open("energy.trade", offer))
            assert answer.kind == SessionMessage.KIND_ERROR
            await seller.settled()
        await eventually(owning.holdings, OWNED)

    asyncio.run(scenario())


@pytest.mark.parametrize("forgery", FORGERIES)
def test_l24_recipient_refuses_energy_whose_proof_does_not_hold(forgery: str, owning: ScriptedCommunity) -> None:
    async def scenario() -> None:
        forger, receiver = owning.peer(FORGER), owning.identity[REAL]
        lot = await FORGERIES[forgery](energy_workshop(owning))
        until = TimeNs(time.time_ns() + 3 * SECOND_NS)
        builder = builder_of(forger).window(NO_LOWER_BOUND, until).add_input(lot.ref, lot.component)
        builder.add_output(energy.NAME, energy.VERSION, replace(lot.energy, owner=receiver))
        command = EnergyTransfer(forger.identity, receiver, WattHours(QUANTITY_WH))
        draft = built(builder.add_command(energy.NAME, command, [forger.identity, receiver]))
        request = SignatureRequest(proposal=draft.proposal((), [lot.proof]).encode())
        async with owning.connect(FORGER, REAL) as home:
            answer = await home.hear(await home.open("energy.transfer", request))
            assert answer.kind == SessionMessage.KIND_ERROR
            await home.settled()
        await eventually(owning.holdings, OWNED)

    asyncio.run(scenario())


def test_the_forgeries_are_right_in_everything_but_their_keys(owning: ScriptedCommunity) -> None:
    """A network that listed the rogue notary would believe it: so the refusals are refusals of its keys."""
    forger = owning.peer(FORGER)
    rogue = RogueNotary(forger.network_id)
    (parameters_hash,) = forger.network_map.parameters
    draft = built(TransactionBuilder(rogue.key, parameters_hash).add_output_component(b"anything"))
    proof = rogue.decide(draft).SerializeToString()
    listed = [(rogue.key, 1)]
    assert native.verify_finality(forger.network_id, draft.transaction, proof, parameters_hash, listed) == draft.id
    unlisted = [(owning.made.nodes[0].notary_service_key, 1)]
    with pytest.raises(native.ProofError):
        native.verify_finality(forger.network_id, draft.transaction, proof, parameters_hash, unlisted)
