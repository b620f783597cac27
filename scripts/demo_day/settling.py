"""The day after: readings to the oracle, the market's allocations, and every state of energy closed by its owner."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from p2pet.client import NodeClient
from p2pet.flows.v1.arguments_pb2 import EnergyAllocateArguments, EnergyDeliverArguments
from p2pet.ledger.v1.energy_pb2 import AllocationShare, EnergyDelivery, EnergyState
from p2pet.ledger.v1.oracle_pb2 import TariffRow, TariffTable
from p2pet.ledger.v1.transaction_pb2 import OutputState
from p2pet.oracle.v1.oracle_pb2 import UnitReading
from p2pet.vault.v1.vault_pb2 import STATE_STATUS_UNCONSUMED, VaultState

from demo_day.network import home_name
from demo_day.plan import FEED_IN_MICRO_PER_KWH, HOUR_NS, DayPlan, PlannedHour, metered_wh
from demo_day.trading import FlowFailed, meter_of, run_flow, together, wait_recorded

UNIT_NS = HOUR_NS // 4
PAGE_SIZE = 1000
# A surplus is worth what the grid pays; a shortfall costs what it sells for.
SHORT_MICRO_PER_KWH = 300_000
PRICE_MAX_MICRO_PER_KWH = 1_000_000

Lot: TypeAlias = tuple[int, PlannedHour]
"""The energy that one home issued for one hour."""


@dataclass(frozen=True)
class Part:
    """A state of a lot, and the home that owns it."""

    owner: int
    ref: bytes
    quantity_wh: int


@dataclass(frozen=True)
class Closed:
    """What a home's energy of the day came to, by its own API."""

    states: int = 0
    contracted_wh: int = 0
    delivered_wh: int = 0
    imbalance_nano: int = 0
    left_wh: int = 0


@dataclass
class Settler:
    """Drives the oracle, the community as the market, and the homes."""

    homes: Mapping[int, NodeClient]
    community: NodeClient
    oracle: NodeClient
    identities: Mapping[str, bytes]
    currency: str
    deliveries: int = field(default=0)

    async def publish_tariff(self, plan: DayPlan) -> None:
        """The tariff of the day, an attachment that the oracle vouches for. Raises ApiError."""
        row = TariffRow(
            price_max_micro_per_kwh=PRICE_MAX_MICRO_PER_KWH,
            long_price_micro_per_kwh=FEED_IN_MICRO_PER_KWH,
            short_price_micro_per_kwh=SHORT_MICRO_PER_KWH,
            energy_type="solar",
        )
        table = TariffTable(
            name="imbalance",
            currency=self.currency,
            valid_from_ns=plan.hours[0].delivery_start_ns,
            valid_until_ns=plan.hours[-1].delivery_end_ns,
            rows=[row],
        )
        info = await self.oracle.attachments.upload(
            table.SerializeToString(deterministic=True), name="imbalance tariff"
        )
        await self.oracle.oracle.publish_tariff(info.hash)

    async def push_readings(self, plan: DayPlan) -> int:
        """The quarter-hour readings of every hour with issued energy; how many. Raises FlowFailed, ApiError."""
        readings = [
            UnitReading(meter=meter_of(home), start_ns=hour.delivery_start_ns + quarter * UNIT_NS, energy_wh=energy_wh)
            for hour in plan.hours
            for home in hour.issued_wh
            for quarter, energy_wh in enumerate(in_quarters(metered_wh(home, hour)))
        ]
        answer = await self.oracle.oracle.push_readings(readings)
        if answer.refused:
            raise FlowFailed(f"the oracle refuses a reading: {answer.refused[0].message}")
        return len(readings)

    async def close_day(self, plan: DayPlan) -> None:
        """Where a lot has several parts the market allocates its reading; then each owner closes what it holds."""
        await together(self._close(lot, parts) for lot, parts in await self._parts(plan))

    async def closed(self) -> dict[int, Closed]:
        """Asks each home what it holds now. Raises ApiError."""
        return {home: _sum_up(await _states(client)) for home, client in self.homes.items()}

    async def _parts(self, plan: DayPlan) -> list[tuple[Lot, list[Part]]]:
        lots = {
            (meter_of(home), hour.delivery_start_ns): (home, hour) for hour in plan.hours for home in hour.issued_wh
        }
        parts: dict[tuple[str, int], list[Part]] = {}
        for owner, client in self.homes.items():
            for state in await _states(client):
                output = OutputState.FromString(state.output)
                if output.type_name == "EnergyState":
                    held = EnergyState.FromString(output.payload)
                    part = Part(owner, state.ref, held.quantity_wh)
                    parts.setdefault((held.meter, held.delivery_start_ns), []).append(part)
        return [(lots[key], found) for key, found in parts.items()]

    async def _close(self, lot: Lot, parts: list[Part]) -> None:
        home, hour = lot
        owners = sorted({part.owner for part in parts})
        what = f"the energy of {home_name(home)} from {hour.start:02}:00"
        if len(parts) > 1:
            arguments = EnergyAllocateArguments(
                meter=meter_of(home),
                delivery_start_ns=hour.delivery_start_ns,
                delivery_end_ns=hour.delivery_end_ns,
                shares=shares(metered_wh(home, hour), parts),
                tell=[self.identities[home_name(owner)] for owner in owners],
            )
            allocated = await run_flow(self.community, "energy.allocate", arguments, f"allocating {what}")
            for owner in owners:
                await wait_recorded(self.homes[owner], home_name(owner), allocated)
        delivery = EnergyDeliverArguments(
            meter=meter_of(home), delivery_start_ns=hour.delivery_start_ns, delivery_end_ns=hour.delivery_end_ns
        )
        await together(self._deliver(owner, delivery, what) for owner in owners)

    async def _deliver(self, owner: int, delivery: EnergyDeliverArguments, what: str) -> None:
        await run_flow(self.homes[owner], "energy.deliver", delivery, f"{home_name(owner)} closes {what}")
        self.deliveries += 1


def in_quarters(energy_wh: int) -> list[int]:
    """The Wh of an hour as four quarters that sum to it."""
    quarter = energy_wh // 4
    return [quarter, quarter, quarter, energy_wh - 3 * quarter]


def shares(metered: int, parts: list[Part]) -> list[AllocationShare]:
    """The reading divided in proportion to what each part holds; what rounding leaves goes to the last."""
    promised = sum(part.quantity_wh for part in parts)
    given = [metered * part.quantity_wh // promised for part in parts]
    given[-1] += metered - sum(given)
    return [AllocationShare(state=part.ref, delivered_wh=wh) for part, wh in zip(parts, given, strict=True)]


async def _states(client: NodeClient) -> list[VaultState]:
    """All unconsumed states of the energy contract that the node itself owns."""
    me = (await client.info()).identity
    states: list[VaultState] = []
    token = ""
    while True:
        page = await client.vault.states(
            status=STATE_STATUS_UNCONSUMED, contract="energy", owner=me, page_size=PAGE_SIZE, page_token=token
        )
        states.extend(page.states)
        token = page.next_page_token
        if not token:
            return states


def _sum_up(states: list[VaultState]) -> Closed:
    outputs = [OutputState.FromString(state.output) for state in states]
    closed = [EnergyDelivery.FromString(one.payload) for one in outputs if one.type_name == "EnergyDelivery"]
    left = [EnergyState.FromString(one.payload) for one in outputs if one.type_name == "EnergyState"]
    return Closed(
        states=len(closed),
        contracted_wh=sum(one.contracted_wh for one in closed),
        delivered_wh=sum(one.delivered_wh for one in closed),
        imbalance_nano=sum(one.imbalance_nano for one in closed),
        left_wh=sum(one.quantity_wh for one in left),
    )
