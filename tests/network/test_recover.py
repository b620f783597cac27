"""F25: a node that has lost its data directory, and not its keys, gets its vault back from the others."""

import asyncio
import contextlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from p2pet.client import ApiError
from p2pet.flows.v1 import arguments_pb2 as args
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_COMPLETED, FLOW_STATUS_FAILED, FlowOutcome
from p2pet.localnet import DaemonFailed, LocalNetwork
from p2pet.vault.v1.vault_pb2 import STATE_STATUS_CONSUMED, STATE_STATUS_UNCONSUMED, VaultState

from tests.support.community import CURRENCY, EURO_NANO, Community, completed, make_community, selection
from tests.support.scripted import eventually

LOSER, OTHER, THIRD = "home-1", "home-2", "home-3"
PRICE = 250_000


class Losing(Community):
    """A community of which one node may lose its data."""

    def lose(self, node: str) -> None:
        """Its disk is gone; keys, certificates and configuration were elsewhere."""
        self.network.kill(node)
        shutil.rmtree(self.network.node_directory(node) / "data")

    async def recover(self, node: str, *parties: str) -> FlowOutcome:
        wanted = args.LedgerRecoverArguments(parties=[self.identity[party] for party in parties])
        return await self.run(node, "ledger.recover", wanted)

    async def states(self, node: str) -> dict[bytes, tuple[int, bytes, bytes]]:
        """What the vault says of each state, but when it was recorded."""
        async with self.client(node) as client:
            states: list[VaultState] = []
            token = ""
            while True:
                answer = await client.vault.states(page_size=1000, page_token=token)
                states += answer.states
                if not (token := answer.next_page_token):
                    return {one.ref: (one.status, one.output, one.consumed_by) for one in states}

    async def transactions(self, node: str) -> dict[bytes, bytes]:
        """The signed transactions by their ids."""
        async with self.client(node) as client:
            found = (await client.vault.transactions(page_size=1000)).transactions
            return {one.id: (await client.vault.transaction(one.id)).signed_transaction for one in found}

    async def in_flight(self) -> int:
        """How much some home has signed and not recorded."""
        count = 0
        for node in (LOSER, OTHER, THIRD):
            async with self.client(node) as client:
                count += len((await client.vault.in_flight()).transactions)
        return count

    async def pay(self, payer: str, payee: str, amount_nano: int) -> None:
        before = await self.money_nano(payee)
        pay = args.PaymentPayArguments(currency=CURRENCY, amount_nano=amount_nano, recipient=self.identity[payee])
        completed(await self.run(payer, "payment.pay", pay))
        await eventually(lambda: self.money_nano(payee), before + amount_nano)


@pytest.fixture(scope="module")
def losing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Losing]:
    directory = tmp_path_factory.mktemp("losing") / "net"
    made = make_community(directory, homes=3, uniqueness_notaries=1)
    with LocalNetwork(directory) as network:
        asyncio.run(network.start())
        yield Losing(made, network)


async def some_history(losing: Losing, period: int) -> None:
    """Money and energy go back and forth between the homes."""
    completed(await losing.issue_money(LOSER, 10 * EURO_NANO))
    completed(await losing.issue_money(OTHER, 10 * EURO_NANO))
    completed(await losing.issue_energy(OTHER, 2_000, period))
    completed(await losing.issue_energy(LOSER, 1_000, period))
    completed(await losing.trade(LOSER, OTHER, 1_500, period, PRICE))
    completed(await losing.trade(OTHER, LOSER, 300, period, PRICE))
    await losing.pay(LOSER, OTHER, EURO_NANO)
    await losing.pay(OTHER, LOSER, 3 * EURO_NANO)
    await losing.pay(LOSER, THIRD, 2 * EURO_NANO)
    given = args.EnergyTransferArguments(recipient=losing.identity[THIRD], energy=selection(period), quantity_wh=100)
    completed(await losing.run(LOSER, "energy.transfer", given))
    await eventually(losing.in_flight, 0)


def test_f25_a_lost_vault_comes_back_from_the_others(losing: Losing) -> None:
    async def scenario() -> None:
        await some_history(losing, period=1)
        issued = completed(await losing.issue_energy(LOSER, 50, period=2))
        states, transactions = await losing.states(LOSER), await losing.transactions(LOSER)
        balance = await losing.balance(LOSER)
        losing.lose(LOSER)
        await losing.network.start(LOSER)
        assert await losing.money_nano(LOSER) == 0
        completed(await losing.recover(LOSER))
        # What nobody else took part in has not come back; everything else is as it was.
        found = await losing.states(LOSER)
        assert found == {ref: states[ref] for ref in found}
        lacking = {ref: states[ref] for ref in states.keys() - found.keys()}
        unspent = {ref for ref, (status, _, _) in lacking.items() if status == STATE_STATUS_UNCONSUMED}
        assert unspent == {ref for ref in states if ref[:32] == issued.transaction_id}
        recovered = await losing.transactions(LOSER)
        assert recovered == {one: transactions[one] for one in recovered}
        assert transactions.keys() - recovered.keys() == {ref[:32] for ref in lacking}
        after = await losing.balance(LOSER)
        assert list(after.money) == list(balance.money)
        assert sum(one.quantity_wh for one in after.energy) == sum(one.quantity_wh for one in balance.energy) - 50
        # It takes part again, in both directions, although it has a new epoch.
        await losing.pay(LOSER, OTHER, EURO_NANO)
        await losing.pay(OTHER, LOSER, 2 * EURO_NANO)
        completed(await losing.trade(THIRD, LOSER, 100, period=1, price=PRICE))
        await eventually(losing.in_flight, 0)
        # A second recovery finds nothing new, and changes nothing.
        before = await losing.states(LOSER)
        completed(await losing.recover(LOSER))
        assert await losing.states(LOSER) == before

    asyncio.run(scenario())


def test_f25_a_recovery_that_a_kill_interrupts_goes_on(losing: Losing) -> None:
    async def scenario() -> None:
        await some_history(losing, period=5)
        states = await losing.states(LOSER)
        money = await losing.money_nano(LOSER)
        losing.lose(LOSER)
        # What its peers still had for it is taken in first.
        await losing.network.start(LOSER)
        await eventually(lambda: waiting_for(losing, LOSER), 0)
        losing.network.stop(LOSER)
        # It dies in its recovery, further on each time; what it does again after a restart counts too.
        died = 0
        for nth in (4, 12, 24):
            # It may die again before it serves, of what it goes on with.
            with contextlib.suppress(DaemonFailed):
                await losing.network.start(LOSER, environment={"P2PET_FAILPOINTS": f"flow.after_step:{nth}"})
                died += await dies_recovering(losing)
            losing.network.kill(LOSER)
        assert died
        await losing.network.start(LOSER)
        outcome = completed(await losing.run(LOSER, "ledger.recover", args.LedgerRecoverArguments(), "again"))
        assert outcome.status == FLOW_STATUS_COMPLETED
        assert await losing.money_nano(LOSER) == money
        found = await losing.states(LOSER)
        assert found == {ref: states[ref] for ref in found}

    asyncio.run(scenario())


async def waiting_for(losing: Losing, node: str) -> int:
    """Messages that the others have for it."""
    count = 0
    for other in {"community", OTHER, THIRD} - {node}:
        async with losing.client(other) as client:
            peers = (await client.peers()).peers
        count += sum(peer.outbox for peer in peers if peer.identity == losing.identity[node])
    return count


async def dies_recovering(losing: Losing) -> bool:
    async with losing.client(LOSER) as client:
        try:
            await client.flows.run("ledger.recover", args.LedgerRecoverArguments(), client_id="again")
        except ApiError:
            return losing.network.wait_ended(LOSER) == -signal.SIGKILL
    return False


def test_f25_who_does_not_answer_is_named_and_a_second_run_goes_on(losing: Losing) -> None:
    async def scenario() -> None:
        await some_history(losing, period=9)
        money = await losing.money_nano(LOSER)
        losing.lose(LOSER)
        losing.network.stop(OTHER)
        await losing.network.start(LOSER)
        outcome = await losing.recover(LOSER)
        assert outcome.status == FLOW_STATUS_FAILED
        assert outcome.error_code == "vault.recovery_incomplete"
        assert OTHER in outcome.error_message
        assert "does not answer" in outcome.error_message
        assert THIRD not in outcome.error_message
        await losing.network.start(OTHER)
        completed(await losing.recover(LOSER))
        assert await losing.money_nano(LOSER) == money

    asyncio.run(scenario())


def test_f25_what_a_uniqueness_only_notary_guards_comes_back_with_its_history(losing: Losing) -> None:
    """The histories were in the data directory too: the parties hand them out again."""

    async def scenario() -> None:
        # The loser has nothing else, and the other one moves all it has there.
        await losing.pay(LOSER, THIRD, await losing.money_nano(LOSER))
        move = args.NotaryChangeArguments(notary=losing.notary("uniqueness"))
        completed(await losing.run(OTHER, "ledger.notary_change", move))
        await losing.pay(OTHER, LOSER, 5 * EURO_NANO)
        await losing.pay(LOSER, THIRD, EURO_NANO)
        await losing.pay(OTHER, LOSER, EURO_NANO)
        states, money = await losing.states(LOSER), await losing.money_nano(LOSER)
        losing.lose(LOSER)
        await losing.network.start(LOSER)
        completed(await losing.recover(LOSER))
        assert await losing.money_nano(LOSER) == money
        found = await losing.states(LOSER)
        assert found == {ref: states[ref] for ref in found}
        # Whoever gets it next gets the history from here.
        await losing.pay(LOSER, OTHER, EURO_NANO)

    asyncio.run(scenario())


def test_f25_what_nobody_else_recorded_consuming_is_not_offered_again(losing: Losing) -> None:
    """The one who was paid has lost its vault too: only the notary knows that the coins are gone."""

    async def scenario() -> None:
        await losing.pay(LOSER, THIRD, await losing.money_nano(LOSER))
        total = 7 * EURO_NANO
        completed(await losing.issue_money(LOSER, total))
        await eventually(lambda: losing.money_nano(LOSER), total)
        # Merged by a transaction of the loser alone: it is its own recipient.
        move = args.PaymentPayArguments(currency=CURRENCY, amount_nano=total, recipient=losing.identity[LOSER])
        alone = completed(await losing.run(LOSER, "payment.pay", move))
        losing.lose(LOSER)
        await losing.network.start(LOSER)
        completed(await losing.recover(LOSER))
        assert await losing.money_nano(LOSER) == 0
        assert alone.transaction_id not in await losing.transactions(LOSER)
        async with losing.client(LOSER) as client:
            consumed = (await client.vault.states(status=STATE_STATUS_CONSUMED, contract="payment")).states
        assert sum(state.consumed_by != b"" for state in consumed) == len(consumed) > 0

    asyncio.run(scenario())


@pytest.mark.subprocesses
def test_f25_the_command_line_tells_what_came_back_and_what_cannot(losing: Losing) -> None:
    home = losing.network.node_directory(OTHER)
    told = cli(home, "vault", "recover", "--from", THIRD, "--watch")
    assert f"asking CN={THIRD}" in told
    assert "Recovered 0 transactions" in told
    assert "does not come back" in told
    answered = json.loads(cli(home, "vault", "recover", "--json"))
    assert answered["flow"]["outcome"]["status"] == "completed"
    assert answered["summary"].startswith("recovered 0 transactions")
    assert "Nothing is in flight." in cli(home, "tx", "in-flight")
    assert json.loads(cli(home, "tx", "in-flight", "--json")) == {"transactions": [], "more": False}


def cli(node: Path, *words: str) -> str:
    command = [sys.executable, "-m", "p2pet.cli.main", "--node", str(node), *words]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout
