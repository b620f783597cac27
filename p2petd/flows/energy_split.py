"""energy.split: the owner cuts one state into several of the same lot."""

from collections.abc import Sequence
from dataclasses import replace

from p2pet.flows.v1.arguments_pb2 import EnergySplitArguments

from p2petd.contracts import energy
from p2petd.contracts.energy import EnergySplit
from p2petd.errors import FlowArgumentsInvalid, InsufficientFunds
from p2petd.flows.arguments import need_positive
from p2petd.flows.context import FlowContext
from p2petd.flows.energy_leg import need_selection
from p2petd.flows.finality import finalise
from p2petd.flows.own_lots import lock_lots
from p2petd.flows.registry import FlowDefinition
from p2petd.ledger.groups import COMPONENTS_MAX
from p2petd.ledger.transaction import TransactionBuilder
from p2petd.units import WattHours
from p2petd.vault.selection import Coin


async def split_energy(ctx: FlowContext, arguments: EnergySplitArguments) -> bytes:
    """Cut our largest state of the type, period and zone into `parts_wh`, and one more with what is left."""
    parts = list(arguments.parts_wh)
    need_selection(arguments.energy)
    if not 1 <= len(parts) < COMPONENTS_MAX:
        raise FlowArgumentsInvalid(f"parts_wh must be 1 to {COMPONENTS_MAX - 1} quantities, not {len(parts)}")
    for part in parts:
        need_positive("each of parts_wh", part)

    def the_largest(lots: Sequence[Coin]) -> Sequence[Coin]:
        has = lots[0].energy.quantity_wh
        if sum(parts) > has or parts == [has]:
            raise InsufficientFunds(f"the largest state has {has} Wh, which does not make parts of {sum(parts)} Wh")
        return lots[:1]

    ctx.progress("selecting energy")
    (lot,) = await lock_lots(ctx, arguments.energy, the_largest)

    ctx.progress("retrieving notary")
    ctx.progress("building")
    rest = lot.energy.quantity_wh - sum(parts)
    builder = TransactionBuilder(lot.output.notary, ctx.parameters_hash)
    builder.add_input(lot.ref, lot.output.raw)
    for part in [*parts, rest] if rest else parts:
        state = replace(lot.energy, quantity_wh=WattHours(part))
        builder.add_output(energy.NAME, lot.output.contract_version, state)
    builder.add_command(energy.NAME, EnergySplit(), [ctx.me])
    draft = ctx.history.build(builder, ctx.random("salt"))
    ctx.ledger.check_draft(draft)

    ctx.progress("signing")
    return await finalise(ctx, draft.signed([ctx.ledger.sign(draft.id)]), (ctx.vault.input_proof(lot.ref),), ())


FLOW = FlowDefinition(
    name="energy.split",
    version=1,
    arguments=EnergySplitArguments,
    description="Cut energy of this node into parts of the same lot",
    initiator=split_energy,
    responder=None,
)
