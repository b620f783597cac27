"""The only notary is dead: what was begun waits durably, asks again, and ends once when it is back (N18)."""

import asyncio
from collections.abc import Iterator

import pytest
from p2pet.flows.v1 import arguments_pb2 as args
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_RUNNING
from p2pet.localnet import LocalNetwork

from tests.support.community import CURRENCY, EURO_NANO, Community, completed, energy_request, make_community
from tests.support.scripted import eventually

PAYER, PAYEE = "home-1", "home-2"


@pytest.fixture
def lonely(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Community]:
    directory = tmp_path_factory.mktemp("lonely") / "net"
    made = make_community(directory, homes=2)
    with LocalNetwork(directory) as network:
        asyncio.run(network.start())
        yield Community(made, network)


async def _step(community: Community, node: str, flow_id: bytes) -> tuple[int, str]:
    async with community.client(node) as client:
        flow = (await client.flows.get(flow_id=flow_id)).flow
    return flow.outcome.status, flow.current_step


@pytest.mark.parametrize("client_dies", [False, True], ids=["client lives", "client is killed meanwhile"])
def test_n18_a_flow_waits_for_a_dead_notary_and_completes_when_it_returns(lonely: Community, client_dies: bool) -> None:
    async def scenario() -> None:
        completed(await lonely.issue_money(PAYER, 3 * EURO_NANO))
        await eventually(lambda: lonely.money_nano(PAYER), 3 * EURO_NANO)
        lonely.network.kill("notary")
        pay = args.PaymentPayArguments(currency=CURRENCY, amount_nano=EURO_NANO, recipient=lonely.identity[PAYEE])
        async with lonely.client(PAYER) as client:
            paying = await client.flows.start("payment.pay", pay, client_id="pay")
            issuing = await client.flows.start("energy.request", energy_request(PAYER, 500), client_id="issue")
        for flow_id in (paying, issuing):
            await eventually(lambda flow_id=flow_id: _step(lonely, PAYER, flow_id), (FLOW_STATUS_RUNNING, "notarising"))
        if client_dies:
            lonely.network.kill(PAYER)
            await lonely.network.start(PAYER)
            await eventually(lambda: _step(lonely, PAYER, paying), (FLOW_STATUS_RUNNING, "notarising"))
        assert await lonely.locked(PAYER) == 3 * EURO_NANO
        assert (await lonely.money_nano(PAYEE), await lonely.energy_wh(PAYER)) == (0, 0)
        await lonely.network.start("notary")
        completed(await lonely.run(PAYER, "payment.pay", pay, "pay"))
        completed(await lonely.run(PAYER, "energy.request", energy_request(PAYER, 500), "issue"))
        await eventually(lambda: lonely.money_nano(PAYEE), EURO_NANO)
        assert (await lonely.money_nano(PAYER), await lonely.energy_wh(PAYER)) == (2 * EURO_NANO, 500)
        assert await lonely.locked(PAYER) == 0
        async with lonely.client("notary") as client:
            assert (await client.stats())["notary_accepted"] == 2

    asyncio.run(scenario())
