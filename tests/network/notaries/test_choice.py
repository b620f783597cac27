"""Which notary guards new money: any verifying one that serves, by chance, or the one that is asked for."""

import asyncio
from collections.abc import Iterator

import pytest
from p2pet.flows.v1 import arguments_pb2 as args
from p2pet.flows.v1.flows_pb2 import FlowStart
from p2pet.localnet import LocalNetwork

from p2petd.ledger.resolved import OutputState
from tests.support.community import CURRENCY, completed, make_community
from tests.support.scripted import eventually
from tests.support.two_notaries import FIRST, SECOND, TwoNotaries

HOME, UNIQUENESS, ABSENT = "home-1", "uniqueness", "notary-3"
ISSUES = 40


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoNotaries]:
    """Two verifying notaries, one that sees uniqueness only, and one that is listed without a node."""
    directory = tmp_path_factory.mktemp("several") / "net"
    made = make_community(directory, homes=1, notaries=3, uniqueness_notaries=1)
    (directory / "network" / "nodes" / f"{ABSENT}.info").unlink()
    with LocalNetwork(directory) as network:
        asyncio.run(network.start(FIRST, SECOND, UNIQUENESS, "community", HOME))
        yield TwoNotaries(made, network)


async def _guards(community: TwoNotaries) -> list[bytes]:
    return [OutputState.decode(state.output).notary for state in await community.states(HOME, "payment")]


def test_n13_money_is_issued_at_any_verifying_notary_that_serves(several: TwoNotaries) -> None:
    async def scenario() -> None:
        one = args.PaymentIssueArguments(currency=CURRENCY, amount_nano=1, recipient=several.identity[HOME])
        starts = [FlowStart(flow="payment.issue", arguments=one.SerializeToString()) for _ in range(ISSUES)]
        async with several.client("community") as client:
            async for result in client.flows.run_many(starts):
                completed(result.outcome)
        await eventually(lambda: several.money_nano(HOME), ISSUES)
        # By chance all of them at one: once in 2^39.
        assert set(await _guards(several)) == {several.service_key(FIRST), several.service_key(SECOND)}

    asyncio.run(scenario())


def test_n13_money_is_issued_at_the_notary_that_is_asked_for(several: TwoNotaries) -> None:
    async def scenario() -> None:
        before = await several.money_nano(HOME)
        completed(await several.money_at(UNIQUENESS, HOME, 1_000))
        await eventually(lambda: several.money_nano(HOME), before + 1_000)
        assert (await _guards(several)).count(several.service_key(UNIQUENESS)) == 1
        unlisted = args.PaymentIssueArguments(currency=CURRENCY, amount_nano=1, notary=bytes(32))
        assert (await several.run("community", "payment.issue", unlisted)).error_code == "flow.arguments"

    asyncio.run(scenario())


def test_n13_what_a_uniqueness_only_notary_guards_is_spent_there_and_never_moves(several: TwoNotaries) -> None:
    async def scenario() -> None:
        total = await several.money_nano(HOME)
        (ref,) = [
            state.ref
            for state in await several.states(HOME, "payment")
            if OutputState.decode(state.output).notary == several.service_key(UNIQUENESS)
        ]
        outcome = await several.move(HOME, FIRST, [ref])
        assert "do not move from a notary that sees uniqueness only" in outcome.error_message
        pay = args.PaymentPayArguments(currency=CURRENCY, amount_nano=total, recipient=several.identity["community"])
        assert (await several.run(HOME, "payment.pay", pay)).error_code == "vault.insufficient"
        assert (await several.money_nano(HOME), await several.locked(HOME)) == (total, 0)
        # All that can move does; the coin stays.
        completed(await several.move(HOME, SECOND))
        assert set(await _guards(several)) == {several.service_key(SECOND), several.service_key(UNIQUENESS)}
        pay.amount_nano = 1_000
        completed(await several.run(HOME, "payment.pay", pay))
        assert await several.money_nano(HOME) == total - 1_000
        assert set(await _guards(several)) == {several.service_key(SECOND)}

    asyncio.run(scenario())
