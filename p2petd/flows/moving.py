"""Moving states to another notary: the step by which flows bring what they spend under one notary."""

from collections.abc import Iterable, Sequence

from p2petd.contracts.registry import installed
from p2petd.errors import FlowError
from p2petd.flows.agreement import SIGNING_WINDOW_NS
from p2petd.flows.context import FlowContext
from p2petd.flows.finality import finalise
from p2petd.ledger.notary_change import notary_change
from p2petd.ledger.refs import StateRef
from p2petd.ledger.resolved import OutputState
from p2petd.ledger.transaction import Draft
from p2petd.network.parameters import NetworkParameters, NotaryMode
from p2petd.units import TimeNs
from p2petd.vault.selection import Coin
from p2petd.vault.spread import Guards, most_guarding

Group = tuple[Coin, ...]


def guards_of(ctx: FlowContext, preferred: bytes = b"") -> Guards:
    """The verifying notaries of the network, the preferred one first; states of uniqueness-only ones never move."""
    listed = verifying(ctx.parameters)
    versions = [signed.parameters for signed in ctx.network_map.parameters.values()]
    ever = frozenset(notary for version in versions for notary in verifying(version))
    return Guards(tuple(sorted(listed, key=lambda notary: notary != preferred)), ever)


def verifying(parameters: NetworkParameters) -> tuple[bytes, ...]:
    """The service keys of the verifying notaries that these parameters list, in their order."""
    return tuple(notary.service_key for notary in parameters.notaries if notary.mode is NotaryMode.VERIFYING)


def main_notary(ctx: FlowContext, coins: Sequence[Coin]) -> bytes:
    """The listed notary that guards most of the coins' worth; of coins that no listed one guards, the first listed."""
    listed = tuple(notary.service_key for notary in ctx.parameters.notaries)
    return most_guarding(coins, listed) or ctx.notary()


async def gather(ctx: FlowContext, coins: Sequence[Coin]) -> tuple[Coin, ...]:
    """The coins, in order, under one listed notary: that of `main_notary`. Those of others are moved there first."""
    ctx.progress("retrieving notary")
    return await move_to(ctx, coins, main_notary(ctx, coins))


async def signing_window(ctx: FlowContext, chosen: Sequence[Coin], gathered: Sequence[Coin]) -> TimeNs:
    """The end of the window in which a transaction with these inputs is signed: so long after the flow started, or
    after they were moved."""
    began_ns = ctx.started_at_ns if tuple(chosen) == tuple(gathered) else await ctx.now_ns("moved at")
    return TimeNs(began_ns + SIGNING_WINDOW_NS)


async def move_to(ctx: FlowContext, coins: Sequence[Coin], notary: bytes) -> tuple[Coin, ...]:
    """The coins, in order, as `notary` guards them; those of other notaries are moved, and stay reserved for the flow.

    They have no companions, and this flow has reserved them. A notary that is down is waited for. Raises FlowError for
    a notary that is not listed or that they cannot be moved to, NotaryError when one that guards them now refuses.
    """
    elsewhere = [coin for coin in coins if coin.output.notary != notary]
    moved: dict[StateRef, Coin] = {}
    for batch in batches([(coin,) for coin in elsewhere], ctx.parameters.inputs_max):
        _, after = await ctx.sub_flow("moving to another notary", move(ctx, batch, notary, ()))
        await ctx.vault.reserve("reserve moved states", [coin.ref for coin in after])
        moved.update({before.ref: coin for before, coin in zip(batch, after, strict=True)})
    return tuple(moved.get(coin.ref, coin) for coin in coins)


def batches(groups: Iterable[Group], inputs_max: int) -> list[Group]:
    """The groups joined into transactions: each of one notary and at most `inputs_max` states, groups kept whole.

    Raises FlowError for a group that is larger than that.
    """
    filled: list[Group] = []
    open_batches: dict[bytes, Group] = {}
    for group in groups:
        if len(group) > inputs_max:
            raise FlowError(f"{len(group)} states must move together, and a transaction has {inputs_max} at most")
        notary = group[0].output.notary
        begun = open_batches.get(notary, ())
        if len(begun) + len(group) > inputs_max:
            filled.append(begun)
            begun = ()
        open_batches[notary] = begun + group
    return filled + list(open_batches.values())


async def check_movable(
    ctx: FlowContext, owner: bytes, states: Sequence[tuple[StateRef, bytes, bytes]], notary: bytes
) -> None:
    """Returns when `owner` alone could move the states, (reference, component, input proof) each, to `notary`.

    The move is drawn up and checked as a proposal that nobody has signed: so the states exist, as far as their proofs
    can tell. Raises what `FlowLedger.check_proposal` raises, FlowError for one that a notary guards whose states do not
    move.
    """
    by_notary: dict[bytes, list[tuple[StateRef, bytes, bytes]]] = {}
    for state in states:
        by_notary.setdefault(OutputState.decode(state[1]).notary, []).append(state)
    by_notary.pop(notary, None)
    for guard, guarded in by_notary.items():
        if guard not in guards_of(ctx).movable:
            raise FlowError("the states of this notary cannot be moved to a verifying one")
        draft = notary_change(
            [(ref, component) for ref, component, _ in guarded],
            notary,
            parameters_hash=citable(ctx, guard)[0],
            signers=[owner],
            salt=ctx.random(f"salt of the trial move of {guarded[0][0]}"),
        )
        await ctx.ledger.check_proposal(draft.proposal((), [proof for _, _, proof in guarded]).encode(), peer=owner)


async def move(
    ctx: FlowContext, batch: Group, notary: bytes, tell: tuple[bytes, ...]
) -> tuple[bytes, tuple[Coin, ...]]:
    """Move states of one notary, with their companions, in one transaction; its id, and the states after it, in order.

    Raises as `move_to`.
    """
    draft = _draft(ctx, batch, notary)
    ctx.ledger.check_draft(draft)
    proofs = tuple(ctx.vault.input_proof(coin.ref) for coin in batch)
    transaction_id = await finalise(ctx, draft.signed([ctx.ledger.sign(draft.id)]), proofs, tell)
    after = [OutputState.decode(component) for component in draft.outputs]
    return transaction_id, tuple(Coin(StateRef(transaction_id, n), output) for n, output in enumerate(after))


def _draft(ctx: FlowContext, batch: Group, notary: bytes) -> Draft:
    old = batch[0].output.notary
    parameters_hash, old_mode = citable(ctx, old)
    mode = ctx.parameters.mode_of(notary)
    if mode is None:
        raise FlowError(f"the network parameters list no notary {notary.hex()}")
    if old_mode is NotaryMode.UNIQUENESS_ONLY and mode is NotaryMode.VERIFYING:
        raise FlowError("states do not move from a notary that sees uniqueness only to a verifying one")
    locks = mode is NotaryMode.UNIQUENESS_ONLY
    return notary_change(
        [(coin.ref, coin.output.raw) for coin in batch],
        notary,
        parameters_hash=parameters_hash,
        signers=[ctx.me],
        # One flow may make many: each has its own salt.
        salt=ctx.random(f"salt of the move of {batch[0].ref}"),
        lock_owners=[installed().parties(coin.output)[0] for coin in batch] if locks else (),
    )


def citable(ctx: FlowContext, notary: bytes) -> tuple[bytes, NotaryMode]:
    """The flow's parameters when they list the notary, else the newest that do; with its mode there."""
    versions = sorted(ctx.network_map.parameters.items(), key=lambda entry: entry[1].parameters.version, reverse=True)
    for parameters_hash, parameters in [
        (ctx.parameters_hash, ctx.parameters),
        *((h, s.parameters) for h, s in versions),
    ]:
        mode = parameters.mode_of(notary)
        if mode is not None:
            return parameters_hash, mode
    raise FlowError(f"no version of the network parameters lists the notary {notary.hex()}")
