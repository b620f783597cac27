"""meter.register: a registrar registers a producer's meter; the producer signs, and moves it to its notary."""

from p2pet.flows.v1.arguments_pb2 import MeterRegisterArguments

from p2petd.contracts import meter
from p2petd.contracts.identifiers import meter_claim
from p2petd.contracts.meter import MeterRegister, MeterRegistration
from p2petd.errors import FlowError
from p2petd.flows.arguments import need_party, need_positive, need_text
from p2petd.flows.context import FlowContext
from p2petd.flows.cosigning import cosign, finalise_with, signing_deadline
from p2petd.flows.registrations import need_issue_notary, need_registrar
from p2petd.flows.registrations_moved import await_move, move_registration
from p2petd.flows.registry import FlowDefinition
from p2petd.ledger.resolved import LedgerTransaction, OutputState
from p2petd.ledger.transaction import TransactionBuilder
from p2petd.units import NO_LOWER_BOUND, TimeNs


async def register_meter(ctx: FlowContext, arguments: MeterRegisterArguments) -> bytes:
    """Register a meter, once in the network's life; the id of the transaction that did."""
    need_registrar(ctx)
    need_text("meter", arguments.meter)
    need_positive("capacity_w", arguments.capacity_w)
    await need_party(ctx, "producer", arguments.producer)
    issue_notary = arguments.issue_notary or ctx.notary()
    need_issue_notary(ctx, issue_notary)
    ctx.progress("retrieving notary")
    ctx.progress("building")
    state = MeterRegistration(
        meter=arguments.meter,
        producer=arguments.producer,
        zone=arguments.zone,
        capacity_w=arguments.capacity_w,
        energy_types=tuple(sorted(set(arguments.energy_types))),
        issue_notary=issue_notary,
        valid_from_ns=TimeNs(arguments.valid_from_ns),
        valid_until_ns=TimeNs(arguments.valid_until_ns),
        registrar=ctx.me,
    )
    # All first registrations are made at one notary: it takes the claim of a name once.
    builder = TransactionBuilder(ctx.notary(), ctx.parameters_hash).window(NO_LOWER_BOUND, signing_deadline(ctx))
    builder.add_output(meter.NAME, meter.VERSION, state)
    builder.add_command(meter.NAME, MeterRegister(), sorted({ctx.me, arguments.producer}))
    builder.add_claim(meter_claim(arguments.meter))
    draft = builder.build(ctx.random("salt"))
    ctx.ledger.check_draft(draft)

    registered = await finalise_with(ctx, arguments.producer, draft, ())
    if issue_notary != ctx.notary():
        await await_move(ctx, arguments.producer, draft, 0)
    return registered


async def accept_registration(ctx: FlowContext, registrar: bytes) -> bytes:
    """Sign for the registration of a meter of ours, keep it, and move it to the notary of its issues."""

    def agree(resolved: LedgerTransaction) -> None:
        _only_our_meter(resolved, ctx.me, registrar)

    draft = await cosign(ctx, registrar, agree)
    state = MeterRegistration.from_payload(OutputState.decode(draft.outputs[0]).payload)
    if state.issue_notary != ctx.notary():
        await move_registration(ctx, draft, 0, registrar)
    return draft.id


def _only_our_meter(resolved: LedgerTransaction, producer: bytes, registrar: bytes) -> None:
    """Raises FlowError unless the transaction does nothing but register a meter of ours."""
    if [command.type_name for command, _ in resolved.commands] != [MeterRegister.type_name]:
        raise FlowError("only the registration of a meter is accepted here")
    if resolved.inputs or len(resolved.outputs) != 1:
        raise FlowError("a registration creates one state and consumes none")
    state = MeterRegistration.from_payload(resolved.outputs[0].payload)
    if state.producer != producer or state.registrar != registrar:
        raise FlowError("the registration names another producer or registrar than those who talk")


FLOW = FlowDefinition(
    name="meter.register",
    version=1,
    arguments=MeterRegisterArguments,
    description="Register a producer's meter, as a registrar of the network",
    initiator=register_meter,
    responder=accept_registration,
)
