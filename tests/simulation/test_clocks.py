"""R11 on the side of parties: clocks that are wrong or step, on real engines under a clock of the test's own."""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.message import Message
from p2pet.flows.v1 import arguments_pb2 as args
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_COMPLETED, FlowOutcome

from p2petd.units import HOUR_NS, MINUTE_NS, SECOND_NS
from tests.simulation.community import CURRENCY, ENERGY, FIRST_PERIOD_NS, UNIT_NS
from tests.simulation.model import MONEY, Change
from tests.simulation.test_simulation import FAST
from tests.simulation.world import VERIFYING, Plan, World

EURO = 1_000_000_000
CALM = Plan(homes=2, notaries=(VERIFYING,), storm_seconds=0.0, endowments=0)


class Quiet(World):
    """No faults but those that a test makes; every run ends with the audit of all vaults."""

    async def _storm(self) -> None:
        await self.prepare()
        await self.play()

    async def prepare(self) -> None:
        """Two coins of a euro for home-1, energy of home-2."""
        seller = self.nodes["home-2"]
        for _ in range(2):
            assert (await self.issue()).status == FLOW_STATUS_COMPLETED
        request = args.EnergyRequestArguments(
            energy_type=ENERGY[0],
            quantity_wh=1000,
            delivery_start_ns=FIRST_PERIOD_NS,
            delivery_end_ns=FIRST_PERIOD_NS + UNIT_NS,
            meter="meter",
            zone="feeder",
        )
        made: Change = {(seller.me, (ENERGY[0], FIRST_PERIOD_NS)): 1000}
        assert (await self.flow("home-2", "energy.request", request, made)).status == FLOW_STATUS_COMPLETED

    async def play(self) -> None:
        """What the test is about."""
        raise NotImplementedError

    async def flow(self, name: str, flow: str, arguments: Message, change: Change) -> FlowOutcome:
        """Started now, its outcome awaited as long as that takes."""
        intent = self.clients.ask_for(self.nodes[name], flow, arguments, change)
        while intent.outcome is None:
            await asyncio.sleep(0.05)
            self._check()
        return intent.outcome

    async def trade(self) -> FlowOutcome:
        """home-1 buys 100 Wh for 10 000 000 nano-euro."""
        buyer, seller = self.nodes["home-1"], self.nodes["home-2"]
        energy, money = (ENERGY[0], FIRST_PERIOD_NS), (MONEY, CURRENCY)
        terms = args.EnergyTradeArguments(
            seller=seller.me,
            energy=args.EnergySelection(
                energy_type=ENERGY[0], delivery_start_ns=FIRST_PERIOD_NS, delivery_end_ns=FIRST_PERIOD_NS + UNIT_NS
            ),
            quantity_wh=100,
            price_micro_per_kwh=100_000,
            currency=CURRENCY,
        )
        change: Change = {
            (buyer.me, energy): 100,
            (seller.me, energy): -100,
            (buyer.me, money): -10_000_000,
            (seller.me, money): 10_000_000,
        }
        return await self.flow("home-1", "energy.trade", terms, change)

    async def issue(self) -> FlowOutcome:
        home = self.nodes["home-1"]
        issue = args.PaymentIssueArguments(currency=CURRENCY, amount_nano=EURO, recipient=home.me)
        return await self.flow("community", "payment.issue", issue, {(home.me, (MONEY, CURRENCY)): EURO})

    async def pay(self) -> FlowOutcome:
        payer, payee, money = self.nodes["home-1"], self.nodes["home-2"], (MONEY, CURRENCY)
        arguments = args.PaymentPayArguments(currency=CURRENCY, amount_nano=1000, recipient=payee.me)
        return await self.flow("home-1", "payment.pay", arguments, {(payer.me, money): -1000, (payee.me, money): 1000})

    def set_clock(self, name: str, offset_ns: int) -> None:
        self.nodes[name].step_clock(offset_ns)


class _WrongByAnHour(Quiet):
    def __init__(self, directory: Path, buyer_ns: int, seller_ns: int) -> None:
        super().__init__(1, directory, CALM)
        self._offsets = {"home-1": buyer_ns, "home-2": seller_ns}

    async def play(self) -> None:
        for name, offset_ns in self._offsets.items():
            self.set_clock(name, offset_ns)
        refused = await self.trade()
        assert refused.error_code == "flow.refused"
        assert "check the clocks" in refused.error_message
        # What has no time window needs no clock.
        assert (await self.pay()).status == FLOW_STATUS_COMPLETED
        for name in self._offsets:
            self.set_clock(name, 0)
        assert (await self.trade()).status == FLOW_STATUS_COMPLETED


@pytest.mark.parametrize(
    ("buyer_ns", "seller_ns"), [(HOUR_NS, -HOUR_NS), (-HOUR_NS, HOUR_NS), (HOUR_NS, 0), (0, HOUR_NS), (-HOUR_NS, 0)]
)
def test_r11_a_trade_between_clocks_that_differ_is_refused_and_nothing_is_lost(
    buyer_ns: int, seller_ns: int, directory: Path
) -> None:
    summary = _WrongByAnHour(directory, buyer_ns, seller_ns).run()
    assert (summary.completed, summary.failed) == (5, 1)


class _NotaryAhead(Quiet):
    async def play(self) -> None:
        self.set_clock("notary-1", HOUR_NS)
        began = self.loop.time()
        assert (await self.trade()).error_code == "notary.time_window_invalid"
        assert self.loop.time() - began < 60.0
        assert (await self.pay()).status == FLOW_STATUS_COMPLETED


def test_r11_a_notary_an_hour_ahead_refuses_the_window_and_nothing_is_lost(directory: Path) -> None:
    summary = _NotaryAhead(1, directory, CALM).run()
    assert (summary.completed, summary.failed) == (4, 1)


class _NotaryBehind(Quiet):
    async def play(self) -> None:
        """Its own last decision is what it never goes behind."""
        assert (await self.trade()).status == FLOW_STATUS_COMPLETED
        self.set_clock("notary-1", -10 * MINUTE_NS)
        began = self.loop.time()
        outcome, paid = await asyncio.gather(self.trade(), self.pay())
        assert paid.status == FLOW_STATUS_COMPLETED
        # It signed no window before it had caught up; by its own clock this one was open still.
        assert outcome.status == FLOW_STATUS_COMPLETED
        assert self.loop.time() - began > 9 * MINUTE_NS / SECOND_NS
        self.set_clock("notary-1", 0)
        # Until the seller has been told, too.
        await asyncio.sleep(5.0)
        assert (await self.trade()).status == FLOW_STATUS_COMPLETED


def test_r11_a_notary_that_was_set_back_signs_no_window_until_it_has_caught_up(directory: Path) -> None:
    summary = _NotaryBehind(1, directory, CALM).run()
    assert (summary.completed, summary.failed) == (7, 0)


class _IssueAnew(Quiet):
    async def play(self) -> None:
        self.set_clock("notary-1", 5 * MINUTE_NS)
        refused = await self.issue()
        assert "check the clocks" in refused.error_message
        self.set_clock("notary-1", 0)
        # What it has decided ahead of time it never goes behind: until that time comes, every window is over.
        began = self.loop.time()
        assert (await self.issue()).status == FLOW_STATUS_COMPLETED
        assert self.loop.time() - began > 4 * 60.0
        assert (await self.issue()).status == FLOW_STATUS_COMPLETED


def test_r11_money_is_issued_once_however_the_notarys_clock_steps(directory: Path) -> None:
    """The audit counts: no window that was refused is notarised after all."""
    summary = _IssueAnew(1, directory, CALM).run()
    assert (summary.completed, summary.failed, summary.accepted) == (5, 1, 5)


class _DeadlineSetBack(Quiet):
    async def play(self) -> None:
        """A deadline is a time of day: set back, it is later; set right again, it is past at once."""
        self.nodes["home-2"].on_crash = lambda _: None
        self.nodes["home-2"].crash()
        began = self.loop.time()
        waiting = asyncio.create_task(self.trade())
        await asyncio.sleep(5.0)
        self.set_clock("home-1", -HOUR_NS)
        await asyncio.sleep(300.0)
        assert not waiting.done()
        self.set_clock("home-1", 0)
        assert (await waiting).error_code == "flow.timeout"
        assert self.loop.time() - began < 320.0
        assert (await self.pay()).status == FLOW_STATUS_COMPLETED


def test_r11_a_deadline_that_was_set_back_passes_when_the_clock_is_right_again(directory: Path) -> None:
    summary = _DeadlineSetBack(1, directory, CALM).run()
    assert (summary.completed, summary.failed) == (4, 1)


class _SellerSetBack(Quiet):
    async def play(self) -> None:
        """The seller has signed and waits; the buyer is gone for good; the seller's clock is set back."""
        buyer = self.nodes["home-1"]
        waiting = asyncio.create_task(self.trade())
        while not self.nodes["home-2"].locks():
            await asyncio.sleep(0.001)
        buyer.on_crash = lambda _: None
        buyer.crash()
        self.set_clock("home-2", -10 * MINUTE_NS)
        await asyncio.sleep(20 * 60.0)
        assert not self.nodes["home-2"].locks(), "what was reserved for the trade is free again"
        buyer.start()
        assert (await waiting).status != FLOW_STATUS_COMPLETED


def test_r11_a_seller_that_was_set_back_gets_its_energy_back(directory: Path) -> None:
    _SellerSetBack(1, directory, CALM).run()


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=FAST if FAST.is_dir() else None) as path:
        yield Path(path)
