"""The energy contract: its states, its commands, its rules (docs/contracts.md)."""

from p2petd.contracts.energy.commands import (
    EnergyAllocate,
    EnergyCommand,
    EnergyDeliver,
    EnergyExpire,
    EnergyIssue,
    EnergyMerge,
    EnergyRetire,
    EnergySplit,
    EnergyTrade,
    EnergyTransfer,
    OrderTerms,
    decode_command,
)
from p2petd.contracts.energy.contract import ENERGY
from p2petd.contracts.energy.deliver import SHARES_MAX, AllocateRule, DeliverRule, delivery_of
from p2petd.contracts.energy.issue import IssueRule
from p2petd.contracts.energy.retire import ExpireRule, RetireRule
from p2petd.contracts.energy.rules import EnergyRule
from p2petd.contracts.energy.states import (
    NAME,
    VERSION,
    AllocationShare,
    EnergyAllocation,
    EnergyDelivery,
    EnergyObject,
    EnergyState,
    decode_object,
    decode_state,
    energy_of_power,
)
from p2petd.contracts.energy.trade import TradeRule
from p2petd.contracts.identifiers import LOT_UNITS_MAX, METER_BYTES_MAX, deliver_claims, issue_claims, lot_id

__all__ = [
    "ENERGY",
    "LOT_UNITS_MAX",
    "METER_BYTES_MAX",
    "NAME",
    "SHARES_MAX",
    "VERSION",
    "AllocateRule",
    "AllocationShare",
    "DeliverRule",
    "EnergyAllocate",
    "EnergyAllocation",
    "EnergyCommand",
    "EnergyDeliver",
    "EnergyDelivery",
    "EnergyExpire",
    "EnergyIssue",
    "EnergyMerge",
    "EnergyObject",
    "EnergyRetire",
    "EnergyRule",
    "EnergySplit",
    "EnergyState",
    "EnergyTrade",
    "EnergyTransfer",
    "ExpireRule",
    "IssueRule",
    "OrderTerms",
    "RetireRule",
    "TradeRule",
    "decode_command",
    "decode_object",
    "decode_state",
    "deliver_claims",
    "delivery_of",
    "energy_of_power",
    "issue_claims",
    "lot_id",
]
