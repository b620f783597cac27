"""Which unconsumed states can stand in for one another when a flow looks for energy or money.

A bucket is a key prefix, so that selection is one range scan; names are hashed, so that no name is too long for a key.
"""

import hashlib
import struct
from dataclasses import dataclass

from p2petd.contracts import energy, payment
from p2petd.contracts.energy import EnergyState
from p2petd.contracts.payment import PaymentState
from p2petd.ledger.resolved import OutputState

ENERGY_TAG = b"E"
MONEY_TAG = b"P"


def _name(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:8]


def energy_bucket(energy_type: str, delivery_start_ns: int, delivery_end_ns: int, zone: str = "") -> bytes:
    """An empty zone takes any zone."""
    period = period_bucket(delivery_start_ns, delivery_end_ns)
    return period + _name(energy_type) + (_name(zone) if zone else b"")


def period_bucket(delivery_start_ns: int, delivery_end_ns: int) -> bytes:
    """Energy of every type and zone."""
    return ENERGY_TAG + struct.pack(">qq", delivery_start_ns, delivery_end_ns)


def money_bucket(currency: str, issuer: bytes = b"") -> bytes:
    """An empty issuer takes any issuer."""
    return MONEY_TAG + _name(currency) + issuer


@dataclass(frozen=True)
class Spendable:
    """Who may spend an output, where selection finds it, and what it is worth there (Wh or nano-currency)."""

    owner: bytes
    bucket: bytes
    amount: int


def spendable(output: OutputState) -> Spendable | None:
    """None for a state that no built-in flow selects: one of another type, or one with a companion."""
    if output.encumbered_by:
        return None
    kind = output.contract, output.type_name
    if kind == (energy.NAME, EnergyState.type_name):
        state = EnergyState.from_payload(output.payload)
        bucket = energy_bucket(state.energy_type, state.delivery_start_ns, state.delivery_end_ns, state.zone)
        return Spendable(state.owner, bucket, state.quantity_wh)
    if kind == (payment.NAME, PaymentState.type_name):
        money = PaymentState.from_payload(output.payload)
        return Spendable(money.owner, money_bucket(money.currency, money.issuer), money.amount_nano)
    return None
