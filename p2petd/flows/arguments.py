"""Checks of flow arguments: one clear sentence that names the argument, before anything is locked or built."""

from p2petd.errors import FlowArgumentsInvalid
from p2petd.flows.context import FlowContext
from p2petd.ledger.groups import KEY_BYTES

TEXT_BYTES_MAX = 128


def need_text(name: str, value: str) -> None:
    """Raises FlowArgumentsInvalid unless 1 to TEXT_BYTES_MAX bytes."""
    if not 1 <= len(value.encode()) <= TEXT_BYTES_MAX:
        raise FlowArgumentsInvalid(f"{name} must be a text of 1 to {TEXT_BYTES_MAX} bytes")


def need_positive(name: str, value: int) -> None:
    if value <= 0:
        raise FlowArgumentsInvalid(f"{name} must be above zero, not {value}")


async def need_party(ctx: FlowContext, name: str, key: bytes) -> None:
    """Raises FlowArgumentsInvalid unless the key has the right length, UnknownParty unless the map has it, and
    CounterpartyBacklogged when too many messages wait for the party already.

    Journaled: a party that leaves the network must not end, at the next restart, a flow that goes on without it.
    """
    if len(key) != KEY_BYTES:
        raise FlowArgumentsInvalid(f"{name} must be the {KEY_BYTES}-byte identity key of a party, not {len(key)} bytes")
    await ctx.once(f"know {name}", lambda: ctx.counterparty(key))
