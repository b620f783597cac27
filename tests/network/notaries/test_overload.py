"""More requests than the notary has room for: it says when to come again, and each is decided once (N15)."""

import asyncio
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from p2pet.flows.v1 import arguments_pb2 as args
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_COMPLETED, FlowStart
from p2pet.localnet import LocalNetwork
from p2pet.peer.v1.peer_pb2 import Call, Frame

from p2petd.flows.finality import NOTARISE
from p2petd.notary.queue import RETRY_MAX_NS, RETRY_MIN_NS
from tests.support.community import CURRENCY, completed, make_community
from tests.support.drafts import built, money_issue
from tests.support.peer import Exchange
from tests.support.scripted import REAL, ScriptedCommunity, eventually

FLOOD = "home-2"
QUEUE_MAX, BATCH_MAX = 8, 4
QUEUE_BYTES_MAX = 4 * 1024 * 1024
PAYMENTS = 1_500
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedCommunity]:
    """A notary with little room, the issuer and home-1 run; the flood is scripted."""
    directory = tmp_path_factory.mktemp("narrow") / "net"
    made = make_community(directory, homes=2)
    with (directory / "notary" / "node.toml").open("a") as config:
        config.write(f"queue_max = {QUEUE_MAX}\nqueue_bytes_max = {QUEUE_BYTES_MAX}\nbatch_max = {BATCH_MAX}\n")
    with LocalNetwork(directory) as network:
        asyncio.run(network.start("notary", "community", REAL))
        yield ScriptedCommunity(made, network)


async def _stats(community: ScriptedCommunity) -> dict[str, int]:
    async with community.client("notary") as client:
        return await client.stats()


async def _look(community: ScriptedCommunity, seen: list[dict[str, int]]) -> None:
    async with community.client("notary") as client:
        while True:
            seen.append(await client.stats())
            await asyncio.sleep(0.02)


def _resident_bytes(community: ScriptedCommunity, node: str) -> int:
    status = Path(f"/proc/{community.network.pid(node)}/status").read_text()
    (kilobytes,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
    return int(kilobytes) * 1024


def test_n15_every_flow_of_a_flood_ends_once(narrow: ScriptedCommunity) -> None:
    async def scenario() -> None:
        before, money = await _stats(narrow), await narrow.money_nano(REAL)
        one = args.PaymentIssueArguments(currency=CURRENCY, amount_nano=1, recipient=narrow.identity[REAL])
        starts = [FlowStart(flow="payment.issue", arguments=one.SerializeToString()) for _ in range(PAYMENTS)]
        seen: list[dict[str, int]] = []
        looking = asyncio.create_task(_look(narrow, seen))
        async with narrow.client("community") as client:
            statuses = [result.outcome.status async for result in client.flows.run_many(starts)]
        looking.cancel()
        assert statuses == [FLOW_STATUS_COMPLETED] * PAYMENTS
        await eventually(lambda: narrow.money_nano(REAL), money + PAYMENTS)
        after = await _stats(narrow)
        assert after["notary_accepted"] - before["notary_accepted"] == PAYMENTS
        assert after["notary_overloaded"] > before["notary_overloaded"]
        assert after["notary_queue_length"] == after["notary_queue_bytes"] == after["notary_estimated_wait_ns"] == 0
        assert max(stats["notary_queue_length"] for stats in seen) <= QUEUE_MAX
        assert max(stats["notary_queue_bytes"] for stats in seen) <= QUEUE_BYTES_MAX

    asyncio.run(scenario())


def test_n15_who_is_turned_away_is_told_when_to_come_again(narrow: ScriptedCommunity) -> None:
    """More in one frame than the caller's share of the queue; the same bytes again are decided once."""

    async def scenario() -> None:
        issuer = narrow.peer("community")
        narrow.network.stop("community")
        drafts = [built(money_issue(issuer, [issuer.identity], 1)) for _ in range(200)]
        requests = [issuer.request(d, d.proposal([issuer.sign(d.id)])).SerializeToString() for d in drafts]
        before = await _stats(narrow)
        async with narrow.connect("community") as notary:
            replies = await asyncio.gather(*(notary.call(NOTARISE, request) for request in requests))
            away = [(request, reply) for request, reply in zip(requests, replies, strict=True) if reply.error_code]
            assert away
            for _, reply in away:
                assert (reply.error_code, reply.payload) == ("notary.overloaded", b"")
                assert RETRY_MIN_NS <= reply.retry_after_ns <= RETRY_MAX_NS
            waits = [reply.retry_after_ns for _, reply in away]
            # One after the other, not all at once.
            assert len(set(waits)) > 1 or waits[-1] == RETRY_MIN_NS
            decided = (await _stats(narrow))["notary_accepted"] - before["notary_accepted"]
            assert decided == len(requests) - len(away)
            for request, _ in away:
                while (await notary.call(NOTARISE, request)).error_code:
                    await asyncio.sleep(RETRY_MIN_NS / 1e9)
        assert (await _stats(narrow))["notary_accepted"] - before["notary_accepted"] == len(requests)
        await narrow.network.start("community")

    asyncio.run(scenario())


def test_n15_a_caller_that_floods_keeps_nobody_out_and_fills_no_memory(narrow: ScriptedCommunity) -> None:
    """It never waits for an answer; meanwhile the others are served."""

    async def scenario() -> None:
        flooder = narrow.peer(FLOOD)
        completed(await narrow.issue_money(REAL, 1_000))
        held = _resident_bytes(narrow, "notary")
        junk = secrets.token_bytes(60_000)
        async with flooder.exchange(narrow.identity["notary"]) as exchange:
            await exchange.hello(flooder.hello(narrow.identity["notary"]))
            drain = asyncio.create_task(_drain(exchange))
            flood = asyncio.create_task(_flood(exchange, junk))
            for _ in range(20):
                completed(await asyncio.wait_for(narrow.issue_money(REAL, 1), 20))
            assert not flood.done()
            flood.cancel()
            drain.cancel()
            await asyncio.gather(flood, drain, return_exceptions=True)
        assert _resident_bytes(narrow, "notary") - held < 64 * MIB

    asyncio.run(scenario())


async def _flood(exchange: Exchange, junk: bytes) -> None:
    while True:
        calls = [Call(call_id=secrets.token_bytes(16), service=NOTARISE, payload=junk) for _ in range(10)]
        await exchange.write(Frame(calls=calls))


async def _drain(exchange: Exchange) -> None:
    while await exchange.read(None) is not None:
        pass
