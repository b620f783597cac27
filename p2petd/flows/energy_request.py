"""energy.request: a producer issues the energy that its own meter will deliver in one period."""

from p2pet.flows.v1.arguments_pb2 import EnergyRequestArguments

from p2petd.contracts import energy
from p2petd.contracts.energy import LOT_UNITS_MAX, EnergyIssue, EnergyState, issue_claims, lot_id
from p2petd.contracts.oracle import Attestation
from p2petd.errors import FlowArgumentsInvalid, UnknownFact
from p2petd.flows.arguments import need_positive, need_text
from p2petd.flows.context import FlowContext
from p2petd.flows.finality import finalise
from p2petd.flows.oracle_facts import add_attestations, all_attested, find_facts, forecast_query, reading_query
from p2petd.flows.registrations import registration_to_issue
from p2petd.flows.registry import FlowDefinition
from p2petd.ledger.transaction import TransactionBuilder
from p2petd.units import SECOND_NS, MicroPerKwh, TimeNs, WattHours
from p2petd.vault.selection import Coin


async def request_energy(ctx: FlowContext, arguments: EnergyRequestArguments) -> bytes:
    """Issue one lot of energy to this node, notarised, once per meter and market time unit."""
    need_text("meter", arguments.meter)
    need_positive("quantity_wh", arguments.quantity_wh)
    start, end = arguments.delivery_start_ns, arguments.delivery_end_ns
    _check_period(start, end, ctx.parameters.market_time_unit_ns)
    ctx.progress("retrieving notary")
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
        lot_id=lot_id(ctx.me, arguments.meter, start, end, arguments.quantity_wh),
    )
    registration = await _registration(ctx, arguments)
    attestations = await _expected(ctx, arguments) if ctx.parameters.issue_attested else ()
    ctx.progress("building")
    builder = TransactionBuilder(registration.output.notary if registration else ctx.notary(), ctx.parameters_hash)
    if registration is not None:
        builder.add_reference(registration.ref, registration.output.raw)
    builder.add_output(energy.NAME, energy.VERSION, state)
    builder.add_command(energy.NAME, EnergyIssue(), [ctx.me])
    add_attestations(builder, attestations)
    for claim in issue_claims(arguments.meter, start, end, ctx.parameters.market_time_unit_ns):
        builder.add_claim(claim)
    draft = builder.build(ctx.random("salt"))
    ctx.ledger.check_draft(draft)

    signatures = await all_attested(ctx, draft, attestations)
    ctx.progress("signing")
    proofs = () if registration is None else (ctx.vault.input_proof(registration.ref),)
    return await finalise(ctx, draft.signed([*signatures, ctx.ledger.sign(draft.id)]), proofs, ())


async def _registration(ctx: FlowContext, arguments: EnergyRequestArguments) -> Coin | None:
    """The registration to refer to; none in a network without registrars. Raises RegistrationMissing."""
    if not ctx.parameters.registrars:
        return None
    start, end = arguments.delivery_start_ns, arguments.delivery_end_ns
    return await registration_to_issue(ctx, arguments.meter, start, end, arguments.quantity_wh)


async def _expected(ctx: FlowContext, arguments: EnergyRequestArguments) -> tuple[Attestation, ...]:
    """An oracle's forecast, or without one its reading, of exactly the meter and period. Raises UnknownFact."""
    wanted = arguments.meter, arguments.delivery_start_ns, arguments.delivery_end_ns
    ctx.progress("asking the oracle")
    try:
        return await find_facts(ctx, [forecast_query(*wanted)])
    except UnknownFact:
        return await find_facts(ctx, [reading_query(*wanted)])


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
