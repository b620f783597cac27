"""A community of which only the notary and home-1 are daemons; the others are played by the test."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from p2pet.flows.v1.sessions_pb2 import Final as FinalMessage
from p2pet.localnet import LocalNetwork

from p2petd.network.bootstrap import MadeNetwork
from tests.support.community import Community
from tests.support.drafts import Final, Held, built, energy_issue, money_issue, notarised
from tests.support.peer import Connection, ScriptedPeer

REAL = "home-1"
WAIT_SECONDS_MAX = 20.0


class ScriptedCommunity(Community):
    """`peer(name)` is a node without its daemon; it keeps its counters over the tests of a module."""

    def __init__(self, made: MadeNetwork, network: LocalNetwork) -> None:
        super().__init__(made, network)
        self._peers: dict[str, ScriptedPeer] = {}
        self._meters = 0

    def peer(self, name: str) -> ScriptedPeer:
        if name not in self._peers:
            self._peers[name] = ScriptedPeer(self.network.node_directory(name))
        return self._peers[name]

    def fresh_peer(self, name: str) -> ScriptedPeer:
        """The same node with a new data directory: it has sent and received nothing."""
        return ScriptedPeer(self.network.node_directory(name))

    @contextlib.asynccontextmanager
    async def connect(self, name: str, to: str = "notary") -> AsyncIterator[Connection]:
        async with self.peer(name).connect(self.identity[to]) as connection:
            yield connection

    async def coins(self, owners: list[bytes], amount: int) -> list[Held]:
        """Fresh money for each owner, from one issue of the community node."""
        final = await self.issue(owners, amount)
        return [final.held(index) for index in range(len(owners))]

    async def issue(self, owners: list[bytes], amount: int) -> Final:
        issuer = self.peer("community")
        async with self.connect("community") as notary:
            return await notarised(notary, issuer, built(money_issue(issuer, owners, amount)), [issuer])

    async def lot(self, name: str, quantity_wh: int, period: int = 0) -> Held:
        """Energy that a scripted home has issued with a meter of its own."""
        self._meters += 1
        producer = self.peer(name)
        draft = built(energy_issue(producer, quantity_wh, f"scripted-{self._meters}", period))
        async with self.connect(name) as notary:
            return (await notarised(notary, producer, draft, [producer])).held()

    async def fund_real_home(self, amount: int) -> None:
        """home-1 gets money, told by a scripted community node."""
        final = await self.issue([self.identity[REAL]], amount)
        before = await self.money_nano(REAL)
        async with self.connect("community", REAL) as home:
            await home.open("payment.issue", told(final))
            await eventually(lambda: self.money_nano(REAL), before + amount)

    async def holdings(self) -> "Holdings":
        """What home-1 has, and what of it is reserved."""
        return Holdings(await self.energy_wh(REAL), await self.money_nano(REAL), await self.locked(REAL))


@dataclass(frozen=True)
class Holdings:
    energy_wh: int
    money_nano: int
    locked: int


def told(final: Final) -> FinalMessage:
    """What a participant is sent."""
    return FinalMessage(signed_transaction=final.signed.encode(), finality_proof=final.finality_proof)


async def eventually(look: Callable[[], Awaitable[object]], wanted: object) -> None:
    """Until `look` gives what is wanted; fails with what it gave instead."""
    seen: object = None
    try:
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while (seen := await look()) != wanted:
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"{wanted!r} was wanted, but it stays {seen!r}") from None
