"""States that flows refer to: how the vault finds the registrations of a meter and the allocations of its readings."""

import hashlib
import struct
from collections.abc import Iterator

from p2pet.ledger.v1 import energy_pb2, meter_pb2

from p2petd.contracts import energy, meter
from p2petd.ledger.codec import parse_strict
from p2petd.ledger.refs import StateRef
from p2petd.ledger.resolved import OutputState
from p2petd.store.changes import Reader, scan_prefix
from p2petd.store.tables import Table

REGISTRATION_TAG = b"R"
ALLOCATION_TAG = b"A"
REGISTRATION = (meter.NAME, meter.MeterRegistration.type_name)
ALLOCATION = (energy.NAME, "EnergyAllocation")


def registrations_of(name: str) -> bytes:
    """The key prefix of a meter's registrations."""
    return REGISTRATION_TAG + _meter(name)


def allocations_of(name: str, start_ns: int, end_ns: int) -> bytes:
    """The key prefix of the allocations of a meter's reading in a period."""
    return ALLOCATION_TAG + _meter(name) + struct.pack(">qq", start_ns, end_ns)


def known_prefix(state: OutputState) -> bytes | None:
    """Where flows look for a state; None for one that they do not refer to. Raises MalformedTransaction."""
    kind = state.contract, state.type_name
    if kind == REGISTRATION:
        return registrations_of(parse_strict(meter_pb2.MeterRegistration, state.payload).meter)
    if kind == ALLOCATION:
        allocation = parse_strict(energy_pb2.EnergyAllocation, state.payload)
        return allocations_of(allocation.meter, allocation.delivery_start_ns, allocation.delivery_end_ns)
    return None


def known_refs(store: Reader, prefix: bytes) -> Iterator[StateRef]:
    """The unconsumed states under a prefix, whoever owns them."""
    for key, _ in scan_prefix(store, Table.KNOWN, prefix):
        yield StateRef.decode(key[-36:])


def _meter(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
