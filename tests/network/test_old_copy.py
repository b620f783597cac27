"""R07: a node restored from an older copy stops before it acts on it; no peer can make it believe that it is one."""

import asyncio
import shutil
from collections.abc import Iterator

import grpc
import pytest
from p2pet.flows.v1.arguments_pb2 import PaymentPayArguments
from p2pet.flows.v1.sessions_pb2 import TradeOffer
from p2pet.localnet import LocalNetwork

from p2petd.peer.hello import EPOCH_BYTES
from p2petd.peer.tokens import TOKEN_BYTES
from tests.support.community import CURRENCY, Community, completed, make_community
from tests.support.peer import Standing
from tests.support.scripted import ScriptedCommunity, eventually

HOME, PAYEE, PAYER, LIAR = "home-1", "home-2", "community", "home-3"
ROLLED_BACK = "[store.rolled_back]"


@pytest.fixture(scope="module")
def paying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedCommunity]:
    """A notary, the issuer and two homes run; home-3 is scripted."""
    directory = tmp_path_factory.mktemp("old-copy") / "net"
    made = make_community(directory, homes=3)
    with LocalNetwork(directory) as network:
        asyncio.run(network.start("notary", PAYER, HOME, PAYEE))
        yield ScriptedCommunity(made, network)


class Copies:
    """Of one node's data directory: an older copy takes its place, and the newest one comes back at the end."""

    def __init__(self, community: Community, name: str) -> None:
        self._network = community.network
        self._name = name
        self._data = self._network.node_directory(name) / "data"
        self._older, self._newest = self._data.with_name("older"), self._data.with_name("newest")

    async def take(self) -> None:
        self._network.stop(self._name)
        shutil.copytree(self._data, self._older)
        await self._network.start(self._name)

    def restore(self) -> None:
        """The node does not run afterwards."""
        self._network.stop(self._name)
        self._data.rename(self._newest)
        self._older.rename(self._data)

    async def undo(self) -> None:
        self._network.stop(self._name)
        if self._newest.exists():
            shutil.rmtree(self._data)
            self._newest.rename(self._data)
        await self._network.start(self._name)


@pytest.fixture
def copies(paying: ScriptedCommunity) -> Iterator[Copies]:
    copies = Copies(paying, HOME)
    yield copies
    asyncio.run(copies.undo())


def _last_words(community: Community, name: str) -> str:
    """Why the node stopped."""
    assert community.network.wait_ended(name) == 1
    lines = (community.network.node_directory(name) / "node.log").read_text().splitlines()
    return lines[-1]


def _pay(community: Community, recipient: str) -> PaymentPayArguments:
    return PaymentPayArguments(currency=CURRENCY, amount_nano=1, recipient=community.identity[recipient])


async def _receive(community: Community, count: int) -> None:
    """Pay the home, until it has the money."""
    for _ in range(count):
        wanted = await community.money_nano(HOME) + 10
        completed(await community.issue_money(HOME, 10))

        # What an earlier test has paid may arrive now, too.
        async def has_arrived(wanted: int = wanted) -> bool:
            return await community.money_nano(HOME) >= wanted

        await eventually(has_arrived, True)


async def _settled(community: Community) -> None:
    """Until the payer knows that all has arrived, and has that on its disk with a later message to another home."""

    async def waiting() -> int:
        async with community.client(PAYER) as client:
            return sum(peer.outbox for peer in (await client.peers()).peers)

    await eventually(waiting, 0)
    completed(await community.issue_money(PAYEE, 1))
    await eventually(waiting, 0)


def test_r07_an_older_copy_of_a_sender_stops(paying: ScriptedCommunity, copies: Copies) -> None:
    """It would give its payee a second message of the same number."""

    async def scenario() -> None:
        await _receive(paying, 3)
        before = await paying.money_nano(PAYEE)
        await copies.take()
        completed(await paying.run(HOME, "payment.pay", _pay(paying, PAYEE)))
        await eventually(lambda: paying.money_nano(PAYEE), before + 1)
        copies.restore()
        paying.network.launch(HOME)
        # A message of the payee brings the two together.
        completed(await paying.run(PAYEE, "payment.pay", _pay(paying, HOME)))
        assert ROLLED_BACK in _last_words(paying, HOME)

    asyncio.run(scenario())


@pytest.mark.parametrize("payer", ["runs on", "is restarted"])
def test_r07_an_older_copy_of_a_mere_receiver_stops(payer: str, paying: ScriptedCommunity, copies: Copies) -> None:
    """It would never learn of the payments that it has forgotten."""

    async def scenario() -> None:
        await _receive(paying, 1)
        await copies.take()
        await _receive(paying, 2)
        await _settled(paying)
        copies.restore()
        if payer == "is restarted":
            paying.network.stop(PAYER)
            await paying.network.start(PAYER)
        paying.network.launch(HOME)
        completed(await paying.issue_money(HOME, 10))
        assert ROLLED_BACK in _last_words(paying, HOME)

    asyncio.run(scenario())


def test_r07_a_copy_from_before_the_first_message_stops(paying: ScriptedCommunity) -> None:
    """The copy has never heard of the payer, and the restarted payer has never heard from the home."""

    async def scenario() -> None:
        paying.network.stop(HOME)
        data = paying.network.node_directory(HOME) / "data"
        newest = data.rename(data.with_name("set-aside"))
        await paying.network.start(HOME)
        copies = Copies(paying, HOME)
        try:
            await copies.take()
            await _receive(paying, 2)
            await _settled(paying)
            copies.restore()
            paying.network.stop(PAYER)
            await paying.network.start(PAYER)
            paying.network.launch(HOME)
            completed(await paying.issue_money(HOME, 10))
            assert ROLLED_BACK in _last_words(paying, HOME)
        finally:
            await copies.undo()
            paying.network.stop(HOME)
            shutil.rmtree(data)
            newest.rename(data)
            await paying.network.start(HOME)

    asyncio.run(scenario())


# A peer that only says so.


async def _refused(paying: ScriptedCommunity) -> tuple[grpc.StatusCode, str]:
    liar, to = paying.peer(LIAR), paying.identity[HOME]
    async with liar.exchange(to) as exchange:
        await exchange.hello(liar.hello(to))
        return await exchange.ended()


async def _goes_on(paying: ScriptedCommunity) -> None:
    """The home still runs, and still talks to the liar once that says what is true."""
    async with paying.connect(LIAR, HOME) as home:
        await home.open("no such flow", TradeOffer())
        await home.settled()
    assert paying.network.is_running(HOME)


@pytest.mark.parametrize("token", [b"", bytes(TOKEN_BYTES), b"x" * TOKEN_BYTES], ids=["none", "zeros", "made up"])
def test_r07_a_peer_that_claims_messages_never_sent_is_refused(token: bytes, paying: ScriptedCommunity) -> None:
    async def scenario() -> None:
        liar, to = paying.peer(LIAR), paying.identity[HOME]
        async with paying.connect(LIAR, HOME) as home:
            epoch = home.hello.epoch
        honest = liar.received.get(to, Standing())
        liar.received[to] = Standing(epoch, 10**9, token)
        status, text = await _refused(paying)
        assert status is grpc.StatusCode.FAILED_PRECONDITION
        assert "never sent" in text
        liar.received[to] = honest
        await _goes_on(paying)

    asyncio.run(scenario())


def test_r07_a_peer_that_claims_acknowledgements_never_given_stops_nobody(paying: ScriptedCommunity) -> None:
    async def scenario() -> None:
        liar, to = paying.peer(LIAR), paying.identity[HOME]
        await _goes_on(paying)
        genuine = liar.acknowledged[to]
        for token in (b"", genuine.token):
            liar.acknowledged[to] = Standing(genuine.epoch, genuine.sequence + 1, token)
            async with paying.connect(LIAR, HOME) as home:
                await home.settled()
        liar.acknowledged[to] = genuine
        await _goes_on(paying)

    asyncio.run(scenario())


def test_r07_a_peer_that_changes_its_epoch_and_returns_stops_nobody(paying: ScriptedCommunity) -> None:
    """Its token of the first epoch is genuine, and the home knows the second one only."""

    async def scenario() -> None:
        liar, to = paying.peer(LIAR), paying.identity[HOME]
        await _goes_on(paying)
        first = liar.epoch, liar.sent[to], liar.acknowledged[to]
        liar.epoch, liar.acknowledged[to] = bytes(EPOCH_BYTES), Standing()
        liar.sent[to] = 0
        await _goes_on(paying)
        second = liar.epoch, liar.sent[to], liar.acknowledged[to]
        liar.epoch, liar.sent[to], liar.acknowledged[to] = first
        status, text = await _refused(paying)
        assert status is grpc.StatusCode.FAILED_PRECONDITION
        assert "epoch" in text
        liar.epoch, liar.sent[to], liar.acknowledged[to] = second
        await _goes_on(paying)

    asyncio.run(scenario())
