"""ledger.recover: a node that has lost its vault, and not its keys, gets back what others know of it.

Every party is asked for the transactions in which both take part, and every notary which of the states that came back
are consumed. Nobody is believed: each transaction is verified as if it were new. What only this node took part in, such
as an issue of its own that it never traded, nobody else has: it does not come back.
"""

from collections.abc import Sequence
from functools import partial

from google.protobuf.message import DecodeError
from p2pet.flows.v1.arguments_pb2 import LedgerRecoverArguments
from p2pet.flows.v1.sessions_pb2 import SharedRequest
from p2pet.notary.v1.notary_pb2 import SpentReply, SpentRequest

from p2petd.errors import FlowArgumentsInvalid, HistoryUnavailable, RecoveryIncomplete, UnknownParty
from p2petd.flows.arguments import need_party
from p2petd.flows.context import FlowContext
from p2petd.flows.flow_recovery import Counts
from p2petd.flows.recovery import ASK, PAGE_ID_BYTES, ask_request, read_answer
from p2petd.flows.registry import FlowDefinition
from p2petd.flows.shared_service import SHARED
from p2petd.ledger.groups import KEY_BYTES
from p2petd.ledger.refs import STATE_REF_BYTES
from p2petd.notary.queries import SPENT

PARTIES_MAX = 10_000
# A party that hands out more is asked no further: nobody has taken part in so much with it.
PAGES_MAX = 20_000


async def recover(ctx: FlowContext, arguments: LedgerRecoverArguments) -> bytes | None:
    """Record what the parties share with this node, and mark what the notaries have seen consumed.

    It changes nothing that is recorded already, so it may be run at any time, and again after it was incomplete. Raises
    RecoveryIncomplete, naming who did not answer or answered what is not true; what has come is kept.
    """
    found, failures = Counts(), list[str]()
    for party in await _parties(ctx, arguments):
        found, failure = await _take_from(ctx, party, found)
        if failure:
            failures.append(f"{_name(ctx, party)}: {failure}")
    unknown, silent = await _compare_with_notaries(ctx)
    failures += silent
    summary = f"recovered {found.transactions} transactions with {found.states} states of this node"
    if unknown:
        summary += f"; {unknown} states are consumed by transactions that nobody has given"
    ctx.progress(summary)
    if failures:
        raise RecoveryIncomplete(f"{summary}; not all answered: {'; '.join(failures)}")
    return None


async def _parties(ctx: FlowContext, arguments: LedgerRecoverArguments) -> Sequence[bytes]:
    """Whom to ask; journaled, since nodes come and go. Raises FlowArgumentsInvalid, UnknownParty."""
    if len(arguments.parties) > PARTIES_MAX:
        raise FlowArgumentsInvalid(f"at most {PARTIES_MAX} parties can be asked at once")
    for number, party in enumerate(arguments.parties):
        await need_party(ctx, f"party {number}", party)

    def chosen() -> bytes:
        everybody = [node.identity for node in ctx.network_map.nodes]
        return b"".join(dict.fromkeys(one for one in (arguments.parties or everybody) if one != ctx.me))

    keys = await ctx.once("choose parties", chosen)
    return [keys[at : at + KEY_BYTES] for at in range(0, len(keys), KEY_BYTES)]


async def _take_from(ctx: FlowContext, party: bytes, found: Counts) -> tuple[Counts, str]:
    """Record page after page of what the party shares; what was found by then, and what went wrong, if anything."""
    after = b""
    for _ in range(PAGES_MAX):
        ctx.progress(f"asking {_name(ctx, party)}; {found.transactions} transactions so far")
        request = SharedRequest(after=after).SerializeToString()
        answer = await ctx.call(ctx.me, ASK, ask_request(party, SHARED, request))
        try:
            page = read_answer(answer)
        except HistoryUnavailable as error:
            return found, error.message
        recorded = await ctx.once("record page", partial(ctx.recovery.record_page, page[:PAGE_ID_BYTES]))
        if not recorded:
            # A restart has lost the page before it was recorded.
            continue
        found += Counts.decode(recorded)
        following = page[PAGE_ID_BYTES:]
        if not following:
            return found, ""
        if following <= after:
            return found, "it hands out the same again and again"
        after = following
    return found, f"it hands out more than {PAGES_MAX} pages"


async def _compare_with_notaries(ctx: FlowContext) -> tuple[int, list[str]]:
    """How many states are consumed by what nobody has given, and what kept notaries from saying."""
    after, marked, silent = b"", 0, dict[str, None]()
    # What this batch records is seen only from the next one on.
    await ctx.pause_for(0)
    while True:
        ctx.progress("asking the notaries what is consumed")
        chosen = await ctx.once("choose states", partial(ctx.recovery.unconsumed, after))
        if not chosen:
            return marked, list(silent)
        after = chosen[:STATE_REF_BYTES]
        refs = [chosen[at : at + STATE_REF_BYTES] for at in range(STATE_REF_BYTES, len(chosen), STATE_REF_BYTES)]
        for notary, guarded in ctx.recovery.by_notary(refs).items():
            try:
                hashes = await _spent(ctx, notary, guarded)
            except HistoryUnavailable as error:
                silent[error.message] = None
                continue
            marked += Counts.decode(await ctx.once("compare", partial(ctx.recovery.compare, guarded, hashes))).states


async def _spent(ctx: FlowContext, notary: bytes, refs: Sequence[bytes]) -> Sequence[bytes]:
    """For each state SHA-256 of its consumer's id, empty for none. Raises HistoryUnavailable naming the notary."""
    try:
        worker = ctx.network_map.notary_workers(notary)[0].identity
    except UnknownParty:
        worker = b"\x00" * KEY_BYTES
    request = SpentRequest(refs=refs).SerializeToString()
    answer = await ctx.call(ctx.me, ASK, ask_request(worker, SPENT, request))
    try:
        hashes = SpentReply.FromString(read_answer(answer)).consumer_hashes
    except (HistoryUnavailable, DecodeError) as error:
        raise HistoryUnavailable(f"{_name(ctx, worker)}, a notary: {error}") from None
    if len(hashes) != len(refs):
        raise HistoryUnavailable(f"{_name(ctx, worker)}, a notary, answers another question than it was asked")
    return hashes


def _name(ctx: FlowContext, party: bytes) -> str:
    """For people; nothing is decided by it."""
    try:
        return ctx.network_map.by_identity(party).name
    except UnknownParty:
        return f"the node {party.hex()}, which the network map lacks"


FLOW = FlowDefinition(
    name="ledger.recover",
    version=1,
    arguments=LedgerRecoverArguments,
    description="Get back a lost vault: what other parties and the notaries know of this node",
    initiator=recover,
    responder=None,
)
