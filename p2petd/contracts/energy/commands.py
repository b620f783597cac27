"""The commands of the energy contract: what a transaction does with energy."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, TypeAlias

from p2pet.ledger.v1 import energy_pb2

from p2petd.contracts.contract import PlainCommand
from p2petd.contracts.energy.rules import EnergyRule
from p2petd.contracts.energy.states import NAME
from p2petd.contracts.rules import violated
from p2petd.ledger.codec import CACHED_BYTES_MAX, CACHED_ENTRIES_MAX, encode_canonical, parse_strict
from p2petd.ledger.resolved import Command
from p2petd.units import MicroPerKwh, NanoMoney, TimeNs, WattHours


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


@dataclass(frozen=True)
class EnergyAllocate(PlainCommand):
    """Divide one reading among the states of a meter's period."""

    type_name: ClassVar[str] = "EnergyAllocate"
    contract: ClassVar[str] = NAME


@dataclass(frozen=True)
class EnergyRetire(PlainCommand):
    """Destroy energy that its owner used or gives up."""

    type_name: ClassVar[str] = "EnergyRetire"
    contract: ClassVar[str] = NAME


@dataclass(frozen=True)
class EnergyExpire(PlainCommand):
    """Destroy energy whose reading never came."""

    type_name: ClassVar[str] = "EnergyExpire"
    contract: ClassVar[str] = NAME


@dataclass(frozen=True, slots=True)
class EnergyDeliver:
    """Close energy states against a reading; `tariff` is the SHA-256 of the attachment that prices the imbalance."""

    type_name: ClassVar[str] = "EnergyDeliver"
    schema_version: ClassVar[int] = 1
    contract: ClassVar[str] = NAME

    tariff: bytes

    def to_payload(self) -> bytes:
        """The canonical `ledger.v1.EnergyDeliver`."""
        return encode_canonical(energy_pb2.EnergyDeliver, tariff=self.tariff)


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
class OrderTerms:
    """What a party was ready to trade: a bid's highest price or an offer's lowest; an empty zone is any zone."""

    order_id: bytes
    quantity_wh: WattHours
    limit_micro_per_kwh: MicroPerKwh
    energy_type: str
    delivery_start_ns: TimeNs
    delivery_end_ns: TimeNs
    zone: str = ""

    def to_fields(self) -> Mapping[str, object]:
        """The fields of `ledger.v1.OrderTerms`."""
        return {
            "order_id": self.order_id,
            "quantity_wh": self.quantity_wh,
            "limit_micro_per_kwh": self.limit_micro_per_kwh,
            "energy_type": self.energy_type,
            "delivery_start_ns": self.delivery_start_ns,
            "delivery_end_ns": self.delivery_end_ns,
            "zone": self.zone,
        }

    @classmethod
    def from_message(cls, message: energy_pb2.OrderTerms) -> "OrderTerms":
        return cls(
            message.order_id,
            WattHours(message.quantity_wh),
            MicroPerKwh(message.limit_micro_per_kwh),
            message.energy_type,
            TimeNs(message.delivery_start_ns),
            TimeNs(message.delivery_end_ns),
            message.zone,
        )


@dataclass(frozen=True, slots=True)
class EnergyTrade:
    """Delivery versus payment. At a negative price the amount is negative too, and the seller pays.

    `tariff` is the SHA-256 of the attachment whose bounds the price keeps, `bid` and `offer` the orders that the trade
    fills, `observers` who is told besides seller and buyer; empty or None where none is cited.
    """

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
    tariff: bytes = b""
    bid: OrderTerms | None = None
    offer: OrderTerms | None = None
    observers: tuple[bytes, ...] = ()

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
            tariff=self.tariff,
            bid=self.bid and self.bid.to_fields(),
            offer=self.offer and self.offer.to_fields(),
            observers=self.observers,
        )


EnergyCommand: TypeAlias = (
    EnergyIssue
    | EnergyTransfer
    | EnergyTrade
    | EnergySplit
    | EnergyMerge
    | EnergyDeliver
    | EnergyAllocate
    | EnergyRetire
    | EnergyExpire
)
_PLAIN: Mapping[str, EnergyCommand] = {
    command.type_name: command
    for command in (EnergyIssue(), EnergySplit(), EnergyMerge(), EnergyAllocate(), EnergyRetire(), EnergyExpire())
}


def decode_command(command: Command) -> EnergyCommand:
    """The command, its type checked; raises MalformedTransaction for a payload that is not canonical."""
    if command.schema_version == 1:
        plain = _PLAIN.get(command.type_name)
        if plain is not None and not command.payload:
            return plain
        decoders = _DECODERS.get(command.type_name)
        if decoders is not None:
            small, large = decoders
            return small(command.payload) if len(command.payload) <= CACHED_BYTES_MAX else large(command.payload)
    violated(
        EnergyRule.COMMAND_UNKNOWN,
        f"{command.type_name!r} with schema version {command.schema_version} and {len(command.payload)} bytes",
    )


def _trade(payload: bytes) -> EnergyTrade:
    message = parse_strict(energy_pb2.EnergyTrade, payload)
    return EnergyTrade(
        message.seller,
        message.buyer,
        WattHours(message.quantity_wh),
        MicroPerKwh(message.price_micro_per_kwh),
        NanoMoney(message.amount_nano),
        message.currency,
        message.currency_issuer,
        message.tariff,
        OrderTerms.from_message(message.bid) if message.HasField("bid") else None,
        OrderTerms.from_message(message.offer) if message.HasField("offer") else None,
        tuple(message.observers),
    )


def _transfer(payload: bytes) -> EnergyTransfer:
    message = parse_strict(energy_pb2.EnergyTransfer, payload)
    return EnergyTransfer(getattr(message, "from"), message.to, WattHours(message.quantity_wh))


def _deliver(payload: bytes) -> EnergyDeliver:
    return EnergyDeliver(parse_strict(energy_pb2.EnergyDeliver, payload).tariff)


Decoder: TypeAlias = Callable[[bytes], EnergyCommand]


def _remembering(decode: Decoder) -> tuple[Decoder, Decoder]:
    """The decoder that remembers, for small payloads, and the one that does not."""
    return lru_cache(maxsize=CACHED_ENTRIES_MAX)(decode), decode


_DECODERS: Mapping[str, tuple[Decoder, Decoder]] = {
    EnergyTrade.type_name: _remembering(_trade),
    EnergyTransfer.type_name: _remembering(_transfer),
    EnergyDeliver.type_name: _remembering(_deliver),
}
