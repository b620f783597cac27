"""The voucher, its commands, and their bytes: fixed layouts, so that there is one encoding of each."""

import struct
from dataclasses import dataclass
from typing import ClassVar

from p2petd.contracts.contract import PlainCommand
from p2petd.errors import MalformedTransaction, QuantityOverflow
from p2petd.units import INT64_MAX, TimeNs, WattHours

NAME = "ev-voucher"
VERSION = 1
_VOUCHER = struct.Struct(">32s32s32sqq")
_REDEEM = struct.Struct(">q")


@dataclass(frozen=True, slots=True)
class Voucher:
    """`energy_wh` that the operator of a charging point owes the holder until `valid_until_ns`; keys are 32 bytes."""

    type_name: ClassVar[str] = "Voucher"
    schema_version: ClassVar[int] = 1
    contract: ClassVar[str] = NAME

    operator: bytes
    holder: bytes
    # 32 random bytes: every part of a voucher keeps them.
    number: bytes
    energy_wh: WattHours
    valid_until_ns: TimeNs

    def to_payload(self) -> bytes:
        """operator ‖ holder ‖ number ‖ i64 energy ‖ i64 valid until."""
        if not 0 <= self.energy_wh <= INT64_MAX:
            raise QuantityOverflow(f"a voucher cannot hold {self.energy_wh} Wh")
        return _VOUCHER.pack(self.operator, self.holder, self.number, self.energy_wh, self.valid_until_ns)

    @classmethod
    def from_payload(cls, payload: bytes) -> "Voucher":
        if len(payload) != _VOUCHER.size:
            raise MalformedTransaction(f"a voucher has {_VOUCHER.size} bytes, not {len(payload)}")
        operator, holder, number, energy_wh, valid_until_ns = _VOUCHER.unpack(payload)
        return cls(operator, holder, number, WattHours(energy_wh), TimeNs(valid_until_ns))


@dataclass(frozen=True)
class VoucherIssue(PlainCommand):
    """The operator makes a voucher."""

    type_name: ClassVar[str] = "VoucherIssue"
    contract: ClassVar[str] = NAME


@dataclass(frozen=True)
class VoucherGive(PlainCommand):
    """The holder hands vouchers on, whole or in parts."""

    type_name: ClassVar[str] = "VoucherGive"
    contract: ClassVar[str] = NAME


@dataclass(frozen=True, slots=True)
class VoucherRedeem:
    """The holder has charged `charged_wh`; what is left comes back."""

    type_name: ClassVar[str] = "VoucherRedeem"
    schema_version: ClassVar[int] = 1
    contract: ClassVar[str] = NAME

    charged_wh: WattHours

    def to_payload(self) -> bytes:
        """i64 charged."""
        return _REDEEM.pack(self.charged_wh)

    @classmethod
    def from_payload(cls, payload: bytes) -> "VoucherRedeem":
        if len(payload) != _REDEEM.size:
            raise MalformedTransaction(f"a redemption has {_REDEEM.size} bytes, not {len(payload)}")
        return cls(WattHours(_REDEEM.unpack(payload)[0]))
