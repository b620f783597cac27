"""Who asks a notary for what exceeds a contract's budget pays with its own time, and costs nobody else theirs (N15)."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from p2pet.ledger.v1 import transaction_pb2
from p2pet.localnet import LocalNetwork
from p2pet.notary.v1.notary_pb2 import NotarisationReply, NotarisationRequest

from p2petd.ledger.codec import encode_canonical
from p2petd.ledger.transaction import Draft, TransactionBuilder
from p2petd.notary.queue import DEBT_FACTOR
from p2petd.units import SECOND_NS
from tests.support.community import EURO_NANO, completed, make_community
from tests.support.packages import install_contract
from tests.support.peer import ScriptedPeer
from tests.support.scripted import ScriptedCommunity

GREEDY = "home-2"
IN_FORCE_AFTER_SECONDS = 1
FLOOD = 40
ENDLESS, SLOW = "spin", "crawl"
BODIES = {
    ENDLESS: """
def verify(transaction):
    count = 0
    while True:
        count += 1
""",
    # Some 50 to 150 ms: within the budget.
    SLOW: """
def verify(transaction):
    for _ in range(5_000_000):
        pass
""",
}


@pytest.fixture(scope="module")
def spinning(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedCommunity]:
    """The network permits a contract that never ends, and a slow one."""
    directory = tmp_path_factory.mktemp("spinning")
    for name, body in BODIES.items():
        install_contract(directory / "site", name, body)
    environment = {"PYTHONPATH": str(directory / "site")}
    made = make_community(directory / "net")
    for name in BODIES:
        permit = ["contract", "permit", name, "--dir", str(made.directory), "--in", str(IN_FORCE_AFTER_SECONDS)]
        command = [sys.executable, "-m", "p2pet.cli.main", *permit, "--json"]
        done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, timeout=60, check=True)
        time.sleep(max(0.0, (json.loads(done.stdout)["valid_from_ns"] - time.time_ns()) / SECOND_NS))
    with LocalNetwork(Path(made.directory)) as network:
        asyncio.run(network.start("notary", "community", "home-1", environment=environment))
        yield ScriptedCommunity(made, network)


def _issue(peer: ScriptedPeer, number: int, contract: str) -> Draft:
    parameters_hash, signed = max(peer.network_map.parameters.items(), key=lambda known: known[1].parameters.version)
    notary = signed.parameters.notaries[0].service_key
    builder = TransactionBuilder(notary, parameters_hash)
    named = {"contract": contract, "type_name": "Any", "schema_version": 1, "payload": number.to_bytes(4)}
    state = encode_canonical(transaction_pb2.OutputState, contract_version=1, notary=notary, **named)
    builder.add_output_component(state)
    builder.add_command_component(encode_canonical(transaction_pb2.Command, **named), [peer.identity])
    return builder.build(number.to_bytes(32))


def _request(peer: ScriptedPeer, number: int, contract: str = ENDLESS) -> NotarisationRequest:
    draft = _issue(peer, number, contract)
    return peer.request(draft, draft.proposal([peer.sign(draft.id)]))


def test_n15_slow_contracts_of_one_caller_hold_up_nobody_else(spinning: ScriptedCommunity) -> None:
    async def scenario() -> None:
        peer = spinning.peer(GREEDY)
        async with spinning.connect(GREEDY) as notary:
            began = time.monotonic()
            flood = [
                asyncio.create_task(notary.call("notarise", _request(peer, number, SLOW).SerializeToString()))
                for number in range(FLOOD)
            ]
            completed(await spinning.issue_money("home-1", EURO_NANO))
            served = time.monotonic() - began
            replies = await asyncio.gather(*flood)
            assert served < (time.monotonic() - began) * 2 / 3
        # All the same, each is decided.
        results = [NotarisationReply.FromString(reply.payload).WhichOneof("result") for reply in replies]
        assert results == ["finality_proof"] * FLOOD

    asyncio.run(scenario())


def test_n15_a_flood_that_exceeds_the_budget_waits_and_keeps_nobody_out(spinning: ScriptedCommunity) -> None:
    async def scenario() -> None:
        peer = spinning.peer(GREEDY)
        async with spinning.connect(GREEDY) as notary:
            flood = [
                asyncio.create_task(notary.call("notarise", _request(peer, number).SerializeToString()))
                for number in range(FLOOD)
            ]
            began = time.monotonic()
            completed(await spinning.issue_money("home-1", EURO_NANO))
            # Were all of them tried, it would take FLOOD times the budget and the start of as many processes.
            assert time.monotonic() - began < 5
            replies = await asyncio.gather(*flood)
        decided = [NotarisationReply.FromString(reply.payload) for reply in replies if not reply.error_code]
        assert [(reply.error.code, reply.error.cause) for reply in decided] == [
            ("notary.invalid_transaction", "contract.budget_exceeded")
        ]
        away = [reply for reply in replies if reply.error_code]
        assert {reply.error_code for reply in away} == {"notary.overloaded"}
        # At least the budget's part of a second, so many times.
        assert all(reply.retry_after_ns > DEBT_FACTOR * SECOND_NS // 20 for reply in away)
        # What comes later waits too.
        async with spinning.connect(GREEDY) as notary:
            later = await notary.call("notarise", _request(peer, FLOOD).SerializeToString())
        assert later.error_code == "notary.overloaded"
        completed(await spinning.issue_energy("home-1", 1_000))

    asyncio.run(scenario())
