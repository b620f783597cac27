"""Money is issued once, whichever of two notaries dies when, and for how long both are away."""

import asyncio
import signal
import time
from collections.abc import Iterator

import pytest
from p2pet.flows.v1 import arguments_pb2 as args
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_RUNNING
from p2pet.localnet import LocalNetwork

from p2petd.flows.payment_issue import ISSUE_WINDOW_NS
from tests.support.community import CURRENCY, completed, make_community
from tests.support.scripted import eventually
from tests.support.two_notaries import FIRST, SECOND, TwoNotaries

AFTER_THE_COMMIT = "notary.after_commit:1"


@pytest.fixture
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoNotaries]:
    directory = tmp_path_factory.mktemp("elsewhere") / "net"
    made = make_community(directory, homes=1, notaries=2)
    with LocalNetwork(directory) as network:
        asyncio.run(network.start("community"))
        yield TwoNotaries(made, network)


def _issue(amount_nano: int) -> args.PaymentIssueArguments:
    return args.PaymentIssueArguments(currency=CURRENCY, amount_nano=amount_nano)


async def _start(two: TwoNotaries, amount_nano: int) -> bytes:
    async with two.client("community") as client:
        return await client.flows.start("payment.issue", _issue(amount_nano), client_id=str(amount_nano))


async def _a_notary_dies(two: TwoNotaries) -> str:
    """The name of the one that was asked: it has committed, and not replied."""
    async with asyncio.timeout(20):
        while True:
            for name in (FIRST, SECOND):
                if not two.network.is_running(name):
                    assert two.network.wait_ended(name) == -signal.SIGKILL
                    return name
            await asyncio.sleep(0.02)


def test_n14_money_is_issued_once_when_its_notary_dies_between_commit_and_reply(two: TwoNotaries) -> None:
    """Many times, so that each of the two is the first."""

    async def scenario() -> None:
        died: set[str] = set()
        amount = 1_000
        while len(died) < 2:
            amount += 1
            before = await two.money_nano("community")
            await two.network.start(FIRST, SECOND, environment={"P2PET_FAILPOINTS": AFTER_THE_COMMIT})
            await _start(two, amount)
            died.add(await _a_notary_dies(two))
            two.network.stop(FIRST, SECOND)
            assert await two.money_nano("community") == before
            await two.network.start(FIRST, SECOND)
            completed(await two.run("community", "payment.issue", _issue(amount), str(amount)))
            assert await two.money_nano("community") == before + amount
            assert [await two.accepted(name) for name in (FIRST, SECOND)] == [0, 0]
            two.network.stop(FIRST, SECOND)

    asyncio.run(scenario())


def test_n18_an_issue_goes_to_another_notary_only_when_the_first_never_will(two: TwoNotaries) -> None:
    """Both are away until the windows have passed. One has decided the first issue, none the second."""

    async def scenario() -> None:
        await two.network.start(FIRST, SECOND, environment={"P2PET_FAILPOINTS": AFTER_THE_COMMIT})
        await _start(two, 1)
        await _a_notary_dies(two)
        two.network.stop(FIRST, SECOND)
        second = await _start(two, 100)
        over_ns = time.time_ns() + ISSUE_WINDOW_NS
        two.network.kill("community")
        await two.network.start("community")
        await asyncio.to_thread(_wait_until, over_ns)
        async with two.client("community") as client:
            assert (await client.flows.get(flow_id=second)).flow.outcome.status == FLOW_STATUS_RUNNING
        await two.network.start(FIRST, SECOND)
        for amount in (1, 100):
            completed(await two.run("community", "payment.issue", _issue(amount), str(amount)))
        await eventually(lambda: two.money_nano("community"), 101)
        # The second was decided once: not by the notary that it was for at first.
        decided = {}
        for name in (FIRST, SECOND):
            async with two.client(name) as client:
                stats = await client.stats()
            decided[stats["notary_accepted"]] = stats["notary_refused"]
        assert decided == {0: 1, 1: 0}
        async with two.client("community") as client:
            steps = [step.name for step in (await client.flows.get(flow_id=second)).steps]
        assert not steps or "issuing anew" in steps

    asyncio.run(scenario())


def _wait_until(when_ns: int) -> None:
    """The notaries' clock is the machine's: a window passes in its own time."""
    while time.time_ns() <= when_ns:
        time.sleep(0.05)
