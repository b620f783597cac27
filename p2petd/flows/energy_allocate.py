"""energy.allocate: the market divides one reading among the states of a meter's period."""

from p2pet.flows.v1.arguments_pb2 import EnergyAllocateArguments

from p2petd.contracts import energy
from p2petd.contracts.energy import SHARES_MAX, AllocationShare, EnergyAllocate, EnergyAllocation, deliver_claims
from p2petd.errors import FlowArgumentsInvalid, FlowError
from p2petd.flows.arguments import need_party
from p2petd.flows.context import FlowContext
from p2petd.flows.finality import finalise, receive_final
from p2petd.flows.metering import need_ended_period, reading_in
from p2petd.flows.oracle_facts import add_attestations, all_attested, find_facts, reading_query
from p2petd.flows.registry import FlowDefinition
from p2petd.ledger.refs import STATE_REF_BYTES
from p2petd.ledger.transaction import TransactionBuilder
from p2petd.units import NO_UPPER_BOUND, TimeNs, WattHours, checked_sum


async def allocate_reading(ctx: FlowContext, arguments: EnergyAllocateArguments) -> bytes:
    """Record how much of the reading belongs to which state, once, and tell the owners who are named."""
    start, end = arguments.delivery_start_ns, arguments.delivery_end_ns
    if ctx.me not in {market.key for market in ctx.parameters.markets}:
        raise FlowArgumentsInvalid("this node is no market of the network; only those that it lists allocate readings")
    need_ended_period(ctx, arguments.meter, start, end)
    shares = _shares(arguments)
    for owner in arguments.tell:
        await need_party(ctx, "tell", owner)

    ctx.progress("asking the oracle")
    attestations = await find_facts(ctx, [reading_query(arguments.meter, start, end)])
    reading = reading_in(attestations)
    total_wh = checked_sum([share.delivered_wh for share in shares], "the shares")
    if total_wh != reading.energy_wh:
        raise FlowError(f"the shares sum to {total_wh} Wh, but the reading is {reading.energy_wh} Wh")

    ctx.progress("retrieving notary")
    ctx.progress("building")
    # Deliveries and allocations use readings up at one notary, so that no reading is used twice.
    builder = TransactionBuilder(ctx.notary(), ctx.parameters_hash)
    builder.window(TimeNs(end), NO_UPPER_BOUND)
    state = EnergyAllocation(
        meter=arguments.meter,
        delivery_start_ns=TimeNs(start),
        delivery_end_ns=TimeNs(end),
        metered_wh=reading.energy_wh,
        reading_revision=reading.revision,
        market=ctx.me,
        shares=shares,
    )
    builder.add_output(energy.NAME, energy.VERSION, state)
    builder.add_command(energy.NAME, EnergyAllocate(), [ctx.me])
    add_attestations(builder, attestations)
    for claim in deliver_claims(arguments.meter, start, end, ctx.parameters.market_time_unit_ns):
        builder.add_claim(claim)
    draft = builder.build(ctx.random("salt"))
    ctx.ledger.check_draft(draft)
    signatures = await all_attested(ctx, draft, attestations)

    ctx.progress("signing")
    signed = draft.signed([*signatures, ctx.ledger.sign(draft.id)])
    return await finalise(ctx, signed, (), tuple(arguments.tell))


async def receive_allocation(ctx: FlowContext, market: bytes) -> bytes:
    """An owner records the allocation that gives its states a share."""
    return await receive_final(ctx, market)


def _shares(arguments: EnergyAllocateArguments) -> tuple[AllocationShare, ...]:
    """The shares by state. Raises FlowArgumentsInvalid."""
    shares = tuple(
        AllocationShare(share.state, WattHours(share.delivered_wh))
        for share in sorted(arguments.shares, key=lambda share: share.state)
    )
    if not 1 <= len(shares) <= SHARES_MAX or len({share.state for share in shares}) != len(shares):
        raise FlowArgumentsInvalid(f"an allocation has 1 to {SHARES_MAX} shares, each of another state")
    for share in shares:
        if len(share.state) != STATE_REF_BYTES or share.delivered_wh < 0:
            raise FlowArgumentsInvalid(
                f"a share names a state by {STATE_REF_BYTES} bytes and is 0 Wh or more, not {share.delivered_wh} Wh of "
                f"{len(share.state)} bytes"
            )
    return shares


FLOW = FlowDefinition(
    name="energy.allocate",
    version=1,
    arguments=EnergyAllocateArguments,
    description="Divide the reading of a meter's period among its states",
    initiator=allocate_reading,
    responder=receive_allocation,
)
