"""meter.end: a registrar ends a registration."""

from p2pet.flows.v1.arguments_pb2 import MeterEndArguments

from p2petd.contracts import meter
from p2petd.contracts.meter import MeterEnd
from p2petd.flows.arguments import need_text
from p2petd.flows.context import FlowContext
from p2petd.flows.finality import finalise, receive_final
from p2petd.flows.registrations import lock_registration, need_registrar, utc
from p2petd.flows.registry import FlowDefinition
from p2petd.ledger.transaction import TransactionBuilder


async def end_registration(ctx: FlowContext, arguments: MeterEndArguments) -> bytes:
    """Nothing more is issued under this registration; what was issued stays."""
    need_registrar(ctx)
    need_text("meter", arguments.meter)
    begins_ns = arguments.valid_from_ns or None
    which = f" that begins at {utc(begins_ns)}" if begins_ns else ""
    found = await lock_registration(ctx, arguments.meter, which, begins_ns)

    ctx.progress("retrieving notary")
    ctx.progress("building")
    builder = TransactionBuilder(found.coin.output.notary, ctx.parameters_hash)
    builder.add_input(found.coin.ref, found.coin.output.raw)
    builder.add_command(meter.NAME, MeterEnd(), [ctx.me])
    draft = builder.build(ctx.random("salt"))
    ctx.ledger.check_draft(draft)

    ctx.progress("signing")
    proofs = (ctx.vault.input_proof(found.coin.ref),)
    return await finalise(ctx, draft.signed([ctx.ledger.sign(draft.id)]), proofs, (found.state.producer,))


async def hear_of_end(ctx: FlowContext, registrar: bytes) -> bytes:
    """Record that the registration of our meter is no more."""
    return await receive_final(ctx, registrar)


FLOW = FlowDefinition(
    name="meter.end",
    version=1,
    arguments=MeterEndArguments,
    description="End a meter's registration, as a registrar",
    initiator=end_registration,
    responder=hear_of_end,
)
