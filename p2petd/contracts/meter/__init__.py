"""The meter contract: who may issue the energy of a meter, how much of it, and at which notary (docs/contracts.md)."""

from p2petd.contracts.identifiers import meter_claim
from p2petd.contracts.meter.contract import METER
from p2petd.contracts.meter.rules import MeterRule
from p2petd.contracts.meter.states import (
    NAME,
    VERSION,
    MeterCommand,
    MeterEnd,
    MeterExtend,
    MeterReassign,
    MeterRegister,
    MeterRegistration,
    decode_command,
    decode_state,
)

__all__ = [
    "METER",
    "NAME",
    "VERSION",
    "MeterCommand",
    "MeterEnd",
    "MeterExtend",
    "MeterReassign",
    "MeterRegister",
    "MeterRegistration",
    "MeterRule",
    "decode_command",
    "decode_state",
    "meter_claim",
]
