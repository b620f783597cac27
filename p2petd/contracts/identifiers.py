"""The names and claims of meters and lots: docs/protocol.md, section 9."""

import struct
from collections.abc import Iterator
from hashlib import sha256

from p2petd.errors import QuantityOverflow
from p2petd.ledger.codec import u16_prefixed
from p2petd.ledger.groups import COMPONENTS_MAX

METER_BYTES_MAX = 255
LOT_UNITS_MAX = COMPONENTS_MAX
"""Each market time unit of a lot is a claim, and a group holds no more components."""


def meter_is_well_formed(meter: str) -> bool:
    """Whether a meter's name has 1 to 255 bytes."""
    return 1 <= len(meter.encode()) <= METER_BYTES_MAX


def lot_id(issuer: bytes, meter: str, delivery_start_ns: int, delivery_end_ns: int, issued_wh: int) -> bytes:
    """32 bytes: SHA-256("lot" ‖ issuer ‖ u16 length ‖ meter ‖ i64 start ‖ i64 end ‖ i64 issued quantity).

    Every part of a lot keeps the id, and a state shows by it whether it is the whole lot. Raises QuantityOverflow.
    """
    try:
        numbers = struct.pack(">qqq", delivery_start_ns, delivery_end_ns, issued_wh)
    except struct.error as error:
        raise QuantityOverflow(f"the period or the quantity of a lot does not fit into 64 bits: {error}") from error
    return sha256(b"lot" + issuer + u16_prefixed(meter) + numbers).digest()


def meter_claim(meter: str) -> bytes:
    """32 bytes: SHA-256("meter" ‖ u16 length ‖ meter). A second registration of the name makes the same claim."""
    return sha256(b"meter" + u16_prefixed(meter)).digest()


def issue_claims(meter: str, delivery_start_ns: int, delivery_end_ns: int, unit_ns: int) -> Iterator[bytes]:
    """One claim of 32 bytes for each market time unit of the period: SHA-256("issue" ‖ u16 length ‖ meter ‖ i64 start).

    A second issue for the same meter and unit makes the same claim, and a notary takes each claim once.
    """
    return _claims(b"issue", meter, delivery_start_ns, delivery_end_ns, unit_ns)


def deliver_claims(meter: str, delivery_start_ns: int, delivery_end_ns: int, unit_ns: int) -> Iterator[bytes]:
    """The same with "deliver" in place of "issue": whoever uses the reading of a unit a second time makes its claim."""
    return _claims(b"deliver", meter, delivery_start_ns, delivery_end_ns, unit_ns)


def _claims(what: bytes, meter: str, start_ns: int, end_ns: int, unit_ns: int) -> Iterator[bytes]:
    prefix = what + u16_prefixed(meter)
    for unit_start_ns in range(start_ns, end_ns, unit_ns):
        yield sha256(prefix + struct.pack(">q", unit_start_ns)).digest()
