"""Choosing lots of this vault one by one, where it matters which they are and not only what they are worth."""

from collections.abc import Callable, Iterable, Sequence

from p2pet.flows.v1.arguments_pb2 import EnergySelection

from p2petd.errors import InsufficientFunds
from p2petd.flows.context import FlowContext
from p2petd.store.changes import Reader
from p2petd.vault.buckets import energy_bucket
from p2petd.vault.locks import SoftLocks
from p2petd.vault.selection import Coin, unreserved

Choice = Callable[[Sequence[Coin]], Sequence[Coin]]


async def lock_lots(ctx: FlowContext, wanted: EnergySelection, choose: Choice) -> tuple[Coin, ...]:
    """Reserve what `choose` picks of our unreserved lots of the wanted type, period and zone, the largest first.

    Raises InsufficientFunds when there is none, and what `choose` raises.
    """
    bucket = energy_bucket(wanted.energy_type, wanted.delivery_start_ns, wanted.delivery_end_ns, wanted.zone)

    def pick(store: Reader, locks: SoftLocks) -> Sequence[Coin]:
        lots = unreserved(store, locks, bucket)
        if not lots:
            raise InsufficientFunds(f"the vault holds no unreserved {wanted.energy_type} of this period and zone")
        return choose(lots)

    return await ctx.vault.lock_chosen("lock energy", pick)


def most_alike(lots: Iterable[Coin], likeness: Callable[[Coin], object], lots_max: int) -> Sequence[Coin]:
    """The largest group of lots that are alike, at most `lots_max` of it."""
    groups: dict[object, list[Coin]] = {}
    for lot in lots:
        groups.setdefault(likeness(lot), []).append(lot)
    return max(groups.values(), key=len, default=[])[:lots_max]
