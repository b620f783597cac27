"""The rest of the life of energy and money on real daemons: split, merge, retire, expire, redeem, and who is told."""

import asyncio
import time
from collections.abc import Iterator

import pytest
from p2pet.client import ApiError
from p2pet.flows.v1 import arguments_pb2 as args
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_FAILED, FlowOutcome
from p2pet.ledger.v1.energy_pb2 import EnergyState
from p2pet.ledger.v1.oracle_pb2 import EnergyForecast
from p2pet.ledger.v1.transaction_pb2 import OutputState
from p2pet.localnet import LocalNetwork

from tests.support.community import (
    CURRENCY,
    EURO_NANO,
    QUARTER_NS,
    Community,
    completed,
    energy_request,
    make_community,
    selection,
)

pytestmark = pytest.mark.subprocesses

DAY_NS = 24 * 3600 * 10**9


def refused(outcome: FlowOutcome, code: str, words: str) -> None:
    assert outcome.status == FLOW_STATUS_FAILED
    assert outcome.error_code == code, outcome.error_message
    assert words in outcome.error_message


async def parts(community: Community, node: str, period: int) -> list[int]:
    """The Wh of each unconsumed state of a period, ascending."""
    start = selection(period).delivery_start_ns
    async with community.client(node) as client:
        states = (await client.vault.states(status=1, contract="energy", page_size=1000)).states
    decoded = [EnergyState.FromString(OutputState.FromString(state.output).payload) for state in states]
    return sorted(state.quantity_wh for state in decoded if state.delivery_start_ns == start)


def test_c13_energy_is_split_merged_and_retired_by_its_owner(community: Community) -> None:
    async def scenario() -> None:
        completed(await community.issue_energy("home-1", 1_000, period=20))
        energy = selection(20)
        too_much = args.EnergySplitArguments(energy=energy, parts_wh=[600, 500])
        refused(await community.run("home-1", "energy.split", too_much), "vault.insufficient", "1000 Wh")
        nothing = args.EnergySplitArguments(energy=energy)
        refused(await community.run("home-1", "energy.split", nothing), "flow.arguments", "parts_wh")
        refused(
            await community.run("home-1", "energy.merge", args.EnergyMergeArguments(energy=energy)),
            "flow.arguments",
            "cut into several",
        )
        assert await community.locked("home-1") == 0
        completed(
            await community.run("home-1", "energy.split", args.EnergySplitArguments(energy=energy, parts_wh=[600, 100]))
        )
        assert await parts(community, "home-1", 20) == [100, 300, 600]
        retire = args.EnergyRetireArguments(energy=energy, quantity_wh=650)
        completed(await community.run("home-1", "energy.retire", retire))
        assert sum(await parts(community, "home-1", 20)) == 350
        completed(await community.run("home-1", "energy.merge", args.EnergyMergeArguments(energy=energy)))
        assert await parts(community, "home-1", 20) == [350]
        refused(await community.run("home-1", "energy.retire", retire), "vault.insufficient", "300 short")
        refused(await community.run("home-2", "energy.retire", retire), "vault.insufficient", "650 short")
        retire.quantity_wh = 0
        refused(await community.run("home-1", "energy.retire", retire), "flow.arguments", "quantity_wh")
        assert await parts(community, "home-1", 20) == [350]
        assert await community.locked("home-1") == 0

    asyncio.run(scenario())


def test_c11_c13_energy_expires_only_after_the_reading_deadline(community: Community) -> None:
    async def scenario() -> None:
        completed(await community.issue_energy("home-2", 500, period=21))
        early = args.EnergyExpireArguments(energy=selection(21))
        refused(await community.run("home-2", "energy.expire", early), "flow.arguments", "may still come")
        request = energy_request("home-2", 700)
        request.delivery_start_ns = (time.time_ns() - 2 * DAY_NS) // QUARTER_NS * QUARTER_NS
        request.delivery_end_ns = request.delivery_start_ns + QUARTER_NS
        completed(await community.run("home-2", "energy.request", request))
        late = args.EnergyExpireArguments(energy=selection())
        late.energy.delivery_start_ns, late.energy.delivery_end_ns = request.delivery_start_ns, request.delivery_end_ns
        before = await community.energy_wh("home-2")
        completed(await community.run("home-2", "energy.expire", late))
        assert await community.energy_wh("home-2") == before - 700
        refused(await community.run("home-2", "energy.expire", late), "vault.insufficient", "holds no")
        assert await community.locked("home-2") == 0

    asyncio.run(scenario())


def test_c14_money_goes_back_to_its_issuer_and_nobody_else(community: Community) -> None:
    async def scenario() -> None:
        completed(await community.issue_money("home-3", 5 * EURO_NANO))
        await community.wait_for_states("home-3", "payment", 1)
        redeem = args.PaymentRedeemArguments(currency=CURRENCY, amount_nano=2 * EURO_NANO)
        outcome = completed(await community.run("home-3", "payment.redeem", redeem))
        assert await community.money_nano("home-3") == 3 * EURO_NANO
        async with community.client("community") as issuer:
            assert await recorded(community, "community", outcome)
            summary = (await issuer.vault.transaction(outcome.transaction_id)).summary
        assert list(summary.commands) == ["PaymentRedeem"]
        redeem.amount_nano = 4 * EURO_NANO
        refused(await community.run("home-3", "payment.redeem", redeem), "vault.insufficient", "short")
        redeem.issuer = community.identity["home-1"]
        refused(await community.run("home-3", "payment.redeem", redeem), "vault.insufficient", "")
        redeem.issuer = b"\x01" * 31
        refused(await community.run("home-3", "payment.redeem", redeem), "flow.arguments", "issuer")
        assert await community.money_nano("home-3") == 3 * EURO_NANO
        assert await community.locked("home-3") == await community.locked("community") == 0

    asyncio.run(scenario())


async def recorded(community: Community, node: str, outcome: FlowOutcome) -> bool:
    """Whether the node records the transaction within a second or two."""
    async with community.client(node) as client:
        for _ in range(150):
            try:
                await client.vault.transaction(outcome.transaction_id)
                return True
            except ApiError as error:
                if error.code != "vault.transaction_not_found":
                    raise
            await asyncio.sleep(0.01)
    return False


def test_c17_f23_an_observer_is_told_and_the_issuer_of_the_energy_is_not(community: Community) -> None:
    """home-1 issues, home-2 buys and sells on to home-3: home-1 learns nothing of that, the observer does."""

    async def scenario() -> None:
        for home in ("home-2", "home-3"):
            completed(await community.issue_money(home, 10 * EURO_NANO))
            await recorded_money(community, home)
        completed(await community.issue_energy("home-1", 1_000, period=30))
        first = completed(await community.trade("home-2", "home-1", 1_000, period=30))
        terms = community.trade_terms("home-2", 400, period=30)
        terms.observers.append(community.identity["community"])
        second = completed(await community.run("home-3", "energy.trade", terms))
        assert await recorded(community, "community", second)
        assert await recorded(community, "home-2", second)
        assert not await recorded(community, "home-1", second)
        assert not await recorded(community, "community", first)
        async with community.client("community") as observer:
            states = (await observer.vault.states(contract="energy")).states
        assert not states
        assert await community.energy_wh("community") == 0

    asyncio.run(scenario())


async def recorded_money(community: Community, home: str) -> None:
    while await community.money_nano(home) < 5 * EURO_NANO:
        await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def attested(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Community]:
    """A network in which an oracle vouches for every issue."""
    directory = tmp_path_factory.mktemp("attested") / "net"
    made = make_community(directory, homes=1, registered=True, oracles=1, issue_attested=True)
    with LocalNetwork(directory) as network:
        asyncio.run(network.start())
        yield Community(made, network)


def test_c03_an_issue_needs_the_oracles_forecast_where_the_network_says_so(attested: Community) -> None:
    async def scenario() -> None:
        completed(await attested.register_meter("home-1"))
        await attested.wait_for_states("home-1", "meter", 1)
        refused(await attested.issue_energy("home-1", 500), "oracle.unknown_fact", "")
        request = energy_request("home-1", 500)
        forecast = EnergyForecast(
            meter=request.meter,
            start_ns=request.delivery_start_ns,
            end_ns=request.delivery_end_ns,
            energy_wh_max=500,
        )
        async with attested.client("oracle") as oracle:
            await oracle.oracle.push_forecasts([forecast])
        refused(await attested.issue_energy("home-1", 501), "energy.issue.above_forecast", "")
        outcome = completed(await attested.issue_energy("home-1", 500))
        async with attested.client("home-1") as home:
            commands = (await home.vault.transaction(outcome.transaction_id)).summary.commands
        assert list(commands) == ["EnergyIssue", "Attestation"]
        assert await attested.energy_wh("home-1") == 500

    asyncio.run(scenario())
