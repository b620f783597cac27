"""The energy contract: its state, its commands, its rules (docs/contracts.md)."""

from p2petd.contracts.energy.contract import ENERGY, LOT_UNITS_MAX, METER_BYTES_MAX
from p2petd.contracts.energy.rules import EnergyRule
from p2petd.contracts.energy.states import (
    NAME,
    VERSION,
    EnergyCommand,
    EnergyIssue,
    EnergyMerge,
    EnergySplit,
    EnergyState,
    EnergyTrade,
    EnergyTransfer,
    decode_command,
    decode_state,
    issue_claims,
    lot_id,
)

__all__ = [
    "ENERGY",
    "LOT_UNITS_MAX",
    "METER_BYTES_MAX",
    "NAME",
    "VERSION",
    "EnergyCommand",
    "EnergyIssue",
    "EnergyMerge",
    "EnergyRule",
    "EnergySplit",
    "EnergyState",
    "EnergyTrade",
    "EnergyTransfer",
    "decode_command",
    "decode_state",
    "issue_claims",
    "lot_id",
]
