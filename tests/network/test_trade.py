"""A trade between two homes and a notary, as three real processes see it."""

import asyncio

from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_FAILED

from tests.support.community import EURO_NANO, Community, completed


def test_c09_trade_moves_energy_and_money_in_one_transaction(community: Community) -> None:
    async def scenario() -> None:
        completed(await community.issue_money("home-2", 10 * EURO_NANO))
        completed(await community.issue_energy("home-1", 2_000))
        outcome = completed(await community.trade("home-2", "home-1", 1_500))
        async with community.client("home-1") as seller, community.client("home-2") as buyer:
            ours = await buyer.vault.transaction(outcome.transaction_id)
            assert list(ours.summary.commands) == ["EnergyTrade", "PaymentPay"]
            while True:
                ids = [t.id for t in (await seller.vault.transactions()).transactions]
                if outcome.transaction_id in ids:
                    break
                await asyncio.sleep(0.01)
        assert await community.energy_wh("home-2") == 1_500
        assert await community.energy_wh("home-1") == 500
        price_nano = 1_500 * 250_000
        assert await community.money_nano("home-1") == price_nano
        assert await community.money_nano("home-2") == 10 * EURO_NANO - price_nano
        assert await community.locked("home-1") == await community.locked("home-2") == 0

    asyncio.run(scenario())


def test_c02_second_issue_for_a_meter_and_unit_is_refused(community: Community) -> None:
    async def scenario() -> None:
        completed(await community.issue_energy("home-3", 700, period=5))
        again = await community.issue_energy("home-3", 900, period=5)
        assert again.status == FLOW_STATUS_FAILED
        assert again.error_code == "notary.conflict"
        assert await community.energy_wh("home-3") == 700

    asyncio.run(scenario())
