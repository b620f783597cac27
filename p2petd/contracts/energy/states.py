"""The states of the energy contract: energy, energy that was delivered, and a reading that was shared out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import ClassVar, TypeAlias

from p2pet.ledger.v1 import energy_pb2

from p2petd.contracts.energy.rules import EnergyRule
from p2petd.contracts.rules import violated
from p2petd.errors import QuantityInexact
from p2petd.ledger.codec import CACHED_BYTES_MAX, CACHED_ENTRIES_MAX, encode_canonical, parse_strict
from p2petd.ledger.resolved import OutputState
from p2petd.units import HOUR_NS, MicroPerKwh, NanoMoney, TimeNs, WattHours, checked_sum

NAME = "energy"
VERSION = 1

Lot: TypeAlias = tuple[str, int, int, int, bytes, str, str, bytes]
"""What never changes: energy type, period start and end, asked price, issuer, meter, zone, lot id."""


@dataclass(frozen=True, slots=True)
class EnergyState:
    """An amount of energy of one lot, delivered in [delivery_start_ns, delivery_end_ns); keys are 32 bytes."""

    type_name: ClassVar[str] = "EnergyState"
    schema_version: ClassVar[int] = 1
    contract: ClassVar[str] = NAME

    energy_type: str
    quantity_wh: WattHours
    delivery_start_ns: TimeNs
    delivery_end_ns: TimeNs
    asked_price_micro_per_kwh: MicroPerKwh
    issuer: bytes
    owner: bytes
    meter: str
    zone: str
    lot_id: bytes

    @property
    def lot(self) -> Lot:
        """Everything but quantity and owner."""
        return (
            self.energy_type,
            self.delivery_start_ns,
            self.delivery_end_ns,
            self.asked_price_micro_per_kwh,
            self.issuer,
            self.meter,
            self.zone,
            self.lot_id,
        )

    @property
    def power_w(self) -> Fraction:
        """The mean power over the delivery period, in W, exactly; `energy_of_power` is the way back."""
        return Fraction(self.quantity_wh * HOUR_NS, self.delivery_end_ns - self.delivery_start_ns)

    def to_payload(self) -> bytes:
        """The canonical `ledger.v1.EnergyState`; raises QuantityOverflow."""
        return encode_canonical(
            energy_pb2.EnergyState,
            energy_type=self.energy_type,
            quantity_wh=self.quantity_wh,
            delivery_start_ns=self.delivery_start_ns,
            delivery_end_ns=self.delivery_end_ns,
            asked_price_micro_per_kwh=self.asked_price_micro_per_kwh,
            issuer=self.issuer,
            owner=self.owner,
            meter=self.meter,
            zone=self.zone,
            lot_id=self.lot_id,
        )

    @classmethod
    def from_payload(cls, payload: bytes) -> "EnergyState":
        """Raises MalformedTransaction unless canonical."""
        return _small_state(payload) if len(payload) <= CACHED_BYTES_MAX else _state(payload)


def _state(payload: bytes) -> EnergyState:
    message = parse_strict(energy_pb2.EnergyState, payload)
    return EnergyState(
        message.energy_type,
        WattHours(message.quantity_wh),
        TimeNs(message.delivery_start_ns),
        TimeNs(message.delivery_end_ns),
        MicroPerKwh(message.asked_price_micro_per_kwh),
        message.issuer,
        message.owner,
        message.meter,
        message.zone,
        message.lot_id,
    )


@lru_cache(maxsize=CACHED_ENTRIES_MAX)
def _small_state(payload: bytes) -> EnergyState:
    return _state(payload)


def energy_of_power(power_w: int | Fraction, start_ns: int, end_ns: int) -> WattHours:
    """The Wh of a mean power over [start_ns, end_ns), exactly: the way back from `EnergyState.power_w`.

    Raises QuantityInexact when that is no whole number of Wh or the period is empty, QuantityOverflow beyond 64 bits.
    """
    if start_ns >= end_ns:
        raise QuantityInexact(f"the period [{start_ns}, {end_ns}) ns is empty")
    exact = Fraction(power_w) * (end_ns - start_ns) / HOUR_NS
    if exact.denominator != 1:
        raise QuantityInexact(f"{power_w} W over {end_ns - start_ns} ns are {exact} Wh, which is no whole number")
    return WattHours(checked_sum((exact.numerator,), "energy over a period"))


@dataclass(frozen=True, slots=True)
class EnergyDelivery:
    """A closed energy state: contracted, delivered, and what the difference is worth. It is never traded.

    `imbalance_wh` is delivered − contracted; `imbalance_nano` is that × the price; below zero the issuer owes it.
    """

    type_name: ClassVar[str] = "EnergyDelivery"
    schema_version: ClassVar[int] = 1
    contract: ClassVar[str] = NAME

    energy_type: str
    contracted_wh: WattHours
    delivered_wh: WattHours
    imbalance_wh: WattHours
    imbalance_price_micro_per_kwh: MicroPerKwh
    imbalance_nano: NanoMoney
    currency: str
    delivery_start_ns: TimeNs
    delivery_end_ns: TimeNs
    issuer: bytes
    owner: bytes
    meter: str
    zone: str
    lot_id: bytes
    tariff: bytes
    reading_revision: int

    def to_payload(self) -> bytes:
        """The canonical `ledger.v1.EnergyDelivery`; raises QuantityOverflow."""
        return encode_canonical(
            energy_pb2.EnergyDelivery,
            energy_type=self.energy_type,
            contracted_wh=self.contracted_wh,
            delivered_wh=self.delivered_wh,
            imbalance_wh=self.imbalance_wh,
            imbalance_price_micro_per_kwh=self.imbalance_price_micro_per_kwh,
            imbalance_nano=self.imbalance_nano,
            currency=self.currency,
            delivery_start_ns=self.delivery_start_ns,
            delivery_end_ns=self.delivery_end_ns,
            issuer=self.issuer,
            owner=self.owner,
            meter=self.meter,
            zone=self.zone,
            lot_id=self.lot_id,
            tariff=self.tariff,
            reading_revision=self.reading_revision,
        )

    @classmethod
    def from_payload(cls, payload: bytes) -> "EnergyDelivery":
        """Raises MalformedTransaction unless canonical."""
        message = parse_strict(energy_pb2.EnergyDelivery, payload)
        return cls(
            message.energy_type,
            WattHours(message.contracted_wh),
            WattHours(message.delivered_wh),
            WattHours(message.imbalance_wh),
            MicroPerKwh(message.imbalance_price_micro_per_kwh),
            NanoMoney(message.imbalance_nano),
            message.currency,
            TimeNs(message.delivery_start_ns),
            TimeNs(message.delivery_end_ns),
            message.issuer,
            message.owner,
            message.meter,
            message.zone,
            message.lot_id,
            message.tariff,
            message.reading_revision,
        )


@dataclass(frozen=True, slots=True)
class AllocationShare:
    """How much of a reading was delivered for the state that these 36 bytes refer to."""

    state: bytes
    delivered_wh: WattHours


@dataclass(frozen=True, slots=True)
class EnergyAllocation:
    """A market's division of one reading among the states of a meter's period; deliveries refer to it."""

    type_name: ClassVar[str] = "EnergyAllocation"
    schema_version: ClassVar[int] = 1
    contract: ClassVar[str] = NAME

    meter: str
    delivery_start_ns: TimeNs
    delivery_end_ns: TimeNs
    metered_wh: WattHours
    reading_revision: int
    market: bytes
    shares: tuple[AllocationShare, ...]

    def to_payload(self) -> bytes:
        """The canonical `ledger.v1.EnergyAllocation`; raises QuantityOverflow."""
        return encode_canonical(
            energy_pb2.EnergyAllocation,
            meter=self.meter,
            delivery_start_ns=self.delivery_start_ns,
            delivery_end_ns=self.delivery_end_ns,
            metered_wh=self.metered_wh,
            reading_revision=self.reading_revision,
            market=self.market,
            shares=[{"state": share.state, "delivered_wh": share.delivered_wh} for share in self.shares],
        )

    @classmethod
    def from_payload(cls, payload: bytes) -> "EnergyAllocation":
        """Raises MalformedTransaction unless canonical."""
        message = parse_strict(energy_pb2.EnergyAllocation, payload)
        return cls(
            message.meter,
            TimeNs(message.delivery_start_ns),
            TimeNs(message.delivery_end_ns),
            WattHours(message.metered_wh),
            message.reading_revision,
            message.market,
            tuple(AllocationShare(share.state, WattHours(share.delivered_wh)) for share in message.shares),
        )


EnergyObject: TypeAlias = EnergyState | EnergyDelivery | EnergyAllocation
_OTHERS: Mapping[str, Callable[[bytes], EnergyObject]] = {
    EnergyDelivery.type_name: EnergyDelivery.from_payload,
    EnergyAllocation.type_name: EnergyAllocation.from_payload,
}


def decode_object(output: OutputState) -> EnergyObject:
    """Any state of this contract, its type checked, and the quantity of an EnergyState."""
    if output.schema_version == 1:
        if output.type_name == EnergyState.type_name:
            state = EnergyState.from_payload(output.payload)
            if state.quantity_wh <= 0:
                violated(EnergyRule.QUANTITY_NOT_POSITIVE, f"{state.quantity_wh} Wh")
            return state
        other = _OTHERS.get(output.type_name)
        if other is not None:
            return other(output.payload)
    violated(EnergyRule.STATE_TYPE_UNKNOWN, f"{output.type_name!r} with schema version {output.schema_version}")


def decode_state(output: OutputState) -> EnergyState:
    """The EnergyState of an output of this contract, its type and quantity checked."""
    state = decode_object(output)
    if not isinstance(state, EnergyState):
        violated(EnergyRule.STATE_CLOSED, f"{type(state).__name__} where an EnergyState is expected")
    return state
