"""energy.request: a producer issues the energy that its own meter will deliver in one period."""

from p2pet.flows.v1.arguments_pb2 import EnergyRequestArguments

from p2petd.contracts import energy
from p2petd.contracts.energy import LOT_UNITS_MAX, EnergyIssue, EnergyState, issue_claims, lot_id
from p2petd.errors import FlowArgumentsInvalid
from p2petd.flows.arguments import need_positive, need_text
from p2petd.flows.context import FlowContext
from p2petd.flows.finality import finalise
from p2petd.flows.registry import FlowDefinition
from p2petd.ledger.transaction import TransactionBuilder
from p2petd.units import SECOND_NS, MicroPerKwh, TimeNs, WattHours


async def request_energy(ctx: FlowContext, arguments: EnergyRequestArguments) -> bytes:
    """Issue one lot of energy to this node, notarised, once per meter and market time unit."""
    need_text("meter", arguments.meter)
    need_positive("quantity_wh", arguments.quantity_wh)
    start, end = arguments.delivery_start_ns, arguments.delivery_end_ns
    _check_period(start, end, ctx.parameters.market_time_unit_ns)
    ctx.progress("building")
    state = EnergyState(
        energy_type=arguments.energy_type,
        quantity_wh=WattHours(arguments.quantity_wh),
        delivery_start_ns=TimeNs(start),
        delivery_end_ns=TimeNs(end),
        asked_price_micro_per_kwh=MicroPerKwh(arguments.asked_price_micro_per_kwh),
        issuer=ctx.me,
        owner=ctx.me,
        meter=arguments.meter,
        zone=arguments.zone,
        lot_id=lot_id(ctx.me, arguments.meter, start, end),
    )
    builder = TransactionBuilder(ctx.notary(), ctx.parameters_hash)
    builder.add_output(energy.NAME, energy.VERSION, state)
    builder.add_command(energy.NAME, EnergyIssue(), [ctx.me])
    for claim in issue_claims(arguments.meter, start, end, ctx.parameters.market_time_unit_ns):
        builder.add_claim(claim)
    draft = builder.build(ctx.random("salt"))
    ctx.ledger.check_draft(draft)

    ctx.progress("signing")
    return await finalise(ctx, draft.signed([ctx.ledger.sign(draft.id)]), (), ())


def _check_period(start_ns: int, end_ns: int, unit_ns: int) -> None:
    """Raises FlowArgumentsInvalid before a period makes more claims than a lot may have."""
    if not 0 < end_ns - start_ns <= LOT_UNITS_MAX * unit_ns:
        raise FlowArgumentsInvalid(
            f"a delivery period ends after it starts and has at most {LOT_UNITS_MAX} market time units of "
            f"{unit_ns // SECOND_NS} s"
        )


FLOW = FlowDefinition(
    name="energy.request",
    version=1,
    arguments=EnergyRequestArguments,
    description="Issue energy of this node's own meter for one delivery period",
    initiator=request_energy,
    responder=None,
)
