"""Concurrent clients of a real notary that is killed under them: some order of their requests explains every answer."""

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import grpc.aio
import pytest
from p2pet.ledger.v1.transaction_pb2 import FinalityProof
from p2pet.localnet import LocalNetwork
from p2pet.notary.v1.notary_pb2 import NotarisationReply

from p2petd import native
from p2petd.contracts import energy, payment
from p2petd.contracts.energy import EnergyIssue, EnergyState, issue_claims, lot_id
from p2petd.contracts.payment import PaymentIssue, PaymentPay, PaymentState
from p2petd.errors import NotaryConflict
from p2petd.flows.finality import NOTARISE
from p2petd.ledger.transaction import Draft, TransactionBuilder
from p2petd.membership import Membership
from p2petd.units import MicroPerKwh, NanoMoney, TimeNs, WattHours
from tests.support.community import CURRENCY, FIRST_PERIOD_NS, QUARTER_NS, ZONE, make_community
from tests.support.linear import Accepted, Operation, Refused, Request, Unknown, check_linearizable
from tests.support.peer import Connection, ScriptedPeer
from tests.support.unseen import unseeing_of, unseen_request

SOAK = os.environ.get("P2PET_SOAK") == "1"
KILLS = 40 if SOAK else 3
CALLERS, AT_ONCE = 3, 4
STATES = UNITS = 600 if SOAK else 120
PATIENCE_SECONDS = 0.5
ANSWERED_SECONDS_MAX = 60.0
LOST = (TimeoutError, grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError, AssertionError)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNetwork]:
    directory = tmp_path_factory.mktemp("linearizable") / "net"
    make_community(directory, homes=CALLERS, uniqueness_notaries=1)
    with LocalNetwork(directory) as running:
        asyncio.run(running.start("uniqueness", "notary"))
        yield running


class Pool(Protocol):
    """What the requests of a seed fight for."""

    chance: random.Random

    def draw(self, caller: ScriptedPeer) -> tuple[Request, bytes]:
        """A request that may conflict with others; its bytes as `caller` asks it."""


@dataclass
class States:
    """Under a uniqueness-only notary: states of one owner, which are consumed and read."""

    owner: Membership
    made: Draft
    proof: bytes
    chance: random.Random

    def draw(self, caller: ScriptedPeer) -> tuple[Request, bytes]:
        service, parameters_hash = unseeing_of(self.owner)
        chosen = self.chance.sample(range(STATES), self.chance.randint(1, 4))
        cut = self.chance.randint(1, len(chosen))
        spent, read = chosen[:cut], chosen[cut:]
        builder = TransactionBuilder(service, parameters_hash)
        for index in spent:
            builder.add_input(self.made.output_ref(index), self.made.outputs[index])
        for index in read:
            builder.add_reference(self.made.output_ref(index), self.made.outputs[index])
        me = self.owner.identity
        builder.add_output(payment.NAME, payment.VERSION, PaymentState(CURRENCY, NanoMoney(1), me.public, me.public))
        builder.add_command(payment.NAME, PaymentPay(), [me.public])
        draft = builder.build(self.chance.randbytes(32), [me.public])
        salt = native.Transaction.decode(self.made.transaction).salt
        proofs = [native.lock_proof(self.made.transaction, index, self.proof) for index in (*spent, *read)]
        unlocks = [me.signing_key.unlock(me.network_id, salt, index, draft.id) for index in spent]
        consumed, referred = (frozenset(self.made.output_ref(n).encode() for n in part) for part in (spent, read))
        encoded = unseen_request(caller.member, draft, proofs, unlocks).SerializeToString()
        return Request(draft.id, consumed, referred), encoded


@dataclass
class Units:
    """Under a verifying notary: the market time units of one meter, which issues claim."""

    service: bytes
    chance: random.Random

    def draw(self, caller: ScriptedPeer) -> tuple[Request, bytes]:
        ((parameters_hash, _),) = caller.network_map.parameters.items()
        first, count = self.chance.randrange(UNITS), self.chance.randint(1, 4)
        start = FIRST_PERIOD_NS + first * QUARTER_NS
        end, me = start + count * QUARTER_NS, caller.identity
        quantity = WattHours(self.chance.randint(1, 1000))
        state = EnergyState(
            energy_type="solar",
            quantity_wh=quantity,
            delivery_start_ns=TimeNs(start),
            delivery_end_ns=TimeNs(end),
            asked_price_micro_per_kwh=MicroPerKwh(0),
            issuer=me,
            owner=me,
            meter="meter",
            zone=ZONE,
            lot_id=lot_id(me, "meter", start, end, quantity),
        )
        builder = TransactionBuilder(self.service, parameters_hash)
        builder.add_output(energy.NAME, energy.VERSION, state)
        builder.add_command(energy.NAME, EnergyIssue(), [me])
        claims = tuple(issue_claims("meter", start, end, QUARTER_NS))
        for claim in claims:
            builder.add_claim(claim)
        draft = builder.build(self.chance.randbytes(32))
        request = caller.request(draft, draft.proposal([caller.sign(draft.id)]))
        return Request(draft.id, claims=frozenset(claims)), request.SerializeToString()


@dataclass
class Clients:
    """Everything that was asked, and what came of it."""

    pool: Pool
    service: bytes
    ends: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[tuple[Request, bytes, ScriptedPeer]] = field(default_factory=list)
    history: list[Operation] = field(default_factory=list)

    async def work(self, peer: ScriptedPeer) -> None:
        """Ask on one connection after the other, several requests at once."""
        while not self.ends.is_set():
            with contextlib.suppress(*LOST):
                async with peer.connect(self.service) as connection:
                    await asyncio.gather(*(self._ask_on(peer, connection) for _ in range(AT_ONCE)))

    async def _ask_on(self, peer: ScriptedPeer, connection: Connection) -> None:
        while not self.ends.is_set():
            own = [entry for entry in self.asked if entry[2] is peer]
            if own and self.pool.chance.random() < 0.15:
                request, encoded, _ = self.pool.chance.choice(own)
            else:
                request, encoded = self.pool.draw(peer)
                self.asked.append((request, encoded, peer))
            if not await self.ask(connection, request, encoded):
                raise TimeoutError

    async def ask(self, connection: Connection, request: Request, encoded: bytes) -> bool:
        """One operation; whether it was answered."""
        invoked = time.monotonic_ns()
        reply = None
        with contextlib.suppress(*LOST):
            reply = await asyncio.wait_for(connection.call(NOTARISE, encoded), PATIENCE_SECONDS)
        outcome = Unknown() if reply is None or reply.error_code else read_outcome(reply.payload)
        self.history.append(Operation(request, invoked, time.monotonic_ns(), outcome))
        return not isinstance(outcome, Unknown)

    async def ask_again(self, peer: ScriptedPeer) -> None:
        """Everything once more, until it is answered: then nothing is open any more."""
        left = [entry for entry in self.asked if entry[2] is peer]
        until = time.monotonic() + ANSWERED_SECONDS_MAX
        while left:
            assert time.monotonic() < until, f"{len(left)} requests get no answer"
            with contextlib.suppress(*LOST):
                async with peer.connect(self.service) as connection:
                    while left and await self.ask(connection, *left[-1][:2]):
                        left.pop()


def read_outcome(payload: bytes) -> Accepted | Refused:
    reply = NotarisationReply.FromString(payload)
    if reply.finality_proof:
        proof = FinalityProof.FromString(reply.finality_proof)
        return Accepted(native.finality_summary(reply.finality_proof)[3], proof.batch.index)
    assert reply.error.code == NotaryConflict.code, reply.error
    return Refused({conflict.subject: conflict.consumer_hash for conflict in reply.error.conflicts})


async def _make_states(peer: ScriptedPeer, node: bytes, seed: int) -> States:
    notary, parameters_hash = unseeing_of(peer.member)
    me = peer.identity
    builder = TransactionBuilder(notary, parameters_hash)
    for _ in range(STATES):
        builder.add_output(payment.NAME, payment.VERSION, PaymentState(CURRENCY, NanoMoney(1), me, me))
    builder.add_command(payment.NAME, PaymentIssue(bytes(32)), [me])
    made = builder.build(bytes([1]) * 32, [me] * STATES)
    async with peer.connect(node) as connection:
        proof = (await connection.ask(unseen_request(peer.member, made, (), ()))).finality_proof
    return States(peer.member, made, proof, random.Random(seed))


@pytest.mark.parametrize("notary", ["uniqueness", "notary"])
def test_n14_i1_what_clients_see_of_a_notary_that_is_killed_is_linearizable(notary: str, network: LocalNetwork) -> None:
    """The short form kills three times; the long one forty times, with more states to fight for."""
    seed = int(os.environ.get("P2PET_SIM_SEED", time.time_ns() % 10**9))
    print(f"P2PET_SIM_SEED={seed}")
    peers = [ScriptedPeer(network.node_directory(f"home-{n}") / "node.toml") for n in range(1, CALLERS + 1)]
    info = next(info for info in peers[0].network_map.nodes if info.common_name == notary)

    async def scenario() -> list[Operation]:
        pool: Pool = Units(info.notary_service_key, random.Random(seed))
        if notary == "uniqueness":
            pool = await _make_states(peers[0], info.identity, seed)
        clients, chance = Clients(pool, info.identity), random.Random(seed + 1)
        work = [asyncio.create_task(clients.work(peer)) for peer in peers]
        for _ in range(KILLS):
            before = len(clients.history)
            while len(clients.history) < before + chance.randint(20, 60):
                await asyncio.sleep(0.005)
            network.kill(notary)
            await network.start(notary)
        clients.ends.set()
        await asyncio.gather(*work)
        await asyncio.gather(*(clients.ask_again(peer) for peer in peers))
        return clients.history

    history = asyncio.run(scenario())
    check_linearizable(history)
    kinds = {kind.__name__: sum(isinstance(o.outcome, kind) for o in history) for kind in (Accepted, Refused, Unknown)}
    print(f"{len(history)} operations: {kinds}")
    assert min(kinds["Accepted"], kinds["Refused"]) > 10
