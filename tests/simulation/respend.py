"""A flow that no honest node has: it spends again what its vault says is spent."""

from dataclasses import replace

from p2pet.flows.v1.arguments_pb2 import PaymentPayArguments
from p2pet.store.v1.store_pb2 import StateRow

from p2petd.contracts import payment
from p2petd.contracts.payment import PaymentPay, PaymentState
from p2petd.errors import FlowError
from p2petd.flows.context import FlowContext
from p2petd.flows.finality import finalise
from p2petd.flows.registry import FlowDefinition
from p2petd.ledger.refs import StateRef
from p2petd.ledger.resolved import OutputState
from p2petd.ledger.transaction import TransactionBuilder
from p2petd.store.changes import Reader, scan_prefix
from p2petd.store.tables import Table
from p2petd.units import NanoMoney
from p2petd.vault.selection import Coin


async def respend(ctx: FlowContext, arguments: PaymentPayArguments) -> bytes:
    """Pay ourselves with a coin that is gone. Raises NotaryConflict, or the notary is broken."""

    def spent(store: Reader) -> list[Coin]:
        found = []
        for ref, row in scan_prefix(store, Table.STATE, b""):
            state = StateRow.FromString(row)
            output = OutputState.decode(state.output)
            if state.consumed_by and output.contract == payment.NAME:
                coin = Coin(StateRef.decode(ref), output)
                if coin.money.owner == ctx.me:
                    found.append(coin)
        if not found:
            raise FlowError("nothing is spent yet")
        return [found[arguments.amount_nano % len(found)]]

    (coin,) = await ctx.vault.known("choose a spent coin", spent)
    builder = TransactionBuilder(coin.output.notary, ctx.parameters_hash)
    builder.add_input(coin.ref, coin.output.raw)
    state: PaymentState = replace(coin.money, amount_nano=NanoMoney(coin.money.amount_nano))
    builder.add_output(payment.NAME, payment.VERSION, state)
    builder.add_command(payment.NAME, PaymentPay(), [ctx.me])
    draft = ctx.history.build(builder, ctx.random("salt"))
    proofs = (ctx.vault.input_proof(coin.ref),)
    return await finalise(ctx, draft.signed([ctx.ledger.sign(draft.id)]), proofs, ())


FLOW = FlowDefinition(
    name="simulation.respend",
    version=1,
    arguments=PaymentPayArguments,
    description="Spend what is spent",
    initiator=respend,
    responder=None,
)
