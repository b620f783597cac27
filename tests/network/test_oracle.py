"""A real oracle and a real notary: what a hostile home can make of them, and what a crash leaves."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest
from p2pet.client import ApiError
from p2pet.ledger.v1.oracle_pb2 import EnergyForecast
from p2pet.localnet import LocalNetwork
from p2pet.oracle.v1 import oracle_pb2 as pb

from p2petd import native
from p2petd.contracts import energy, oracle
from p2petd.contracts.energy import EnergyDeliver, deliver_claims, delivery_of
from p2petd.contracts.oracle import Attestation, MeterReading
from p2petd.ledger.groups import Group
from p2petd.ledger.proposal import Signature
from p2petd.ledger.transaction import Draft
from p2petd.units import NO_UPPER_BOUND, WattHours
from tests.support.community import FIRST_PERIOD_NS, QUARTER_NS
from tests.support.delivery import PAST, make_delivering_community, publish_tariff, push, tariff_table, unit_reading
from tests.support.drafts import Held, builder_of, built, energy_issue, notarised, refusal
from tests.support.peer import Connection, ScriptedPeer
from tests.support.scripted import ScriptedCommunity

METER = "meter-home-2"


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedCommunity]:
    """home-2 is played by the test."""
    directory = tmp_path_factory.mktemp("oracle") / "net"
    made = make_delivering_community(directory, oracles=2)
    with LocalNetwork(directory) as network:
        asyncio.run(network.start("notary", "oracle", "home-1"))
        running = ScriptedCommunity(made, network)
        asyncio.run(_begin(running))
        yield running


async def _begin(scripted: ScriptedCommunity) -> None:
    await publish_tariff(scripted)
    async with scripted.client("notary") as notary:
        await notary.attachments.upload(tariff_table().encode())


def period(unit: int) -> tuple[int, int]:
    start = FIRST_PERIOD_NS + (PAST + unit) * QUARTER_NS
    return start, start + QUARTER_NS


def oracle_key(scripted: ScriptedCommunity, name: str = "oracle") -> bytes:
    return next(node.oracle_key for node in scripted.made.nodes if node.directory.name == name)


async def facts(connection: Connection, unit: int, *, tariff: bool = True) -> Attestation:
    """What the oracle says of the unit, and of its tariff."""
    start, end = period(unit)
    reading, notice = pb.FactQuery(), pb.FactQuery()
    reading.reading.meter, reading.reading.start_ns, reading.reading.end_ns = METER, start, end
    notice.tariff.valid_from_ns = start
    asked = pb.FactsRequest(queries=[reading, notice] if tariff else [reading])
    reply = pb.FactsReply.FromString((await connection.call("oracle.facts", asked.SerializeToString())).payload)
    assert not reply.error_code, reply.error_message
    return Attestation.from_payload(reply.attestation.SerializeToString())


async def sign(connection: Connection, draft: Draft, shown: tuple[int, ...] = (1,), group: int = 3) -> pb.SignReply:
    """What the oracle answers when it is shown these commands."""
    tear_off = native.tear_off(draft.transaction, [(group, index) for index in shown], [])
    request = pb.SignRequest(transaction_id=draft.id, tear_off=tear_off).SerializeToString()
    return pb.SignReply.FromString((await connection.call("oracle.sign", request)).payload)


@dataclass(frozen=True)
class Closing:
    """A delivery of one lot that states `reading`, with these attestations after the command."""

    peer: ScriptedPeer
    lot: Held
    reading: MeterReading
    attestations: tuple[Attestation, ...]

    def draft(self) -> Draft:
        table = tariff_table()
        tariff = sha256(table.encode()).digest()
        lot = self.lot.energy
        builder = builder_of(self.peer).window(lot.delivery_end_ns, NO_UPPER_BOUND).add_attachment(tariff)
        builder.add_input(self.lot.ref, self.lot.component)
        closed = delivery_of(lot, self.reading.energy_wh, self.reading.revision, table, tariff)
        builder.add_output(energy.NAME, energy.VERSION, closed)
        builder.add_command(energy.NAME, EnergyDeliver(tariff), [lot.owner])
        for attestation in self.attestations:
            builder.add_command(oracle.NAME, attestation, [attestation.oracle])
        for claim in deliver_claims(lot.meter, lot.delivery_start_ns, lot.delivery_end_ns, QUARTER_NS):
            builder.add_claim(claim)
        return built(builder)


async def issued(scripted: ScriptedCommunity, unit: int) -> Held:
    peer = scripted.peer("home-2")
    draft = built(energy_issue(peer, 1_000, METER, PAST + unit))
    async with scripted.connect("home-2") as notary:
        return (await notarised(notary, peer, draft, [peer])).held()


async def notarise(scripted: ScriptedCommunity, closing: Closing, draft: Draft, signatures: list[Signature]) -> Any:
    peer = closing.peer
    request = peer.request(draft, draft.proposal([*signatures, peer.sign(draft.id)], [closing.lot.proof]))
    async with scripted.connect("home-2") as notary:
        return await notary.ask(request)


async def attested_revision(scripted: ScriptedCommunity, unit: int) -> int:
    start, end = period(unit)
    async with scripted.client("oracle") as client:
        (known,) = (await client.oracle.readings(meter=METER, from_ns=start, until_ns=end)).readings
    return known.attested_revision


def test_c12_an_honest_delivery_of_a_scripted_home_is_notarised(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        await push(scripted, unit_reading("home-2", 900, 0))
        lot = await issued(scripted, 0)
        async with scripted.connect("home-2", "oracle") as connection:
            true = await facts(connection, 0)
            closing = Closing(scripted.peer("home-2"), lot, true.readings[0], (true,))
            draft = closing.draft()
            reply = await sign(connection, draft)
        assert not reply.error_code, reply.error_message
        answer = await notarise(scripted, closing, draft, [Signature(true.oracle, reply.signature)])
        assert answer.WhichOneof("result") == "finality_proof", answer.error.message
        assert await attested_revision(scripted, 0) == 1

    asyncio.run(scenario())


def test_c12_false_stale_and_foreign_facts_are_not_signed(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        await push(scripted, unit_reading("home-2", 900, 1))
        lot = await issued(scripted, 1)
        peer = scripted.peer("home-2")
        async with scripted.connect("home-2", "oracle") as connection:
            true = await facts(connection, 1)
            higher = replace(true, readings=(replace(true.readings[0], energy_wh=WattHours(9_000)),))
            foreign = replace(true, oracle=oracle_key(scripted, "oracle-2"))
            refused = await sign(connection, Closing(peer, lot, higher.readings[0], (higher,)).draft())
            assert refused.error_code == "oracle.fact_differs"
            assert not refused.signature
            refused = await sign(connection, Closing(peer, lot, true.readings[0], (foreign,)).draft())
            assert refused.error_code == "oracle.refused"
            honest = Closing(peer, lot, true.readings[0], (true,)).draft()
            # What it need not see, it refuses to see: the delivery, and a state.
            for shown, group in (((0, 1), 3), ((0,), 3), ((0,), Group.OUTPUTS)):
                assert (await sign(connection, honest, shown, group)).error_code == "oracle.refused"
            await push(scripted, unit_reading("home-2", 880, 1))
            refused = await sign(connection, honest)
            assert refused.error_code == "oracle.fact_differs"
            assert "880 Wh in revision 2" in refused.error_message
        assert await attested_revision(scripted, 1) == 0

    asyncio.run(scenario())


def test_c12_an_attestation_that_hides_behind_another_is_refused_by_the_notary(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        await push(scripted, unit_reading("home-2", 100, 2), unit_reading("home-2", 50, 3))
        lot = await issued(scripted, 2)
        async with scripted.connect("home-2", "oracle") as connection:
            harmless = await facts(connection, 3, tariff=False)
            true = await facts(connection, 2)
            false = replace(true, readings=(replace(true.readings[0], energy_wh=WattHours(9_000)),))
            # The oracle sees only the harmless one, and its signature covers the whole transaction.
            closing = Closing(scripted.peer("home-2"), lot, false.readings[0], (harmless, false))
            draft = closing.draft()
            reply = await sign(connection, draft, (1,))
            assert not reply.error_code
            assert (await sign(connection, draft, (2,))).error_code == "oracle.refused"
        answer = await notarise(scripted, closing, draft, [Signature(true.oracle, reply.signature)])
        refusal(answer, "notary.invalid_transaction")
        assert answer.error.cause == "oracle.attestation.twice"
        # Nothing is consumed: the same lot can be delivered rightly.
        async with scripted.connect("home-2", "oracle") as connection:
            honest = Closing(scripted.peer("home-2"), lot, true.readings[0], (true,))
            draft = honest.draft()
            signature = (await sign(connection, draft)).signature
        answer = await notarise(scripted, honest, draft, [Signature(true.oracle, signature)])
        assert answer.WhichOneof("result") == "finality_proof", answer.error.message

    asyncio.run(scenario())


def test_c12_a_home_cannot_vouch_for_itself(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        await push(scripted, unit_reading("home-2", 100, 4))
        lot = await issued(scripted, 4)
        peer = scripted.peer("home-2")
        async with scripted.connect("home-2", "oracle") as connection:
            true = await facts(connection, 4)
        own = replace(true, oracle=peer.identity)
        closing = Closing(peer, lot, own.readings[0], (own,))
        answer = await notarise(scripted, closing, closing.draft(), [])
        refusal(answer, "notary.invalid_transaction")
        assert answer.error.cause == "oracle.attestation.fact_not_permitted"
        forged = Closing(peer, lot, true.readings[0], (true,))
        draft = forged.draft()
        answer = await notarise(scripted, forged, draft, [Signature(true.oracle, peer.sign(draft.id).signature)])
        refusal(answer, "notary.invalid_transaction")
        assert answer.error.cause.startswith("signature.")

    asyncio.run(scenario())


def test_c12_what_the_oracle_has_signed_it_knows_after_a_crash(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        await push(scripted, unit_reading("home-2", 700, 5))
        lot = await issued(scripted, 5)
        async with scripted.connect("home-2", "oracle") as connection:
            true = await facts(connection, 5)
            draft = Closing(scripted.peer("home-2"), lot, true.readings[0], (true,)).draft()
            first = await sign(connection, draft)
        scripted.network.kill("oracle")
        await scripted.network.start("oracle")
        assert await attested_revision(scripted, 5) == 1
        answer = await push(scripted, unit_reading("home-2", 650, 5))
        assert (answer.corrected, answer.corrected_late) == (0, 1)
        async with scripted.connect("home-2", "oracle") as connection:
            assert (await sign(connection, draft)).signature == first.signature

    asyncio.run(scenario())


def test_a_node_that_is_no_oracle_offers_nothing_of_one(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        async with scripted.connect("home-2", "home-1") as connection:
            reply = await connection.call("oracle.facts", b"")
            assert reply.error_code == "peer.unknown_service"
        async with scripted.client("home-1") as client:
            with pytest.raises(ApiError) as caught:
                await client.oracle.readings()
        assert caught.value.status == "UNIMPLEMENTED"

    asyncio.run(scenario())


def test_a_tariff_that_is_none_is_not_published(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        async with scripted.client("oracle") as client:
            stored = await client.attachments.upload(b"no tariff")
            with pytest.raises(ApiError) as caught:
                await client.oracle.publish_tariff(stored.hash)
            assert caught.value.code == "transaction.malformed"
            with pytest.raises(ApiError) as caught:
                await client.oracle.publish_tariff(b"\x01" * 32)
            assert caught.value.code == "transaction.attachment_missing"
            good = EnergyForecast(meter=METER, start_ns=0, end_ns=QUARTER_NS, energy_wh_max=1)
            assert (await client.oracle.push_forecasts([good])).accepted == 1

    asyncio.run(scenario())


def test_readings_by_file_and_by_command(scripted: ScriptedCommunity, tmp_path: Any) -> None:
    start, _ = period(10)
    directory = scripted.network.node_directory("oracle")
    first, second = (_utc(start + n * QUARTER_NS) for n in range(2))
    file = tmp_path / "day.csv"
    file.write_text(f"meter,start,energy_wh\ncli,{first},500\ncli,{second},600\n")
    assert _cli(directory, "push", str(file)) == "2 added, 0 repeated, 0 corrected.\n"
    assert _cli(directory, "push", str(file)) == "0 added, 2 repeated, 0 corrected.\n"
    assert _cli(directory, "reading", "cli", first, "0.48kWh") == "0 added, 0 repeated, 1 corrected.\n"
    file.write_text(f"meter,start,energy_wh\ncli,{first},480\ncli,{second},-1\n")
    assert "line 3: -1 Wh is below zero [oracle.negative]" in _cli(directory, "push", str(file), code=1)
    known = json.loads(_cli(directory, "readings", "--meter", "cli", "--json"))["readings"]
    assert [(one["reading"]["energy_wh"], one["reading"]["revision"]) for one in known] == [(480, 2), (600, 1)]
    assert known[0]["earlier_wh"] == [500]
    assert "0.48 kWh" in _cli(directory, "readings", "--meter", "cli")
    assert "taken" in _cli(directory, "forecast", "cli", f"{second}/PT15M", "700")
    tariff = sha256(tariff_table().encode()).hexdigest()
    assert "In force from" in _cli(directory, "tariff", tariff)
    assert "[oracle.none]" in _cli(scripted.network.node_directory("home-1"), "readings", code=1)
    (directory / "readings" / "feed.csv").write_text(f"meter,start,energy_wh,revision\nfed,{first},320,1\n")

    async def until_read() -> None:
        async with scripted.client("oracle") as client:
            while not (await client.oracle.readings(meter="fed")).readings:
                await asyncio.sleep(0.02)

    asyncio.run(until_read())


def _utc(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _cli(node: Any, *words: str, code: int = 0) -> str:
    command = [sys.executable, "-m", "p2pet.cli.main", "--node", str(node), "oracle", *words]
    environment = {**os.environ, "COLUMNS": "300"}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert ended.returncode == code, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stdout + ended.stderr
