"""States of the ledger for people and programs; one of a contract that this client does not know has type and size."""

from collections.abc import Mapping
from fractions import Fraction

from google.protobuf.message import DecodeError, Message

from p2pet.cli.output import plain
from p2pet.cli.parties import Parties
from p2pet.cli.units import (
    format_amount,
    format_period,
    format_power,
    format_price,
    format_quantity,
    mean_power_w,
)
from p2pet.ledger.v1 import energy_pb2, meter_pb2, payment_pb2, transaction_pb2
from p2pet.vault.v1 import vault_pb2

STATES: Mapping[tuple[str, str], type[Message]] = {
    ("energy", "EnergyState"): energy_pb2.EnergyState,
    ("energy", "EnergyDelivery"): energy_pb2.EnergyDelivery,
    ("energy", "EnergyAllocation"): energy_pb2.EnergyAllocation,
    ("meter", "MeterRegistration"): meter_pb2.MeterRegistration,
    ("payment", "PaymentState"): payment_pb2.PaymentState,
}


def plain_state(state: vault_pb2.VaultState) -> dict[str, object]:
    """A recorded state for programs; `output.state` holds the decoded payload where this client knows its type, and
    `output.power_w` the mean power of energy over its period, in W, exactly: a whole number or a fraction."""
    return plain(state) | {"output": plain_output(state.output)}


def plain_output(component: bytes) -> dict[str, object] | None:
    """An `OutputState` component for programs; None when it does not decode."""
    try:
        output = transaction_pb2.OutputState.FromString(component)
    except DecodeError:
        return None
    state, power = decode_state(output), power_w(output)
    shown = plain(output) | {"state": None if state is None else plain(state)}
    return shown if power is None else shown | {"power_w": int(power) if power.denominator == 1 else str(power)}


def decode_state(output: transaction_pb2.OutputState) -> Message | None:
    """The payload of an output; None when this client does not know its type."""
    kind = STATES.get((output.contract, output.type_name))
    if kind is None:
        return None
    try:
        return kind.FromString(output.payload)
    except DecodeError:
        return None


def power_w(output: transaction_pb2.OutputState) -> Fraction | None:
    """The mean power of energy, or of what was delivered, over its period; None for anything else."""
    state = decode_state(output)
    if isinstance(state, energy_pb2.EnergyState):
        quantity_wh = state.quantity_wh
    elif isinstance(state, energy_pb2.EnergyDelivery):
        quantity_wh = state.delivered_wh
    else:
        return None
    start_ns, end_ns = state.delivery_start_ns, state.delivery_end_ns
    return mean_power_w(quantity_wh, start_ns, end_ns) if start_ns < end_ns else None


def describe_state(output: transaction_pb2.OutputState, parties: Parties, unit: str = "kwh") -> tuple[str, str]:
    """What a state is and who owns it, for people; energy in kWh, or with the unit kw as mean power."""
    state = decode_state(output)
    if isinstance(state, energy_pb2.EnergyState):
        period = format_period(state.delivery_start_ns, state.delivery_end_ns)
        quantity, price = _energy(output, state.quantity_wh, unit), format_price(state.asked_price_micro_per_kwh)
        return f"{quantity} {state.energy_type}, {period}, {price}", parties.name(state.owner)
    if isinstance(state, energy_pb2.EnergyDelivery):
        return _delivery(output, state, unit), parties.name(state.owner)
    if isinstance(state, energy_pb2.EnergyAllocation):
        period = format_period(state.delivery_start_ns, state.delivery_end_ns)
        metered = format_quantity(state.metered_wh)
        return f"{metered} of meter {state.meter}, {period}, for {len(state.shares)} states", parties.name(state.market)
    if isinstance(state, meter_pb2.MeterRegistration):
        return _registration(state), parties.name(state.producer)
    if isinstance(state, payment_pb2.PaymentState):
        return format_amount(state.amount_nano, state.currency), parties.name(state.owner)
    return f"{output.contract} {output.type_name}, {len(output.payload)} bytes", "-"


def _energy(output: transaction_pb2.OutputState, quantity_wh: int, unit: str) -> str:
    power = power_w(output)
    return format_power(power) if unit == "kw" and power is not None else format_quantity(quantity_wh)


def _delivery(output: transaction_pb2.OutputState, state: energy_pb2.EnergyDelivery, unit: str) -> str:
    period = format_period(state.delivery_start_ns, state.delivery_end_ns)
    sign = "+" if state.imbalance_wh > 0 else ""
    return (
        f"{_energy(output, state.delivered_wh, unit)} {state.energy_type} delivered of "
        f"{format_quantity(state.contracted_wh)}, {period}, imbalance {sign}{format_quantity(state.imbalance_wh)} "
        f"= {format_amount(state.imbalance_nano, state.currency)}"
    )


def _registration(state: meter_pb2.MeterRegistration) -> str:
    period = format_period(state.valid_from_ns, state.valid_until_ns)
    types = ", ".join(state.energy_types)
    return f"meter {state.meter} in {state.zone or 'no zone'}, {format_power(state.capacity_w)} {types}, {period}"
