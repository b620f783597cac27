"""States of real homes between two real notaries: moved on demand, and by the flows that need them together."""

import asyncio

import pytest
from p2pet.cli.main import main
from p2pet.flows.v1 import arguments_pb2 as args
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_FAILED
from p2pet.vault.v1.vault_pb2 import VaultState

from p2petd.contracts.payment import PaymentState
from p2petd.ledger.resolved import OutputState
from tests.support.community import CURRENCY, EURO_NANO, completed, energy_request, selection
from tests.support.scripted import eventually
from tests.support.two_notaries import FIRST, SECOND, TwoNotaries

BUYER, SELLER = "home-1", "home-2"


def test_n13_all_states_move_and_can_be_spent_at_the_other_notary(two: TwoNotaries) -> None:
    async def scenario() -> None:
        for _ in range(3):
            completed(await two.money_at(FIRST, SELLER, EURO_NANO))
        completed(await two.issue_energy(SELLER, 700, period=3))
        await eventually(lambda: two.guarded(SELLER), {FIRST: 4, SECOND: 0})
        before = await two.accepted(FIRST)
        completed(await two.move(SELLER, SECOND))
        assert await two.accepted(FIRST) == before + 1
        assert await two.guarded(SELLER) == {FIRST: 0, SECOND: 4}
        assert (await two.money_nano(SELLER), await two.energy_wh(SELLER)) == (3 * EURO_NANO, 700)
        assert await two.locked(SELLER) == 0
        accepted = await two.accepted(SECOND)
        pay = args.PaymentPayArguments(
            currency=CURRENCY, amount_nano=3 * EURO_NANO, recipient=two.identity["community"]
        )
        completed(await two.run(SELLER, "payment.pay", pay))
        assert await two.accepted(SECOND) == accepted + 1
        assert await two.money_nano(SELLER) == 0
        nothing = await two.move(SELLER, SECOND)
        assert (nothing.status, nothing.error_code) == (FLOW_STATUS_FAILED, "flow.refused")

    asyncio.run(scenario())


def test_n13_named_states_move_and_others_stay(two: TwoNotaries) -> None:
    async def scenario() -> None:
        before = await two.guarded(BUYER)
        for _ in range(2):
            completed(await two.money_at(FIRST, BUYER, EURO_NANO))
        await eventually(lambda: two.guarded(BUYER), {**before, FIRST: before[FIRST] + 2})
        one = next(state.ref for state in await two.states(BUYER))
        completed(await two.move(BUYER, SECOND, [one]))
        assert await two.guarded(BUYER) == {FIRST: before[FIRST] + 1, SECOND: before[SECOND] + 1}
        again = await two.move(BUYER, SECOND, [one])
        assert "is consumed" in again.error_message
        unknown = await two.move(BUYER, SECOND, [bytes(36)])
        assert "does not hold" in unknown.error_message
        wrong = args.NotaryChangeArguments(notary=bytes(32))
        assert (await two.run(BUYER, "ledger.notary_change", wrong)).error_code == "flow.arguments"
        assert await two.guarded(BUYER) == {FIRST: before[FIRST] + 1, SECOND: before[SECOND] + 1}

    asyncio.run(scenario())


def test_n13_a_payment_brings_coins_of_two_notaries_together(two: TwoNotaries) -> None:
    async def scenario() -> None:
        before = await two.money_nano(BUYER)
        completed(await two.money_at(FIRST, BUYER, 2 * EURO_NANO))
        completed(await two.money_at(SECOND, BUYER, 3 * EURO_NANO))
        total = before + 5 * EURO_NANO
        await eventually(lambda: two.money_nano(BUYER), total)
        pay = args.PaymentPayArguments(currency=CURRENCY, amount_nano=total, recipient=two.identity["community"])
        theirs = await two.money_nano("community")
        completed(await two.run(BUYER, "payment.pay", pay))
        assert (await two.money_nano(BUYER), await two.locked(BUYER)) == (0, 0)
        await eventually(lambda: two.money_nano("community"), theirs + total)

    asyncio.run(scenario())


def test_n13_a_trade_moves_the_money_to_the_notary_of_the_energy(two: TwoNotaries) -> None:
    async def scenario() -> None:
        assert await two.money_nano(BUYER) == 0
        theirs = await two.money_nano(SELLER)
        completed(await two.money_at(SECOND, BUYER, EURO_NANO))
        completed(await two.issue_energy(SELLER, 1_000, period=5))
        assert await two.guarded(BUYER, "payment") == {FIRST: 0, SECOND: 1}
        completed(await two.trade(BUYER, SELLER, 1_000, period=5))
        # What is left of the money stays where it was moved to.
        assert await two.guarded(BUYER, "payment") == {FIRST: 1, SECOND: 0}
        assert await two.guarded(BUYER, "energy") == {FIRST: 1, SECOND: 0}
        assert await two.money_nano(BUYER) == EURO_NANO - 250_000_000
        await eventually(lambda: two.money_nano(SELLER), theirs + 250_000_000)
        assert (await two.locked(BUYER), await two.locked(SELLER)) == (0, 0)

    asyncio.run(scenario())


@pytest.mark.parametrize("larger", [FIRST, SECOND])
def test_n13_a_trade_is_paid_with_coins_of_two_notaries(two: TwoNotaries, larger: str) -> None:
    """A coin that is at the notary of the energy already stands in both offers."""

    async def scenario() -> None:
        before = await two.money_nano(BUYER)
        period = {FIRST: 7, SECOND: 8}[larger]
        (smaller,) = {FIRST, SECOND} - {larger}
        completed(await two.money_at(larger, BUYER, 50 * EURO_NANO))
        completed(await two.money_at(smaller, BUYER, 40 * EURO_NANO))
        completed(await two.issue_energy(SELLER, 1_000, period))
        # More than either notary guards.
        price = before // 1000 + 80_000_000
        completed(await two.trade(BUYER, SELLER, 1_000, period, price))
        assert await two.money_nano(BUYER) == before + 90 * EURO_NANO - price * 1000
        await eventually(lambda: two.locked(SELLER), 0)
        assert await two.locked(BUYER) == 0

    asyncio.run(scenario())


def test_n13_energy_of_two_notaries_is_given_in_one_transfer(two: TwoNotaries) -> None:
    async def scenario() -> None:
        completed(await two.issue_energy(SELLER, 400, period=6))
        completed(await two.move(SELLER, SECOND))
        completed(await two.run(SELLER, "energy.request", energy_request("another", 600, period=6)))
        gift = args.EnergyTransferArguments(energy=selection(6), quantity_wh=900, recipient=two.identity[BUYER])
        theirs = await two.energy_wh(BUYER)
        before = await two.energy_wh(SELLER)
        completed(await two.run(SELLER, "energy.transfer", gift))
        assert await two.energy_wh(SELLER) == before - 900
        await eventually(lambda: two.energy_wh(BUYER), theirs + 900)
        # What guarded more of it got the rest.
        assert (await two.guarded(BUYER, "energy"))[FIRST] >= 2

    asyncio.run(scenario())


def test_n13_the_command_line_moves_states_by_the_names_of_notaries(
    two: TwoNotaries, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fund() -> bytes:
        completed(await two.money_at(FIRST, BUYER, 7))
        await eventually(lambda: _worth_at(two, 7, FIRST), 1)
        (ref,) = [state.ref for state in await two.states(BUYER, "payment") if _amount(state) == 7]
        return ref

    ref = asyncio.run(fund())
    node = ["--node", str(two.network.node_directory(BUYER)), "notary", "change"]
    reference = f"{ref[:32].hex()}:{int.from_bytes(ref[32:])}"
    assert _cli(*node, "--to", SECOND, "--state", reference, "--json") == 0
    assert '"status":"completed"' in capsys.readouterr().out
    assert asyncio.run(_worth_at(two, 7, SECOND)) == 1
    assert _cli(*node, "--to", SECOND, "--state", reference) == 1
    assert "is consumed" in capsys.readouterr().out
    assert _cli(*node, "--to", "nobody") == 2
    assert _cli(*node, "--to", SECOND, "--state", "12") == 2
    assert _cli(*node, "--to", SECOND) == 0
    assert asyncio.run(two.guarded(BUYER))[FIRST] == 0


def _amount(state: VaultState) -> int:
    return PaymentState.from_payload(OutputState.decode(state.output).payload).amount_nano


async def _worth_at(two: TwoNotaries, amount_nano: int, notary: str) -> int:
    """How many coins of this amount the notary guards."""
    key = two.service_key(notary)
    states = [s for s in await two.states(BUYER, "payment") if OutputState.decode(s.output).notary == key]
    return sum(_amount(state) == amount_nano for state in states)


def _cli(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return int(str(ended.value.code or 0))
