"""An operator's day with real daemons: parked flows, kills, drains, rules of one's own, stops and starts."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from p2pet.client import ApiError
from p2pet.flows.v1 import arguments_pb2 as args
from p2pet.flows.v1.flows_pb2 import (
    FLOW_STATUS_COMPLETED,
    FLOW_STATUS_FAILED,
    FLOW_STATUS_RUNNING,
    FlowInfo,
    ProgressStep,
)
from p2pet.localnet import LocalNetwork
from p2pet.node.v1.node_pb2 import DrainResponse

from tests.support.community import CURRENCY, EURO_NANO, completed, energy_request, make_community, selection
from tests.support.packages import install
from tests.support.scripted import eventually
from tests.support.two_notaries import FIRST, SECOND, TwoNotaries

# The three of whom the tests speak; home-2 has rules of its own, home-3 is alone when it is stopped.
HOME, RULED, DRAINED = "home-1", "home-2", "home-3"

FLOWS = """
import os
from pathlib import Path

from p2pet.flows.v1.arguments_pb2 import PaymentPayArguments

from p2petd.flows.context import FlowContext
from p2petd.flows.money import lock_money
from p2petd.flows.registry import FlowDefinition


async def stumble(ctx: FlowContext, arguments: PaymentPayArguments) -> None:
    '''Reserves money and fails for as long as a file is there.'''
    await lock_money(ctx, arguments.currency, arguments.amount_nano)
    if Path(os.environ["OPERATED_FAULT"]).exists():
        raise ZeroDivisionError("words that nobody may see")


async def rest(ctx: FlowContext, arguments: PaymentPayArguments) -> None:
    ctx.progress("resting")
    await ctx.pause_for(arguments.amount_nano)


def flow(name, initiator):
    return FlowDefinition(name, 1, PaymentPayArguments, "for a test", initiator, None)


FLOWS = (flow("operated.stumble", stumble), flow("operated.rest", rest))


def rules(name, proposer, transaction):
    '''Home-2 takes no energy from anybody.'''
    if name == "energy.transfer" and any(state.contract == "energy" for state in transaction.outputs):
        return "no energy on Sundays"
    return None
"""


@dataclass(frozen=True)
class Operated:
    community: TwoNotaries
    environment: Mapping[str, str]
    fault: Path

    def cli(self, node: str, *words: str) -> tuple[int, dict[str, Any]]:
        """Exit status and JSON answer of a command."""
        directory = str(self.community.network.node_directory(node))
        command = [sys.executable, "-m", "p2pet.cli.main", "--node", directory, *words, "--json"]
        done = subprocess.run(command, env={**os.environ}, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return done.returncode, answer

    async def start(self, *names: str) -> None:
        await self.community.network.start(*names, environment=self.environment)

    async def begin(self, node: str, flow: str, arguments: Any, client_id: str = "") -> bytes:
        async with self.community.client(node) as client:
            return await client.flows.start(flow, arguments, client_id=client_id)

    async def fund(self, node: str, amount_nano: int, notary: str = FIRST) -> None:
        """Fresh money that the node has heard of."""
        before = await self.community.money_nano(node)
        completed(await self.community.money_at(notary, node, amount_nano))
        await eventually(lambda: self.community.money_nano(node), before + amount_nano)

    async def flow(self, node: str, flow_id: bytes) -> FlowInfo:
        async with self.community.client(node) as client:
            return (await client.flows.get(flow_id=flow_id)).flow

    async def status(self, node: str, flow_id: bytes) -> int:
        return (await self.flow(node, flow_id)).outcome.status

    async def statuses(self, node: str, flow: str) -> list[int]:
        """Of all flows with this name, the newest first."""
        async with self.community.client(node) as client:
            flows = (await client.flows.list(page_size=1000)).flows
        return [one.outcome.status for one in flows if one.flow == flow]

    async def steps(self, node: str, flow: str, arguments: Any) -> list[ProgressStep]:
        """All that a watcher is told of a flow that completes."""
        async with self.community.client(node) as client:
            events = [event async for event in client.flows.watch(await client.flows.start(flow, arguments))]
        completed(events[-1].outcome)
        return [event.step for event in events[:-1]]


@pytest.fixture(scope="module")
def operated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    directory = tmp_path_factory.mktemp("operated")
    install(directory / "site", "operated", {"__init__.py": FLOWS}, "[p2petd.flows]\noperated = operated:FLOWS\n")
    made = make_community(directory / "net", homes=3, notaries=2)
    with (made.directory / RULED / "node.toml").open("a") as settings:
        settings.write('\n[flows]\npolicy = "operated:rules"\n')
    fault = directory / "fault"
    environment = {"PYTHONPATH": str(directory / "site"), "OPERATED_FAULT": str(fault)}
    with LocalNetwork(made.directory) as network:
        asyncio.run(network.start(environment=environment))
        yield Operated(TwoNotaries(made, network), environment, fault)


def pay(operated: Operated, to: str, amount: int = EURO_NANO) -> args.PaymentPayArguments:
    return args.PaymentPayArguments(currency=CURRENCY, amount_nano=amount, recipient=operated.community.identity[to])


def rest(seconds: float) -> args.PaymentPayArguments:
    return args.PaymentPayArguments(amount_nano=int(seconds * 1e9))


def test_f06_a_parked_flow_is_shown_retried_and_dropped_without_a_restart(operated: Operated) -> None:
    async def begin() -> list[bytes]:
        await operated.fund(HOME, 2 * EURO_NANO)
        completed(await operated.community.run(HOME, "payment.pay", pay(operated, HOME)))
        arguments = args.PaymentPayArguments(currency=CURRENCY, amount_nano=EURO_NANO)
        return [await operated.begin(HOME, "operated.stumble", arguments) for _ in range(2)]

    operated.fault.touch()
    first, second = asyncio.run(begin())
    status, parked = operated.cli(HOME, "flow", "parked")
    assert (status, parked["more"]) == (0, False)
    assert {flow["flow_id"] for flow in parked["flows"]} == {first.hex(), second.hex()}
    for flow in parked["flows"]:
        assert flow["outcome"]["error_code"] == "internal"
        assert "ZeroDivisionError in __init__.py, line " in flow["outcome"]["error_message"]
        assert "nobody may see" not in flow["outcome"]["error_message"]
    assert asyncio.run(operated.community.locked(HOME)) == 2 * EURO_NANO

    operated.fault.unlink()
    assert operated.cli(HOME, "flow", "retry", first.hex()) == (0, {"done": True})
    assert asyncio.run(operated.status(HOME, first)) == FLOW_STATUS_COMPLETED
    status, dropped = operated.cli(HOME, "flow", "drop", second.hex())
    assert (status, dropped["outcome"]["error_code"], dropped["in_flight"]) == (0, "flow.killed", [])
    assert asyncio.run(operated.community.locked(HOME)) == 0


def test_f02_a_removed_flow_is_forgotten_and_its_client_id_free(operated: Operated) -> None:
    async def scenario() -> None:
        flow_id = await operated.begin(HOME, "operated.rest", rest(0), "removed")
        await eventually(lambda: operated.status(HOME, flow_id), FLOW_STATUS_COMPLETED)
        assert await operated.begin(HOME, "operated.rest", rest(9), "removed") == flow_id
        async with operated.community.client(HOME) as client:
            await client.flows.remove(flow_id)
            with pytest.raises(ApiError) as missing:
                await client.flows.get(flow_id=flow_id)
            assert missing.value.code == "flow.not_found"
        assert await operated.begin(HOME, "operated.rest", rest(0), "removed") != flow_id

    asyncio.run(scenario())


def test_f07_killing_a_payment_in_flight_loses_neither_money_nor_outcome(operated: Operated) -> None:
    """Its notary is down when it is killed; the node itself learns what became of it, also over a restart."""
    community = operated.community

    async def scenario() -> None:
        await operated.fund(HOME, 5 * EURO_NANO)
        before = await community.money_nano(HOME), await community.money_nano(DRAINED)
        community.network.stop(FIRST)
        flow_id = await operated.begin(HOME, "payment.pay", pay(operated, DRAINED, 4 * EURO_NANO))
        await eventually(lambda: _waits_for_notary(operated, flow_id), "the notary CN")
        status, killed = operated.cli(HOME, "flow", "kill", flow_id.hex())
        assert (status, killed["outcome"]["error_code"], len(killed["in_flight"])) == (0, "flow.killed", 1)
        # What it has signed stays reserved.
        assert await community.locked(HOME) >= 4 * EURO_NANO
        assert await operated.statuses(HOME, "ledger.settle") == [FLOW_STATUS_RUNNING]
        async with community.client(HOME) as client:
            with pytest.raises(ApiError, match="cannot be ended"):
                await client.flows.kill(await _newest(operated, HOME, "ledger.settle"))
        community.network.kill(HOME)
        await operated.start(HOME)
        assert await community.locked(HOME) >= 4 * EURO_NANO
        await operated.start(FIRST)
        after = before[0] - 4 * EURO_NANO, before[1] + 4 * EURO_NANO
        await eventually(lambda: _money(community, HOME, DRAINED), after)
        await eventually(lambda: community.locked(HOME), 0)
        assert await operated.statuses(HOME, "ledger.settle") == [FLOW_STATUS_COMPLETED]
        assert await operated.status(HOME, flow_id) == FLOW_STATUS_FAILED

    asyncio.run(scenario())


async def _waits_for_notary(operated: Operated, flow_id: bytes) -> str:
    found = await operated.flow(HOME, flow_id)
    return found.waiting_for.partition("=")[0] or str(found)


async def _money(community: TwoNotaries, *names: str) -> tuple[int, ...]:
    return tuple([await community.money_nano(name) for name in names])


async def _newest(operated: Operated, node: str, flow: str) -> bytes:
    async with operated.community.client(node) as client:
        return next(one.flow_id for one in (await client.flows.list(page_size=100)).flows if one.flow == flow)


def test_f07_a_killed_trade_frees_both_sides(operated: Operated) -> None:
    """The seller is down when the buyer gives up; it is told when it is back."""
    community = operated.community

    async def scenario() -> None:
        completed(await community.issue_energy(DRAINED, 500))
        community.network.stop(DRAINED)
        flow_id = await operated.begin(HOME, "energy.trade", community.trade_terms(DRAINED, 500, price=100_000))
        await eventually(lambda: _waits(operated, flow_id), "an answer of CN=home-3")
        assert await community.locked(HOME) > 0
        async with community.client(HOME) as client:
            assert not (await client.flows.kill(flow_id)).in_flight
        assert await community.locked(HOME) == 0
        await operated.start(DRAINED)
        await eventually(lambda: operated.statuses(DRAINED, "energy.trade"), [FLOW_STATUS_FAILED])
        assert await community.locked(DRAINED) == 0
        assert await community.energy_wh(DRAINED) == 500

    asyncio.run(scenario())


async def _waits(operated: Operated, flow_id: bytes) -> str:
    async with operated.community.client(HOME) as client:
        (listed,) = [one for one in (await client.flows.list(page_size=100)).flows if one.flow_id == flow_id]
    return listed.waiting_for.partition(",")[0]


def test_f08_built_in_flows_tell_their_steps_as_they_happen_and_nest_the_moves(operated: Operated) -> None:
    community = operated.community
    whole = ["selecting coins", "retrieving notary", "building", "signing", "notarising", "recording", "broadcasting"]

    async def scenario() -> None:
        for notary in (FIRST, SECOND):
            await operated.fund(HOME, EURO_NANO, notary)
        steps = await operated.steps(HOME, "payment.pay", pay(operated, RULED, 1_000))
        assert [(step.name, step.depth) for step in steps] == [(name, 0) for name in whole]
        assert [step.step for step in steps] == list(range(len(whole)))
        assert [step.at_ns for step in steps] == sorted(step.at_ns for step in steps)
        issued = await operated.steps(HOME, "energy.request", energy_request(HOME, 1_000, period=3))
        assert [step.name for step in issued] == ["retrieving notary", *whole[2:-1]]
        gift = args.EnergyTransferArguments(recipient=community.identity[DRAINED], energy=selection(3), quantity_wh=500)
        given = [step.name for step in await operated.steps(HOME, "energy.transfer", gift)]
        assert [name for name in given if name in {*whole, "collecting signatures"}] == [
            "retrieving notary",
            "building",
            "collecting signatures",
            "notarising",
            "recording",
            "broadcasting",
        ]
        change = args.NotaryChangeArguments(notary=community.service_key(SECOND))
        moved = [(step.name, step.depth) for step in await operated.steps(HOME, "ledger.notary_change", change)]
        assert moved[:4] == [("choosing states", 0), ("moving", 0), ("notarising", 1), ("recording", 1)]

    asyncio.run(scenario())


def test_f10_an_operators_own_rules_refuse_in_the_operators_words(operated: Operated) -> None:
    community = operated.community

    async def scenario() -> None:
        completed(await community.issue_energy(HOME, 700, period=5))
        before = await community.energy_wh(RULED)
        for to, refused in ((RULED, True), (DRAINED, False)):
            gift = args.EnergyTransferArguments(recipient=community.identity[to], energy=selection(5), quantity_wh=100)
            outcome = await community.run(HOME, "energy.transfer", gift)
            if refused:
                assert (outcome.status, outcome.error_code) == (FLOW_STATUS_FAILED, "flow.refused")
                assert outcome.error_message == "no energy on Sundays"
            else:
                completed(outcome)
        assert await community.energy_wh(RULED) == before
        await eventually(lambda: community.locked(HOME), 0)

    asyncio.run(scenario())


def test_f12_a_pause_goes_on_over_kill_9(operated: Operated) -> None:
    async def scenario() -> None:
        flow_id = await operated.begin(DRAINED, "operated.rest", rest(3))
        before = await operated.flow(DRAINED, flow_id)
        assert before.waiting_for.startswith("until 20")
        operated.community.network.kill(DRAINED)
        await operated.start(DRAINED)
        after = await operated.flow(DRAINED, flow_id)
        if after.outcome.status == FLOW_STATUS_RUNNING:
            assert after.waiting_for == before.waiting_for
        await eventually(lambda: operated.status(DRAINED, flow_id), FLOW_STATUS_COMPLETED)
        ended = await operated.flow(DRAINED, flow_id)
        assert ended.ended_at_ns - ended.started_at_ns >= 3_000_000_000

    asyncio.run(scenario())


def test_f09_a_drained_node_finishes_stops_and_keeps_what_others_send(operated: Operated) -> None:
    community = operated.community

    async def scenario() -> None:
        before = await community.money_nano(DRAINED)
        await operated.fund(HOME, EURO_NANO)
        resting = await operated.begin(DRAINED, "operated.rest", rest(3))
        async with community.client(DRAINED) as client:
            assert await client.drain() == DrainResponse(running=1)
            assert (await client.info()).draining
            with pytest.raises(ApiError, match="accepts no new flow") as refused:
                await client.flows.start("operated.rest", rest(1))
            assert refused.value.code == "node.draining"
        # A payment to it ends for its payer; the payee hears of it at its next start.
        completed(await community.run(HOME, "payment.pay", pay(operated, DRAINED)))
        assert community.network.is_running(DRAINED)
        assert await asyncio.to_thread(community.network.wait_ended, DRAINED) == 0
        await operated.start(DRAINED)
        assert await operated.status(DRAINED, resting) == FLOW_STATUS_COMPLETED
        await eventually(lambda: community.money_nano(DRAINED), before + EURO_NANO)

    asyncio.run(scenario())


def test_f09_a_drain_is_undone_and_waited_for(operated: Operated) -> None:
    async def scenario() -> None:
        long = await operated.begin(DRAINED, "operated.rest", rest(3600))
        async with operated.community.client(DRAINED) as client:
            assert await client.drain() == DrainResponse(running=1)
            assert await client.drain(undo=True) == DrainResponse(running=1)
            completed(await operated.community.run(DRAINED, "operated.rest", rest(0)))
            assert (await client.flows.kill(long)).outcome.error_code == "flow.killed"

    asyncio.run(scenario())
    assert operated.cli(DRAINED, "node", "drain", "--wait")[0] == 0
    assert operated.community.network.wait_ended(DRAINED) == 0
    asyncio.run(operated.start(DRAINED))


def test_f09_a_second_sigterm_is_harmless_and_running_flows_go_on(operated: Operated) -> None:
    network = operated.community.network

    async def scenario() -> None:
        flow_id = await operated.begin(DRAINED, "operated.rest", rest(1))
        for _ in range(3):
            os.kill(network.pid(DRAINED), signal.SIGTERM)
        assert await asyncio.to_thread(network.wait_ended, DRAINED) == 0
        await operated.start(DRAINED)
        await eventually(lambda: operated.status(DRAINED, flow_id), FLOW_STATUS_COMPLETED)

    asyncio.run(scenario())
