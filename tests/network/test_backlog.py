"""What a node does with more than one peer may have under way: all of it in turn, and nobody else waits for it."""

import asyncio
import secrets
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from p2pet.flows.v1 import arguments_pb2 as args
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_COMPLETED, FlowOutcome, FlowStart
from p2pet.flows.v1.sessions_pb2 import OfferedInput, SignatureRequest, TradeOffer
from p2pet.localnet import LocalNetwork
from p2pet.peer.v1.peer_pb2 import Frame, Message, SessionMessage

from p2petd.contracts import energy
from p2petd.contracts.energy import EnergyTransfer
from p2petd.flows.engine import RESPONDERS_PER_PEER_MAX
from p2petd.units import NO_LOWER_BOUND, SECOND_NS, TimeNs, WattHours
from tests.support.community import CURRENCY, completed, energy_request, make_community
from tests.support.drafts import Held, builder_of, built
from tests.support.peer import Connection, ScriptedPeer
from tests.support.scripted import REAL, ScriptedCommunity, eventually

CROWD, BUYER, AWAY = "home-2", "home-3", "home-4"
PAYMENTS = 2_000
# So many messages may wait for one peer of home-1.
OUTBOX_MAX = 20
# So many flows wait for their turn.
WAITING = 44
WINDOW_NS = 5 * SECOND_NS


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedCommunity]:
    """A notary, the issuer and home-1 run; every other home is scripted."""
    directory = tmp_path_factory.mktemp("backlog") / "net"
    made = make_community(directory, homes=4)
    config = directory / REAL / "node.toml"
    config.write_text(config.read_text().replace("[client]", f"outbox_messages_max = {OUTBOX_MAX}\n\n[client]"))
    with LocalNetwork(directory) as network:
        asyncio.run(network.start("notary", "community", REAL))
        yield ScriptedCommunity(made, network)


def test_f22_a_backlog_of_payments_for_a_home_that_was_down_arrives_whole(busy: ScriptedCommunity) -> None:
    async def scenario() -> None:
        before = await busy.money_nano(REAL)
        busy.network.stop(REAL)
        one = args.PaymentIssueArguments(currency=CURRENCY, amount_nano=1, recipient=busy.identity[REAL])
        async with busy.client("community") as client:
            starts = [FlowStart(flow="payment.issue", arguments=one.SerializeToString()) for _ in range(PAYMENTS)]
            statuses = [result.outcome.status async for result in client.flows.run_many(starts)]
        assert statuses == [FLOW_STATUS_COMPLETED] * PAYMENTS
        await busy.network.start(REAL)
        await eventually(lambda: busy.money_nano(REAL), before + PAYMENTS)
        assert await _flows(busy) == (0, 0)

    asyncio.run(scenario())


def test_r12_with_a_peer_for_which_too_much_waits_no_flow_is_begun(busy: ScriptedCommunity) -> None:
    """What is under way goes on, a restart forgets nothing, and when the peer is back all goes on."""

    async def pay(count: int) -> list[FlowOutcome]:
        one = args.PaymentPayArguments(currency=CURRENCY, amount_nano=1, recipient=busy.identity[AWAY])
        async with busy.client(REAL) as client:
            starts = [FlowStart(flow="payment.pay", arguments=one.SerializeToString()) for _ in range(count)]
            return [result.outcome async for result in client.flows.run_many(starts)]

    async def waiting() -> int:
        async with busy.client(REAL) as client:
            return next(peer.outbox for peer in (await client.peers()).peers if peer.identity == busy.identity[AWAY])

    async def scenario() -> None:
        for _ in range(OUTBOX_MAX + 1):
            completed(await busy.issue_money(REAL, 1_000))
        assert await waiting() == 0
        for _ in range(OUTBOX_MAX):
            (outcome,) = await pay(1)
            completed(outcome)
        before = await busy.holdings()
        for _ in range(2):
            (outcome,) = await pay(1)
            assert outcome.error_code == "flow.counterparty_backlogged"
            assert f"{OUTBOX_MAX} messages wait for" in outcome.error_message
            assert (await waiting(), await busy.holdings()) == (OUTBOX_MAX, before)
            busy.network.kill(REAL)
            await busy.network.start(REAL)
        # Others are not concerned.
        completed(await busy.run(REAL, "energy.request", energy_request("backlogged", 5, period=8)))
        async with busy.connect(AWAY, REAL) as home:
            await eventually(waiting, 0)
            assert [message.sequence for message in home.messages] == list(range(1, OUTBOX_MAX + 1))
            completed((await pay(1))[0])
        assert (await busy.holdings()).money_nano == before.money_nano - 1

    asyncio.run(scenario())


def test_r12_a_peer_that_fills_its_places_keeps_nobody_else_out(busy: ScriptedCommunity) -> None:
    """It opens more sessions than it has places for, and says no more in any of them."""

    async def scenario() -> None:
        before = await busy.holdings()
        async with busy.connect(CROWD, REAL) as home:
            lot = await busy.lot(CROWD, 1)
            await _open_gifts(home, busy.peer(CROWD), busy.identity[REAL], lot, RESPONDERS_PER_PEER_MAX + WAITING)
            await home.settled()
            assert await _flows(busy) == (RESPONDERS_PER_PEER_MAX, WAITING)
            completed(await busy.issue_money(REAL, 7))
            await eventually(lambda: busy.money_nano(REAL), before.money_nano + 7)
            completed(await busy.run(REAL, "energy.request", energy_request("owner", 5, period=9)))
            assert await _flows(busy) == (RESPONDERS_PER_PEER_MAX, WAITING)
            # The first end with their window; then the others have their turn, and end for the same reason.
            await eventually(lambda: _flows(busy), (0, 0))
        assert (await busy.holdings()).money_nano == before.money_nano + 7

    asyncio.run(scenario())


def test_f10_a_coin_that_stands_in_an_open_offer_is_not_taken_twice(busy: ScriptedCommunity) -> None:
    """Else one coin would reserve all that a seller has, again and again."""

    async def scenario() -> None:
        buyer = busy.peer(BUYER)
        for period in (1, 2):
            completed(await busy.issue_energy(REAL, 1_000, period))
        (coin,) = await busy.coins([buyer.identity], 250_000_000)
        before = await busy.holdings()
        async with busy.connect(BUYER, REAL) as seller:
            first = await seller.open("energy.trade", _offer(busy, coin, 1))
            assert (await seller.hear(first)).kind == SessionMessage.KIND_DATA
            assert (await busy.holdings()).locked == before.locked + 1_000
            second = await seller.open("energy.trade", _offer(busy, coin, 2))
            refusal = await seller.hear(second)
            assert refusal.kind == SessionMessage.KIND_ERROR
            assert "stands in another offer" in refusal.error_message
            assert (await busy.holdings()).locked == before.locked + 1_000
            await seller.fail(first, "not any more")
            await eventually(busy.holdings, before)
            third = await seller.open("energy.trade", _offer(busy, coin, 2))
            assert (await seller.hear(third)).kind == SessionMessage.KIND_DATA
            await seller.fail(third, "not any more")
            await eventually(busy.holdings, before)

    asyncio.run(scenario())


async def _flows(community: ScriptedCommunity) -> tuple[int, int]:
    """How many run at home-1, and how many wait for their turn."""
    async with community.client(REAL) as client:
        stats = await client.stats()
        return stats["flows_running"], stats["flows_waiting"]


async def _open_gifts(home: Connection, giver: ScriptedPeer, receiver: bytes, lot: Held, count: int) -> None:
    """Open so many sessions in which the home signs for energy, and then waits for the giver."""
    builder = builder_of(giver).window(NO_LOWER_BOUND, TimeNs(time.time_ns() + WINDOW_NS))
    builder.add_input(lot.ref, lot.component)
    builder.add_output(energy.NAME, energy.VERSION, replace(lot.energy, owner=receiver))
    command = EnergyTransfer(giver.identity, receiver, WattHours(1))
    builder.add_command(energy.NAME, command, [giver.identity, receiver])
    request = SignatureRequest(proposal=built(builder).proposal((), [lot.proof]).encode()).SerializeToString()
    first = giver.sent.get(receiver, 0) + 1
    opening = SessionMessage(
        kind=SessionMessage.KIND_OPEN, step=1, flow="energy.transfer", flow_version=1, payload=request
    )
    messages = []
    for sequence in range(first, first + count):
        opening.flow_id = secrets.token_bytes(16)
        messages.append(Message(sequence=sequence, session=opening.SerializeToString()))
    await home.raw.write(Frame(messages=messages))
    giver.sent[receiver] = first + count - 1


def _offer(community: ScriptedCommunity, coin: Held, period: int) -> TradeOffer:
    buyer = community.peer(BUYER)
    (parameters_hash,) = buyer.network_map.parameters
    return TradeOffer(
        terms=community.trade_terms(REAL, 1_000, period),
        buyer=buyer.identity,
        notary=coin.output.notary,
        parameters_hash=parameters_hash,
        window_until_ns=time.time_ns() + 2 * SECOND_NS,
        payment_inputs=[OfferedInput(ref=coin.ref.encode(), proof=coin.proof)],
    )
