"""energy.merge: the owner joins states of one lot into one."""

from collections.abc import Sequence
from dataclasses import replace

from p2pet.flows.v1.arguments_pb2 import EnergyMergeArguments

from p2petd.contracts import energy
from p2petd.contracts.energy import EnergyMerge
from p2petd.errors import FlowArgumentsInvalid
from p2petd.flows.context import FlowContext
from p2petd.flows.energy_leg import need_selection
from p2petd.flows.finality import finalise
from p2petd.flows.own_lots import lock_lots, most_alike
from p2petd.flows.registry import FlowDefinition
from p2petd.ledger.transaction import TransactionBuilder
from p2petd.units import WattHours
from p2petd.vault.selection import Coin


async def merge_energy(ctx: FlowContext, arguments: EnergyMergeArguments) -> bytes:
    """Join our states of that lot of the type, period and zone which is cut into the most."""
    need_selection(arguments.energy)

    def of_one_lot(lots: Sequence[Coin]) -> Sequence[Coin]:
        alike = most_alike(lots, lambda lot: (lot.output.notary, lot.energy.lot), ctx.parameters.inputs_max)
        if len(alike) < 2:
            raise FlowArgumentsInvalid("no lot of this type, period and zone is cut into several states")
        return alike

    ctx.progress("selecting energy")
    lots = await lock_lots(ctx, arguments.energy, of_one_lot)

    ctx.progress("retrieving notary")
    ctx.progress("building")
    builder = TransactionBuilder(lots[0].output.notary, ctx.parameters_hash)
    for lot in lots:
        builder.add_input(lot.ref, lot.output.raw)
    whole = replace(lots[0].energy, quantity_wh=WattHours(sum(lot.energy.quantity_wh for lot in lots)))
    builder.add_output(energy.NAME, lots[0].output.contract_version, whole)
    builder.add_command(energy.NAME, EnergyMerge(), [ctx.me])
    draft = ctx.history.build(builder, ctx.random("salt"))
    ctx.ledger.check_draft(draft)

    ctx.progress("signing")
    proofs = tuple(ctx.vault.input_proof(lot.ref) for lot in lots)
    return await finalise(ctx, draft.signed([ctx.ledger.sign(draft.id)]), proofs, ())


FLOW = FlowDefinition(
    name="energy.merge",
    version=1,
    arguments=EnergyMergeArguments,
    description="Join energy of this node that is of one lot",
    initiator=merge_energy,
    responder=None,
)
