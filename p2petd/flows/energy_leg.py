"""The energy leg of a transaction: choosing lots, moving them, change."""

from collections.abc import Sequence
from dataclasses import replace

from p2pet.flows.v1.arguments_pb2 import EnergySelection

from p2petd.contracts import energy
from p2petd.errors import FlowArgumentsInvalid
from p2petd.flows.arguments import need_text
from p2petd.flows.context import FlowContext
from p2petd.flows.moving import guards_of
from p2petd.ledger.transaction import TransactionBuilder
from p2petd.units import WattHours
from p2petd.vault.buckets import energy_bucket
from p2petd.vault.selection import Coin
from p2petd.vault.spread import select_spread


def need_selection(wanted: EnergySelection) -> None:
    """Raises FlowArgumentsInvalid."""
    need_text("energy.energy_type", wanted.energy_type)
    if wanted.delivery_start_ns >= wanted.delivery_end_ns:
        raise FlowArgumentsInvalid("the delivery period must start before it ends")


async def lock_energy(
    ctx: FlowContext, wanted: EnergySelection, quantity_wh: int, notary: bytes = b""
) -> tuple[Coin, ...]:
    """Own lots of the wanted type, period and zone: of one notary where one suffices, of `notary` rather than another.

    Else of several, to be moved together. Raises InsufficientFunds naming the shortfall.
    """
    bucket = energy_bucket(wanted.energy_type, wanted.delivery_start_ns, wanted.delivery_end_ns, wanted.zone)
    what, inputs_max, guards = f"Wh of {wanted.energy_type}", ctx.parameters.inputs_max, guards_of(ctx, notary)
    return await ctx.vault.lock_chosen(
        "lock energy",
        lambda store, locks: select_spread(store, locks, bucket, quantity_wh, inputs_max, what, guards),
    )


def add_energy(builder: TransactionBuilder, lots: Sequence[Coin], quantity_wh: int, to: bytes) -> None:
    """Consume the lots; `quantity_wh` of them to the new owner, what is left of the last one back to the old."""
    left = quantity_wh
    for lot in lots:
        builder.add_input(lot.ref, lot.output.raw)
        moved = min(left, lot.energy.quantity_wh)
        left -= moved
        rest = lot.energy.quantity_wh - moved
        if moved:
            state = replace(lot.energy, quantity_wh=WattHours(moved), owner=to)
            builder.add_output(energy.NAME, lot.output.contract_version, state)
        if rest:
            builder.add_output(
                energy.NAME, lot.output.contract_version, replace(lot.energy, quantity_wh=WattHours(rest))
            )
    assert left == 0
