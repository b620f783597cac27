"""F25: whom a node that has lost its vault asks need not be honest, and whoever asks is told nothing of others."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from p2pet.flows.v1 import arguments_pb2 as args
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_COMPLETED, FLOW_STATUS_FAILED, FlowOutcome
from p2pet.flows.v1.sessions_pb2 import Final as FinalMessage
from p2pet.flows.v1.sessions_pb2 import SharedReply, SharedRequest
from p2pet.notary.v1.notary_pb2 import SpentReply, SpentRequest
from p2pet.peer.v1.peer_pb2 import Frame, Reply

from p2petd.flows.shared_service import LOOKED_THROUGH_MAX, PLACE_BYTES, REPLY_BYTES_MAX, SHARED
from p2petd.ledger.proposal import Proposal, Signature
from p2petd.ledger.transaction import Draft
from p2petd.notary.queries import REFS_MAX, SPENT
from tests.support.community import EURO_NANO, completed
from tests.support.drafts import Final, built, money_issue, notarised, pay
from tests.support.peer import Connection
from tests.support.scripted import REAL, ScriptedCommunity, eventually, told

OTHER, THIRD = "home-2", "home-3"
Pages = Callable[[SharedRequest], SharedReply]


@asynccontextmanager
async def sharing(owning: ScriptedCommunity, name: str, pages: Pages) -> AsyncIterator[None]:
    """A scripted peer that is connected and answers what it is asked for with these pages."""

    async def serve(connection: Connection) -> None:
        while True:
            call = await connection.called()
            assert call.service == SHARED
            answer = pages(SharedRequest.FromString(call.payload)).SerializeToString()
            await connection.raw.write(Frame(replies=[Reply(call_id=call.call_id, payload=answer)]))

    async with owning.connect(name, REAL) as connection:
        task = asyncio.create_task(serve(connection))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def recover(owning: ScriptedCommunity, *names: str) -> FlowOutcome:
    wanted = args.LedgerRecoverArguments(parties=[owning.identity[name] for name in names])
    return await owning.run(REAL, "ledger.recover", wanted)


def page(*finals: FinalMessage, following: bytes = b"") -> SharedReply:
    return SharedReply(finals=finals, next=following)


async def _stranger(owning: ScriptedCommunity) -> Pages:
    final = await owning.issue([owning.identity[THIRD]], EURO_NANO)
    return lambda request: page(told(final))


async def _forged_signature(owning: ScriptedCommunity) -> Pages:
    final = await owning.issue([owning.identity[REAL]], EURO_NANO)
    forged = tuple(replace(one, signature=secrets.token_bytes(64)) for one in final.signed.signatures)
    signed = Proposal(final.signed.transaction, forged).encode()
    return lambda request: page(FinalMessage(signed_transaction=signed, finality_proof=final.finality_proof))


async def _unproven(owning: ScriptedCommunity) -> Pages:
    issuer = owning.peer("community")
    draft = built(money_issue(issuer, [owning.identity[REAL]], EURO_NANO))
    proven = await owning.issue([owning.identity[REAL]], EURO_NANO)
    final = Final(draft, draft.proposal([issuer.sign(draft.id)]), proven.finality_proof)
    return lambda request: page(told(final))


async def _unsigned_and_unproven(owning: ScriptedCommunity) -> Pages:
    draft = built(money_issue(owning.peer("community"), [owning.identity[REAL]], EURO_NANO))
    proven = await owning.issue([owning.identity[REAL]], EURO_NANO)
    return lambda request: page(told(Final(draft, draft.proposal(), proven.finality_proof)))


async def _noise(owning: ScriptedCommunity) -> Pages:
    return lambda request: page(FinalMessage(signed_transaction=b"\xff" * 40, finality_proof=b"\xff" * 40))


async def _circle(owning: ScriptedCommunity) -> Pages:
    return lambda request: page(following=bytes(PLACE_BYTES - 1) + b"\x01")


LIES = {
    "a stranger's transaction": _stranger,
    "a forged signature": _forged_signature,
    "another transaction's proof": _unproven,
    "no signature and another's proof": _unsigned_and_unproven,
    "noise": _noise,
    "a list without end": _circle,
}


@pytest.mark.parametrize("lie", LIES)
def test_f25_a_peer_that_lies_is_named_and_harms_nothing(lie: str, scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        before = await scripted.holdings()
        async with scripted.client(REAL) as client:
            known = {one.id for one in (await client.vault.transactions()).transactions}
        async with sharing(scripted, OTHER, await LIES[lie](scripted)):
            outcome = await recover(scripted, OTHER)
        assert outcome.status == FLOW_STATUS_FAILED
        assert outcome.error_code == "vault.recovery_incomplete"
        assert OTHER in outcome.error_message
        assert "error id" not in outcome.error_message
        assert await scripted.holdings() == before
        async with scripted.client(REAL) as client:
            assert {one.id for one in (await client.vault.transactions()).transactions} == known

    asyncio.run(scenario())


def test_f25_a_liar_does_not_keep_what_an_honest_peer_gives(scripted: ScriptedCommunity) -> None:
    """The honest one's comes in the wrong order, in two pages, and twice."""

    async def scenario() -> None:
        me = scripted.identity[REAL]
        given = await scripted.issue([me], 3 * EURO_NANO)
        real = await scripted.issue([me], 2 * EURO_NANO)
        stranger = await _stranger(scripted)
        place = (1).to_bytes(PLACE_BYTES)
        before = await scripted.money_nano(REAL)

        def honest(request: SharedRequest) -> SharedReply:
            return page(told(real), told(given)) if request.after else page(told(given), following=place)

        async with sharing(scripted, OTHER, stranger), sharing(scripted, "community", honest):
            outcome = await recover(scripted, OTHER, "community")
        assert outcome.status == FLOW_STATUS_FAILED
        assert "recovered 2 transactions" in outcome.error_message
        assert await scripted.money_nano(REAL) == before + 5 * EURO_NANO

    asyncio.run(scenario())


def test_f25_what_was_consumed_comes_back_consumed_in_any_order(scripted: ScriptedCommunity) -> None:
    """The real home's coins come after the payment that consumed them, and one is consumed by what nobody gives."""

    async def scenario() -> None:
        me, before = scripted.identity[REAL], await scripted.money_nano(REAL)
        first = await scripted.issue([me, me], EURO_NANO)
        mine = scripted.peer(REAL)
        spent = built(pay(mine, [first.held(0)], scripted.identity[THIRD]))
        hidden = built(pay(mine, [first.held(1)], scripted.identity[THIRD]))
        async with scripted.connect("community") as notary:
            # Signed by the home's own key before it lost its vault; asked for by whoever has it.
            payment = await notarised_for(notary, scripted, spent, first.held(0).proof)
            await notarised_for(notary, scripted, hidden, first.held(1).proof)
        async with sharing(scripted, "community", lambda request: page(told(payment), told(first))):
            outcome = await recover(scripted, "community")
        assert outcome.status == FLOW_STATUS_COMPLETED, outcome.error_message
        assert await scripted.money_nano(REAL) == before
        async with scripted.client(REAL) as client:
            states = {one.ref: one for one in (await client.vault.states(page_size=1000)).states}
        assert states[first.held(0).ref.encode()].consumed_by == spent.id
        assert states[first.held(1).ref.encode()].consumed_by not in (b"", hidden.id)

    asyncio.run(scenario())


async def notarised_for(notary: Connection, scripted: ScriptedCommunity, draft: Draft, proof: bytes) -> Final:
    owner, caller = scripted.peer(REAL), scripted.peer("community")
    signed = draft.proposal([owner.sign(draft.id)], [proof])
    reply = await notary.ask(caller.request(draft, signed))
    assert reply.HasField("finality_proof"), reply.error
    return Final(draft, draft.proposal([owner.sign(draft.id)]), reply.finality_proof)


def test_f25_a_transaction_whose_signatures_lack_is_taken_on_the_notarys_word(scripted: ScriptedCommunity) -> None:
    """Who learned of it from the notary has not got them; the verifying notary has seen them."""

    async def scenario() -> None:
        before = await scripted.money_nano(REAL)
        final = await scripted.issue([scripted.identity[REAL]], EURO_NANO)
        bare = Final(final.draft, final.draft.proposal(), final.finality_proof)
        async with sharing(scripted, OTHER, lambda request: page(told(bare))):
            completed(await recover(scripted, OTHER))
        assert await scripted.money_nano(REAL) == before + EURO_NANO
        # With another party's copy it becomes whole; a forged signature does not get in.
        wrong = Signature(scripted.identity["community"], secrets.token_bytes(64))
        forged = Final(final.draft, final.draft.proposal([wrong]), final.finality_proof)
        async with sharing(scripted, OTHER, lambda request: page(told(forged))):
            assert (await recover(scripted, OTHER)).status == FLOW_STATUS_FAILED
        async with sharing(scripted, OTHER, lambda request: page(told(final))):
            completed(await recover(scripted, OTHER))
        async with scripted.client(REAL) as client:
            kept = (await client.vault.transaction(final.draft.id)).signed_transaction
        assert Proposal.decode(kept) == final.signed

    asyncio.run(scenario())


def test_f25_a_peer_is_shown_only_what_names_it(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        other = scripted.identity[OTHER]
        both = await scripted.issue([scripted.identity[REAL], other], EURO_NANO)
        async with scripted.connect("community", REAL) as home:
            before = await scripted.money_nano(REAL)
            await home.open("payment.issue", told(both))
            await eventually(lambda: scripted.money_nano(REAL), before + EURO_NANO)
        assert both.draft.id in await shared_with(scripted, OTHER)
        assert both.draft.id not in await shared_with(scripted, THIRD)
        # The issuer has signed all of them.
        assert both.draft.id in await shared_with(scripted, "community")

    asyncio.run(scenario())


async def shared_with(scripted: ScriptedCommunity, name: str) -> set[bytes]:
    found: set[bytes] = set()
    async with scripted.connect(name, REAL) as home:
        after = b""
        while True:
            reply = await home.call(SHARED, SharedRequest(after=after).SerializeToString())
            shared = SharedReply.FromString(reply.payload)
            assert len(reply.payload) <= REPLY_BYTES_MAX + 64 * 1024
            assert len(shared.finals) <= LOOKED_THROUGH_MAX
            for final in shared.finals:
                found.add(Draft.decode(Proposal.decode(final.signed_transaction).transaction).id)
            if not (after := shared.next):
                return found


@pytest.mark.parametrize("after", [b"x", bytes(PLACE_BYTES + 1)])
def test_r13_a_place_that_is_none_is_refused(after: bytes, scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        async with scripted.connect(OTHER, REAL) as home:
            reply = await home.call(SHARED, SharedRequest(after=after).SerializeToString())
            assert reply.error_code == "request.malformed"
            assert (await home.call(SHARED, b"\xff\xff")).error_code == "request.malformed"

    asyncio.run(scenario())


def test_n02_the_service_spent_tells_a_hash_and_never_the_consumer(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        payer = scripted.peer(OTHER)
        first, second = await scripted.coins([payer.identity, payer.identity], EURO_NANO)
        async with scripted.connect(OTHER) as notary:
            payment = await notarised(notary, payer, built(pay(payer, [first], payer.identity)), [payer], [first.proof])
            refs = [first.ref.encode(), second.ref.encode(), secrets.token_bytes(36)]
            reply = await notary.call(SPENT, SpentRequest(refs=refs).SerializeToString())
            hashes = list(SpentReply.FromString(reply.payload).consumer_hashes)
            assert hashes == [hashlib.sha256(payment.draft.id).digest(), b"", b""]
            assert payment.draft.id not in reply.payload
            many = SpentRequest(refs=[refs[0]] * REFS_MAX)
            reply = await notary.call(SPENT, many.SerializeToString())
            assert len(SpentReply.FromString(reply.payload).consumer_hashes) == REFS_MAX
            many.refs.append(refs[0])
            for wrong in (many, SpentRequest(refs=[bytes(35)])):
                assert (await notary.call(SPENT, wrong.SerializeToString())).error_code == "transaction.malformed"

    asyncio.run(scenario())
