"""A peer with a valid certificate records whole sessions, and plays them again in every way: nothing more happens."""

import asyncio
import os
import random
import time
from dataclasses import dataclass, field, replace

import grpc
import pytest
from p2pet.flows.v1.sessions_pb2 import SignatureRequest, SignatureResponse
from p2pet.peer.v1.peer_pb2 import Frame, Message, SessionMessage

from p2petd.contracts import energy
from p2petd.contracts.energy import EnergyTransfer
from p2petd.units import NO_LOWER_BOUND, SECOND_NS, TimeNs
from tests.support.drafts import Final, Held, builder_of, built
from tests.support.peer import Connection
from tests.support.scripted import REAL, Holdings, ScriptedCommunity, eventually, told

RECORDER, OTHER = "home-2", "home-3"
SESSIONS = 5
PLAYS = 400 if os.environ.get("P2PET_SOAK") else 60
WINDOW_NS = 20 * SECOND_NS


@dataclass
class Recording:
    """What was sent, in order, and what home-1 has and knows since."""

    messages: list[Message] = field(default_factory=list)
    holdings: Holdings = field(default_factory=lambda: Holdings(0, 0, 0))
    flows: int = 0
    transactions: int = 0


@pytest.fixture(scope="module")
def recording(scripted: ScriptedCommunity) -> Recording:
    """Gifts of energy to home-1, which signs for each and is told when it is final."""

    async def record() -> Recording:
        before = await scripted.energy_wh(REAL)
        made = Recording()
        peer = scripted.peer(RECORDER)
        lots = [await scripted.lot(RECORDER, 7) for _ in range(SESSIONS)]
        async with scripted.connect(RECORDER, REAL) as home, scripted.connect(RECORDER) as notary:
            for lot in lots:
                await _give(scripted, home, notary, lot, made)
            await home.settled()
        await eventually(lambda: scripted.energy_wh(REAL), before + 7 * SESSIONS)
        made.holdings, made.flows, made.transactions = await _known(scripted)
        assert peer.sent[scripted.identity[REAL]] == 2 * SESSIONS
        return made

    return asyncio.run(record())


async def _give(scripted: ScriptedCommunity, home: Connection, notary: Connection, lot: Held, made: Recording) -> None:
    giver, receiver = scripted.peer(RECORDER), scripted.identity[REAL]
    builder = builder_of(giver).window(NO_LOWER_BOUND, TimeNs(time.time_ns() + WINDOW_NS))
    builder.add_input(lot.ref, lot.component)
    builder.add_output(energy.NAME, energy.VERSION, replace(lot.energy, owner=receiver))
    command = EnergyTransfer(giver.identity, receiver, lot.energy.quantity_wh)
    draft = built(builder.add_command(energy.NAME, command, [giver.identity, receiver]))
    request = SignatureRequest(proposal=draft.proposal((), [lot.proof]).encode())
    opening = SessionMessage(
        kind=SessionMessage.KIND_OPEN,
        flow_id=draft.id[:16],
        step=1,
        flow="energy.transfer",
        flow_version=1,
        payload=request.SerializeToString(),
    )
    await _say(home, opening, made)
    answer = await home.hear(draft.id[:16])
    assert answer.kind == SessionMessage.KIND_DATA, answer.error_message
    signed = SignatureResponse.FromString(answer.payload)
    signatures = [giver.sign(draft.id), replace(giver.sign(draft.id), key=signed.key, signature=signed.signature)]
    reply = await notary.ask(giver.request(draft, draft.proposal(signatures, [lot.proof])))
    final = told(Final(draft, draft.proposal(signatures), reply.finality_proof))
    ending = SessionMessage(kind=SessionMessage.KIND_DATA, flow_id=draft.id[:16], payload=final.SerializeToString())
    await _say(home, ending, made)


async def _say(home: Connection, message: SessionMessage, made: Recording) -> None:
    sequence = await home.send(message)
    made.messages.append(Message(sequence=sequence, session=message.SerializeToString()))


async def _known(scripted: ScriptedCommunity) -> tuple[Holdings, int, int]:
    async with scripted.client(REAL) as client:
        flows = len((await client.flows.list(page_size=1000)).flows)
        transactions = len((await client.vault.transactions(page_size=1000)).transactions)
    return await scripted.holdings(), flows, transactions


async def _nothing_more(scripted: ScriptedCommunity, recording: Recording) -> None:
    assert await _known(scripted) == (recording.holdings, recording.flows, recording.transactions)


@pytest.fixture(scope="module")
def chance() -> random.Random:
    """Its seed is printed with a failure, and given back by the environment."""
    seed = int(os.environ.get("P2PET_SEED", "") or int.from_bytes(os.urandom(4)))
    print(f"P2PET_SEED={seed}")
    return random.Random(seed)


def test_r10_recorded_frames_in_any_order_and_number(
    scripted: ScriptedCommunity, recording: Recording, chance: random.Random
) -> None:
    """Every message is known by its sequence: none of them is taken, and none ends the connection."""

    async def scenario() -> None:
        async with scripted.connect(RECORDER, REAL) as home:
            for _ in range(PLAYS):
                frame = chance.choices(recording.messages, k=chance.randint(1, 3 * SESSIONS))
                await home.raw.write(Frame(messages=frame))
            await home.settled()
        await _nothing_more(scripted, recording)

    asyncio.run(scenario())


def test_r10_recorded_sessions_under_fresh_sequences(
    scripted: ScriptedCommunity, recording: Recording, chance: random.Random
) -> None:
    """A flow is known by the id that its initiator gave it, also when its messages come the wrong way round."""

    async def scenario() -> None:
        async with scripted.connect(RECORDER, REAL) as home:
            for _ in range(PLAYS):
                await home.send(SessionMessage.FromString(chance.choice(recording.messages).session))
            await home.settled()
        await _nothing_more(scripted, recording)

    asyncio.run(scenario())


def test_r10_recorded_frames_with_gaps_end_the_connection_and_nothing_else(
    scripted: ScriptedCommunity, recording: Recording, chance: random.Random
) -> None:
    async def scenario() -> None:
        peer, to = scripted.peer(RECORDER), scripted.identity[REAL]
        for _ in range(PLAYS // 10):
            async with peer.exchange(to) as exchange:
                await exchange.hello(peer.hello(to))
                frame = chance.sample(recording.messages, 3)
                beyond = Message(sequence=peer.sent[to] + chance.randint(2, 9), session=frame[0].session)
                frame.insert(chance.randint(0, 3), beyond)
                await exchange.write(Frame(messages=frame))
                status, _ = await exchange.ended()
                assert status is grpc.StatusCode.INVALID_ARGUMENT
        await _nothing_more(scripted, recording)

    asyncio.run(scenario())


def test_r10_sessions_that_another_peer_has_recorded_are_that_peers_own(
    scripted: ScriptedCommunity, recording: Recording
) -> None:
    """They are flows of its own, which end refused or record what is recorded already; the recorder hears nothing."""

    async def scenario() -> None:
        peer, to = scripted.peer(OTHER), scripted.identity[REAL]
        async with scripted.connect(RECORDER, REAL) as recorder, scripted.connect(OTHER, REAL) as home:
            for message in recording.messages:
                await home.send(SessionMessage.FromString(message.session))
            await home.settled()
            await recorder.settled()
            assert recorder.messages == []
        assert peer.sent[to] == len(recording.messages)
        holdings, _, transactions = await _known(scripted)
        assert (holdings, transactions) == (recording.holdings, recording.transactions)
        recording.flows += SESSIONS

    asyncio.run(scenario())


def test_r10_recorded_messages_in_a_new_epoch_have_no_further_effect(
    scripted: ScriptedCommunity, recording: Recording
) -> None:
    """Whoever replaces its data directory begins with sequence 1 again; the flows are known all the same."""

    async def scenario() -> None:
        peer, to = scripted.fresh_peer(RECORDER), scripted.identity[REAL]
        async with peer.connect(to) as home:
            await home.raw.write(Frame(messages=recording.messages))
            peer.sent[to] = len(recording.messages)
            await home.settled()
        await _nothing_more(scripted, recording)

    asyncio.run(scenario())
