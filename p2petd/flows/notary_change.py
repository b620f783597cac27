"""ledger.notary_change: states of this node move to another notary, in as few transactions as they fit into."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from p2pet.flows.v1.arguments_pb2 import NotaryChangeArguments
from p2pet.flows.v1.sessions_pb2 import MovesAnnounced
from p2pet.store.v1.store_pb2 import StateRow

from p2petd.contracts import energy
from p2petd.contracts.registry import installed
from p2petd.errors import FlowArgumentsInvalid, FlowError, NodeError
from p2petd.flows.context import FlowContext
from p2petd.flows.finality import receive_final
from p2petd.flows.moving import Group, batches, guards_of, move
from p2petd.flows.registry import FlowDefinition
from p2petd.ledger.groups import KEY_BYTES
from p2petd.ledger.refs import StateRef
from p2petd.ledger.resolved import OutputState
from p2petd.network.parameters import NotaryMode
from p2petd.store.changes import Reader, scan_prefix
from p2petd.store.tables import Table
from p2petd.vault.locks import SoftLocks
from p2petd.vault.parties import owner_of
from p2petd.vault.selection import Coin

# How many states one flow moves; when more are to move, it is started again.
STATES_MAX = 4096

Picker = Callable[[Reader, SoftLocks], Sequence[Coin]]


async def change_notary(ctx: FlowContext, arguments: NotaryChangeArguments) -> bytes:
    """Move the states, or all that another notary guards, to the notary; returns the id of the last transaction.

    Each transaction is atomic; between them a flow that a notary refuses ends, and what has moved stays moved.
    """
    notary = arguments.notary
    if len(notary) != KEY_BYTES or notary not in {listed.service_key for listed in ctx.parameters.notaries}:
        raise FlowArgumentsInvalid("notary must be the service key of a notary that the network parameters list")
    wanted = _refs(arguments)
    ctx.progress("choosing states")
    pick = _named(ctx.me, notary, wanted) if wanted else _all(ctx, notary)
    coins = await ctx.vault.lock_chosen("choose states", pick)
    if not coins:
        raise FlowError("this node has no unreserved state that could move to this notary")

    moves = batches(_groups(coins), ctx.parameters.inputs_max)
    told = [_participants(ctx.me, batch) for batch in moves]
    for peer, count in sorted(Counter(peer for peers in told for peer in peers).items()):
        ctx.send(peer, MovesAnnounced(transactions=count))
    last = b""
    for batch, peers in zip(moves, told, strict=True):
        last, _ = await ctx.sub_flow("moving", move(ctx, batch, notary, peers))
    return last


async def follow_moves(ctx: FlowContext, owner: bytes) -> bytes:
    """Record that states which we take part in are guarded by another notary now."""
    announced = await ctx.receive(owner, MovesAnnounced)
    if not 1 <= announced.transactions <= STATES_MAX:
        raise FlowError(f"1 to {STATES_MAX} transactions can be announced, not {announced.transactions}")
    last = b""
    for _ in range(announced.transactions):
        last = await receive_final(ctx, owner)
    return last


def _refs(arguments: NotaryChangeArguments) -> tuple[StateRef, ...]:
    """Raises FlowArgumentsInvalid, MalformedTransaction."""
    if len(set(arguments.states)) != len(arguments.states) or len(arguments.states) > STATES_MAX:
        raise FlowArgumentsInvalid(f"states must be distinct, and {STATES_MAX} at most")
    return tuple(StateRef.decode(ref) for ref in arguments.states)


def _named(me: bytes, notary: bytes, wanted: Sequence[StateRef]) -> Picker:
    """Exactly these states, with their companions. Raises FlowError that says which one cannot move, and why."""

    def pick(store: Reader, locks: SoftLocks) -> Sequence[Coin]:
        coins: dict[StateRef, Coin] = {}
        for ref in wanted:
            for coin in _cycle(store, locks, me, ref):
                if coin.output.notary == notary:
                    raise FlowError(f"the state {ref} is guarded by this notary already")
                coins[coin.ref] = coin
        return list(coins.values())

    return pick


def _all(ctx: FlowContext, notary: bytes) -> Picker:
    """The first STATES_MAX that can move. States whose contract holds them here, or whose companion does, stay.

    So does energy when a uniqueness-only notary shall take over: it could not be delivered there, nor come back.
    """
    listed = {one.service_key: one.mode for one in ctx.parameters.notaries}
    unseeing = frozenset(key for key, mode in listed.items() if mode is NotaryMode.UNIQUENESS_ONLY)
    me, movable = ctx.me, guards_of(ctx).movable | (unseeing if notary in unseeing else frozenset())
    parameters = ctx.parameters.contract_parameters()

    def can_move(coin: Coin) -> bool:
        if coin.output.notary == notary or coin.output.notary not in movable:
            return False
        if coin.output.contract == energy.NAME and notary in unseeing and coin.output.notary not in unseeing:
            return False
        try:
            installed().may_move(coin.output, notary, parameters)
        except NodeError:
            return False
        return True

    def pick(store: Reader, locks: SoftLocks) -> Sequence[Coin]:
        coins: dict[StateRef, Coin] = {}
        for ref in _unconsumed(store):
            if ref in coins:
                continue
            try:
                group = _cycle(store, locks, me, ref)
            except FlowError:
                continue
            if all(can_move(coin) for coin in group) and len(coins) + len(group) <= STATES_MAX:
                coins.update((coin.ref, coin) for coin in group)
        return list(coins.values())

    return pick


def _unconsumed(store: Reader) -> Iterator[StateRef]:
    for key, row in scan_prefix(store, Table.STATE, b""):
        if not StateRow.FromString(row).consumed_by:
            yield StateRef.decode(key)


def _cycle(store: Reader, locks: SoftLocks, me: bytes, ref: StateRef) -> Group:
    """The state and its companions. Raises FlowError unless all are here, unconsumed, unreserved, and ours."""
    coins = [_own(store, locks, me, ref)]
    while coins[-1].output.encumbered_by:
        companion = StateRef(ref.transaction_id, coins[-1].output.encumbered_by - 1)
        if any(coin.ref == companion for coin in coins):
            break
        coins.append(_own(store, locks, me, companion))
    return tuple(coins)


def _own(store: Reader, locks: SoftLocks, me: bytes, ref: StateRef) -> Coin:
    row = store.get(Table.STATE, ref.encode())
    state = None if row is None else StateRow.FromString(row)
    if state is None:
        raise FlowError(f"this node does not hold the state {ref}")
    output = OutputState.decode(state.output)
    if state.consumed_by or owner_of(output) != me:
        raise FlowError(f"the state {ref} is consumed, or this node's key alone cannot move it")
    if locks.is_locked(ref.encode()):
        raise FlowError(f"the state {ref} is reserved by another flow")
    return Coin(ref, output)


def _groups(coins: Sequence[Coin]) -> list[Group]:
    """Companions together; the coins are chosen with all of theirs."""
    by_ref = {coin.ref: coin for coin in coins}
    groups: list[Group] = []
    while by_ref:
        ref, coin = next(iter(by_ref.items()))
        group = [by_ref.pop(ref)]
        while coin.output.encumbered_by:
            companion = by_ref.pop(StateRef(ref.transaction_id, coin.output.encumbered_by - 1), None)
            if companion is None:
                break
            group.append(companion)
            coin = companion
        groups.append(tuple(group))
    return groups


def _participants(me: bytes, batch: Group) -> tuple[bytes, ...]:
    """Whose vaults keep one of these states beside ours."""
    return tuple(sorted({key for coin in batch for key in installed().parties(coin.output)[1]} - {me}))


FLOW = FlowDefinition(
    name="ledger.notary_change",
    version=1,
    arguments=NotaryChangeArguments,
    description="Move states to another notary",
    initiator=change_notary,
    responder=follow_moves,
)
