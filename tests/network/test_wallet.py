"""V05, V06: many flows that want the same states at once, on real daemons: nobody gets half or meets a conflict."""

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest
from p2pet.client.node_client import flow_start
from p2pet.flows.v1 import arguments_pb2 as args
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_COMPLETED, FLOW_STATUS_FAILED, FlowOutcome
from p2pet.localnet import LocalNetwork
from p2pet.vault.v1.vault_pb2 import STATE_STATUS_UNCONSUMED

from tests.support.community import CURRENCY, EURO_NANO, Community, completed, make_community
from tests.support.scripted import eventually

PAYER, PAYEE = "home-1", "home-2"
MANY = 200


class Wallets(Community):
    async def pay_often(self, payer: str, payee: str, amounts: list[int]) -> list[FlowOutcome]:
        """All payments at once, started in one call."""
        starts = [
            flow_start(
                "payment.pay",
                args.PaymentPayArguments(currency=CURRENCY, amount_nano=amount, recipient=self.identity[payee]),
            )
            for amount in amounts
        ]
        outcomes = []
        async with self.client(payer) as client:
            async for result in client.flows.run_many(starts):
                outcomes.append(result.outcome)
        return outcomes

    async def coins(self, node: str) -> list[bytes]:
        async with self.client(node) as client:
            answer = await client.vault.states(status=STATE_STATUS_UNCONSUMED, contract="payment", page_size=1000)
            return [state.ref for state in answer.states]

    async def empty(self, node: str) -> None:
        """Everything goes back to the community."""
        if total := await self.money_nano(node):
            before = await self.money_nano("community")
            pay = args.PaymentPayArguments(currency=CURRENCY, amount_nano=total, recipient=self.identity["community"])
            completed(await self.run(node, "payment.pay", pay))
            await eventually(lambda: self.money_nano("community"), before + total)

    def move(self, states: list[bytes]) -> args.NotaryChangeArguments:
        return args.NotaryChangeArguments(states=states, notary=self.notary("notary-2"))


@pytest.fixture(scope="module")
def wallets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wallets]:
    directory = tmp_path_factory.mktemp("wallets") / "net"
    made = make_community(directory, homes=2, notaries=2)
    with LocalNetwork(directory) as network:
        asyncio.run(network.start())
        yield Wallets(made, network)


async def fund(wallets: Wallets, coins: int, amount_nano: int) -> None:
    """So many coins of the first notary, all of one worth."""
    issue = args.PaymentIssueArguments(
        currency=CURRENCY,
        amount_nano=amount_nano,
        recipient=wallets.identity[PAYER],
        notary=wallets.notary("notary"),
    )
    async with wallets.client("community") as client:
        async for result in client.flows.run_many([flow_start("payment.issue", issue)] * coins):
            completed(result.outcome)
    await eventually(lambda: wallets.money_nano(PAYER), coins * amount_nano)


def test_v06_two_hundred_payments_from_one_wallet_do_not_conflict(wallets: Wallets) -> None:
    async def scenario() -> None:
        await wallets.empty(PAYER)
        await fund(wallets, MANY, EURO_NANO)
        before = await wallets.money_nano(PAYEE)
        outcomes = await wallets.pay_often(PAYER, PAYEE, [EURO_NANO - n for n in range(MANY)])
        assert Counter(outcome.status for outcome in outcomes) == {FLOW_STATUS_COMPLETED: MANY}
        paid = sum(EURO_NANO - n for n in range(MANY))
        assert await wallets.money_nano(PAYER) == MANY * EURO_NANO - paid
        await eventually(lambda: wallets.money_nano(PAYEE), before + paid)
        assert await wallets.locked(PAYER) == 0

    asyncio.run(scenario())


def test_v06_payments_that_share_one_coin_wait_for_its_change(wallets: Wallets) -> None:
    """And those for which there is not enough are told what lacks."""

    async def scenario() -> None:
        await wallets.empty(PAYER)
        count, short = 50, 3
        await fund(wallets, 1, count * EURO_NANO)
        before = await wallets.money_nano(PAYEE)
        outcomes = await wallets.pay_often(PAYER, PAYEE, [EURO_NANO] * (count + short))
        assert Counter(outcome.status for outcome in outcomes) == {
            FLOW_STATUS_COMPLETED: count,
            FLOW_STATUS_FAILED: short,
        }
        refused = [outcome for outcome in outcomes if outcome.status == FLOW_STATUS_FAILED]
        assert {outcome.error_code for outcome in refused} == {"vault.insufficient"}
        assert all("short" in outcome.error_message for outcome in refused)
        assert await wallets.money_nano(PAYER) == await wallets.locked(PAYER) == 0
        await eventually(lambda: wallets.money_nano(PAYEE), before + count * EURO_NANO)

    asyncio.run(scenario())


def test_v05_flows_that_want_the_same_three_states_get_all_or_none(wallets: Wallets) -> None:
    async def scenario() -> None:
        await wallets.empty(PAYER)
        await fund(wallets, 3, EURO_NANO)
        coins = await wallets.coins(PAYER)
        starts = [flow_start("ledger.notary_change", wallets.move(coins[n % 3 :] + coins[: n % 3])) for n in range(12)]
        outcomes = []
        async with wallets.client(PAYER) as client:
            async for result in client.flows.run_many(starts):
                outcomes.append(result.outcome)
        assert Counter(outcome.status for outcome in outcomes) == {FLOW_STATUS_COMPLETED: 1, FLOW_STATUS_FAILED: 11}
        # None of those that failed has held one of them back.
        assert await wallets.locked(PAYER) == 0
        assert len(await wallets.coins(PAYER)) == 3

    asyncio.run(scenario())


def test_v05_a_reservation_survives_a_crash_with_its_flow_and_ends_with_it(wallets: Wallets) -> None:
    async def scenario() -> None:
        await wallets.empty(PAYER)
        await fund(wallets, 3, EURO_NANO)
        coins = await wallets.coins(PAYER)
        wallets.network.stop("notary")
        async with wallets.client(PAYER) as client:
            flow_id = await client.flows.start("ledger.notary_change", wallets.move(coins), client_id="moves")
        await eventually(lambda: wallets.locked(PAYER), 3 * EURO_NANO)
        wallets.network.kill(PAYER)
        await wallets.network.start(PAYER)
        # What a flow holds that still runs is held; whoever wants one of the three gets none.
        assert await wallets.locked(PAYER) == 3 * EURO_NANO
        refused = await wallets.run(PAYER, "ledger.notary_change", wallets.move(coins[:1]))
        assert (refused.status, refused.error_code) == (FLOW_STATUS_FAILED, "flow.refused")
        await wallets.network.start("notary")
        outcome = completed(await wallets.run(PAYER, "ledger.notary_change", wallets.move(coins), "moves"))
        assert outcome.transaction_id
        assert await wallets.locked(PAYER) == 0
        async with wallets.client(PAYER) as client:
            assert (await client.flows.get(client_id="moves")).flow.flow_id == flow_id

    asyncio.run(scenario())


def test_v06_a_coin_of_somebody_else_is_never_spent(wallets: Wallets) -> None:
    async def scenario() -> None:
        await wallets.empty(PAYER)
        have = await wallets.money_nano("community")
        outcomes = await wallets.pay_often(PAYER, PAYEE, [1])
        assert outcomes[0].error_code == "vault.insufficient"
        assert "1 wanted, 0 available, 1 short" in outcomes[0].error_message
        assert await wallets.money_nano("community") == have
        other = args.PaymentPayArguments(
            currency=CURRENCY, amount_nano=1, recipient=wallets.identity[PAYEE], issuer=wallets.identity[PAYEE]
        )
        refused = await wallets.run("community", "payment.pay", other)
        assert (refused.status, refused.error_code) == (FLOW_STATUS_FAILED, "vault.insufficient")

    asyncio.run(scenario())
