"""A community whose delivery periods are over: an oracle to tell readings, a tariff, and closing energy."""

import asyncio
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from p2pet.flows.v1 import arguments_pb2 as args
from p2pet.flows.v1.flows_pb2 import FlowOutcome
from p2pet.ledger.v1 import energy_pb2
from p2pet.oracle.v1.oracle_pb2 import PushReadingsResponse, UnitReading
from p2pet.vault.v1.vault_pb2 import VaultState

from p2petd.contracts.tariff import TariffRow, TariffTable
from p2petd.ledger.resolved import OutputState
from p2petd.network.bootstrap import MadeNetwork
from p2petd.units import MicroPerKwh, TimeNs
from tests.support.community import CURRENCY, FIRST_PERIOD_NS, QUARTER_NS, Community, make_community

M = TypeVar("M", energy_pb2.EnergyState, energy_pb2.EnergyDelivery, energy_pb2.EnergyAllocation)
YEARS_NS = 20 * 365 * 24 * 3600 * 10**9
# Some days ago, as a number of periods after the first one; tests count from here.
PAST = (time.time_ns() - 3 * 24 * 3600 * 10**9 - FIRST_PERIOD_NS) // QUARTER_NS
LONG_PRICE, SHORT_PRICE = 80_000, 300_000


def make_delivering_community(directory: Path, homes: int = 3, **plan: Any) -> MadeNetwork:
    """Energy of past periods can still be issued and traded, and one oracle vouches for everything."""
    settings = {"oracles": 1, "trade_deadline_ns": YEARS_NS} | plan
    return make_community(directory, homes, **settings)


def tariff_table(name: str = "tariff") -> TariffTable:
    """For solar energy of the whole time that tests know."""
    row = TariffRow("solar", "", MicroPerKwh(0), MicroPerKwh(10**6), MicroPerKwh(LONG_PRICE), MicroPerKwh(SHORT_PRICE))
    return TariffTable(name, CURRENCY, TimeNs(0), TimeNs(2 * FIRST_PERIOD_NS), (row,))


def unit_reading(home: str, energy_wh: int, period: int, revision: int = 0) -> UnitReading:
    start = FIRST_PERIOD_NS + (PAST + period) * QUARTER_NS
    return UnitReading(meter=f"meter-{home}", start_ns=start, energy_wh=energy_wh, revision=revision)


def delivery(home: str, period: int) -> args.EnergyDeliverArguments:
    """Close the energy of the home's meter in that period."""
    start = FIRST_PERIOD_NS + (PAST + period) * QUARTER_NS
    return args.EnergyDeliverArguments(
        meter=f"meter-{home}", delivery_start_ns=start, delivery_end_ns=start + QUARTER_NS
    )


async def publish_tariff(community: Community) -> bytes:
    """The oracle's tariff; its hash. No other node has the table."""
    content = tariff_table().encode()
    async with community.client("oracle") as oracle:
        await oracle.attachments.upload(content, name="tariff")
        await oracle.oracle.publish_tariff(sha256(content).digest())
    return sha256(content).digest()


async def push(community: Community, *readings: UnitReading, to: str = "oracle") -> PushReadingsResponse:
    async with community.client(to) as oracle:
        return await oracle.oracle.push_readings(readings)


async def deliver(community: Community, owner: str, home: str, period: int) -> FlowOutcome:
    return await community.run(owner, "energy.deliver", delivery(home, period))


async def allocate(
    community: Community,
    home: str,
    period: int,
    shares: Sequence[tuple[bytes, int]],
    tell: Sequence[str],
    market: str = "community",
) -> FlowOutcome:
    asked = delivery(home, period)
    arguments = args.EnergyAllocateArguments(
        meter=asked.meter,
        delivery_start_ns=asked.delivery_start_ns,
        delivery_end_ns=asked.delivery_end_ns,
        shares=[energy_pb2.AllocationShare(state=state, delivered_wh=energy_wh) for state, energy_wh in shares],
        tell=[community.identity[name] for name in tell],
    )
    return await community.run(market, "energy.allocate", arguments)


async def energy_ref(community: Community, node: str, period: int) -> bytes:
    """The reference of the one unconsumed EnergyState of a node in a period."""
    start = FIRST_PERIOD_NS + (PAST + period) * QUARTER_NS
    (found,) = [
        state.ref
        for state in await _states(community, node)
        if (lot := _decoded(state, energy_pb2.EnergyState)) and lot.delivery_start_ns == start
    ]
    return found


async def deliveries(community: Community, node: str, period: int) -> list[energy_pb2.EnergyDelivery]:
    """The closed states of a period that a node has recorded."""
    start = FIRST_PERIOD_NS + (PAST + period) * QUARTER_NS
    found = [_decoded(state, energy_pb2.EnergyDelivery) for state in await _states(community, node)]
    return [one for one in found if one is not None and one.delivery_start_ns == start]


async def allocation_known(community: Community, node: str, period: int) -> None:
    """Returns when a node has recorded the allocation of a period."""
    start = FIRST_PERIOD_NS + (PAST + period) * QUARTER_NS
    while start not in [
        one.delivery_start_ns
        for state in await _states(community, node)
        if (one := _decoded(state, energy_pb2.EnergyAllocation)) is not None
    ]:
        await asyncio.sleep(0.01)


async def _states(community: Community, node: str) -> list[VaultState]:
    async with community.client(node) as client:
        return list((await client.vault.states(status=1, contract="energy", page_size=1000)).states)


def _decoded(state: VaultState, kind: type[M]) -> M | None:
    output = OutputState.decode(state.output)
    return kind.FromString(output.payload) if output.type_name == kind.DESCRIPTOR.name else None
