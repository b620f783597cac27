"""The registration of a meter, and the commands that change it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, TypeAlias

from p2pet.ledger.v1 import meter_pb2

from p2petd.contracts.contract import PlainCommand
from p2petd.contracts.meter.rules import MeterRule
from p2petd.contracts.rules import violated
from p2petd.ledger.codec import CACHED_BYTES_MAX, CACHED_ENTRIES_MAX, encode_canonical, parse_strict
from p2petd.ledger.resolved import Command, OutputState
from p2petd.units import HOUR_NS, TimeNs

NAME = "meter"
VERSION = 1


@dataclass(frozen=True, slots=True)
class MeterRegistration:
    """Energy of `meter` delivered in [valid_from_ns, valid_until_ns) is issued by `producer` at `issue_notary`.

    `capacity_w` is the highest mean power over a market time unit, `energy_types` what it may be, ascending. It is
    `followed` when another registration of the meter begins where this one ends. Registrations of one meter never
    overlap, so each unit of it has one notary.
    """

    type_name: ClassVar[str] = "MeterRegistration"
    schema_version: ClassVar[int] = 1
    contract: ClassVar[str] = NAME

    meter: str
    producer: bytes
    zone: str
    capacity_w: int
    energy_types: tuple[str, ...]
    issue_notary: bytes
    valid_from_ns: TimeNs
    valid_until_ns: TimeNs
    registrar: bytes
    followed: bool = False

    def covers(self, start_ns: int, end_ns: int) -> bool:
        """Whether energy of the whole of [start_ns, end_ns) may be issued under this registration."""
        return self.valid_from_ns <= start_ns and end_ns <= self.valid_until_ns

    def capacity_wh(self, start_ns: int, end_ns: int) -> int:
        """The most whole Wh that the meter can feed in during [start_ns, end_ns); no 64-bit number bounds it."""
        return self.capacity_w * (end_ns - start_ns) // HOUR_NS

    def to_payload(self) -> bytes:
        """The canonical `ledger.v1.MeterRegistration`; raises QuantityOverflow."""
        return encode_canonical(
            meter_pb2.MeterRegistration,
            meter=self.meter,
            producer=self.producer,
            zone=self.zone,
            capacity_w=self.capacity_w,
            energy_types=self.energy_types,
            issue_notary=self.issue_notary,
            valid_from_ns=self.valid_from_ns,
            valid_until_ns=self.valid_until_ns,
            registrar=self.registrar,
            followed=self.followed,
        )

    @classmethod
    def from_payload(cls, payload: bytes) -> "MeterRegistration":
        """Raises MalformedTransaction unless canonical."""
        return _small_registration(payload) if len(payload) <= CACHED_BYTES_MAX else _registration(payload)


def _registration(payload: bytes) -> MeterRegistration:
    message = parse_strict(meter_pb2.MeterRegistration, payload)
    return MeterRegistration(
        message.meter,
        message.producer,
        message.zone,
        message.capacity_w,
        tuple(message.energy_types),
        message.issue_notary,
        TimeNs(message.valid_from_ns),
        TimeNs(message.valid_until_ns),
        message.registrar,
        message.followed,
    )


@lru_cache(maxsize=CACHED_ENTRIES_MAX)
def _small_registration(payload: bytes) -> MeterRegistration:
    return _registration(payload)


@dataclass(frozen=True)
class MeterRegister(PlainCommand):
    """Register a meter, once."""

    type_name: ClassVar[str] = "MeterRegister"
    contract: ClassVar[str] = NAME


@dataclass(frozen=True)
class MeterExtend(PlainCommand):
    """Move the end of a registration to a later time."""

    type_name: ClassVar[str] = "MeterExtend"
    contract: ClassVar[str] = NAME


@dataclass(frozen=True)
class MeterReassign(PlainCommand):
    """Cut a registration in two; the later one may name another notary."""

    type_name: ClassVar[str] = "MeterReassign"
    contract: ClassVar[str] = NAME


@dataclass(frozen=True)
class MeterEnd(PlainCommand):
    """End a registration."""

    type_name: ClassVar[str] = "MeterEnd"
    contract: ClassVar[str] = NAME


MeterCommand: TypeAlias = MeterRegister | MeterExtend | MeterReassign | MeterEnd
_COMMANDS: Mapping[str, MeterCommand] = {
    command.type_name: command for command in (MeterRegister(), MeterExtend(), MeterReassign(), MeterEnd())
}


def decode_state(output: OutputState) -> MeterRegistration:
    """The registration of an output of this contract, its type checked."""
    if output.type_name != MeterRegistration.type_name or output.schema_version != MeterRegistration.schema_version:
        violated(MeterRule.STATE_TYPE_UNKNOWN, f"{output.type_name!r} with schema version {output.schema_version}")
    return MeterRegistration.from_payload(output.payload)


def decode_command(command: Command) -> MeterCommand:
    """The command, its type checked."""
    known = _COMMANDS.get(command.type_name) if command.schema_version == 1 and not command.payload else None
    if known is None:
        violated(
            MeterRule.COMMAND_UNKNOWN,
            f"{command.type_name!r} with schema version {command.schema_version} and {len(command.payload)} bytes",
        )
    return known
