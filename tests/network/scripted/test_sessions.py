"""Sessions between nodes: starts, repeats, replays, gaps, failures, progress. home-1 is real, its peers are not."""

import asyncio
import secrets
from dataclasses import dataclass

import grpc
import pytest
from p2pet.client import NodeClient
from p2pet.client.node_client import flow_start
from p2pet.flows.v1 import arguments_pb2 as args
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_COMPLETED, FLOW_STATUS_FAILED, FlowOutcome
from p2pet.flows.v1.sessions_pb2 import SignedProposal, TradeOffer
from p2pet.peer.v1.peer_pb2 import Frame, Message, SessionMessage

from tests.support.community import CURRENCY, EURO_NANO, completed, energy_request
from tests.support.drafts import Final
from tests.support.peer import Connection
from tests.support.scripted import REAL, Holdings, ScriptedCommunity, eventually, told

OTHER, THIRD, TALKATIVE = "home-2", "home-3", "home-4"
STARTS = 24


@pytest.fixture
def owned(scripted: ScriptedCommunity) -> Holdings:
    """What home-1 has when the test begins; nothing of it is reserved."""

    async def look() -> Holdings:
        if await scripted.money_nano(REAL) < EURO_NANO:
            await scripted.fund_real_home(100 * EURO_NANO)
        return await scripted.holdings()

    held = asyncio.run(look())
    assert held.locked == 0
    return held


def to_oneself(scripted: ScriptedCommunity, amount: int) -> args.PaymentPayArguments:
    return args.PaymentPayArguments(currency=CURRENCY, amount_nano=amount, recipient=scripted.identity[REAL])


# F02: starts.


def test_f02_a_client_id_starts_one_flow_whatever_comes_later(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        before = await scripted.energy_wh(REAL)
        async with scripted.client(REAL) as client:
            request = energy_request("f02", 10, period=1)
            first = await client.flows.run("energy.request", request, client_id="f02")
            completed(first.outcome)
            # The arguments of a repeat are ignored, good or bad, and even the flow that it names.
            other = energy_request("f02-other", 99, period=2)
            for flow, arguments in (("energy.request", other), ("energy.request", b"\xff"), ("energy.gift", b"")):
                again = await client.flows.run(flow, arguments, client_id="f02")
                assert again == first
            assert await client.flows.start("energy.request", other, client_id="f02") == first.flow_id
        assert await scripted.energy_wh(REAL) == before + 10

    asyncio.run(scenario())


def test_f02_concurrent_starts_are_one_flow(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        before = await scripted.energy_wh(REAL)
        request = energy_request("f02-concurrent", 10, period=3)
        async with scripted.client(REAL) as one, scripted.client(REAL) as two:
            started = await asyncio.gather(
                *(
                    (one, two)[number % 2].flows.run("energy.request", request, client_id="f02-concurrent")
                    for number in range(STARTS)
                )
            )
            starts = [flow_start("energy.request", request, client_id="f02-concurrent")] * STARTS
            many = [result async for result in one.flows.run_many(starts)]
        assert {run.flow_id for run in started} | {result.flow_id for result in many} == {started[0].flow_id}
        outcomes = [run.outcome for run in started] + [result.outcome for result in many]
        assert all(outcome == completed(outcomes[0]) for outcome in outcomes)
        assert await scripted.energy_wh(REAL) == before + 10

    asyncio.run(scenario())


def test_f02_a_failure_is_repeated_not_tried_again(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        request = energy_request("f02-failed", 10, period=4)
        request.energy_type = "moonlight"
        async with scripted.client(REAL) as client:
            first = await client.flows.run("energy.request", request, client_id="f02-failed")
            assert first.outcome.status == FLOW_STATUS_FAILED
            good = energy_request("f02-failed", 10, period=4)
            assert await client.flows.run("energy.request", good, client_id="f02-failed") == first

    asyncio.run(scenario())


def test_f02_f11_starts_are_known_after_a_restart(scripted: ScriptedCommunity, owned: Holdings) -> None:
    """A payment to oneself, started again before and after the node was stopped."""

    async def run() -> tuple[bytes, FlowOutcome]:
        async with scripted.client(REAL) as client:
            arguments = to_oneself(scripted, 1_000)
            ended = await client.flows.run("payment.pay", arguments, client_id="f11", deadline_seconds=20)
        return ended.flow_id, completed(ended.outcome)

    async def scenario() -> None:
        first = await run()
        assert await scripted.holdings() == owned
        scripted.network.stop(REAL)
        await scripted.network.start(REAL)
        assert await run() == first
        assert await scripted.holdings() == owned

    asyncio.run(scenario())


def test_f11_a_home_issues_to_itself_and_pays_itself_everything(scripted: ScriptedCommunity, owned: Holdings) -> None:
    async def scenario() -> None:
        completed(await scripted.issue_energy(REAL, 5, period=5))
        completed(await scripted.run(REAL, "payment.pay", to_oneself(scripted, owned.money_nano)))
        completed(await scripted.run(REAL, "payment.pay", to_oneself(scripted, 1)))
        assert await scripted.holdings() == Holdings(owned.energy_wh + 5, owned.money_nano, 0)

    asyncio.run(scenario())


# F03, R10: messages.


def opening(final: Final, flow_id: bytes = b"") -> SessionMessage:
    """The first and only message of a payment to home-1."""
    return SessionMessage(
        kind=SessionMessage.KIND_OPEN,
        flow_id=flow_id or secrets.token_bytes(16),
        step=1,
        flow="payment.issue",
        flow_version=1,
        payload=told(final).SerializeToString(),
    )


async def transactions(scripted: ScriptedCommunity) -> int:
    async with scripted.client(REAL) as client:
        return len((await client.vault.transactions(page_size=1000)).transactions)


async def flows(client: NodeClient) -> int:
    return len((await client.flows.list(page_size=1000)).flows)


def test_f03_r10_duplicated_and_replayed_messages_have_no_further_effect(
    scripted: ScriptedCommunity, owned: Holdings
) -> None:
    async def scenario() -> None:
        final = await scripted.issue([scripted.identity[REAL]], 77)
        message = opening(final)
        async with scripted.client(REAL) as client:
            async with scripted.connect(OTHER, REAL) as home:
                sequence = await home.send(message)
                for _ in range(3):
                    await home.send_again(sequence, message)
                await home.settled()
                flows_before, known = await flows(client), await transactions(scripted)
                # The same session once more under fresh sequences.
                await home.send(message)
                await home.settled()
            async with scripted.connect(OTHER, REAL) as home:
                # A connection later; the node knows where it stood.
                assert home.hello.last_received == sequence + 1
                for old in range(sequence, 0, -1):
                    await home.send_again(old, message)
                await home.settled()
                assert await flows(client) == flows_before
                # As a session of its own it is a flow of its own, which records what is recorded already.
                await home.send(opening(final))
                await home.settled()
            async with scripted.connect(THIRD, REAL) as home:
                await home.send(message)
                await home.settled()
        assert await scripted.holdings() == Holdings(owned.energy_wh, owned.money_nano + 77, 0)
        assert await transactions(scripted) == known

    asyncio.run(scenario())


@dataclass(frozen=True)
class _Gap:
    """Frames as lists of offsets from the next sequence."""

    frames: tuple[tuple[int, ...], ...]


GAPS = {
    "a gap between frames": _Gap(((0,), (2,))),
    "a gap inside a frame": _Gap(((0, 2),)),
    "two messages the wrong way round": _Gap(((1, 0),)),
}


@pytest.mark.parametrize("name", GAPS)
def test_f03_r10_gap_ends_the_connection_and_loses_nothing(
    name: str, scripted: ScriptedCommunity, owned: Holdings
) -> None:
    async def scenario() -> None:
        peer, home_identity = scripted.peer(OTHER), scripted.identity[REAL]
        messages = [opening(await scripted.issue([home_identity], 10**number)) for number in range(3)]
        async with scripted.connect(OTHER, REAL) as home:
            # Once a sequence is known there can be a gap after it.
            await home.send(opening(await scripted.issue([home_identity], 1_000)))
            await home.settled()
        first = peer.sent[home_identity] + 1
        async with peer.exchange(home_identity) as exchange:
            await exchange.hello(peer.hello(home_identity))
            assert await exchange.read() is not None
            for frame in GAPS[name].frames:
                numbered = [
                    Message(sequence=first + offset, session=messages[offset].SerializeToString()) for offset in frame
                ]
                await exchange.write(Frame(messages=numbered))
            status, text = await exchange.ended()
            assert status is grpc.StatusCode.INVALID_ARGUMENT
            assert "\n" not in text
        async with scripted.connect(OTHER, REAL) as home:
            for message in messages:
                await home.send(message)
            await home.settled()
            wanted = Holdings(owned.energy_wh, owned.money_nano + 1_111, 0)
            await eventually(scripted.holdings, wanted)

    asyncio.run(scenario())


async def trade_offer(scripted: ScriptedCommunity, home: Connection) -> bytes:
    """An offer that home-1 refuses with words, so that the session has an answer and no effect."""
    return await home.open("energy.trade", TradeOffer())


def test_f03_an_unacknowledged_message_comes_again_with_its_sequence(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        peer, home_identity = scripted.peer(OTHER), scripted.identity[REAL]
        async with scripted.connect(OTHER, REAL) as home:
            home.acknowledges = False
            flow_id = await trade_offer(scripted, home)
            heard = await home.hear(flow_id)
            (first,) = home.messages
        for _ in range(2):
            async with scripted.connect(OTHER, REAL) as home:
                home.acknowledges = False
                assert await home.hear(flow_id) == heard
                await home.settled()
                assert home.messages == [first]
        async with scripted.connect(OTHER, REAL) as home:
            assert await home.hear(flow_id) == heard
            await home.settled()
        assert peer.received[home_identity].sequence == first.sequence
        async with scripted.connect(OTHER, REAL) as home:
            await home.settled()
            assert not home.messages

    asyncio.run(scenario())


def test_f03_a_newer_connection_gets_what_the_older_one_did_not_acknowledge(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        async with scripted.connect(OTHER, REAL) as older:
            older.acknowledges = False
            flow_id = await trade_offer(scripted, older)
            heard = await older.hear(flow_id)
            async with scripted.connect(OTHER, REAL) as newer:
                assert await newer.hear(flow_id) == heard
                await newer.settled()

    asyncio.run(scenario())


def test_f03_a_newer_connection_gets_the_call_that_the_older_one_did_not_answer(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        scripted.network.stop("notary")
        try:
            run = await _call_over_two_connections(scripted)
        finally:
            await scripted.network.start("notary")
        completed(await run)

    asyncio.run(scenario())


async def _call_over_two_connections(scripted: ScriptedCommunity) -> asyncio.Task[FlowOutcome]:
    """Plays the notary, which answers nothing; the flow that waits for it."""
    home_identity, notary = scripted.identity[REAL], scripted.peer("notary")
    async with notary.connect(home_identity) as older:
        run = asyncio.create_task(scripted.run(REAL, "energy.request", energy_request("f03", 5, period=6)))
        first = await older.called()
        assert first.service == "notarise"
        async with notary.connect(home_identity) as newer:
            again = await newer.called()
            assert (again.call_id, again.payload) == (first.call_id, first.payload)
    return run


# F04, F05: failures.


def test_f04_a_refusal_crosses_with_its_words(scripted: ScriptedCommunity, owned: Holdings) -> None:
    async def scenario() -> None:
        words = "the meter is being repaired until Friday"
        outcome = await _trade_that_the_seller_ends(scripted, words)
        assert (outcome.status, outcome.error_code) == (FLOW_STATUS_FAILED, "flow.refused")
        assert outcome.error_message == words
        await eventually(scripted.holdings, owned)
        async with scripted.connect(OTHER, REAL) as home:
            answer = await home.hear(await trade_offer(scripted, home))
            assert answer.error_code == "flow.refused"
            assert answer.error_message.startswith("the offer is malformed")

    asyncio.run(scenario())


async def _trade_that_the_seller_ends(scripted: ScriptedCommunity, words: str) -> FlowOutcome:
    terms = scripted.trade_terms(OTHER, 100)
    async with scripted.connect(OTHER, REAL) as home:
        trade = asyncio.create_task(scripted.run(REAL, "energy.trade", terms))
        session = await home.opened()
        await home.fail(session.flow_id, words, to_initiator=True)
        return await trade


def test_f04_any_other_failure_crosses_with_none_of_its_text(scripted: ScriptedCommunity, owned: Holdings) -> None:
    async def scenario() -> None:
        outcome = await _trade_that_the_seller_ends(scripted, "")
        assert (outcome.status, outcome.error_code) == (FLOW_STATUS_FAILED, "flow.counterparty_failed")
        await eventually(scripted.holdings, owned)
        forged = Final(
            (await scripted.issue([scripted.identity[REAL]], 5)).draft,
            (await scripted.issue([bytes(32)], 5)).signed,
            b"",
        )
        async with scripted.connect(OTHER, REAL) as home:
            answer = await home.hear(await home.open("payment.issue", told(forged)))
            assert answer.kind == SessionMessage.KIND_ERROR
            assert (answer.error_code, answer.error_message, answer.payload) == ("", "", b"")
        async with scripted.client(REAL) as client:
            newest = (await client.flows.list(page_size=1)).flows[0]
        # The node's own operator is told what it was.
        assert newest.outcome.status == FLOW_STATUS_FAILED
        assert newest.outcome.error_code not in ("", "internal")
        assert newest.outcome.error_message

    asyncio.run(scenario())


UNKNOWN = {
    "an unknown flow": ("energy.gift", 1, "flow.unknown", "energy.gift"),
    "an unknown version": ("energy.trade", 9, "flow.unknown", "version 9"),
    "a flow that no peer can open": ("energy.request", 1, "flow.refused", "energy.request"),
    "no flow": ("", 0, "flow.unknown", "flow"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_f05_what_a_node_lacks_is_refused_to_the_peer(name: str, scripted: ScriptedCommunity) -> None:
    flow, version, code, named = UNKNOWN[name]

    async def scenario() -> None:
        async with scripted.connect(OTHER, REAL) as home:
            answer = await home.hear(await home.open(flow, TradeOffer(), version))
            assert (answer.kind, answer.error_code) == (SessionMessage.KIND_ERROR, code)
            assert named in answer.error_message
            assert "\n" not in answer.error_message

    asyncio.run(scenario())


def test_f05_a_long_unknown_name_is_not_echoed_in_full(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        async with scripted.connect(TALKATIVE, REAL) as home:
            answer = await home.hear(await home.open("\U0010ffff" * 200_000, TradeOffer()))
            assert answer.error_code == "flow.unknown"
            assert len(answer.error_message) < 1_000

    asyncio.run(scenario())


def test_f05_the_initiator_is_told_what_the_peer_lacks(scripted: ScriptedCommunity, owned: Holdings) -> None:
    async def scenario() -> None:
        async with scripted.connect(OTHER, REAL) as home:
            trade = asyncio.create_task(scripted.run(REAL, "energy.trade", scripted.trade_terms(OTHER, 100)))
            session = await home.opened()
            assert (session.flow, session.flow_version) == ("energy.trade", 1)
            text = "O=Home,CN=home-2 has no energy.trade version 1; it has [2]"
            lacking = SessionMessage(kind=SessionMessage.KIND_ERROR, flow_id=session.flow_id, to_initiator=True)
            lacking.error_code, lacking.error_message = "flow.unknown", text
            await home.send(lacking)
            outcome = await trade
        assert (outcome.status, outcome.error_code) == (FLOW_STATUS_FAILED, "flow.unknown")
        assert outcome.error_message == text
        await eventually(scripted.holdings, owned)

    asyncio.run(scenario())


def test_f03_an_answer_that_is_no_message_ends_the_flow(scripted: ScriptedCommunity, owned: Holdings) -> None:
    async def scenario() -> None:
        for payload in (b"\xff\xff", SignedProposal(proposal=b"\xff").SerializeToString(), b""):
            async with scripted.connect(OTHER, REAL) as home:
                trade = asyncio.create_task(scripted.run(REAL, "energy.trade", scripted.trade_terms(OTHER, 100)))
                session = await home.opened()
                kind = SessionMessage.KIND_DATA
                answer = SessionMessage(kind=kind, flow_id=session.flow_id, to_initiator=True, payload=payload)
                await home.send(answer)
                outcome = await trade
                assert outcome.status == FLOW_STATUS_FAILED
                assert outcome.error_code != "internal", outcome.error_message
                assert (await home.hear(session.flow_id)).kind == SessionMessage.KIND_ERROR
        await eventually(scripted.holdings, owned)

    asyncio.run(scenario())


# F08: progress.


def test_f08_each_step_is_streamed_as_it_happens(scripted: ScriptedCommunity, owned: Holdings) -> None:
    async def scenario() -> None:
        async with scripted.connect(OTHER, REAL) as home, scripted.client(REAL) as client:
            flow_id = await client.flows.start("energy.trade", scripted.trade_terms(OTHER, 100))
            events = client.flows.watch(flow_id)
            names = [(await anext(events)).step.name for _ in range(3)]
            assert names == ["selecting coins", "retrieving notary", "offering"]
            # The next step comes with the seller's answer, and it does not come before it.
            following = asyncio.ensure_future(anext(events))
            session = await home.opened()
            assert not following.done()
            await home.say(session.flow_id, SignedProposal(proposal=b"\xff"), to_initiator=True)
            step = (await following).step
            assert (step.step, step.name) == (3, "checking the seller's proposal")
            assert (await anext(events)).outcome.status == FLOW_STATUS_FAILED
            with pytest.raises(StopAsyncIteration):
                await anext(events)
        await eventually(scripted.holdings, owned)

    asyncio.run(scenario())


def test_f08_a_late_watcher_gets_the_outcome(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        async with scripted.client(REAL) as client:
            ended = await client.flows.run("energy.request", energy_request("f08", 5, period=7))
            events = [event async for event in client.flows.watch(ended.flow_id)]
            assert events[-1].outcome == ended.outcome
            assert ended.outcome.status == FLOW_STATUS_COMPLETED

    asyncio.run(scenario())
