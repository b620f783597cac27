"""energy.retire: the owner destroys energy that was used or is given up."""

from dataclasses import replace

from p2pet.flows.v1.arguments_pb2 import EnergyRetireArguments

from p2petd.contracts import energy
from p2petd.contracts.energy import EnergyRetire
from p2petd.flows.arguments import need_positive
from p2petd.flows.context import FlowContext
from p2petd.flows.energy_leg import lock_energy, need_selection
from p2petd.flows.finality import finalise
from p2petd.flows.moving import gather
from p2petd.flows.registry import FlowDefinition
from p2petd.ledger.transaction import TransactionBuilder
from p2petd.units import WattHours


async def retire_energy(ctx: FlowContext, arguments: EnergyRetireArguments) -> bytes:
    """Destroy `quantity_wh` of our energy; what is left of the last lot comes back."""
    need_positive("quantity_wh", arguments.quantity_wh)
    need_selection(arguments.energy)
    ctx.progress("selecting energy")
    lots = await lock_energy(ctx, arguments.energy, arguments.quantity_wh)
    lots = await gather(ctx, lots)

    ctx.progress("building")
    builder = TransactionBuilder(lots[0].output.notary, ctx.parameters_hash)
    left = arguments.quantity_wh
    for lot in lots:
        builder.add_input(lot.ref, lot.output.raw)
        retired = min(left, lot.energy.quantity_wh)
        left -= retired
        rest = lot.energy.quantity_wh - retired
        if rest:
            change = replace(lot.energy, quantity_wh=WattHours(rest))
            builder.add_output(energy.NAME, lot.output.contract_version, change)
    assert left == 0
    builder.add_command(energy.NAME, EnergyRetire(), [ctx.me])
    draft = ctx.history.build(builder, ctx.random("salt"))
    ctx.ledger.check_draft(draft)

    ctx.progress("signing")
    proofs = tuple(ctx.vault.input_proof(lot.ref) for lot in lots)
    return await finalise(ctx, draft.signed([ctx.ledger.sign(draft.id)]), proofs, ())


FLOW = FlowDefinition(
    name="energy.retire",
    version=1,
    arguments=EnergyRetireArguments,
    description="Destroy energy that was used or is given up",
    initiator=retire_energy,
    responder=None,
)
