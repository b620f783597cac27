"""The energy state, the commands that move it, and the identifiers of docs/protocol.md, section 9."""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from hashlib import sha256
from typing import ClassVar, TypeAlias

from p2pet.ledger.v1 import energy_pb2

from p2petd.contracts.contract import PlainCommand
from p2petd.contracts.energy.rules import EnergyRule
from p2petd.contracts.rules import violated
from p2petd.ledger.codec import CACHED_BYTES_MAX, CACHED_ENTRIES_MAX, encode_canonical, parse_strict, u16_prefixed
from p2petd.ledger.resolved import Command, OutputState
from p2petd.units import HOUR_NS, MicroPerKwh, NanoMoney, TimeNs, WattHours

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
        """The mean power over the delivery period, in W, exactly."""
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


@dataclass(frozen=True)
class EnergyIssue(PlainCommand):
    """Create one lot for one meter and delivery period."""

    type_name: ClassVar[str] = "EnergyIssue"
    contract: ClassVar[str] = NAME


@dataclass(frozen=True)
class EnergySplit(PlainCommand):
    """Cut one state into several of the same owner and lot."""

    type_name: ClassVar[str] = "EnergySplit"
    contract: ClassVar[str] = NAME


@dataclass(frozen=True)
class EnergyMerge(PlainCommand):
    """Join states of one owner and one lot."""

    type_name: ClassVar[str] = "EnergyMerge"
    contract: ClassVar[str] = NAME


@dataclass(frozen=True, slots=True)
class EnergyTransfer:
    """Move energy from one owner to another without payment."""

    type_name: ClassVar[str] = "EnergyTransfer"
    schema_version: ClassVar[int] = 1
    contract: ClassVar[str] = NAME

    old_owner: bytes
    new_owner: bytes
    quantity_wh: WattHours

    def to_payload(self) -> bytes:
        """The canonical `ledger.v1.EnergyTransfer`; raises QuantityOverflow."""
        # `from` is a word of Python.
        fields: dict[str, object] = {"from": self.old_owner, "to": self.new_owner, "quantity_wh": self.quantity_wh}
        return encode_canonical(energy_pb2.EnergyTransfer, **fields)


@dataclass(frozen=True, slots=True)
class EnergyTrade:
    """Delivery versus payment. At a negative price the amount is negative too, and the seller pays."""

    type_name: ClassVar[str] = "EnergyTrade"
    schema_version: ClassVar[int] = 1
    contract: ClassVar[str] = NAME

    seller: bytes
    buyer: bytes
    quantity_wh: WattHours
    price_micro_per_kwh: MicroPerKwh
    amount_nano: NanoMoney
    currency: str
    currency_issuer: bytes

    def to_payload(self) -> bytes:
        """The canonical `ledger.v1.EnergyTrade`; raises QuantityOverflow."""
        return encode_canonical(
            energy_pb2.EnergyTrade,
            seller=self.seller,
            buyer=self.buyer,
            quantity_wh=self.quantity_wh,
            price_micro_per_kwh=self.price_micro_per_kwh,
            amount_nano=self.amount_nano,
            currency=self.currency,
            currency_issuer=self.currency_issuer,
        )


EnergyCommand: TypeAlias = EnergyIssue | EnergyTransfer | EnergyTrade | EnergySplit | EnergyMerge
_PLAIN: Mapping[str, EnergyCommand] = {c.type_name: c for c in (EnergyIssue(), EnergySplit(), EnergyMerge())}


def decode_state(output: OutputState) -> EnergyState:
    """The energy state of an output of this contract, its type and quantity checked."""
    if output.type_name != EnergyState.type_name or output.schema_version != EnergyState.schema_version:
        violated(EnergyRule.STATE_TYPE_UNKNOWN, f"{output.type_name!r} with schema version {output.schema_version}")
    state = EnergyState.from_payload(output.payload)
    if state.quantity_wh <= 0:
        violated(EnergyRule.QUANTITY_NOT_POSITIVE, f"{state.quantity_wh} Wh")
    return state


def decode_command(command: Command) -> EnergyCommand:
    """The command, its type checked; raises MalformedTransaction for a payload that is not canonical."""
    if command.schema_version == 1:
        plain = _PLAIN.get(command.type_name)
        if plain is not None and not command.payload:
            return plain
        if command.type_name == EnergyTransfer.type_name:
            transfer = parse_strict(energy_pb2.EnergyTransfer, command.payload)
            return EnergyTransfer(getattr(transfer, "from"), transfer.to, WattHours(transfer.quantity_wh))
        if command.type_name == EnergyTrade.type_name:
            trade = parse_strict(energy_pb2.EnergyTrade, command.payload)
            return EnergyTrade(
                trade.seller,
                trade.buyer,
                WattHours(trade.quantity_wh),
                MicroPerKwh(trade.price_micro_per_kwh),
                NanoMoney(trade.amount_nano),
                trade.currency,
                trade.currency_issuer,
            )
    violated(
        EnergyRule.COMMAND_UNKNOWN,
        f"{command.type_name!r} with schema version {command.schema_version} and {len(command.payload)} bytes",
    )


def lot_id(issuer: bytes, meter: str, delivery_start_ns: int, delivery_end_ns: int) -> bytes:
    """32 bytes: SHA-256("lot" ‖ issuer ‖ u16 length ‖ meter ‖ i64 start ‖ i64 end)."""
    period = struct.pack(">qq", delivery_start_ns, delivery_end_ns)
    return sha256(b"lot" + issuer + u16_prefixed(meter) + period).digest()


def issue_claims(meter: str, delivery_start_ns: int, delivery_end_ns: int, unit_ns: int) -> Iterator[bytes]:
    """One claim of 32 bytes for each market time unit of the period: SHA-256("issue" ‖ u16 length ‖ meter ‖ i64 start).

    A second issue for the same meter and unit makes the same claim, and a notary takes each claim once.
    """
    prefix = b"issue" + u16_prefixed(meter)
    for start_ns in range(delivery_start_ns, delivery_end_ns, unit_ns):
        yield sha256(prefix + struct.pack(">q", start_ns)).digest()
