"""Money and energy under a uniqueness-only notary, on real nodes: who gives a state hands over its history."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from p2pet.bench.backchain_rows import DEPTH, resolve_once
from p2pet.bench.budgets import MEGABYTES, SECONDS
from p2pet.flows.v1 import arguments_pb2 as args
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_FAILED, FlowOutcome
from p2pet.localnet import LocalNetwork

from p2petd.ledger.refs import StateRef
from p2petd.network.bootstrap import MadeNetwork
from tests.support.community import CURRENCY, EURO_NANO, Community, completed, make_community, selection
from tests.support.scripted import eventually


class UnseenCommunity(Community):
    """A community with a notary that sees uniqueness only beside the verifying one."""

    def __init__(self, made: MadeNetwork, network: LocalNetwork) -> None:
        super().__init__(made, network)
        services = {node.directory.name: node.notary_service_key for node in made.nodes}
        self.unseeing, self.other_unseeing = services["uniqueness"], services["uniqueness-2"]
        self.verifying = services["notary"]

    async def issue_unseen(self, to: str, amount_nano: int) -> FlowOutcome:
        arguments = args.PaymentIssueArguments(
            currency=CURRENCY, amount_nano=amount_nano, recipient=self.identity[to], notary=self.unseeing
        )
        before = await self.money_nano(to)
        outcome = completed(await self.run("community", "payment.issue", arguments))
        await eventually(lambda: self.money_nano(to), before + amount_nano)
        return outcome

    async def pay(self, payer: str, to: str, amount_nano: int) -> FlowOutcome:
        before = await self.money_nano(to)
        arguments = args.PaymentPayArguments(currency=CURRENCY, amount_nano=amount_nano, recipient=self.identity[to])
        outcome = completed(await self.run(payer, "payment.pay", arguments))
        await eventually(lambda: self.money_nano(to), before + amount_nano)
        return outcome

    async def move(self, node: str, notary: bytes, *states: bytes) -> FlowOutcome:
        arguments = args.NotaryChangeArguments(notary=notary, states=states)
        return await self.run(node, "ledger.notary_change", arguments)


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UnseenCommunity]:
    directory = tmp_path_factory.mktemp("unseen") / "net"
    made = make_community(directory, homes=5, uniqueness_notaries=2)
    with LocalNetwork(directory) as network:
        asyncio.run(network.start())
        yield UnseenCommunity(made, network)


def test_f24_money_passes_along_a_chain_of_nodes(unseen: UnseenCommunity) -> None:
    async def scenario() -> None:
        await unseen.issue_unseen("home-1", 10 * EURO_NANO)
        await unseen.pay("home-1", "home-2", 7 * EURO_NANO)
        await unseen.pay("home-2", "home-3", 5 * EURO_NANO)
        await unseen.pay("home-3", "home-1", 4 * EURO_NANO)
        assert await unseen.money_nano("home-1") == 7 * EURO_NANO
        assert await unseen.money_nano("home-2") == 2 * EURO_NANO
        assert await unseen.money_nano("home-3") == EURO_NANO

    asyncio.run(scenario())


async def energy_there(unseen: UnseenCommunity, home: str, quantity_wh: int, period: int) -> None:
    """Energy that `home` has issued at the verifying notary and moved to the other one."""
    issued = completed(await unseen.issue_energy(home, quantity_wh, period))
    # Energy goes where nobody can deliver it only when it is named.
    unasked = await unseen.move(home, unseen.unseeing)
    assert (unasked.error_code, await unseen.energy_wh(home)) == ("flow.refused", quantity_wh)
    completed(await unseen.move(home, unseen.unseeing, StateRef(issued.transaction_id, 0).encode()))


def test_f24_energy_is_given_and_sold_after_it_has_moved_there(unseen: UnseenCommunity) -> None:
    async def scenario() -> None:
        await energy_there(unseen, "home-1", 900, period=1)
        given = args.EnergyTransferArguments(recipient=unseen.identity["home-2"], energy=selection(1), quantity_wh=600)
        completed(await unseen.run("home-1", "energy.transfer", given))
        await eventually(lambda: unseen.energy_wh("home-2"), 600)
        await unseen.issue_unseen("home-4", 10 * EURO_NANO)
        before = await unseen.money_nano("home-2")
        outcome = completed(await unseen.trade("home-4", "home-2", 400, period=1))
        price_nano = 400 * 250_000
        await eventually(lambda: unseen.money_nano("home-2"), before + price_nano)
        assert await unseen.energy_wh("home-4") == 400
        assert await unseen.energy_wh("home-2") == 200
        assert await unseen.money_nano("home-4") == 10 * EURO_NANO - price_nano
        assert await unseen.locked("home-2") == await unseen.locked("home-4") == 0
        # What came of the trade is worth something to others, who get its history from its new owners.
        await unseen.pay("home-2", "home-3", before + price_nano)
        async with unseen.client("home-2") as seller:
            ours = await seller.vault.transaction(outcome.transaction_id)
            assert list(ours.summary.commands) == ["EnergyTrade", "PaymentPay"]

    asyncio.run(scenario())


def test_f24_states_move_between_such_notaries_and_go_back_to_their_issuer(unseen: UnseenCommunity) -> None:
    async def scenario() -> None:
        await unseen.issue_unseen("home-5", 9 * EURO_NANO)
        completed(await unseen.move("home-5", unseen.other_unseeing))
        before = await unseen.money_nano("home-2")
        await unseen.pay("home-5", "home-2", 4 * EURO_NANO)
        assert await unseen.money_nano("home-2") == before + 4 * EURO_NANO
        redeem = args.PaymentRedeemArguments(currency=CURRENCY, amount_nano=5 * EURO_NANO)
        completed(await unseen.run("home-5", "payment.redeem", redeem))
        assert await unseen.money_nano("home-5") == 0

    asyncio.run(scenario())


def test_f22_a_peer_that_was_down_gets_it_and_others_resolve_it_meanwhile(unseen: UnseenCommunity) -> None:
    """home-5 pays home-4, which is away, and home-3 with the change: home-3 fetches the first payment as history."""

    async def scenario() -> None:
        await unseen.issue_unseen("home-5", 3 * EURO_NANO)
        total = await unseen.money_nano("home-5")
        before = await unseen.money_nano("home-4")
        unseen.network.stop("home-4")
        absent = args.PaymentPayArguments(currency=CURRENCY, amount_nano=EURO_NANO, recipient=unseen.identity["home-4"])
        first = completed(await unseen.run("home-5", "payment.pay", absent))
        second = await unseen.pay("home-5", "home-3", total - EURO_NANO)
        async with unseen.client("home-3") as client:
            # It is no party to the first one, which it has verified.
            ids = {one.id for one in (await client.vault.transactions(page_size=1000)).transactions}
        assert first.transaction_id not in ids
        assert second.transaction_id in ids
        await unseen.pay("home-3", "home-1", EURO_NANO)
        await unseen.network.start("home-4")
        await eventually(lambda: unseen.money_nano("home-4"), before + EURO_NANO)

    asyncio.run(scenario())


# It takes five bytes as a varint: nothing else on a disk looks like it by chance.
MARKED_NANO = 0x1A2B3C4D
MARKED = bytes([0xCD, 0xF8, 0xAC, 0xD1, 0x01])


def test_f24_the_notary_learns_no_amount_currency_or_owner(unseen: UnseenCommunity) -> None:
    async def scenario() -> None:
        await unseen.issue_unseen("home-3", MARKED_NANO)
        await unseen.pay("home-3", "home-5", MARKED_NANO)
        async with unseen.client("home-5") as client:
            (state,) = [s for s in (await client.vault.states()).states if MARKED in s.output]
        kept = read_directory(unseen.network.node_directory("uniqueness"))
        assert MARKED not in kept
        assert b"PaymentState" not in kept
        assert b"\x0a\x03" + CURRENCY.encode() not in kept
        # It has decided both: the reference stands there.
        assert state.ref[:32] in kept

    asyncio.run(scenario())


def read_directory(directory: Path) -> bytes:
    """All that a node has written, its configuration and the network's files aside."""
    return b"".join(path.read_bytes() for path in sorted((directory / "data").rglob("*")) if path.is_file())


def test_l24_states_never_return_to_a_verifying_notary(unseen: UnseenCommunity) -> None:
    async def scenario() -> None:
        await unseen.issue_unseen("home-3", 2 * EURO_NANO)
        before = await unseen.money_nano("home-3")
        back = await unseen.move("home-3", unseen.verifying)
        assert back.status == FLOW_STATUS_FAILED
        assert await unseen.money_nano("home-3") == before
        await unseen.pay("home-3", "home-1", 2 * EURO_NANO)

    asyncio.run(scenario())


@pytest.mark.timeout(300)
def test_f24_a_history_of_ten_thousand_is_verified_in_seconds_and_little_memory(tmp_path: Path) -> None:
    measured = asyncio.run(resolve_once(tmp_path / "net"))
    assert DEPTH == 10_000
    assert measured.metrics[SECONDS] <= 10
    assert measured.metrics[MEGABYTES] <= 200
