"""Backups of real nodes: whole while they run, restored into the state of one moment, recognised when they are old."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from p2pet.flows.v1 import flows_pb2
from p2pet.flows.v1.arguments_pb2 import PaymentPayArguments
from p2pet.localnet import LocalNetwork

from tests.support.community import CURRENCY, Community, completed, make_community
from tests.support.scripted import eventually

ISSUER, PAYER, PAYEE, NOTARY = "community", "home-1", "home-2", "notary"
COIN_NANO = 1_000
# The long form pays as often as the acceptance says; the short one a tenth of it.
PAYMENTS = 1_000 if os.environ.get("P2PET_SOAK") else 100
AT_ONCE = 50
SECONDS_MAX = 60


@pytest.fixture(scope="module")
def paying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Community]:
    directory = tmp_path_factory.mktemp("backup") / "net"
    made = make_community(directory, homes=2)
    for file in directory.glob("*/node.toml"):
        # Many segments.
        file.write_text(re.sub("segment_bytes = .*", "segment_bytes = 1048576", file.read_text()))
    with LocalNetwork(directory) as network:
        asyncio.run(network.start())
        yield Community(made, network)


class Kept:
    """What a node's data directory is put back to after a test."""

    def __init__(self, community: Community, name: str) -> None:
        self._network = community.network
        self._name = name
        self._data = self._network.node_directory(name) / "data"

    async def undo(self) -> None:
        self._network.stop(self._name)
        kept = sorted(self._data.parent.glob("data.replaced-*"))
        if kept:
            shutil.rmtree(self._data)
            kept[0].rename(self._data)
        for other in kept[1:]:
            shutil.rmtree(other)
        await self._network.start(self._name)


@pytest.fixture
def kept(paying: Community) -> Iterator[Callable[[str], Kept]]:
    all_kept: list[Kept] = []

    def keep(name: str) -> Kept:
        all_kept.append(Kept(paying, name))
        return all_kept[-1]

    yield keep
    for one in all_kept:
        asyncio.run(one.undo())


def _p2petd(*arguments: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "p2petd", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX)
    assert done.returncode == status, done.stdout + done.stderr
    return done


async def _p2petd_beside(*arguments: str | Path) -> str:
    """The same while the event loop goes on."""
    return (await asyncio.to_thread(_p2petd, *arguments)).stdout


def _config(community: Community, name: str) -> Path:
    return community.network.node_directory(name) / "node.toml"


def _pay(community: Community, to: str, amount_nano: int = 1) -> PaymentPayArguments:
    return PaymentPayArguments(currency=CURRENCY, amount_nano=amount_nano, recipient=community.identity[to])


async def _issue_coins(community: Community, to: str, count: int) -> None:
    wanted = await community.money_nano(to) + count * COIN_NANO
    for start in range(0, count, AT_ONCE):
        some = range(min(AT_ONCE, count - start))
        for outcome in await asyncio.gather(*(community.issue_money(to, COIN_NANO) for _ in some)):
            completed(outcome)
    await eventually(lambda: community.money_nano(to), wanted)


async def _pay_often(community: Community, count: int) -> None:
    """Whole coins, so that payments do not wait for each other."""
    async with community.client(PAYER) as client:
        for start in range(0, count, AT_ONCE):
            some = range(min(AT_ONCE, count - start))
            pay = _pay(community, PAYEE, COIN_NANO)
            for response in await asyncio.gather(
                *(client.flows.run("payment.pay", pay, deadline_seconds=SECONDS_MAX) for _ in some)
            ):
                completed(response.outcome)


def test_a_backup_of_a_node_under_load_is_a_state_of_the_node(
    paying: Community, kept: Callable[[str], Kept], tmp_path: Path
) -> None:
    """The restored node starts, verifies, and holds what the payer had at one moment while it was being copied."""
    backup = tmp_path / "backup"

    async def scenario() -> None:
        await _issue_coins(paying, PAYER, PAYMENTS)
        load = asyncio.create_task(_pay_often(paying, PAYMENTS - 1))
        await asyncio.sleep(0)
        before = await paying.money_nano(PAYER)
        summary = json.loads(await _p2petd_beside("backup", "--config", _config(paying, PAYER), "--json", backup))
        after = await paying.money_nano(PAYER)
        await load
        final = await paying.money_nano(PAYER)
        assert final == COIN_NANO
        size = sum(file["size"] for file in summary["files"])
        print(
            f"backup under load: {size / 2**20:.1f} MiB in {summary['seconds']} s, {(before - after) // COIN_NANO} paid"
        )
        _p2petd("backup", "--check", backup)

        # In a directory of its own, alone: nobody tells it that it is old.
        for name in ("network", PAYER):
            source, target = paying.network.node_directory(name), tmp_path / "alone" / name
            shutil.copytree(source, target, ignore=lambda _, names: [name for name in names if name.startswith("data")])
        config = tmp_path / "alone" / PAYER / "node.toml"
        _p2petd("restore", "--config", config, backup)
        paying.network.stop()
        try:
            with LocalNetwork(tmp_path / "alone") as alone:
                await alone.start(PAYER)
                async with alone.client(PAYER) as client:
                    money = sum(entry.amount_nano for entry in (await client.vault.balance()).money)
                assert after <= money <= before
            _p2petd("verify", "--config", config)
        finally:
            await paying.network.start()

    asyncio.run(scenario())


def test_r07_a_party_restored_from_long_ago_is_recognised_by_a_peer(
    paying: Community, kept: Callable[[str], Kept], tmp_path: Path
) -> None:
    """The process ends with one sentence that says what to do, before it does anything with what it has forgotten."""
    backup = tmp_path / "backup"

    async def scenario() -> None:
        await _issue_coins(paying, PAYER, PAYMENTS)
        _p2petd("backup", "--config", _config(paying, PAYER), backup)
        forgotten = await _transactions(paying, PAYER)
        await _pay_often(paying, PAYMENTS)
        forgotten = await _transactions(paying, PAYER) - forgotten
        assert forgotten >= PAYMENTS
        paying.network.stop(PAYER)
        kept(PAYER)
        said = _p2petd("restore", "--config", _config(paying, PAYER), "--replace", backup).stdout
        assert "p2pet-cli vault recover" in said
        paying.network.launch(PAYER)
        began = time.monotonic()
        # Whoever talks to it first.
        await paying.run(PAYEE, "payment.pay", _pay(paying, PAYER))
        assert paying.network.wait_ended(PAYER) == 1
        print(
            f"a party that lacks {forgotten} transactions: recognised {time.monotonic() - began:.2f} s after its start"
        )
        last = paying.network.log(PAYER, 600).splitlines()[-1]
        assert "[store.rolled_back]" in last
        assert "old copy" in last

    asyncio.run(scenario())


async def _transactions(community: Community, name: str) -> int:
    count, token = 0, ""
    async with community.client(name) as client:
        while True:
            page = await client.vault.transactions(page_size=1000, page_token=token)
            count, token = count + len(page.transactions), page.next_page_token
            if not token:
                return count


async def _settled(community: Community) -> None:
    """Until everybody has heard of everything."""

    async def waiting() -> int:
        count = 0
        for name in (ISSUER, PAYER, PAYEE):
            async with community.client(name) as client:
                count += sum(peer.outbox for peer in (await client.peers()).peers)
        return count

    await eventually(waiting, 0)


class Forgetting:
    """A notary that was put back to before a payment, and a payer too, so that it can pay the same coin once more."""

    def __init__(self, community: Community, backups: Path) -> None:
        self.community = community
        self._backups = backups

    async def prepare(self) -> None:
        """The payer has one coin; then both are backed up; then the coin goes to the payee."""
        await _settled(self.community)
        held = await self.community.money_nano(PAYER)
        if held:
            completed(await self.community.run(PAYER, "payment.pay", _pay(self.community, PAYEE, held)))
        await _issue_coins(self.community, PAYER, 1)
        for name in (PAYER, NOTARY):
            _p2petd("backup", "--config", _config(self.community, name), self._backups / name)
        payee = await self.community.money_nano(PAYEE)
        completed(await self.community.run(PAYER, "payment.pay", _pay(self.community, PAYEE, COIN_NANO)))
        await eventually(lambda: self.community.money_nano(PAYEE), payee + COIN_NANO)

    def forget(self, name: str, *options: str) -> str:
        """Put a node back, and leave it stopped."""
        self.community.network.stop(name)
        config = _config(self.community, name)
        return _p2petd("restore", "--config", config, "--replace", *options, self._backups / name).stdout

    async def pays_again(self) -> "asyncio.Task[flows_pb2.FlowOutcome]":
        """The payer, which has forgotten the payment, spends the coin a second time, on the issuer."""
        pay = _pay(self.community, ISSUER, COIN_NANO)
        async with self.community.client(PAYER) as client:
            await client.flows.start("payment.pay", pay, client_id="again")
        return asyncio.create_task(self.community.run(PAYER, "payment.pay", pay, client_id="again"))

    async def is_turned_away(self) -> None:
        """Until the notary has answered that payment, without deciding it."""

        async def waits() -> bool:
            async with self.community.client(PAYER) as client:
                flow = (await client.flows.get(client_id="again")).flow
            return flow.current_step == "waiting for the notary"

        await eventually(waits, True)

    async def accepted(self) -> int:
        async with self.community.client(NOTARY) as client:
            return (await client.stats())["notary_accepted"]


@pytest.fixture
def forgetting(paying: Community, kept: Callable[[str], Kept], tmp_path: Path) -> Forgetting:
    kept(NOTARY)
    kept(PAYER)
    return Forgetting(paying, tmp_path)


def test_r07_a_notary_restored_from_a_backup_decides_nothing_before_its_operator_does(
    paying: Community, forgetting: Forgetting
) -> None:
    """A coin cannot be spent twice through it; put back to its newest data it goes on by itself."""

    async def scenario() -> None:
        await forgetting.prepare()
        said = forgetting.forget(NOTARY)
        assert "signs nothing new" in said
        assert "--accept-loss" in said
        forgetting.forget(PAYER)
        await paying.network.start(NOTARY, PAYER)
        again = await forgetting.pays_again()
        await forgetting.is_turned_away()
        assert await forgetting.accepted() == 0
        assert "signs nothing new" in paying.network.log(NOTARY)
        assert not again.done()

        await Kept(paying, NOTARY).undo()
        outcome = await again
        assert outcome.error_code == "notary.conflict"

    asyncio.run(scenario())


def test_r07_a_plain_copy_of_a_notary_decides_nothing_either(paying: Community, kept: Callable[[str], Kept]) -> None:
    """Whatever made the copy: it knows that its log was written elsewhere."""
    kept(NOTARY)
    data = paying.network.node_directory(NOTARY) / "data"

    async def scenario() -> None:
        await _issue_coins(paying, PAYER, 1)
        paying.network.stop(NOTARY)
        shutil.copytree(data, data.with_name("copy"), symlinks=True)
        data.rename(data.with_name("data.replaced-original"))
        data.with_name("copy").rename(data)
        await paying.network.start(NOTARY)
        payment = asyncio.create_task(
            paying.run(PAYER, "payment.pay", _pay(paying, PAYEE, COIN_NANO), client_id="to a copy")
        )
        await eventually(lambda: _log_says(paying, NOTARY, "on a copy of its data directory"), True)
        assert not payment.done()
        paying.network.stop(NOTARY)
        said = _p2petd("restore", "--config", _config(paying, NOTARY), "--accept-loss").stdout
        assert "notary" in said
        await paying.network.start(NOTARY)
        completed(await payment)
        # The copy is the one that goes on.
        shutil.rmtree(data.with_name("data.replaced-original"))

    asyncio.run(scenario())


async def _log_says(community: Community, name: str, words: str) -> bool:
    return words in (community.network.node_directory(name) / "node.log").read_text()


def test_r07_a_notary_that_goes_on_with_an_older_log_stops_at_the_first_proof_of_what_it_has_forgotten(
    paying: Community, forgetting: Forgetting
) -> None:
    """Its operator has taken the loss, wrongly: who uses what was lost shows it. From then on it does not start."""

    async def scenario() -> None:
        await forgetting.prepare()
        forgetting.forget(NOTARY, "--accept-loss")
        await paying.network.start(NOTARY)
        held = await paying.money_nano(PAYEE)
        began = time.monotonic()
        spends = asyncio.create_task(paying.run(PAYEE, "payment.pay", _pay(paying, ISSUER, held)))
        status = await asyncio.to_thread(paying.network.wait_ended, NOTARY)
        print(f"a notary that lacks a decision: recognised {time.monotonic() - began:.2f} s after it was used")
        assert status == 1
        assert "[store.rolled_back]" in paying.network.log(NOTARY, 600).splitlines()[-1]
        paying.network.launch(NOTARY)
        assert paying.network.wait_ended(NOTARY) == 1
        assert "[store.rolled_back]" in paying.network.log(NOTARY, 600).splitlines()[-1]

        await Kept(paying, NOTARY).undo()
        completed(await spends)

    asyncio.run(scenario())
