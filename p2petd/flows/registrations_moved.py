"""A registration goes to the notary that it names: its producer moves it, and the registrar hears of it."""

from p2petd.contracts.meter import MeterRegistration
from p2petd.flows.context import FlowContext
from p2petd.flows.finality import receive_final
from p2petd.flows.moving import move
from p2petd.ledger.refs import StateRef
from p2petd.ledger.resolved import OutputState
from p2petd.ledger.transaction import Draft
from p2petd.vault.selection import Coin


async def move_registration(ctx: FlowContext, draft: Draft, index: int, registrar: bytes) -> None:
    """Move the registration that this node, its producer, has just recorded as output `index` of the draft."""
    output = OutputState.decode(draft.outputs[index])
    notary = MeterRegistration.from_payload(output.payload).issue_notary
    registration = Coin(StateRef(draft.id, index), output)
    await ctx.sub_flow("moving to another notary", move(ctx, (registration,), notary, (registrar,)))


async def await_move(ctx: FlowContext, producer: bytes, draft: Draft, index: int) -> None:
    """The same for the registrar: wait until the producer has moved it, and record that."""
    if producer == ctx.me:
        await move_registration(ctx, draft, index, ctx.me)
        return
    ctx.progress("waiting for the producer to move it")
    await receive_final(ctx, producer)
