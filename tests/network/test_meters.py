"""Registered meters on real daemons: who may issue what, where, and what refusals leave behind."""

import asyncio
import shutil
from collections.abc import Iterator

import pytest
from p2pet.flows.v1 import arguments_pb2 as args
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_FAILED, FlowOutcome
from p2pet.ledger.v1.meter_pb2 import MeterRegistration
from p2pet.ledger.v1.transaction_pb2 import OutputState
from p2pet.localnet import LocalNetwork
from p2pet.vault.v1.vault_pb2 import VaultState

from tests.support.community import (
    FIRST_PERIOD_NS,
    QUARTER_NS,
    Community,
    completed,
    energy_request,
    make_community,
)


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Community]:
    """Two notaries, and a community that registers meters."""
    directory = tmp_path_factory.mktemp("registered") / "net"
    made = make_community(directory, homes=4, registered=True, notaries=2)
    with LocalNetwork(directory) as network:
        asyncio.run(network.start())
        yield Community(made, network)


def decoded(state: VaultState) -> tuple[bytes, MeterRegistration]:
    """The notary that guards a registration, and the registration."""
    output = OutputState.FromString(state.output)
    return output.notary, MeterRegistration.FromString(output.payload)


async def registrations(
    community: Community, node: str, meter: str, count: int
) -> list[tuple[bytes, MeterRegistration]]:
    limit = 500
    while True:
        async with community.client(node) as client:
            states = (await client.vault.states(status=1, contract="meter")).states
        found = sorted((decoded(s) for s in states), key=lambda one: one[1].valid_from_ns)
        found = [one for one in found if one[1].meter == meter]
        if len(found) == count:
            return found
        limit -= 1
        assert limit, found
        await asyncio.sleep(0.01)


def refused(outcome: FlowOutcome, code: str, words: str) -> None:
    assert outcome.status == FLOW_STATUS_FAILED
    assert outcome.error_code == code, outcome.error_message
    assert words in outcome.error_message


def test_c03_energy_is_issued_under_the_registration_and_within_it(registered: Community) -> None:
    async def scenario() -> None:
        refused(await registered.issue_energy("home-1", 500), "vault.registration_missing", "no registration")
        completed(await registered.register_meter("home-1", capacity_w=4_000, periods=8))
        ours = await registrations(registered, "home-1", "meter-home-1", 1)
        assert ours == await registrations(registered, "community", "meter-home-1", 1)
        completed(await registered.issue_energy("home-1", 1_000, period=0))
        above = await registered.issue_energy("home-1", 1_001, period=1)
        refused(above, "vault.registration_missing", "at most 1000 Wh in this period, not 1001")
        outside = await registered.issue_energy("home-1", 100, period=8)
        refused(outside, "vault.registration_missing", "is not inside one of these")
        assert await registered.energy_wh("home-1") == 1_000

    asyncio.run(scenario())


def test_c02_a_meter_is_registered_once_and_by_a_registrar(registered: Community) -> None:
    async def scenario() -> None:
        completed(await registered.register_meter("home-2"))
        again = await registered.register_meter("home-2", from_period=1_000)
        refused(again, "notary.conflict", "")
        stranger = await registered.run("home-3", "meter.register", registered.registration("home-3"))
        refused(stranger, "flow.arguments", "no registrar")
        wrong = registered.registration("home-3")
        wrong.energy_types[:] = ["plutonium"]
        refused(await registered.run("community", "meter.register", wrong), "meter.state.types_invalid", "plutonium")
        unlisted = registered.registration("home-3", issue_notary=b"\x01" * 32)
        refused(await registered.run("community", "meter.register", unlisted), "flow.arguments", "issue_notary")
        assert not await held(registered, "home-3")
        assert await registered.locked("community") == await registered.locked("home-2") == 0

    asyncio.run(scenario())


def test_c02_a_reassigned_meter_is_issued_at_one_notary_for_each_unit(registered: Community) -> None:
    """The issue is made where the registration is; a unit that moved is claimed at the notary that it left."""
    first, second = registered.notary("notary"), registered.notary("notary-2")
    cut_ns = FIRST_PERIOD_NS + 4 * QUARTER_NS

    async def scenario() -> None:
        completed(await registered.register_meter("home-3", periods=8))
        await registrations(registered, "home-3", "meter-home-3", 1)
        completed(await registered.issue_energy("home-3", 100, period=3))
        reassign = args.MeterReassignArguments(meter="meter-home-3", from_ns=cut_ns, issue_notary=second)
        completed(await registered.run("community", "meter.reassign", reassign))
        for node in ("home-3", "community"):
            pieces = await registrations(registered, node, "meter-home-3", 2)
            assert [(notary, one.issue_notary) for notary, one in pieces] == [(first, first), (second, second)]
            assert [one.valid_from_ns for _, one in pieces] == [FIRST_PERIOD_NS, cut_ns]
        moved = completed(await registered.issue_energy("home-3", 100, period=4))
        kept = completed(await registered.issue_energy("home-3", 100, period=2))
        assert [await notary_of(registered, "home-3", one) for one in (moved, kept)] == [second, first]
        used = "1 of the claims (the name, units or readings of a meter) are used"
        refused(await registered.issue_energy("home-3", 100, period=3), "notary.conflict", used)
        refused(await registered.issue_energy("home-3", 100, period=4), "notary.conflict", "")
        again = await registered.run("community", "meter.reassign", reassign)
        refused(again, "flow.arguments", "takes the issues")

    asyncio.run(scenario())


def test_c02_a_meter_can_be_registered_at_another_notary_from_the_start(registered: Community) -> None:
    second = registered.notary("notary-2")

    async def scenario() -> None:
        arguments = registered.registration("home-1", issue_notary=second, from_period=2_000)
        arguments.meter = "second meter of home-1"
        completed(await registered.run("community", "meter.register", arguments))
        for node in ("home-1", "community"):
            ((notary, _),) = await registrations(registered, node, arguments.meter, 1)
            assert notary == second
        request = energy_request("home-1", 100, period=2_000)
        request.meter = arguments.meter
        outcome = completed(await registered.run("home-1", "energy.request", request))
        assert await notary_of(registered, "home-1", outcome) == second

    asyncio.run(scenario())


def test_c03_a_registration_is_extended_and_ended_by_its_registrar(registered: Community) -> None:
    name = "third meter of home-1"
    end_ns = FIRST_PERIOD_NS + 3_001 * QUARTER_NS

    async def scenario() -> None:
        arguments = registered.registration("home-1", from_period=3_000, periods=1)
        arguments.meter = name
        completed(await registered.run("community", "meter.register", arguments))
        request = energy_request("home-1", 100, period=3_001)
        request.meter = name
        refused(await registered.run("home-1", "energy.request", request), "vault.registration_missing", "not inside")
        extend = args.MeterExtendArguments(meter=name, valid_until_ns=end_ns + QUARTER_NS)
        stranger = await registered.run("home-1", "meter.extend", extend)
        refused(stranger, "flow.arguments", "no registrar")
        completed(await registered.run("community", "meter.extend", extend))
        shorter = await registered.run("community", "meter.extend", extend)
        refused(shorter, "flow.arguments", "later than now")
        await until_extended(registered, "home-1", name, extend.valid_until_ns)
        completed(await registered.run("home-1", "energy.request", request))
        completed(await registered.run("community", "meter.end", args.MeterEndArguments(meter=name)))
        await registrations(registered, "home-1", name, 0)
        request.delivery_start_ns, request.delivery_end_ns = end_ns - QUARTER_NS, end_ns
        refused(await registered.run("home-1", "energy.request", request), "vault.registration_missing", "holds no")
        ended = await registered.run("community", "meter.end", args.MeterEndArguments(meter=name))
        refused(ended, "vault.registration_missing", "no registration")

    asyncio.run(scenario())


async def until_extended(community: Community, node: str, meter: str, valid_until_ns: int) -> None:
    while (await registrations(community, node, meter, 1))[0][1].valid_until_ns != valid_until_ns:
        await asyncio.sleep(0.01)


async def held(community: Community, node: str) -> list[VaultState]:
    async with community.client(node) as client:
        return list((await client.vault.states()).states)


async def notary_of(community: Community, node: str, outcome: FlowOutcome) -> bytes:
    async with community.client(node) as client:
        return (await client.vault.transaction(outcome.transaction_id)).summary.notary


def test_f25_a_registration_that_its_registrar_has_ended_comes_back_ended(registered: Community) -> None:
    """The producer has not signed its end, and nothing of the end is the producer's but what it consumes."""

    async def scenario() -> None:
        completed(await registered.register_meter("home-4"))
        completed(await registered.run("community", "meter.end", args.MeterEndArguments(meter="meter-home-4")))
        await registrations(registered, "home-4", "meter-home-4", 0)
        before = await consumers(registered, "home-4")
        registered.network.kill("home-4")
        shutil.rmtree(registered.network.node_directory("home-4") / "data")
        await registered.network.start("home-4")
        asked = args.LedgerRecoverArguments(parties=[registered.identity["community"]])
        completed(await registered.run("home-4", "ledger.recover", asked))
        assert await consumers(registered, "home-4") == before

    asyncio.run(scenario())


async def consumers(community: Community, node: str) -> dict[bytes, bytes]:
    """What has consumed each state."""
    async with community.client(node) as client:
        return {state.ref: state.consumed_by for state in (await client.vault.states()).states}
