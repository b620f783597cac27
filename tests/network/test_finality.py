"""In flight, then final, on all sides, whoever dies or is away meanwhile (F20 to F23), on real daemons."""

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from functools import partial

import pytest
from p2pet.client import ApiError
from p2pet.flows.v1 import arguments_pb2 as args
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_FAILED, FlowOutcome
from p2pet.localnet import LocalNetwork
from p2pet.vault.v1.vault_pb2 import InFlight

from p2petd.flows.finality import until_of
from p2petd.ledger.proposal import Proposal
from p2petd.ledger.transaction import Draft
from p2petd.units import NO_UPPER_BOUND, SECOND_NS
from tests.support.community import CURRENCY, EURO_NANO, QUARTER_NS, Community, completed, make_community, selection
from tests.support.scripted import eventually

SELLER, BUYER, THIRD = "home-1", "home-2", "home-3"
WH, PRICE = 400, 250_000
# The answers that a buyer's flow gets before that of the notary are more than the first and less than the second.
PASSES_MIN, PASSES_MAX = 5, 20
# What a flow may take to get from its start to its signature here.
SIGNING_SECONDS_MAX = 40


class Finality(Community):
    async def in_flight(self, node: str) -> list[InFlight]:
        async with self.client(node) as client:
            return list((await client.vault.in_flight()).transactions)

    async def in_flight_ids(self, *nodes: str) -> list[set[bytes]]:
        return [{one.id for one in await self.in_flight(node)} for node in nodes]

    async def transaction_ids(self, node: str) -> set[bytes]:
        async with self.client(node) as client:
            return {one.id for one in (await client.vault.transactions(page_size=1000)).transactions}

    async def signed_by(self, node: str, transaction_id: bytes) -> set[bytes]:
        async with self.client(node) as client:
            signed = (await client.vault.transaction(transaction_id)).signed_transaction
        return {signature.key for signature in Proposal.decode(signed).signatures}

    def pay_arguments(self, payee: str, amount_nano: int) -> args.PaymentPayArguments:
        return args.PaymentPayArguments(currency=CURRENCY, amount_nano=amount_nano, recipient=self.identity[payee])

    async def pay(self, payer: str, payee: str, amount_nano: int) -> FlowOutcome:
        return completed(await self.run(payer, "payment.pay", self.pay_arguments(payee, amount_nano)))

    async def accepted(self) -> int:
        """How many transactions the notary has ever signed since it started."""
        async with self.client("notary") as client:
            return (await client.stats())["notary_accepted"]


@pytest.fixture(scope="module")
def community(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finality]:
    directory = tmp_path_factory.mktemp("finality") / "net"
    made = make_community(directory, homes=3, registered=True, notaries=2)
    with LocalNetwork(directory) as network:
        asyncio.run(network.start())
        found = Finality(made, network)
        asyncio.run(funded(found))
        yield found


async def funded(community: Finality) -> None:
    completed(await community.register_meter(SELLER))
    completed(await community.issue_energy(SELLER, 20 * WH))
    paid = args.PaymentIssueArguments(
        currency=CURRENCY,
        amount_nano=100 * EURO_NANO,
        recipient=community.identity[BUYER],
        notary=community.notary("notary"),
    )
    completed(await community.run("community", "payment.issue", paid))
    await eventually(lambda: community.money_nano(BUYER), 100 * EURO_NANO)


def test_f20_what_both_have_signed_is_in_flight_on_both_sides_until_the_notary_answers(community: Finality) -> None:
    async def scenario() -> None:
        community.network.stop("notary")
        trade = asyncio.create_task(community.trade(BUYER, SELLER, WH, price=PRICE))
        await eventually(lambda: _counts(community), (1, 1))
        paid = asyncio.create_task(community.run(BUYER, "payment.pay", community.pay_arguments(THIRD, 1)))
        (sold,) = await community.in_flight(SELLER)
        bought = next(one for one in await community.in_flight(BUYER) if one.id == sold.id)
        # Both tell since when, until when, and who asks the notary.
        assert bought.asks_notary
        assert not sold.asks_notary
        assert sold.until_ns == bought.until_ns
        assert 0 < sold.until_ns - sold.since_ns <= 30 * SECOND_NS
        assert sold.notary == bought.notary == community.notary("notary")
        async with community.client(BUYER) as client:
            flow = (await client.flows.get(flow_id=bought.flow_id)).flow
        assert (flow.flow, flow.current_step) == ("energy.trade", "notarising")
        # Both keep what they have signed away.
        assert await community.locked(SELLER) > 0
        await community.network.start("notary")
        outcome = completed(await trade)
        assert outcome.transaction_id == sold.id
        await eventually(lambda: community.in_flight_ids(BUYER, SELLER), [set(), set()])
        assert sold.id in await community.transaction_ids(SELLER)
        # The wallet has one coin, and the payment has waited for its change.
        completed(await paid)

    asyncio.run(scenario())


async def _counts(community: Finality) -> tuple[int, int]:
    return len(await community.in_flight(BUYER)), len(await community.in_flight(SELLER))


def test_f20_f07_a_killed_flow_leaves_its_transaction_to_one_that_follows_it(community: Finality) -> None:
    async def scenario() -> None:
        community.network.stop("notary")
        trade = asyncio.create_task(community.trade(BUYER, SELLER, WH, price=PRICE))
        await eventually(lambda: _counts(community), (1, 1))
        (before,) = await community.in_flight(BUYER)
        (sold,) = await community.in_flight(SELLER)
        async with community.client(BUYER) as buyer, community.client(SELLER) as seller:
            killed = await buyer.flows.kill(before.flow_id)
            assert list(killed.in_flight) == [before.id]
            await seller.flows.kill(sold.flow_id)
        assert (await trade).error_code == "flow.killed"
        (after,) = await community.in_flight(BUYER)
        assert after.id == before.id
        assert after.flow_id != before.flow_id
        assert await community.locked(BUYER) > 0
        assert await community.locked(SELLER) > 0
        # It survives a restart, waits for the notary, and tells the other side.
        community.network.kill(BUYER)
        await community.network.start(BUYER)
        async with community.client(BUYER) as buyer:
            flow = (await buyer.flows.get(flow_id=after.flow_id)).flow
        assert flow.flow == "ledger.settle"
        await community.network.start("notary")
        await eventually(lambda: community.in_flight_ids(BUYER, SELLER), [set(), set()])
        both = {community.identity[BUYER], community.identity[SELLER]}
        for node in (BUYER, SELLER):
            assert before.id in await community.transaction_ids(node)
            assert await community.locked(node) == 0
            await eventually(partial(community.signed_by, node, before.id), both)

    asyncio.run(scenario())


def test_f20_no_client_starts_what_the_node_starts_by_itself(community: Finality) -> None:
    async def scenario() -> None:
        async with community.client(BUYER) as client:
            with pytest.raises(ApiError):
                await client.flows.run("ledger.settle", args.LedgerSettleArguments(in_flight=bytes(48)))
            assert "ledger.settle" not in {one.flow for one in (await client.flows.types()).types}

    asyncio.run(scenario())


def test_f21_an_initiator_that_dies_after_the_notary_has_signed_tells_it_when_it_is_back(community: Finality) -> None:
    """It dies before the notary's answer is durable: the pass that does is found by trying."""

    async def scenario() -> None:
        for nth in range(PASSES_MIN, PASSES_MAX):
            # The seller has one lot, which the last trade may still hold.
            await eventually(lambda: community.locked(SELLER), 0)
            accepted = await community.accepted()
            client_id = f"dies-{nth}"
            if await _trade_and_die(community, client_id, f"flow.after_step:{nth}"):
                known = await community.transaction_ids(SELLER)
                signed = await community.accepted() > accepted
                await community.network.start(BUYER)
                outcome = await community.run(BUYER, "energy.trade", _terms(community), client_id)
                completed(outcome)
                await eventually(partial(_has, community, SELLER, outcome.transaction_id), True)
                if signed:
                    assert outcome.transaction_id not in known
                    await eventually(lambda: community.in_flight_ids(BUYER, SELLER), [set(), set()])
                    return
        raise AssertionError("the buyer never died between the notary's signature and its own record")

    asyncio.run(scenario())


def _terms(community: Finality) -> args.EnergyTradeArguments:
    return community.trade_terms(SELLER, 10, price=PRICE)


async def _has(community: Finality, node: str, transaction_id: bytes) -> bool:
    return transaction_id in await community.transaction_ids(node)


async def _trade_and_die(community: Finality, client_id: str, failpoint: str) -> bool:
    """Whether the buyer has died; it runs again when it has not."""
    network = community.network
    network.stop(BUYER)
    await network.start(BUYER, environment={"P2PET_FAILPOINTS": failpoint})
    trade = asyncio.create_task(community.run(BUYER, "energy.trade", _terms(community), client_id))
    while network.is_running(BUYER) and not trade.done():
        await asyncio.sleep(0.01)
    with contextlib.suppress(ApiError):
        await asyncio.wait_for(trade, SIGNING_SECONDS_MAX)
    died = not network.is_running(BUYER) and network.wait_ended(BUYER) == -signal.SIGKILL
    if not died:
        network.stop(BUYER)
        await network.start(BUYER)
    return died


def test_f22_a_peer_that_was_down_gets_it_and_others_build_on_it_meanwhile(community: Finality) -> None:
    async def scenario() -> None:
        had = await community.money_nano(SELLER)
        await community.pay(BUYER, SELLER, 9 * EURO_NANO)
        await eventually(lambda: community.money_nano(SELLER), had + 9 * EURO_NANO)
        before = {node: await community.money_nano(node) for node in (SELLER, THIRD)}
        community.network.stop(SELLER)
        first = await community.pay(BUYER, SELLER, EURO_NANO)
        # The change of that payment moves on, through two more hands, while its recipient knows nothing of it.
        second = await community.pay(BUYER, THIRD, 2 * EURO_NANO)
        await eventually(lambda: community.money_nano(THIRD), before[THIRD] + 2 * EURO_NANO)
        completed(await community.run(THIRD, "payment.pay", community.pay_arguments("community", 2 * EURO_NANO)))
        await community.network.start(SELLER)
        await eventually(lambda: community.money_nano(SELLER), before[SELLER] + EURO_NANO)
        assert first.transaction_id in await community.transaction_ids(SELLER)
        assert second.transaction_id not in await community.transaction_ids(SELLER)

    asyncio.run(scenario())


def test_f23_an_observer_gets_a_copy_sees_nothing_else_and_cannot_spend(community: Finality) -> None:
    async def scenario() -> None:
        known = await community.transaction_ids(THIRD)
        async with community.client(THIRD) as client:
            held = {state.ref for state in (await client.vault.states(page_size=1000)).states}
        await eventually(lambda: community.locked(SELLER), 0)
        unobserved = completed(await community.trade(BUYER, SELLER, 20, price=PRICE))
        await eventually(lambda: community.locked(SELLER), 0)
        terms = community.trade_terms(SELLER, 30, price=PRICE)
        terms.observers.append(community.identity[THIRD])
        observed = completed(await community.run(BUYER, "energy.trade", terms))
        await eventually(lambda: _has(community, THIRD, observed.transaction_id), True)
        assert await community.transaction_ids(THIRD) - known == {observed.transaction_id}
        assert unobserved.transaction_id not in await community.transaction_ids(THIRD)
        both = {community.identity[BUYER], community.identity[SELLER]}
        assert await community.signed_by(THIRD, observed.transaction_id) == both
        async with community.client(THIRD) as client:
            # It keeps the transaction and none of its states: there is nothing that it could spend.
            assert {state.ref for state in (await client.vault.states(page_size=1000)).states} == held
        assert await community.energy_wh(THIRD) == 0
        gift = args.EnergyTransferArguments(recipient=community.identity[BUYER], energy=selection(), quantity_wh=30)
        refused = await community.run(THIRD, "energy.transfer", gift)
        assert (refused.status, refused.error_code) == (FLOW_STATUS_FAILED, "vault.insufficient")
        ref = observed.transaction_id + bytes(4)
        move = args.NotaryChangeArguments(states=[ref], notary=community.notary("notary-2"))
        refused = await community.run(THIRD, "ledger.notary_change", move)
        assert (refused.status, refused.error_code) == (FLOW_STATUS_FAILED, "flow.refused")

    asyncio.run(scenario())


def test_f20_every_transaction_that_two_parties_sign_has_an_end(community: Finality) -> None:
    """Of each flow that has two signers. An oracle that attests is no party: it holds nothing and waits for nothing."""

    async def scenario() -> None:
        await eventually(lambda: community.locked(SELLER), 0)
        gift = args.EnergyTransferArguments(recipient=community.identity[THIRD], energy=selection(), quantity_wh=5)
        completed(await community.run(SELLER, "energy.transfer", gift))
        completed(await community.trade(BUYER, SELLER, 5, price=PRICE))
        redeem = args.PaymentRedeemArguments(currency=CURRENCY, amount_nano=EURO_NANO)
        completed(await community.run(BUYER, "payment.redeem", redeem))
        completed(
            await community.run(
                "community",
                "meter.reassign",
                args.MeterReassignArguments(
                    meter=f"meter-{SELLER}",
                    from_ns=selection().delivery_start_ns + 300 * QUARTER_NS,
                    issue_notary=community.notary("notary-2"),
                ),
            )
        )
        seen = set()
        for node in ("community", SELLER, BUYER, THIRD):
            for transaction_id in await community.transaction_ids(node):
                async with community.client(node) as client:
                    answer = await client.vault.transaction(transaction_id)
                draft = Draft.decode(Proposal.decode(answer.signed_transaction).transaction)
                if len(draft.required_signers) > 1:
                    seen |= set(answer.summary.commands)
                    assert until_of(draft) != NO_UPPER_BOUND
                    assert answer.summary.decided_at_ns < until_of(draft)
        assert seen >= {"EnergyTrade", "EnergyTransfer", "PaymentRedeem", "MeterRegister", "MeterReassign"}

    asyncio.run(scenario())
