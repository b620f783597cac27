"""Closing energy against readings: real homes, a market, an oracle and a notary."""

import asyncio
from collections.abc import Iterator

import pytest
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_FAILED, FlowOutcome
from p2pet.localnet import LocalNetwork

from tests.support.community import EURO_NANO, Community, completed
from tests.support.delivery import (
    LONG_PRICE,
    PAST,
    SHORT_PRICE,
    allocate,
    allocation_known,
    deliver,
    deliveries,
    delivery,
    energy_ref,
    make_delivering_community,
    publish_tariff,
    push,
    unit_reading,
)


@pytest.fixture(scope="module")
def community(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Community]:
    directory = tmp_path_factory.mktemp("delivering") / "net"
    made = make_delivering_community(directory, oracles=2)
    with LocalNetwork(directory) as network:
        asyncio.run(network.start())
        running = Community(made, network)
        asyncio.run(publish_tariff(running))
        asyncio.run(running.issue_money("home-2", 100 * EURO_NANO))
        yield running


def failed(outcome: FlowOutcome, code: str, words: str = "") -> None:
    assert outcome.status == FLOW_STATUS_FAILED
    assert outcome.error_code == code, f"{outcome.error_code}: {outcome.error_message}"
    assert words in outcome.error_message


def test_c12_a_reading_closes_a_state_and_prices_a_shortfall(community: Community) -> None:
    async def scenario() -> None:
        tariff = await publish_tariff(community)
        completed(await community.issue_energy("home-1", 2_000, PAST))
        await push(community, unit_reading("home-1", 1_700, 0), unit_reading("home-1", 1_600, 0))
        outcome = completed(await deliver(community, "home-1", "home-1", 0))
        (closed,) = await deliveries(community, "home-1", 0)
        assert (closed.contracted_wh, closed.delivered_wh, closed.imbalance_wh) == (2_000, 1_600, -400)
        assert closed.imbalance_price_micro_per_kwh == SHORT_PRICE
        assert closed.imbalance_nano == -400 * SHORT_PRICE
        assert (closed.tariff, closed.reading_revision, closed.currency) == (tariff, 2, "EUR")
        async with community.client("home-1") as client:
            commands = (await client.vault.transaction(outcome.transaction_id)).summary.commands
        assert sorted(commands) == ["Attestation", "EnergyDeliver"]
        assert await community.locked("home-1") == 0
        async with community.client("oracle") as oracle:
            (known,) = (await oracle.oracle.readings(meter="meter-home-1")).readings
        assert (known.reading.revision, known.attested_revision, list(known.earlier_wh)) == (2, 2, [1_700])

    asyncio.run(scenario())


def test_c12_a_buyer_closes_its_energy_and_the_producer_is_told(community: Community) -> None:
    async def scenario() -> None:
        completed(await community.issue_energy("home-1", 1_000, PAST + 1))
        completed(await community.trade("home-2", "home-1", 1_000, PAST + 1))
        await push(community, unit_reading("home-1", 1_300, 1))
        completed(await deliver(community, "home-2", "home-1", 1))
        (closed,) = await deliveries(community, "home-2", 1)
        assert (closed.imbalance_wh, closed.imbalance_price_micro_per_kwh) == (300, LONG_PRICE)
        assert closed.imbalance_nano == 300 * LONG_PRICE
        while not (told := await deliveries(community, "home-1", 1)):
            await asyncio.sleep(0.01)
        assert told == [closed]

    asyncio.run(scenario())


def test_c12_a_closed_state_is_never_traded_and_its_reading_never_used_again(community: Community) -> None:
    async def scenario() -> None:
        completed(await community.issue_energy("home-3", 1_000, PAST + 2))
        ref = await energy_ref(community, "home-3", 2)
        await push(community, unit_reading("home-3", 1_000, 2))
        completed(await deliver(community, "home-3", "home-3", 2))
        failed(await community.trade("home-2", "home-3", 100, PAST + 2), "flow.refused", "has not that much energy")
        failed(await deliver(community, "home-3", "home-3", 2), "vault.insufficient", "meter 'meter-home-3'")
        failed(await allocate(community, "home-3", 2, [(ref, 1_000)], []), "notary.conflict")

    asyncio.run(scenario())


def test_c12_the_holder_of_a_part_cannot_take_the_whole_reading(community: Community) -> None:
    async def scenario() -> None:
        completed(await community.issue_energy("home-3", 1_000, PAST + 20))
        completed(await community.trade("home-2", "home-3", 1, PAST + 20))
        await push(community, unit_reading("home-3", 1_000, 20))
        for holder in ("home-2", "home-3"):
            before = await community.energy_wh(holder)
            failed(await deliver(community, holder, "home-3", 20), "energy.deliver.part_without_allocation")
            assert await community.energy_wh(holder) == before
            assert await deliveries(community, holder, 20) == []
            assert await community.locked(holder) == 0

    asyncio.run(scenario())


def test_c12_a_market_allocates_one_reading_to_two_owners(community: Community) -> None:
    async def scenario() -> None:
        completed(await community.issue_energy("home-1", 1_000, PAST + 3))
        completed(await community.trade("home-2", "home-1", 600, PAST + 3))
        await push(community, unit_reading("home-1", 900, 3))
        seller, buyer = [await energy_ref(community, name, 3) for name in ("home-1", "home-2")]
        wrong = await allocate(community, "home-1", 3, [(seller, 400), (buyer, 600)], [])
        failed(wrong, "flow.refused", "the shares sum to 1000 Wh, but the reading is 900 Wh")
        shares = [(buyer, 600), (seller, 300)]
        completed(await allocate(community, "home-1", 3, shares, ["home-1", "home-2"]))
        again = await allocate(community, "home-1", 3, shares, [])
        failed(again, "notary.conflict")
        await allocation_known(community, "home-1", 3)
        await allocation_known(community, "home-2", 3)
        completed(await deliver(community, "home-2", "home-1", 3))
        completed(await deliver(community, "home-1", "home-1", 3))
        (bought,) = await deliveries(community, "home-2", 3)
        assert (bought.delivered_wh, bought.imbalance_wh, bought.imbalance_nano) == (600, 0, 0)
        own = [one for one in await deliveries(community, "home-1", 3) if one.owner == community.identity["home-1"]]
        assert [(one.contracted_wh, one.delivered_wh) for one in own] == [(400, 300)]
        assert own[0].imbalance_nano == -100 * SHORT_PRICE

    asyncio.run(scenario())


def test_c12_an_allocation_is_the_markets_only(community: Community) -> None:
    async def scenario() -> None:
        completed(await community.issue_energy("home-1", 1_000, PAST + 4))
        await push(community, unit_reading("home-1", 1_000, 4))
        ref = await energy_ref(community, "home-1", 4)
        outcome = await allocate(community, "home-1", 4, [(ref, 1_000)], [], market="home-2")
        failed(outcome, "flow.arguments", "this node is no market")
        failed(await allocate(community, "home-1", 4, [(ref[:35], 1_000)], []), "flow.arguments", "35 bytes")
        failed(await allocate(community, "home-1", 4, [(ref, 500)] * 2, []), "flow.arguments", "each of another state")
        failed(await allocate(community, "home-1", 4, [(ref, -1)], []), "flow.arguments", "0 Wh or more")

    asyncio.run(scenario())


def test_c12_without_a_reading_nothing_is_delivered(community: Community) -> None:
    async def scenario() -> None:
        completed(await community.issue_energy("home-1", 1_000, PAST + 5))
        failed(await deliver(community, "home-1", "home-1", 5), "oracle.unknown_fact", "no reading of meter")
        assert await community.locked("home-1") == 0
        assert await deliveries(community, "home-1", 5) == []

    asyncio.run(scenario())


def test_c11_before_the_end_of_the_period_nothing_is_delivered(community: Community) -> None:
    async def scenario() -> None:
        completed(await community.issue_energy("home-1", 1_000, 0))
        failed(await deliver(community, "home-1", "home-1", -PAST), "flow.refused", "the delivery period ends in")
        failed(await allocate(community, "home-1", -PAST, [(b"\x01" * 36, 1)], []), "flow.refused", "ends in")

    asyncio.run(scenario())


def test_c12_several_states_of_one_owner_are_joined_first(community: Community) -> None:
    async def scenario() -> None:
        completed(await community.issue_energy("home-1", 1_000, PAST + 6))
        completed(await community.trade("home-2", "home-1", 200, PAST + 6))
        completed(await community.trade("home-2", "home-1", 300, PAST + 6))
        await push(community, unit_reading("home-1", 1_000, 6))
        failed(await deliver(community, "home-2", "home-1", 6), "flow.refused", "holds 2 states of meter")
        assert await community.locked("home-2") == 0

    asyncio.run(scenario())


def test_c12_two_oracles_attest_what_each_knows(community: Community) -> None:
    async def scenario() -> None:
        completed(await community.issue_energy("home-1", 1_000, PAST + 7))
        # Only the first one has published a tariff.
        await push(community, unit_reading("home-1", 1_100, 7), to="oracle-2")
        outcome = completed(await deliver(community, "home-1", "home-1", 7))
        async with community.client("home-1") as client:
            commands = (await client.vault.transaction(outcome.transaction_id)).summary.commands
        assert list(commands) == ["EnergyDeliver", "Attestation", "Attestation"]
        (closed,) = await deliveries(community, "home-1", 7)
        assert closed.delivered_wh == 1_100

    asyncio.run(scenario())


def test_c12_a_delivery_waits_for_its_oracle_over_a_crash(community: Community) -> None:
    async def scenario() -> None:
        completed(await community.issue_energy("home-3", 1_000, PAST + 8))
        await push(community, unit_reading("home-3", 990, 8))
        community.network.stop("oracle", "oracle-2")
        async with community.client("home-3") as client:
            flow_id = await client.flows.start("energy.deliver", delivery("home-3", 8), client_id="waits")
            while (await client.flows.get(flow_id=flow_id)).flow.current_step != "asking the oracle":
                await asyncio.sleep(0.01)
        community.network.kill("home-3")
        await community.network.start("home-3", "oracle", "oracle-2")
        completed(await community.run("home-3", "energy.deliver", delivery("home-3", 8), client_id="waits"))
        (closed,) = await deliveries(community, "home-3", 8)
        assert closed.imbalance_wh == -10
        assert await community.locked("home-3") == 0

    asyncio.run(scenario())


def test_c12_a_named_tariff_prices_the_imbalance(community: Community) -> None:
    async def scenario() -> None:
        completed(await community.issue_energy("home-1", 1_000, PAST + 9))
        await push(community, unit_reading("home-1", 1_000, 9))
        arguments = delivery("home-1", 9)
        arguments.tariff = b"\x01" * 32
        failed(await community.run("home-1", "energy.deliver", arguments), "oracle.unknown_fact", "no tariff 0101")
        arguments.tariff = b"\x01"
        failed(await community.run("home-1", "energy.deliver", arguments), "flow.arguments", "tariff must be")
        arguments.tariff = await publish_tariff(community)
        completed(await community.run("home-1", "energy.deliver", arguments))
        (closed,) = await deliveries(community, "home-1", 9)
        assert (closed.imbalance_wh, closed.imbalance_price_micro_per_kwh, closed.imbalance_nano) == (0, 0, 0)

    asyncio.run(scenario())
