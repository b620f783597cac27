"""Links between real daemons fail in every way: flows wait or end with a typed error, heal, and nothing is lost."""

import asyncio
import os
import time

import pytest

from tests.namespaces.conftest import ENERGY_WH, HOMES, MONEY_NANO, Spaced
from tests.support.invariants import check_invariants
from tests.support.relay import CUT, Fault
from tests.support.spaced import Dealings, nothing_lost

# The long form lets a partition last until every layer below has given its connections up.
SOAK = bool(os.environ.get("P2PET_SOAK"))
FAULT_SECONDS = (2.0, 5.0, 8.0, 11.0, 35.0, 90.0) if SOAK else (13.0,)
BAD = Fault(delay_seconds=0.05, jitter_seconds=0.02, loss=0.05, duplication=0.05, reordering=0.1)
ROUNDS = 40 if SOAK else 4
EACH = 3
HOMES_ALL = [f"home-{number}" for number in range(1, HOMES + 1)]

pytestmark = pytest.mark.timeout(600 if SOAK else 120)


def test_r08_partitions_heal_and_every_flow_ends(spaced: Spaced) -> None:
    """All kinds at once, each between homes of its own. The short form has one length of the partition, longer than a
    silent connection is kept; the long form six, from seconds to a minute and a half."""

    async def scenario() -> None:
        for seconds in FAULT_SECONDS:
            await _partition(spaced, seconds)

    asyncio.run(scenario())


async def _partition(spaced: Spaced, seconds: float) -> None:
    community, relay = spaced.community, spaced.relay
    whole, cut_off = Dealings(community), Dealings(community)
    # Every connection stands before.
    for payer, payee in zip(HOMES_ALL[::2], HOMES_ALL[1::2], strict=True):
        await whole.pay(payer, payee, 1)
        await whole.buy(payee, payer, 1)
    await whole.all_ended()
    relay.between(CUT, "home-1", "notary")
    relay.between(CUT, "home-3", "home-4")
    relay.set(CUT, ("home-5", "home-6"))
    relay.between(Fault(flaps_seconds=1.0), "home-7", "notary")
    relay.between(Fault(flaps_seconds=0.7), "home-7", "home-8")
    for payer, payee in zip(HOMES_ALL[::2], HOMES_ALL[1::2], strict=True):
        await cut_off.pay(payer, payee, EACH)
        await cut_off.buy(payee, payer, EACH)
    # Those that no fault is between of are served meanwhile.
    began = time.monotonic()
    await whole.pay("home-2", "home-8", EACH)
    await whole.buy("home-4", "home-6", EACH)
    _, ways = await whole.all_ended()
    assert set(ways) == {"completed"}
    served = time.monotonic() - began
    await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
    # Without the notary nothing ends; without the other party no trade does, but for a time-out.
    assert await cut_off.ended("home-1") == []
    for buyer in ("home-4", "home-6"):
        assert {outcome.error_code for outcome in await cut_off.ended(buyer)} <= {"flow.timeout"}
    relay.heal()
    healed = time.monotonic()
    _, ways = await cut_off.all_ended()
    flows = time.monotonic() - healed
    await nothing_lost(community, HOMES_ALL, HOMES * MONEY_NANO, HOMES * ENERGY_WH)
    told = time.monotonic() - healed
    await check_invariants(community)
    print(
        f"partition of {seconds} s: others were served in {served:.2f} s; after healing every flow had ended in "
        f"{flows:.2f} s, everything was told in {told:.2f} s: {dict(ways)}"
    )


def test_r09_trades_and_payments_over_bad_links_lose_nothing(spaced: Spaced) -> None:
    """The short form is a few rounds; the long form more."""

    async def scenario() -> None:
        community, relay = spaced.community, spaced.relay
        names = ("notary", "community", *HOMES_ALL)
        relay.set(BAD, *((one, other) for one in names for other in names if one != other))
        before = relay.packets.copy()
        began = time.monotonic()
        completed = 0
        for number in range(ROUNDS):
            dealings = Dealings(community)
            # Another pairing in each round, so that new connections are made over bad links too.
            partners = HOMES_ALL[number % HOMES :] + HOMES_ALL[: number % HOMES]
            for payer, payee in zip(partners[::2], partners[1::2], strict=True):
                await dealings.pay(payer, payee, EACH)
                await dealings.buy(payee, payer, EACH)
            _, ways = await dealings.all_ended()
            completed += ways["completed"]
        seconds = time.monotonic() - began
        relay.heal()
        assert completed > 0
        settled = await nothing_lost(community, HOMES_ALL, HOMES * MONEY_NANO, HOMES * ENERGY_WH)
        await check_invariants(community)
        print(
            f"{completed} flows in {seconds:.1f} s: {completed / seconds:.1f}/s; settled {settled:.2f} s after; "
            f"{dict(relay.packets - before)}"
        )

    asyncio.run(scenario())
