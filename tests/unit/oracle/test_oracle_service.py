"""The oracle's thread: what it answers peers and its operator, what it keeps, what it does when too much waits."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest
from p2pet.ledger.v1.oracle_pb2 import EnergyForecast
from p2pet.oracle.v1 import oracle_pb2 as pb
from p2pet.peer.v1.peer_pb2 import Reply
from scribe import KEY, METER, NETWORK, NOW_NS, OTHER_KEY, START_NS, UNIT_NS, reading, request

from p2petd import native
from p2petd.contracts.oracle import Attestation
from p2petd.errors import DataDirectoryError, OracleOverloaded
from p2petd.oracle import service as module
from p2petd.oracle.service import PUSHED_MAX, OracleService, open_oracle_store
from p2petd.units import INT64_MAX, TimeNs

PEER = b"\x09" * 32
Scenario = Callable[[OracleService], Coroutine[None, None, None]]


def run(directory: Path, scenario: Scenario, key: native.SigningKey = KEY, *, begin: bool = True) -> None:
    """The scenario with an oracle that runs, or will; the next one finds what this one has left."""

    async def work() -> None:
        readings = directory / "readings"
        readings.mkdir(exist_ok=True)
        store = open_oracle_store(directory / "oracle", segment_bytes=2**20, map_bytes=2**26)
        oracle = OracleService(store, key, NETWORK, UNIT_NS, readings, lambda: TimeNs(NOW_NS))
        if begin:
            oracle.start()
        await scenario(oracle)
        await oracle.stop()

    asyncio.run(work())


async def ask(call: Callable[[bytes, bytes, Callable[[Reply], None]], None], payload: bytes) -> Reply:
    answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    call(PEER, payload, answer.set_result)
    return await answer


def query() -> pb.FactsRequest:
    asked = pb.FactQuery()
    asked.reading.meter, asked.reading.start_ns, asked.reading.end_ns = METER, START_NS, START_NS + UNIT_NS
    return pb.FactsRequest(queries=[asked])


async def facts(oracle: OracleService) -> pb.FactsReply:
    return pb.FactsReply.FromString((await ask(oracle.facts, query().SerializeToString())).payload)


def test_c12_what_is_pushed_is_vouched_for_also_after_a_restart(tmp_path: Path) -> None:
    signatures: list[bytes] = []

    async def first(oracle: OracleService) -> None:
        answer = await oracle.push_readings([reading(500), reading(-5), reading(500), reading(480)])
        assert (answer.added, answer.repeated, answer.corrected, answer.corrected_late) == (1, 1, 1, 0)
        assert [(one.index, one.code) for one in answer.refused] == [(1, "oracle.negative")]

    async def second(oracle: OracleService) -> None:
        reply = await facts(oracle)
        attestation = Attestation.from_payload(reply.attestation.SerializeToString())
        assert [(one.energy_wh, one.revision) for one in attestation.readings] == [(480, 2)]
        signed = await ask(oracle.sign, request(attestation).SerializeToString())
        signatures.append(pb.SignReply.FromString(signed.payload).signature)
        assert (await oracle.push_readings([reading(470)])).corrected_late == 1
        assert oracle.counters() == {"oracle_corrections": 1, "oracle_readings": 0, "oracle_signatures": 1}

    async def third(oracle: OracleService) -> None:
        (known,), last = oracle.readings("", b"", 0, INT64_MAX, 10)
        assert last is None
        assert (known.reading.energy_wh, known.reading.revision, known.attested_revision) == (470, 3, 2)
        assert list(known.earlier_wh) == [500, 480]

    for scenario in (first, second, third):
        run(tmp_path, scenario)
    assert len(signatures[0]) == 64


def test_a_refusal_is_an_answer_and_not_asked_again(tmp_path: Path) -> None:
    async def scenario(oracle: OracleService) -> None:
        assert (await facts(oracle)).error_code == "oracle.unknown_fact"
        for call in (oracle.facts, oracle.sign):
            reply = await ask(call, b"\xff")
            assert not reply.error_code
            assert pb.SignReply.FromString(reply.payload).error_code == "request.malformed"
        refused = await ask(oracle.sign, pb.SignRequest(transaction_id=b"\x01" * 32).SerializeToString())
        assert pb.SignReply.FromString(refused.payload).error_code == "oracle.refused"
        assert oracle.counters()["oracle_signatures_refused"] == 1

    run(tmp_path, scenario)


def test_forecasts_and_tariffs_are_taken(tmp_path: Path) -> None:
    async def scenario(oracle: OracleService) -> None:
        good = EnergyForecast(meter=METER, start_ns=NOW_NS, end_ns=NOW_NS + UNIT_NS, energy_wh_max=900)
        bad = EnergyForecast(meter=METER, start_ns=NOW_NS + 1, end_ns=NOW_NS + UNIT_NS, energy_wh_max=900)
        answer = await oracle.push_forecasts([good, bad, good])
        assert (answer.accepted, [(one.index, one.code) for one in answer.refused]) == (2, [(1, "oracle.unaligned")])
        notice = await oracle.publish_tariff(b"\x0a" * 32, 5, 9)
        assert (notice.tariff, notice.valid_from_ns, notice.valid_until_ns) == (b"\x0a" * 32, 5, 9)

    run(tmp_path, scenario)


def test_a_peer_that_asks_too_much_is_asked_to_come_again_and_others_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUEUE_MAX", 6)

    async def scenario(oracle: OracleService) -> None:
        replies: list[Reply] = []
        for _ in range(4):
            oracle.facts(PEER, query().SerializeToString(), replies.append)
        assert [reply.error_code for reply in replies] == [OracleOverloaded.code]
        pushes = [asyncio.create_task(oracle.push_readings([reading(500)])) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(OracleOverloaded):
            await oracle.push_readings([reading(500)])
        oracle.start()
        assert [(await push).added for push in pushes] == [1, 0]
        while len(replies) < 4:
            await asyncio.sleep(0)
        assert [reply.error_code for reply in replies[1:]] == ["", "", ""]
        assert (await facts(oracle)).attestation.readings[0].energy_wh == 500

    run(tmp_path, scenario, begin=False)


def test_a_peer_that_asks_much_holds_up_nobody_else(tmp_path: Path) -> None:
    async def scenario(oracle: OracleService) -> None:
        order: list[bytes] = []
        for peer in (*[PEER] * 50, b"another peer"):
            oracle.facts(peer, query().SerializeToString(), lambda reply, peer=peer: order.append(peer))
        oracle.start()
        while len(order) < 51:
            await asyncio.sleep(0)
        assert order.index(b"another peer") == 1

    run(tmp_path, scenario, begin=False)


def test_a_file_that_appears_is_read(tmp_path: Path) -> None:
    async def scenario(oracle: OracleService) -> None:
        text = "meter,start,energy_wh\nmeter-1,2023-11-14T22:00:00Z,640\n"
        (tmp_path / "readings" / "day.csv").write_text(text)
        while not (known := oracle.readings(METER, b"", 0, INT64_MAX, 10)[0]):
            await asyncio.sleep(0.01)
        assert known[0].reading.energy_wh == 640

    run(tmp_path, scenario)


def test_the_log_of_another_oracle_is_refused(tmp_path: Path) -> None:
    async def nothing(oracle: OracleService) -> None:
        assert (await facts(oracle)).error_code

    run(tmp_path, nothing)
    with pytest.raises(DataDirectoryError, match="the oracle's log belongs to"):
        run(tmp_path, nothing, OTHER_KEY)
    run(tmp_path, nothing)


def test_what_waits_is_answered_before_the_oracle_stops(tmp_path: Path) -> None:
    async def scenario(oracle: OracleService) -> None:
        pushes.extend(asyncio.create_task(oracle.push_readings([reading(n, n)])) for n in range(10))
        await asyncio.sleep(0)

    pushes: list[asyncio.Task[pb.PushReadingsResponse]] = []
    run(tmp_path, scenario)

    async def again(oracle: OracleService) -> None:
        known, _ = oracle.readings(METER, b"", 0, INT64_MAX, 100)
        assert [one.reading.energy_wh for one in known] == list(range(10))

    run(tmp_path, again)


def test_a_push_has_a_limit(tmp_path: Path) -> None:
    async def scenario(oracle: OracleService) -> None:
        many = [reading(7, meter=f"m{number}") for number in range(PUSHED_MAX + 1)]
        with pytest.raises(OracleOverloaded, match="at most 10000 facts, not 10001"):
            await oracle.push_readings(many)
        assert oracle.readings("", b"", 0, INT64_MAX, 10) == ([], None)
        answers = await asyncio.gather(*(oracle.push_readings(many[:-1]) for _ in range(3)))
        assert [answer.added for answer in answers] == [PUSHED_MAX, 0, 0]

    run(tmp_path, scenario)
