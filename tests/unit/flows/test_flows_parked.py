"""A flow with a bug is parked: nothing is lost, its cause is told, and an operator runs it again or gives it up."""

import pytest
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_COMPLETED, FLOW_STATUS_FAILED, FLOW_STATUS_PARKED
from p2pet.store.v1.store_pb2 import InFlightRow

from p2petd.errors import FlowNotParked, UnknownFlow
from p2petd.flows import engine
from p2petd.flows.context import FlowContext
from p2petd.flows.events import Drop, Retry
from p2petd.ledger.refs import StateRef
from p2petd.store.tables import Table
from tests.support.engines import Follower
from tests.support.toys import Note, note, to, toy
from tests.unit.flows.conftest import Parties

TRANSACTION = b"t" * 32
REF = StateRef(TRANSACTION, 0)


class Fault:
    """Raises while it is there."""

    def __init__(self) -> None:
        self.present = True
        self.met = 0

    def meet(self) -> None:
        self.met += 1
        if self.present:
            raise ZeroDivisionError("secret words of the bug")


async def _hold(ctx: FlowContext) -> None:
    await ctx.vault.reserve("reserve", [REF])


def test_f06_a_bug_parks_the_flow_with_its_cause_and_keeps_what_it_holds(parties: Parties) -> None:
    fault, computed = Fault(), []

    async def work(ctx: FlowContext, _: bytes) -> None:
        await _hold(ctx)
        await ctx.once("compute", lambda: computed.append(1) or b"x")
        fault.meet()

    (home,) = parties(1, toy("work", work))
    flow_id = home.begin("work", client_id="mine")
    info = home.info(flow_id)
    assert (info.outcome.status, info.outcome.error_code) == (FLOW_STATUS_PARKED, "internal")
    assert "ZeroDivisionError in test_flows_parked.py, line " in info.outcome.error_message
    assert "secret" not in info.outcome.error_message
    assert (home.count(Table.LOCK), home.count(Table.STEP), home.engine.counters()["flows_standing"]) == (1, 2, 1)
    # Its client id still means this flow; others go on.
    assert home.begin("work", client_id="mine") == flow_id

    fault.present = False
    home.operate(Retry, flow_id)
    assert home.info(flow_id).outcome.status == FLOW_STATUS_COMPLETED
    assert (home.count(Table.LOCK), home.count(Table.STEP), computed) == (0, 0, [1])
    assert home.engine.counters()["flows_standing"] == 0


def test_f06_a_flow_that_fails_again_is_parked_again_and_survives_restarts(parties: Parties) -> None:
    fault = Fault()

    async def work(ctx: FlowContext, _: bytes) -> None:
        await _hold(ctx)
        fault.meet()

    (home,) = parties(1, toy("work", work))
    flow_id = home.begin("work")
    home.operate(Retry, flow_id)
    home.restart()
    assert (fault.met, home.info(flow_id).outcome.status) == (3, FLOW_STATUS_PARKED)
    fault.present = False
    # A start tries parked flows once.
    home.restart()
    assert home.info(flow_id).outcome.status == FLOW_STATUS_COMPLETED
    assert home.count(Table.LOCK) == 0


def test_f06_a_dropped_flow_frees_what_it_holds_and_cannot_be_retried(parties: Parties) -> None:
    fault = Fault()

    async def work(ctx: FlowContext, _: bytes) -> None:
        await _hold(ctx)
        fault.meet()

    (home,) = parties(1, toy("work", work))
    flow_id = home.begin("work")
    ended = home.operate(Drop, flow_id)
    assert ended is not None
    assert (ended.outcome.status, ended.outcome.error_code) == (FLOW_STATUS_FAILED, "flow.killed")
    assert (home.count(Table.LOCK), home.count(Table.STEP), home.count(Table.MAIL)) == (0, 0, 0)
    for operation in (Retry, Drop):
        with pytest.raises(FlowNotParked, match="is failed"):
            home.operate(operation, flow_id)
    home.restart()
    assert home.info(flow_id).outcome == ended.outcome


def test_f04_f06_the_peer_of_a_flow_with_a_bug_is_told_at_once_and_in_no_words(parties: Parties) -> None:
    fault = Fault()

    async def ask(ctx: FlowContext, peer: bytes) -> None:
        await ctx.ask(peer, note(), Note)

    async def answer(ctx: FlowContext, peer: bytes) -> None:
        await ctx.receive(peer, Note)
        fault.meet()

    home, other = parties(2, toy("ask", ask, answer))
    flow_id = home.begin("ask", to(other.identity))
    outcome = home.info(flow_id).outcome
    assert (outcome.status, outcome.error_code) == (FLOW_STATUS_FAILED, "flow.counterparty_failed")
    assert "Zero" not in outcome.error_message
    # The half with the bug is kept for its own operator; when it runs again it finds that nobody is there.
    parked = other.only(FLOW_STATUS_PARKED)
    other.operate(Drop, parked)
    assert other.info(parked).outcome.status == FLOW_STATUS_FAILED


def test_f06_a_retry_finds_the_session_ended_when_its_peer_was_told(parties: Parties) -> None:
    fault = Fault()

    async def ask(ctx: FlowContext, peer: bytes) -> None:
        ctx.send(peer, note())
        fault.meet()
        await ctx.receive(peer, Note)

    async def answer(ctx: FlowContext, peer: bytes) -> None:
        await ctx.receive(peer, Note)
        await ctx.receive(peer, Note)

    home, other = parties(2, toy("ask", ask, answer))
    flow_id = home.begin("ask", to(other.identity))
    assert home.info(flow_id).outcome.status == FLOW_STATUS_PARKED
    (theirs,) = other.rows().values()
    assert theirs.status == FLOW_STATUS_FAILED
    fault.present = False
    home.operate(Retry, flow_id)
    assert home.info(flow_id).outcome.error_code == "flow.counterparty_failed"


def test_f01_f06_a_retry_neither_repeats_nor_forgets_a_message(parties: Parties) -> None:
    """The bug lies between two messages that nothing durable separates."""
    fault, heard = Fault(), []

    async def tell(ctx: FlowContext, peer: bytes) -> None:
        await ctx.once("begin", lambda: b"")
        ctx.send(peer, note(b"one"))
        await ctx.ask(peer, note(b"two"), Note)
        ctx.send(peer, note(b"three"))
        # So its peers are not told of the bug, and it can go on with them.
        ctx.in_flight.begin(TRANSACTION, InFlightRow())
        fault.meet()
        ctx.send(peer, note(b"four"))
        await ctx.ask(peer, note(b"five"), Note)
        ctx.in_flight.end(TRANSACTION)

    async def listen(ctx: FlowContext, peer: bytes) -> None:
        for _ in range(5):
            heard.append((await ctx.receive(peer, Note)).proposal)
            if heard[-1] in (b"two", b"five"):
                ctx.send(peer, note())

    home, other = parties(2, toy("tell", tell, listen))
    flow_id = home.begin("tell", to(other.identity))
    assert heard == [b"one", b"two", b"three"]
    home.restart()
    home.operate(Retry, flow_id)
    assert heard == [b"one", b"two", b"three"]
    fault.present = False
    home.operate(Retry, flow_id)
    assert heard == [b"one", b"two", b"three", b"four", b"five"]
    assert home.info(flow_id).outcome.status == FLOW_STATUS_COMPLETED
    assert [row.status for row in other.rows().values()] == [FLOW_STATUS_COMPLETED]
    assert home.count(Table.IN_FLIGHT) == 0


def test_f06_what_comes_while_a_flow_is_parked_is_there_when_it_runs_again(parties: Parties) -> None:
    fault = Fault()

    async def ask(ctx: FlowContext, peer: bytes) -> None:
        ctx.send(peer, note())
        ctx.in_flight.begin(TRANSACTION, InFlightRow())
        fault.meet()
        ctx.in_flight.end(TRANSACTION)
        for expected in (b"1", b"2"):
            assert (await ctx.receive(peer, Note)).proposal == expected

    async def answer(ctx: FlowContext, peer: bytes) -> None:
        await ctx.receive(peer, Note)
        ctx.send(peer, note(b"1"))
        ctx.send(peer, note(b"2"))

    home, other = parties(2, toy("ask", ask, answer))
    flow_id = home.begin("ask", to(other.identity))
    assert home.count(Table.MAIL) == 2
    fault.present = False
    home.operate(Retry, flow_id)
    assert home.info(flow_id).outcome.status == FLOW_STATUS_COMPLETED


def test_f05_f06_a_flow_whose_version_is_gone_is_parked_until_it_is_back(parties: Parties) -> None:
    async def work(ctx: FlowContext, _: bytes) -> None:
        await _hold(ctx)
        await ctx.pause_for(10**9)

    async def rewritten(ctx: FlowContext, _: bytes) -> None:
        await ctx.once("another first step", lambda: b"")

    old, new = toy("work", work), toy("work", rewritten, version=2)
    (home,) = parties(1, old)
    flow_id = home.begin("work")
    home.restart(flows=(new,))
    outcome = home.info(flow_id).outcome
    assert (outcome.status, outcome.error_code) == (FLOW_STATUS_PARKED, "flow.unknown")
    assert "work version 1" in outcome.error_message
    assert home.rows()[flow_id].status == FLOW_STATUS_PARKED
    with pytest.raises(UnknownFlow):
        home.operate(Retry, flow_id)
    home.restart(flows=(old, new))
    home.world.after(5)
    assert home.info(flow_id).outcome.status == FLOW_STATUS_COMPLETED
    assert home.count(Table.LOCK) == 0


def test_f05_changed_code_of_a_flow_under_way_parks_it(parties: Parties) -> None:
    async def work(ctx: FlowContext, _: bytes) -> None:
        await ctx.once("first", lambda: b"")
        await ctx.pause_for(10**9)

    async def changed(ctx: FlowContext, _: bytes) -> None:
        await ctx.once("another first", lambda: b"")

    (home,) = parties(1, toy("work", work))
    flow_id = home.begin("work")
    home.restart(flows=(toy("work", changed),))
    assert home.info(flow_id).outcome.error_code == "flow.code_changed"
    home.restart(flows=(toy("work", work),))
    home.world.after(3)
    assert home.info(flow_id).outcome.status == FLOW_STATUS_COMPLETED


@pytest.mark.parametrize("changed", [True, False])
def test_f05_f06_what_comes_while_the_right_code_lacks_is_answered_when_it_is_back(
    parties: Parties, changed: bool
) -> None:
    """It is no part of what the flow repeats: what it sends after that is no repetition either."""
    heard = []

    async def ask(ctx: FlowContext, peer: bytes) -> None:
        await ctx.once("first", lambda: b"")
        for text in (b"1", b"2"):
            ctx.send(peer, note(text))
            await ctx.receive(peer, Note)
        ctx.in_flight.begin(TRANSACTION, InFlightRow())
        ctx.send(peer, note(b"3"))
        await ctx.receive(peer, Note)
        ctx.in_flight.end(TRANSACTION)
        ctx.send(peer, note(b"4"))

    async def wrong(ctx: FlowContext, peer: bytes) -> None:
        await ctx.once("another first", lambda: b"")

    async def answer(ctx: FlowContext, peer: bytes) -> None:
        for nth in range(4):
            heard.append((await ctx.receive(peer, Note)).proposal)
            if nth != 2:
                await ctx.pause_for(10**9)
            ctx.send(peer, note())

    right = toy("ask", ask, answer)
    others = (toy("ask", wrong, answer),) if changed else ()
    home, other = parties(2, right)
    flow_id = home.begin("ask", to(other.identity))
    for expected in ([b"1", b"2"], [b"1", b"2", b"3", b"4"]):
        # Twice: it stands still while it repeats what it had repeated.
        for _ in range(2):
            home.restart(flows=others)
            assert home.info(flow_id).outcome.status == FLOW_STATUS_PARKED
            home.world.after(2)
        home.restart(flows=(right,))
        assert heard == expected
    assert home.info(flow_id).outcome.status == FLOW_STATUS_COMPLETED
    assert home.count(Table.IN_FLIGHT) == 0


def test_f06_a_flow_that_is_parked_before_its_turn_begins_when_it_is_retried(
    parties: Parties, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "RESPONDERS_PER_PEER_MAX", 1)

    async def ask(ctx: FlowContext, peer: bytes) -> None:
        await ctx.ask(peer, note(), Note)

    async def answer(ctx: FlowContext, peer: bytes) -> None:
        await ctx.receive(peer, Note)
        if len(other.rows()) > 1:
            ctx.send(peer, note())
        await ctx.receive(peer, Note)

    home, other = parties(2, toy("ask", ask, answer))
    home.begin("ask", to(other.identity))
    second = home.begin("ask", to(other.identity))
    (waiting,) = [flow_id for flow_id, row in other.rows().items() if row.waiting]
    # Nobody has the code when its turn comes; when it is back, another one's is first.
    other.restart(flows=())
    assert other.info(waiting).outcome.status == FLOW_STATUS_PARKED
    other.restart(flows=home.flows)
    assert other.rows()[waiting].waiting
    other.operate(Retry, waiting)
    assert home.info(second).outcome.status == FLOW_STATUS_COMPLETED


def test_f06_watchers_hear_that_a_flow_is_parked(parties: Parties) -> None:
    fault, follower = Fault(), Follower()

    async def work(ctx: FlowContext, _: bytes) -> None:
        await ctx.pause_for(10**9)
        fault.meet()

    (home,) = parties(1, toy("work", work))
    flow_id = home.begin("work")
    home.watch(flow_id, follower)
    home.world.after(3)
    assert [outcome.status for outcome in follower.outcomes] == [FLOW_STATUS_PARKED]
