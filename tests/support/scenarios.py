"""One scenario for every built-in flow: what it needs, how it is started, and what must be true when it has ended.

They share one network: two verifying notaries and one that sees no contents, an oracle, a community node that issues
money, registers meters and is the market, and homes. Each round of a scenario has a delivery period, or a meter, of its
own, so that what one round leaves does not decide what another finds.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from p2pet.flows.v1 import arguments_pb2 as args
from p2pet.ledger.v1.energy_pb2 import AllocationShare, EnergyAllocation, EnergyState
from p2pet.ledger.v1.meter_pb2 import MeterRegistration
from p2pet.ledger.v1.payment_pb2 import PaymentState
from p2pet.localnet import LocalNetwork

from p2petd.ledger.resolved import OutputState
from p2petd.network.bootstrap import MadeNetwork
from tests.support.community import (
    CURRENCY,
    EURO_NANO,
    FIRST_PERIOD_NS,
    HEARD_SECONDS_MAX,
    QUARTER_NS,
    completed,
    energy_request,
    selection,
)
from tests.support.delivery import (
    PAST,
    deliveries,
    delivery,
    energy_ref,
    make_delivering_community,
    publish_tariff,
    push,
    unit_reading,
)
from tests.support.two_notaries import FIRST, SECOND, TwoNotaries
from tests.support.unseen import NOTARY_DIRECTORY as UNSEEN

COMMUNITY, ORACLE = "community", "oracle"
# What each home has: the first sells, the second buys with much money of the first notary, the third with coins of the
# second notary, the fourth pays with coins of the one that sees no contents.
SELLER, BUYER, ELSEWHERE, SECRETIVE = "home-1", "home-2", "home-3", "home-4"
QUANTITY_WH, PRICE = 1_000, 250_000
PAID_NANO = QUANTITY_WH * PRICE
PERIODS = 20_000
RICH_NANO = 1_000_000 * EURO_NANO


class Stage(TwoNotaries):
    """The network of the scenarios, with what they have in common."""

    def __init__(self, made: MadeNetwork, network: LocalNetwork) -> None:
        super().__init__(made, network)
        self._rounds = 0

    def new_round(self) -> int:
        """A number that no round has had; from 1."""
        self._rounds += 1
        return self._rounds

    async def begin(self, environment: Mapping[str, str]) -> None:
        """Start all nodes; meters, tariff and money for all rounds."""
        await self.network.start(environment=environment)
        await publish_tariff(self)
        for home in (SELLER, BUYER):
            completed(await self.register_meter(home, from_period=PAST - PERIODS, periods=PERIODS + 100))
        completed(await self.issue_money(SELLER, RICH_NANO))
        completed(await self.issue_money(BUYER, RICH_NANO))
        await self.wait_for_states(SELLER, "meter", 1)
        await self.wait_for_states(BUYER, "meter", 1)

    async def revive(self, environment: Mapping[str, str]) -> None:
        """Start whatever a failed test has left dead."""
        dead = [name for name in self.network.names if not self.network.is_running(name)]
        if dead:
            await self.network.start(*dead, environment=environment)

    async def wait_for_money(self, node: str, amount_nano: int) -> None:
        """Returns when the node has so much; who is paid hears of it late."""
        async with asyncio.timeout(HEARD_SECONDS_MAX):
            while await self.money_nano(node) < amount_nano:
                await asyncio.sleep(0.01)

    async def energy_in(self, node: str, number: int) -> list[int]:
        """The Wh of each unconsumed state of that round's period that the node owns, ascending."""
        start = selection(period_of(number)).delivery_start_ns
        found = []
        for state in await self.states(node, "energy"):
            output = OutputState.decode(state.output)
            if output.type_name == EnergyState.DESCRIPTOR.name:
                decoded = EnergyState.FromString(output.payload)
                if decoded.delivery_start_ns == start:
                    found.append(decoded.quantity_wh)
        return sorted(found)

    async def registrations(self, node: str, number: int) -> list[tuple[bytes, int, int]]:
        """(notary, from, until) of each registration of that round's meter that a node has recorded, in time order."""
        found = []
        async with self.client(node) as client:
            states = (await client.vault.states(status=1, contract="meter", page_size=1000)).states
        for state in states:
            output = OutputState.decode(state.output)
            registration = MeterRegistration.FromString(output.payload)
            if registration.meter == meter_of(number):
                found.append((output.notary, registration.valid_from_ns, registration.valid_until_ns))
        return sorted(found, key=lambda one: one[1])


Seen = Any
"""What a scenario looks at: it compares."""


@dataclass(frozen=True)
class Scenario:
    """A flow between nodes of the stage.

    `parties` take part beside the notary, the initiator first. `prepare` makes what a round needs, `arguments` are
    those of its start; `look` is what is seen before and after it, and `wanted` turns the former into what must be the
    latter.
    """

    flow: str
    parties: tuple[str, ...]
    prepare: Callable[[Stage, int], Awaitable[None]]
    arguments: Callable[[Stage, int], Awaitable[Message]]
    look: Callable[[Stage, int], Awaitable[Seen]]
    wanted: Callable[[Stage, int, Seen], Seen]
    notary: str = FIRST
    variant: str = ""

    @property
    def name(self) -> str:
        return f"{self.flow} {self.variant}".strip()

    @property
    def nodes(self) -> tuple[str, ...]:
        """All that can die in it."""
        return (*self.parties, self.notary)


def make_stage(directory: Path) -> MadeNetwork:
    """The network's files; nothing runs yet."""
    return make_delivering_community(
        directory, homes=4, registered=True, notaries=2, uniqueness_notaries=1, reading_deadline_ns=0
    )


def period_of(number: int) -> int:
    """The delivery period of a round, as tests/support/community.py counts them: over for days."""
    return PAST - number


def meter_of(number: int) -> str:
    return f"meter-of-round-{number}"


# What rounds need.


async def nothing(stage: Stage, number: int) -> None:
    """A flow that makes something of nothing."""


async def energy(stage: Stage, number: int) -> None:
    completed(await stage.issue_energy(SELLER, QUANTITY_WH, period_of(number)))


async def energy_in_parts(stage: Stage, number: int) -> None:
    await energy(stage, number)
    completed(await stage.run(SELLER, "energy.split", await split(stage, number)))


async def energy_with_a_reading(stage: Stage, number: int) -> None:
    await energy(stage, number)
    await push(stage, unit_reading(SELLER, QUANTITY_WH - 100, -number))


async def energy_and_money_elsewhere(stage: Stage, number: int) -> None:
    await energy(stage, number)
    await _coin(stage, SECOND, ELSEWHERE, PAID_NANO)


async def a_trade_that_is_known(stage: Stage, number: int) -> None:
    await energy_and_money_elsewhere(stage, number)
    await stage.wait_for_money(ELSEWHERE, PAID_NANO)
    completed(await stage.run(ELSEWHERE, "energy.trade", await trade(stage, number)))


async def a_coin_nobody_sees(stage: Stage, number: int) -> None:
    await _coin(stage, UNSEEN, SECRETIVE, PAID_NANO)


async def a_coin_of_the_community(stage: Stage, number: int) -> None:
    await _coin(stage, FIRST, COMMUNITY, EURO_NANO + number)


async def _coin(stage: Stage, notary: str, owner: str, amount_nano: int) -> None:
    completed(await stage.money_at(notary, owner, amount_nano))


async def a_meter(stage: Stage, number: int) -> None:
    completed(await stage.run(COMMUNITY, "meter.register", await register(stage, number)))


# What they are started with.


async def request(stage: Stage, number: int) -> Message:
    return energy_request(SELLER, QUANTITY_WH, period_of(number))


async def transfer(stage: Stage, number: int) -> Message:
    return args.EnergyTransferArguments(
        energy=selection(period_of(number)), quantity_wh=QUANTITY_WH, recipient=stage.identity[BUYER]
    )


async def trade(stage: Stage, number: int) -> Message:
    return stage.trade_terms(SELLER, QUANTITY_WH, period_of(number), PRICE)


async def split(stage: Stage, number: int) -> Message:
    return args.EnergySplitArguments(energy=selection(period_of(number)), parts_wh=[QUANTITY_WH - 300])


async def merge(stage: Stage, number: int) -> Message:
    return args.EnergyMergeArguments(energy=selection(period_of(number)))


async def retire(stage: Stage, number: int) -> Message:
    return args.EnergyRetireArguments(energy=selection(period_of(number)), quantity_wh=QUANTITY_WH - 200)


async def expire(stage: Stage, number: int) -> Message:
    return args.EnergyExpireArguments(energy=selection(period_of(number)))


async def deliver(stage: Stage, number: int) -> Message:
    return delivery(SELLER, -number)


async def allocate(stage: Stage, number: int) -> Message:
    asked = delivery(SELLER, -number)
    share = AllocationShare(state=await energy_ref(stage, SELLER, -number), delivered_wh=QUANTITY_WH - 100)
    return args.EnergyAllocateArguments(
        meter=asked.meter,
        delivery_start_ns=asked.delivery_start_ns,
        delivery_end_ns=asked.delivery_end_ns,
        shares=[share],
        tell=[stage.identity[SELLER]],
    )


async def issue(stage: Stage, number: int) -> Message:
    return args.PaymentIssueArguments(
        currency=CURRENCY, amount_nano=PAID_NANO, recipient=stage.identity[SELLER], notary=stage.notary(FIRST)
    )


async def pay(stage: Stage, number: int) -> Message:
    return args.PaymentPayArguments(currency=CURRENCY, amount_nano=PAID_NANO, recipient=stage.identity[BUYER])


async def pay_unseen(stage: Stage, number: int) -> Message:
    return args.PaymentPayArguments(currency=CURRENCY, amount_nano=PAID_NANO, recipient=stage.identity[ORACLE])


async def redeem(stage: Stage, number: int) -> Message:
    return args.PaymentRedeemArguments(currency=CURRENCY, amount_nano=PAID_NANO)


async def move(stage: Stage, number: int) -> Message:
    (ref,) = [
        state.ref
        for state in await stage.states(COMMUNITY, "payment")
        if PaymentState.FromString(OutputState.decode(state.output).payload).amount_nano == EURO_NANO + number
    ]
    return args.NotaryChangeArguments(states=[ref], notary=stage.notary(SECOND))


async def recover(stage: Stage, number: int) -> Message:
    return args.LedgerRecoverArguments(parties=[stage.identity[SELLER]])


async def register(stage: Stage, number: int) -> args.MeterRegisterArguments:
    arguments = stage.registration(SELLER, from_period=number, periods=8)
    arguments.meter = meter_of(number)
    return arguments


async def extend(stage: Stage, number: int) -> Message:
    return args.MeterExtendArguments(meter=meter_of(number), valid_until_ns=_start(number) + 16 * QUARTER_NS)


async def end(stage: Stage, number: int) -> Message:
    return args.MeterEndArguments(meter=meter_of(number))


async def reassign(stage: Stage, number: int) -> Message:
    return args.MeterReassignArguments(
        meter=meter_of(number), from_ns=_start(number) + 4 * QUARTER_NS, issue_notary=stage.notary(SECOND)
    )


def _start(number: int) -> int:
    return FIRST_PERIOD_NS + number * QUARTER_NS


# What is looked at, and what it must be afterwards.


async def two_homes_energy(stage: Stage, number: int) -> Seen:
    return [await stage.energy_in(home, number) for home in (SELLER, BUYER)]


async def two_homes_all(stage: Stage, number: int) -> Seen:
    money = [await stage.money_nano(home) for home in (SELLER, BUYER)]
    return [*await two_homes_energy(stage, number), *money]


async def two_homes_money(stage: Stage, number: int) -> Seen:
    return [await stage.money_nano(home) for home in (SELLER, BUYER)]


async def moved_trade(stage: Stage, number: int) -> Seen:
    energy = [await stage.energy_in(home, number) for home in (SELLER, ELSEWHERE)]
    return [*energy, *[await stage.money_nano(home) for home in (SELLER, ELSEWHERE)]]


async def unseen_money(stage: Stage, number: int) -> Seen:
    return [await stage.money_nano(node) for node in (SECRETIVE, ORACLE)]


async def community_guarded(stage: Stage, number: int) -> Seen:
    guarded = await stage.guarded(COMMUNITY, "payment")
    return [guarded[FIRST], guarded[SECOND], await stage.money_nano(COMMUNITY)]


async def closed(stage: Stage, number: int) -> Seen:
    found = await deliveries(stage, SELLER, -number)
    return [await stage.energy_in(SELLER, number), [(one.delivered_wh, one.reading_revision) for one in found]]


async def allocated(stage: Stage, number: int) -> Seen:
    found = []
    for node in (COMMUNITY, SELLER):
        async with stage.client(node) as client:
            states = (await client.vault.states(status=1, contract="energy", page_size=1000)).states
        outputs = [OutputState.decode(state.output) for state in states]
        decoded = [
            EnergyAllocation.FromString(one.payload)
            for one in outputs
            if one.type_name == EnergyAllocation.DESCRIPTOR.name
        ]
        start = selection(period_of(number)).delivery_start_ns
        found.append([one.metered_wh for one in decoded if one.delivery_start_ns == start])
    return found


async def both_registrations(stage: Stage, number: int) -> Seen:
    return [await stage.registrations(node, number) for node in (COMMUNITY, SELLER)]


async def all_that_is_held(stage: Stage, number: int) -> Seen:
    return [[state.ref for state in await stage.states(home)] for home in (ELSEWHERE, SELLER)]


def unchanged(stage: Stage, number: int, before: Seen) -> Seen:
    return before


def always(seen: Seen) -> Callable[[Stage, int, Seen], Seen]:
    return lambda stage, number, before: seen


def changed(*by: int) -> Callable[[Stage, int, Seen], Seen]:
    """Numbers that have grown by so much."""
    return lambda stage, number, before: [was + more for was, more in zip(before, by, strict=True)]


def traded(stage: Stage, number: int, before: Seen) -> Seen:
    return [[], [QUANTITY_WH], before[2] + PAID_NANO, before[3] - PAID_NANO]


def registered(first: int, *until: int) -> Callable[[Stage, int, Seen], Seen]:
    """Registrations that follow each other, the first at the first notary, the next at the second."""

    def wanted(stage: Stage, number: int, before: Seen) -> Seen:
        cuts = [_start(number) + periods * QUARTER_NS for periods in (first, *until)]
        notaries = [stage.notary(name) for name in (FIRST, SECOND)]
        one = list(zip(notaries, cuts, cuts[1:], strict=False))
        return [one, one]

    return wanted


SCENARIOS = (
    # The more has happened, the more there is to recover.
    Scenario("ledger.recover", (ELSEWHERE, SELLER), a_trade_that_is_known, recover, all_that_is_held, unchanged),
    Scenario("energy.request", (SELLER,), nothing, request, two_homes_energy, always([[QUANTITY_WH], []])),
    Scenario("energy.transfer", (SELLER, BUYER), energy, transfer, two_homes_energy, always([[], [QUANTITY_WH]])),
    Scenario("energy.trade", (BUYER, SELLER), energy, trade, two_homes_all, traded),
    Scenario(
        "energy.trade",
        (ELSEWHERE, SELLER, SECOND),
        energy_and_money_elsewhere,
        trade,
        moved_trade,
        traded,
        variant="with money that moves first",
    ),
    Scenario("energy.split", (SELLER,), energy, split, two_homes_energy, always([[300, QUANTITY_WH - 300], []])),
    Scenario("energy.merge", (SELLER,), energy_in_parts, merge, two_homes_energy, always([[QUANTITY_WH], []])),
    Scenario("energy.retire", (SELLER,), energy, retire, two_homes_energy, always([[200], []])),
    Scenario("energy.expire", (SELLER,), energy, expire, two_homes_energy, always([[], []])),
    Scenario(
        "energy.deliver",
        (SELLER, ORACLE),
        energy_with_a_reading,
        deliver,
        closed,
        always([[], [(QUANTITY_WH - 100, 1)]]),
    ),
    Scenario(
        "energy.allocate",
        (COMMUNITY, SELLER, ORACLE),
        energy_with_a_reading,
        allocate,
        allocated,
        always([[QUANTITY_WH - 100], [QUANTITY_WH - 100]]),
    ),
    Scenario("payment.issue", (COMMUNITY, SELLER), nothing, issue, two_homes_money, changed(PAID_NANO, 0)),
    Scenario("payment.pay", (SELLER, BUYER), nothing, pay, two_homes_money, changed(-PAID_NANO, PAID_NANO)),
    Scenario(
        "payment.pay",
        (SECRETIVE, ORACLE),
        a_coin_nobody_sees,
        pay_unseen,
        unseen_money,
        changed(-PAID_NANO, PAID_NANO),
        notary=UNSEEN,
        variant="under a notary that sees no contents",
    ),
    Scenario("payment.redeem", (SELLER, COMMUNITY), nothing, redeem, two_homes_money, changed(-PAID_NANO, 0)),
    Scenario(
        "ledger.notary_change", (COMMUNITY, SECOND), a_coin_of_the_community, move, community_guarded, changed(-1, 1, 0)
    ),
    Scenario("meter.register", (COMMUNITY, SELLER), nothing, register, both_registrations, registered(0, 8)),
    Scenario("meter.extend", (COMMUNITY, SELLER), a_meter, extend, both_registrations, registered(0, 16)),
    Scenario("meter.reassign", (COMMUNITY, SELLER, SECOND), a_meter, reassign, both_registrations, registered(0, 4, 8)),
    Scenario("meter.end", (COMMUNITY, SELLER), a_meter, end, both_registrations, always([[], []])),
)
