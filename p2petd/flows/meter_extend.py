"""meter.extend: a registrar moves the end of a registration to a later time."""

from dataclasses import replace

from p2pet.flows.v1.arguments_pb2 import MeterExtendArguments

from p2petd.contracts import meter
from p2petd.contracts.meter import MeterExtend
from p2petd.errors import FlowArgumentsInvalid
from p2petd.flows.arguments import need_text
from p2petd.flows.context import FlowContext
from p2petd.flows.finality import finalise, receive_final
from p2petd.flows.registrations import lock_registration, need_registrar, utc
from p2petd.flows.registry import FlowDefinition
from p2petd.ledger.transaction import TransactionBuilder
from p2petd.units import TimeNs


async def extend_registration(ctx: FlowContext, arguments: MeterExtendArguments) -> bytes:
    """Let the last registration of a meter end later; nothing else of it changes."""
    need_registrar(ctx)
    need_text("meter", arguments.meter)
    found = await lock_registration(ctx, arguments.meter, "", None)
    if arguments.valid_until_ns <= found.state.valid_until_ns:
        raise FlowArgumentsInvalid(f"valid_until_ns must be later than now: {utc(found.state.valid_until_ns)}")

    ctx.progress("retrieving notary")
    ctx.progress("building")
    later = replace(found.state, valid_until_ns=TimeNs(arguments.valid_until_ns))
    builder = TransactionBuilder(found.coin.output.notary, ctx.parameters_hash)
    builder.add_input(found.coin.ref, found.coin.output.raw)
    builder.add_output(meter.NAME, meter.VERSION, later)
    builder.add_command(meter.NAME, MeterExtend(), [ctx.me])
    draft = builder.build(ctx.random("salt"))
    ctx.ledger.check_draft(draft)

    ctx.progress("signing")
    proofs = (ctx.vault.input_proof(found.coin.ref),)
    return await finalise(ctx, draft.signed([ctx.ledger.sign(draft.id)]), proofs, (found.state.producer,))


async def hear_of_extension(ctx: FlowContext, registrar: bytes) -> bytes:
    """Record the new registration of our meter."""
    return await receive_final(ctx, registrar)


FLOW = FlowDefinition(
    name="meter.extend",
    version=1,
    arguments=MeterExtendArguments,
    description="Let a meter's registration end later, as a registrar",
    initiator=extend_registration,
    responder=hear_of_extension,
)
