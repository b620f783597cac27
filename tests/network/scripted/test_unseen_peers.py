"""Peers that try what a uniqueness-only notary cannot see, against a real notary and a real home."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest
from p2pet.flows.v1.arguments_pb2 import LedgerRecoverArguments, NotaryChangeArguments, PaymentPayArguments
from p2pet.flows.v1.sessions_pb2 import Final as FinalMessage
from p2pet.flows.v1.sessions_pb2 import (
    OfferedInput,
    SharedReply,
    SignatureResponse,
    SignedProposal,
    TradeOffer,
    UnlockSignatures,
)
from p2pet.ledger.v1.chain_pb2 import ChainReply, ChainRequest
from p2pet.localnet import LocalNetwork
from p2pet.notary.v1.notary_pb2 import NotarisationReply
from p2pet.peer.v1.peer_pb2 import Frame, Reply, SessionMessage

from p2petd import native
from p2petd.contracts import payment
from p2petd.contracts.payment import PaymentIssue, PaymentState
from p2petd.flows.chain_service import TRANSACTIONS
from p2petd.flows.shared_service import SHARED
from p2petd.ledger.groups import Group
from p2petd.ledger.notary_change import notary_change
from p2petd.ledger.proposal import Proposal, Signature
from p2petd.ledger.refs import StateRef
from p2petd.ledger.transaction import Draft, TransactionBuilder
from p2petd.units import SECOND_NS, NanoMoney
from tests.support.community import CURRENCY, completed, make_community
from tests.support.drafts import Held, built, pay, refusal
from tests.support.peer import Connection, ScriptedPeer
from tests.support.scripted import REAL, ScriptedCommunity, eventually
from tests.support.unseen import NOTARY_DIRECTORY, Spend, Unseen, signed_by, unseeing_of, unseen_request

FORGER, STRANGER = "home-2", "home-3"


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedCommunity]:
    directory = tmp_path_factory.mktemp("unseen") / "net"
    made = make_community(directory, homes=4, uniqueness_notaries=1)
    with LocalNetwork(directory) as network:
        asyncio.run(network.start("notary", NOTARY_DIRECTORY, REAL))
        yield ScriptedCommunity(made, network)


async def asked(
    unseen: ScriptedCommunity, caller: str, draft: Draft, proofs: Sequence[bytes], unlocks: Sequence[bytes]
) -> NotarisationReply:
    async with unseen.connect(caller, NOTARY_DIRECTORY) as notary:
        return await notary.ask(unseen_request(unseen.peer(caller).member, draft, proofs, unlocks))


async def issued(unseen: ScriptedCommunity, owner: bytes, amount: int) -> Unseen:
    issuer = unseen.peer("community")
    service, parameters_hash = unseeing_of(issuer.member)
    builder = TransactionBuilder(service, parameters_hash)
    state = PaymentState(CURRENCY, NanoMoney(amount), issuer.identity, owner)
    builder.add_output(payment.NAME, payment.VERSION, state)
    builder.add_command(payment.NAME, PaymentIssue(secrets.token_bytes(32)), [issuer.identity])
    draft = builder.build(secrets.token_bytes(32), [owner])
    reply = await asked(unseen, "community", draft, (), ())
    return Unseen(draft, signed_by(issuer.member, draft), reply.finality_proof)


async def spent(unseen: ScriptedCommunity, payer: str, wanted: Spend) -> Unseen:
    """Notarised, whether or not a contract accepts it."""
    draft = wanted.draft()
    reply = await asked(unseen, payer, draft, wanted.proofs(), wanted.unlocks(draft))
    assert reply.finality_proof, reply.error
    return Unseen(draft, signed_by(wanted.payer, draft), reply.finality_proof)


def told(final: Unseen) -> FinalMessage:
    return FinalMessage(signed_transaction=final.signed, finality_proof=final.proof)


async def refused_session(connection: Connection, flow_id: bytes) -> SessionMessage:
    heard = await connection.hear(flow_id)
    assert heard.kind == SessionMessage.KIND_ERROR, heard
    return heard


@asynccontextmanager
async def serving(
    connection: Connection, history: Sequence[Unseen], shared: Sequence[Unseen] = ()
) -> AsyncIterator[None]:
    """Answer the node's questions for histories with these transactions, whatever it wants, and for shared ones."""

    async def serve() -> None:
        while True:
            call = await connection.called()
            assert call.service in (TRANSACTIONS, SHARED)
            reply: ChainReply | SharedReply = ChainReply(transactions=[one.entry() for one in history])
            if call.service == SHARED:
                reply = SharedReply(finals=[told(one) for one in shared])
            await connection.raw.write(Frame(replies=[Reply(call_id=call.call_id, payload=reply.SerializeToString())]))

    task = asyncio.create_task(serve())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def give_money(unseen: ScriptedCommunity, amount: int) -> Unseen:
    """home-1 is given money under the uniqueness-only notary."""
    final = await issued(unseen, unseen.identity[REAL], amount)
    before = await unseen.money_nano(REAL)
    async with unseen.connect("community", REAL) as home:
        await home.open("payment.issue", told(final))
        await eventually(lambda: unseen.money_nano(REAL), before + amount)
    return final


def test_r19_a_stranger_who_knows_state_and_proof_cannot_consume_it(unseen: ScriptedCommunity) -> None:
    async def scenario() -> None:
        coin = await give_money(unseen, 500)
        thief = unseen.peer(STRANGER)
        theft = Spend(thief.member, ((coin, 0),), ((thief.identity, 500),))
        draft = theft.draft()
        reply = await asked(unseen, STRANGER, draft, theft.proofs(), theft.unlocks(draft))
        assert refusal(reply, "notary.invalid_transaction").error.cause == "signature.unlock_invalid"
        reply = await asked(unseen, STRANGER, draft, theft.proofs(), [bytes(64)])
        assert refusal(reply, "notary.invalid_transaction").error.cause == "signature.unlock_invalid"
        payee = unseen.identity["community"]
        arguments = PaymentPayArguments(currency=CURRENCY, amount_nano=500, recipient=payee)
        completed(await unseen.run(REAL, "payment.pay", arguments))
        assert await unseen.money_nano(REAL) == 0

    asyncio.run(scenario())


def test_n02_a_second_spend_is_refused(unseen: ScriptedCommunity) -> None:
    async def scenario() -> None:
        payer = unseen.peer(FORGER)
        coin = await issued(unseen, payer.identity, 100)
        first = Spend(payer.member, ((coin, 0),), ((unseen.identity[REAL], 100),))
        await spent(unseen, FORGER, first)
        again = replace(first, outputs=((unseen.identity[STRANGER], 100),))
        draft = again.draft()
        reply = await asked(unseen, FORGER, draft, again.proofs(), again.unlocks(draft))
        error = refusal(reply, "notary.conflict").error
        assert [conflict.subject for conflict in error.conflicts] == [draft.groups[Group.INPUTS][0]]

    asyncio.run(scenario())


def test_f24_a_node_that_was_sent_nothing_gets_no_history(unseen: ScriptedCommunity) -> None:
    async def scenario() -> None:
        coin = await give_money(unseen, 300)
        payee = unseen.identity["community"]
        arguments = PaymentPayArguments(currency=CURRENCY, amount_nano=300, recipient=payee)
        paid = completed(await unseen.run(REAL, "payment.pay", arguments)).transaction_id
        for asking, root, given in (
            (STRANGER, paid, 0),
            (STRANGER, coin.id, 0),
            # The issuer was sent only what paid it, but has signed the issue: it may lose its own copy.
            ("community", coin.id, 1),
            ("community", paid, 2),
        ):
            request = ChainRequest(root=root, wanted=[paid, coin.id])
            async with unseen.connect(asking, REAL) as home:
                reply = await home.call(TRANSACTIONS, request.SerializeToString())
            assert not reply.error_code
            assert len(ChainReply.FromString(reply.payload).transactions) == given

    asyncio.run(scenario())


def test_f24_money_with_a_false_history_is_not_taken(unseen: ScriptedCommunity) -> None:
    async def scenario() -> None:
        payer, home = unseen.peer(FORGER), unseen.identity[REAL]
        before = await unseen.money_nano(REAL)
        coin = await issued(unseen, payer.identity, 100)
        rich = await spent(unseen, FORGER, Spend(payer.member, ((coin, 0),), ((payer.identity, 10**9),)))
        paid = await spent(unseen, FORGER, Spend(payer.member, ((rich, 0),), ((home, 10**9),)))
        true = await issued(unseen, payer.identity, 70)
        honest = await spent(unseen, FORGER, Spend(payer.member, ((true, 0),), ((home, 70),)))
        async with unseen.connect(FORGER, REAL) as connection:
            for history in ([rich, coin], [coin], []):
                async with serving(connection, history):
                    await refused_session(connection, await connection.open("payment.pay", told(paid)))
            assert await unseen.money_nano(REAL) == before
            async with serving(connection, [true]):
                await connection.open("payment.pay", told(honest))
                await eventually(lambda: unseen.money_nano(REAL), before + 70)

    asyncio.run(scenario())


def test_f25_money_whose_history_was_withheld_is_asked_for_again(unseen: ScriptedCommunity) -> None:
    """The flow that was told of it has failed; the payer comes to its senses, and a recovery asks for both."""

    async def scenario() -> None:
        payer, home = unseen.peer(FORGER), unseen.identity[REAL]
        before = await unseen.money_nano(REAL)
        coin = await issued(unseen, payer.identity, 60)
        paid = await spent(unseen, FORGER, Spend(payer.member, ((coin, 0),), ((home, 60),)))
        async with unseen.connect(FORGER, REAL) as connection:
            async with serving(connection, []):
                await refused_session(connection, await connection.open("payment.pay", told(paid)))
            again = LedgerRecoverArguments(parties=[payer.identity])
            async with serving(connection, [], shared=[paid]):
                outcome = await unseen.run(REAL, "ledger.recover", again)
            assert outcome.error_code == "vault.recovery_incomplete"
            assert await unseen.money_nano(REAL) == before
            async with serving(connection, [coin], shared=[paid]):
                completed(await unseen.run(REAL, "ledger.recover", again))
            assert await unseen.money_nano(REAL) == before + 60

    asyncio.run(scenario())


async def laundered(unseen: ScriptedCommunity, owner: ScriptedPeer, amount: int) -> Held:
    """A coin of the uniqueness-only notary that a notary change says to be the verifying one's."""
    coin = await issued(unseen, owner.identity, amount)
    ref, (_, parameters_hash) = coin.draft.output_ref(0), unseeing_of(owner.member)
    verifying = unseen.made.nodes[0].notary_service_key
    change = notary_change(
        [(ref, coin.draft.outputs[0])],
        verifying,
        parameters_hash=parameters_hash,
        signers=[owner.identity],
        salt=secrets.token_bytes(32),
    )
    proof = native.lock_proof(coin.draft.transaction, 0, coin.proof)
    unlock = owner.key.unlock(owner.network_id, coin.salt, 0, change.id)
    reply = await asked(unseen, FORGER, change, [proof], [unlock])
    # It cannot see what kind of transaction this is, or who shall guard its outputs.
    assert reply.finality_proof
    shown = native.input_proof(change.transaction, 0, reply.finality_proof)
    return Held(change.output_ref(0), change.outputs[0], shown)


def test_l24_laundering_through_a_notary_change_is_refused_by_notary_and_counterparty(
    unseen: ScriptedCommunity,
) -> None:
    async def scenario() -> None:
        forger = unseen.peer(FORGER)
        coin = await laundered(unseen, forger, 10**9)
        draft = built(pay(forger, [coin], forger.identity))
        async with unseen.connect(FORGER) as notary:
            proposal = draft.proposal([forger.sign(draft.id)], [coin.proof])
            reply = await notary.ask(forger.request(draft, proposal))
        assert refusal(reply, "notary.invalid_transaction").error.cause == "proof.notary_not_verifying"

        completed(await unseen.issue_energy(REAL, 400))
        terms = unseen.trade_terms(REAL, 400)
        (parameters_hash,) = forger.network_map.parameters
        offer = TradeOffer(
            terms=terms,
            buyer=forger.identity,
            notary=unseen.made.nodes[0].notary_service_key,
            parameters_hash=parameters_hash,
            window_until_ns=time.time_ns() + 20 * SECOND_NS,
            payment_inputs=[OfferedInput(ref=coin.ref.encode(), proof=coin.proof)],
        )
        before = await unseen.holdings()
        async with unseen.connect(FORGER, REAL) as home:
            await refused_session(home, await home.open("energy.trade", offer))
        await eventually(unseen.holdings, before)

    asyncio.run(scenario())


def test_l24_a_verifying_and_an_unseeing_notary_refuse_each_others_requests(unseen: ScriptedCommunity) -> None:
    async def scenario() -> None:
        issuer = unseen.peer("community")
        service, parameters_hash = unseeing_of(issuer.member)
        builder = TransactionBuilder(service, parameters_hash)
        state = PaymentState(CURRENCY, NanoMoney(5), issuer.identity, issuer.identity)
        builder.add_output(payment.NAME, payment.VERSION, state)
        builder.add_command(payment.NAME, PaymentIssue(bytes(32)), [issuer.identity])
        draft = builder.build(bytes(32), [issuer.identity])
        shown = unseen_request(issuer.member, draft, (), ())
        whole = issuer.request(draft, Proposal(draft.transaction, (issuer.sign(draft.id),)))
        for to, request in (("notary", shown), (NOTARY_DIRECTORY, whole)):
            async with unseen.connect("community", to) as notary:
                reply = await notary.ask(request)
            assert refusal(reply, "notary.invalid_transaction").error.cause == "transaction.other_mode"

    asyncio.run(scenario())


async def energy_there(unseen: ScriptedCommunity, service: bytes, quantity_wh: int, period: int) -> None:
    """home-1 has issued energy and moved it to the uniqueness-only notary."""
    issued = completed(await unseen.issue_energy(REAL, quantity_wh, period=period))
    lot = StateRef(issued.transaction_id, 0).encode()
    completed(await unseen.run(REAL, "ledger.notary_change", NotaryChangeArguments(notary=service, states=[lot])))


def offer_of(
    unseen: ScriptedCommunity, buyer: ScriptedPeer, coin: Unseen, quantity_wh: int, period: int, seconds: int
) -> TradeOffer:
    service, parameters_hash = unseeing_of(buyer.member)
    shown = native.input_proof(coin.draft.transaction, 0, coin.proof)
    return TradeOffer(
        terms=unseen.trade_terms(REAL, quantity_wh, period=period),
        buyer=buyer.identity,
        notary=service,
        parameters_hash=parameters_hash,
        window_until_ns=time.time_ns() + seconds * SECOND_NS,
        payment_inputs=[OfferedInput(ref=coin.draft.output_ref(0).encode(), proof=shown)],
    )


@dataclass(frozen=True)
class Proposed:
    """A seller's proposal, with what the buyer needs to have it notarised but for the seller's unlock signature."""

    draft: Draft
    proofs: tuple[bytes, ...]
    mine: bytes


async def proposed(home: Connection, buyer: ScriptedPeer, coin: Unseen, flow_id: bytes) -> Proposed:
    answer = SignedProposal.FromString((await home.hear(flow_id)).payload)
    draft = Draft.decode(Proposal.decode(answer.proposal).transaction)
    (mine,) = Spend(buyer.member, ((coin, 0),), ()).unlocks(draft)
    held = [*await lots_of(home, draft), (coin, 0)]
    proofs = tuple(native.lock_proof(made.draft.transaction, index, made.proof) for made, index in held)
    return Proposed(draft, proofs, mine)


def response(signature: Signature) -> SignatureResponse:
    return SignatureResponse(key=signature.key, scheme=signature.scheme, signature=signature.signature)


def test_c09_a_seller_unlocks_nothing_before_the_buyer_has_signed(unseen: ScriptedCommunity) -> None:
    async def scenario() -> None:
        buyer = unseen.peer(FORGER)
        await energy_there(unseen, unseeing_of(buyer.member)[0], 700, period=3)
        before = await unseen.holdings()
        coin = await issued(unseen, buyer.identity, 10**9)
        async with unseen.connect(FORGER, REAL) as home, serving(home, [coin]):
            flow_id = await home.open("energy.trade", offer_of(unseen, buyer, coin, 700, 3, seconds=20))
            offered = await proposed(home, buyer, coin, flow_id)
            # Everything is there to notarise it but what opens the seller's lock.
            reply = await asked(unseen, FORGER, offered.draft, offered.proofs, [offered.mine, offered.mine])
            assert refusal(reply, "notary.invalid_transaction").error.cause == "signature.unlock_invalid"
            await home.say(flow_id, response(buyer.sign(bytes(32))))
            await refused_session(home, flow_id)
        await eventually(unseen.holdings, before)

    asyncio.run(scenario())


def test_f20_a_buyer_that_tells_nobody_cannot_keep_the_money_from_the_seller(unseen: ScriptedCommunity) -> None:
    async def scenario() -> None:
        buyer = unseen.peer(FORGER)
        await energy_there(unseen, unseeing_of(buyer.member)[0], 300, period=4)
        before = await unseen.holdings()
        coin = await issued(unseen, buyer.identity, 10**9)
        async with unseen.connect(FORGER, REAL) as home, serving(home, [coin]):
            flow_id = await home.open("energy.trade", offer_of(unseen, buyer, coin, 300, 4, seconds=5))
            offered = await proposed(home, buyer, coin, flow_id)
            await home.say(flow_id, response(buyer.sign(offered.draft.id)))
            opened = UnlockSignatures.FromString((await home.hear(flow_id)).payload)
            assert [len(signature) for signature in opened.signatures] == [64, 0]
            unlocks = [opened.signatures[0], offered.mine]
            assert (await asked(unseen, FORGER, offered.draft, offered.proofs, unlocks)).finality_proof
        price_nano = 300 * 250_000
        await eventually(
            unseen.holdings,
            replace(before, energy_wh=before.energy_wh - 300, money_nano=before.money_nano + price_nano),
        )
        # Its signatures are complete: the money can go on with its history.
        arguments = PaymentPayArguments(
            currency=CURRENCY, amount_nano=price_nano, recipient=unseen.identity["community"]
        )
        paid = completed(await unseen.run(REAL, "payment.pay", arguments)).transaction_id
        async with unseen.connect("community", REAL) as home:
            request = ChainRequest(root=paid, wanted=[offered.draft.id])
            reply = await home.call(TRANSACTIONS, request.SerializeToString())
        entry = ChainReply.FromString(reply.payload).transactions[0]
        signers = {signature.key for signature in Proposal.decode(entry.signed_transaction).signatures}
        assert signers == {buyer.identity, unseen.identity[REAL]}

    asyncio.run(scenario())


async def lots_of(home: Connection, draft: Draft) -> list[tuple[Unseen, int]]:
    """The energy that a proposal consumes, whose history its seller gives."""
    ref = draft.inputs[0]
    request = ChainRequest(root=draft.id, wanted=[ref.transaction_id])
    reply = ChainReply.FromString((await home.call(TRANSACTIONS, request.SerializeToString())).payload)
    (entry,) = reply.transactions
    made = Draft.decode(Proposal.decode(entry.signed_transaction).transaction)
    return [(Unseen(made, entry.signed_transaction, entry.finality_proof), ref.index)]
