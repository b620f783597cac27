"""energy.expire: the owner destroys energy whose meter reading never came."""

from collections.abc import Sequence

from p2pet.flows.v1.arguments_pb2 import EnergyExpireArguments

from p2petd.contracts import energy
from p2petd.contracts.energy import EnergyExpire
from p2petd.errors import FlowArgumentsInvalid
from p2petd.flows.context import FlowContext
from p2petd.flows.energy_leg import need_selection
from p2petd.flows.finality import finalise
from p2petd.flows.own_lots import lock_lots, most_alike
from p2petd.flows.registry import FlowDefinition
from p2petd.ledger.transaction import TransactionBuilder
from p2petd.units import NO_UPPER_BOUND, SECOND_NS, TimeNs
from p2petd.vault.selection import Coin


async def expire_energy(ctx: FlowContext, arguments: EnergyExpireArguments) -> bytes:
    """Destroy our unreserved energy of the type, period and zone: as many lots as one transaction takes."""
    wanted = arguments.energy
    need_selection(wanted)
    expires_ns = wanted.delivery_end_ns + ctx.parameters.reading_deadline_ns
    if ctx.started_at_ns < expires_ns:
        left_s = -(-(expires_ns - ctx.started_at_ns) // SECOND_NS)
        raise FlowArgumentsInvalid(f"the reading of this period may still come for {left_s} s; expire the energy then")

    def of_one_notary(lots: Sequence[Coin]) -> Sequence[Coin]:
        return most_alike(lots, lambda lot: lot.output.notary, ctx.parameters.inputs_max)

    ctx.progress("selecting energy")
    lots = await lock_lots(ctx, wanted, of_one_notary)

    ctx.progress("retrieving notary")
    ctx.progress("building")
    builder = TransactionBuilder(lots[0].output.notary, ctx.parameters_hash)
    builder.window(TimeNs(expires_ns), NO_UPPER_BOUND)
    for lot in lots:
        builder.add_input(lot.ref, lot.output.raw)
    builder.add_command(energy.NAME, EnergyExpire(), [ctx.me])
    draft = ctx.history.build(builder, ctx.random("salt"))
    ctx.ledger.check_draft(draft)

    ctx.progress("signing")
    proofs = tuple(ctx.vault.input_proof(lot.ref) for lot in lots)
    return await finalise(ctx, draft.signed([ctx.ledger.sign(draft.id)]), proofs, ())


FLOW = FlowDefinition(
    name="energy.expire",
    version=1,
    arguments=EnergyExpireArguments,
    description="Destroy energy whose meter reading never came",
    initiator=expire_energy,
    responder=None,
)
