"""meter.reassign: from some time on, another notary takes a meter's issues."""

from collections.abc import Sequence
from dataclasses import replace

from p2pet.flows.v1.arguments_pb2 import MeterReassignArguments

from p2petd.contracts import meter
from p2petd.contracts.identifiers import LOT_UNITS_MAX, issue_claims
from p2petd.contracts.meter import MeterReassign, MeterRegistration
from p2petd.errors import FlowArgumentsInvalid, FlowError
from p2petd.flows.arguments import need_text
from p2petd.flows.context import FlowContext
from p2petd.flows.cosigning import cosign, finalise_with, signing_deadline
from p2petd.flows.registrations import Registered, lock_registration, need_issue_notary, need_registrar
from p2petd.flows.registrations_moved import await_move, move_registration
from p2petd.flows.registry import FlowDefinition
from p2petd.ledger.resolved import LedgerTransaction, OutputState
from p2petd.ledger.transaction import TransactionBuilder
from p2petd.units import NO_LOWER_BOUND, TimeNs

EARLIER, LATER = 0, 1


async def reassign_meter(ctx: FlowContext, arguments: MeterReassignArguments) -> bytes:
    """Cut the last registration of a meter at `from_ns`; the later part moves to another notary."""
    need_registrar(ctx)
    need_text("meter", arguments.meter)
    need_issue_notary(ctx, arguments.issue_notary)
    found = await lock_registration(ctx, arguments.meter, "", None)
    _check_cut(ctx, found, arguments)

    ctx.progress("retrieving notary")
    ctx.progress("building")
    cut_ns, until_ns = TimeNs(arguments.from_ns), found.state.valid_until_ns
    builder = TransactionBuilder(found.coin.output.notary, ctx.parameters_hash)
    builder.window(NO_LOWER_BOUND, signing_deadline(ctx))
    builder.add_input(found.coin.ref, found.coin.output.raw)
    builder.add_output(meter.NAME, meter.VERSION, replace(found.state, valid_until_ns=cut_ns, followed=True))
    later = replace(found.state, valid_from_ns=cut_ns, issue_notary=arguments.issue_notary)
    builder.add_output(meter.NAME, meter.VERSION, later)
    builder.add_command(meter.NAME, MeterReassign(), sorted({ctx.me, found.state.producer}))
    for claim in issue_claims(arguments.meter, cut_ns, until_ns, ctx.parameters.market_time_unit_ns):
        builder.add_claim(claim)
    draft = builder.build(ctx.random("salt"))
    ctx.ledger.check_draft(draft)

    proofs = (ctx.vault.input_proof(found.coin.ref),)
    cut = await finalise_with(ctx, found.state.producer, draft, proofs)
    await await_move(ctx, found.state.producer, draft, LATER)
    return cut


async def accept_reassignment(ctx: FlowContext, registrar: bytes) -> bytes:
    """Sign for another notary of our meter's issues, and move the later registration there."""

    def agree(resolved: LedgerTransaction) -> None:
        _only_our_meter(resolved, ctx.me)

    draft = await cosign(ctx, registrar, agree)
    await move_registration(ctx, draft, LATER, registrar)
    return draft.id


def _check_cut(ctx: FlowContext, found: Registered, arguments: MeterReassignArguments) -> None:
    """Raises FlowArgumentsInvalid before a cut makes more claims than a transaction may have."""
    state, unit_ns = found.state, ctx.parameters.market_time_unit_ns
    if arguments.issue_notary == state.issue_notary:
        raise FlowArgumentsInvalid(f"this notary takes the issues of meter {state.meter!r} already")
    if not state.valid_from_ns < arguments.from_ns < state.valid_until_ns:
        raise FlowArgumentsInvalid(f"from_ns must lie inside the last registration of the meter: {found.period}")
    units = (state.valid_until_ns - arguments.from_ns) // unit_ns
    if units > LOT_UNITS_MAX:
        raise FlowArgumentsInvalid(
            f"from_ns leaves {units} market time units to move, at most {LOT_UNITS_MAX} are moved at once"
        )


def _only_our_meter(resolved: LedgerTransaction, producer: bytes) -> None:
    """Raises FlowError unless the transaction only cuts a registration of ours, of the meter's last period."""
    if [command.type_name for command, _ in resolved.commands] != [MeterReassign.type_name]:
        raise FlowError("only the reassignment of a meter is accepted here")
    states: Sequence[OutputState] = [*(state for _, state in resolved.inputs), *resolved.outputs]
    for state in states:
        if MeterRegistration.from_payload(state.payload).producer != producer:
            raise FlowError("the reassignment is of a meter of somebody else")


FLOW = FlowDefinition(
    name="meter.reassign",
    version=1,
    arguments=MeterReassignArguments,
    description="Let another notary take a meter's issues from some time on, as a registrar",
    initiator=reassign_meter,
    responder=accept_reassignment,
)
