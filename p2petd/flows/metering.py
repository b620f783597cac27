"""What delivering and allocating share: a meter's period that is over, and its reading."""

from collections.abc import Iterable

from p2petd.contracts.identifiers import LOT_UNITS_MAX, METER_BYTES_MAX, meter_is_well_formed
from p2petd.contracts.oracle import Attestation, MeterReading
from p2petd.errors import FlowArgumentsInvalid, FlowError
from p2petd.flows.context import FlowContext
from p2petd.units import SECOND_NS


def need_ended_period(ctx: FlowContext, meter: str, start_ns: int, end_ns: int) -> None:
    """Raises FlowArgumentsInvalid for a meter or period that cannot be, FlowError while the period lasts."""
    unit_ns = ctx.parameters.market_time_unit_ns
    if not meter_is_well_formed(meter):
        raise FlowArgumentsInvalid(f"meter must be a text of 1 to {METER_BYTES_MAX} bytes")
    if not 0 < end_ns - start_ns <= LOT_UNITS_MAX * unit_ns or start_ns % unit_ns or end_ns % unit_ns:
        raise FlowArgumentsInvalid(
            f"a delivery period is 1 to {LOT_UNITS_MAX} whole market time units of {unit_ns // SECOND_NS} s"
        )
    left_ns = end_ns - ctx.started_at_ns
    if left_ns > 0:
        raise FlowError(f"the delivery period ends in {-(-left_ns // SECOND_NS)} s; there is no reading before that")


def reading_in(attestations: Iterable[Attestation]) -> MeterReading:
    """The one reading that was asked for."""
    (reading,) = [reading for attestation in attestations for reading in attestation.readings]
    return reading
