"""What parties do while links fail, and what must be true when they have ended it."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Sequence

from p2pet.client import NodeClient
from p2pet.flows.v1 import arguments_pb2 as args
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_COMPLETED, FLOW_STATUS_FAILED, FlowOutcome

from tests.support.community import CURRENCY, Community

# An end that a fault of a link excuses; any other error is a bug.
EXCUSED = ("flow.timeout", "flow.counterparty_failed", "flow.refused", "notary.window_passed", "vault.insufficient")
HEALED_SECONDS_MAX = 60.0
POLL_SECONDS = 0.05
PAID_NANO, TRADED_WH = 1_000_000, 10
# Energy is traded of so many periods in turn.
PERIODS = 16


class Dealings:
    """Flows that parties have started, each under a client id of its own, and how they ended."""

    def __init__(self, community: Community) -> None:
        self._community = community
        self._started: list[tuple[str, bytes]] = []
        self._number = 0
        self._name = secrets.token_hex(8)

    async def pay(self, payer: str, payee: str, count: int) -> None:
        recipient = self._community.identity[payee]
        payment = args.PaymentPayArguments(currency=CURRENCY, amount_nano=PAID_NANO, recipient=recipient)
        async with self._community.client(payer) as client:
            for _ in range(count):
                await self._start(payer, client, "payment.pay", payment)

    async def buy(self, buyer: str, seller: str, count: int) -> None:
        async with self._community.client(buyer) as client:
            for _ in range(count):
                terms = self._community.trade_terms(seller, TRADED_WH, self._number % PERIODS)
                await self._start(buyer, client, "energy.trade", terms)

    async def _start(
        self, party: str, client: NodeClient, flow: str, arguments: args.PaymentPayArguments | args.EnergyTradeArguments
    ) -> None:
        self._number += 1
        client_id = f"{self._name} {self._number}"
        self._started.append((party, await client.flows.start(flow, arguments, client_id=client_id)))

    async def ended(self, party: str = "") -> list[FlowOutcome]:
        """How those that have ended ended, of one party or of all."""
        found = []
        for name in dict.fromkeys(name for name, _ in self._started if party in ("", name)):
            async with self._community.client(name) as client:
                for started_by, flow_id in self._started:
                    if started_by == name:
                        found.append((await client.flows.get(flow_id=flow_id)).flow.outcome)
        return [outcome for outcome in found if outcome.status in (FLOW_STATUS_COMPLETED, FLOW_STATUS_FAILED)]

    async def all_ended(self, party: str = "") -> tuple[float, Counter[str]]:
        """Waits for the end of all; how long that took, and how many ended in which way. Each error is excused."""
        began = time.monotonic()
        wanted = len([name for name, _ in self._started if party in ("", name)])
        while len(ended := await self.ended(party)) < wanted:
            assert time.monotonic() < began + HEALED_SECONDS_MAX, f"{len(ended)} of {wanted} flows have ended"
            await asyncio.sleep(POLL_SECONDS)
        ways = Counter("completed" if one.status == FLOW_STATUS_COMPLETED else one.error_code for one in ended)
        assert set(ways) <= {"completed", *EXCUSED}, ways
        return time.monotonic() - began, ways


async def nothing_lost(community: Community, homes: Sequence[str], money_nano: int, energy_wh: int) -> float:
    """All that was issued is somewhere, exactly once, and nothing stays reserved; how long until that was so."""
    began = time.monotonic()
    seen = (0, 0, 0)
    while time.monotonic() < began + HEALED_SECONDS_MAX:
        money = sum([await community.money_nano(home) for home in homes])
        energy = sum([await community.energy_wh(home) for home in homes])
        seen = (money, energy, sum([await community.locked(home) for home in homes]))
        if seen == (money_nano, energy_wh, 0):
            return time.monotonic() - began
        await asyncio.sleep(POLL_SECONDS)
    raise AssertionError(f"nano-currency, Wh and what is reserved are {seen}, not {(money_nano, energy_wh, 0)}")
