"""Sessions that end early, many peers at once, timers, sub-flows, versions side by side, and a node that drains."""

from functools import partial
from itertools import pairwise

import pytest
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_COMPLETED, FLOW_STATUS_FAILED, FLOW_STATUS_RUNNING
from p2pet.flows.v1.sessions_pb2 import SessionReply
from p2pet.peer.v1.peer_pb2 import Reply
from p2pet.store.v1.store_pb2 import InFlightRow

from p2petd.errors import CounterpartyFailed, FlowError, FlowTimeout, NodeDraining, NodeError
from p2petd.flows.context import FlowContext
from p2petd.flows.events import Retry
from p2petd.flows.journal import MAIL_UNREAD_MAX
from p2petd.flows.sessions import SESSION
from p2petd.ledger.refs import StateRef
from p2petd.store.tables import Table
from p2petd.units import SECOND_NS
from tests.support.engines import Follower, Node
from tests.support.toys import Note, note, to, toy
from tests.unit.flows.conftest import Parties

REF = StateRef(b"t" * 32, 0)
# Two looks to see that a flow waits, one to ask.
NOTICED_SECONDS = 9


async def _ask_twice(ctx: FlowContext, peer: bytes) -> None:
    await ctx.ask(peer, note(), Note)
    await ctx.receive(peer, Note)


async def _answer_once(ctx: FlowContext, peer: bytes) -> None:
    await ctx.receive(peer, Note)
    ctx.send(peer, note())


async def _never_answer(ctx: FlowContext, peer: bytes) -> None:
    await ctx.receive(peer, Note)
    await ctx.receive(peer, Note)


SHORT = toy("short", _ask_twice, _answer_once)
SILENT = toy("silent", _ask_twice, _never_answer)


def outcome(node: Node, flow_id: bytes) -> tuple[int, str]:
    found = node.info(flow_id).outcome
    return found.status, found.error_code


# F03: halves that end.


def test_f03_a_peer_whose_half_has_returned_is_not_waited_for(parties: Parties) -> None:
    home, other = parties(2, SHORT)
    flow_id = home.begin("short", to(other.identity))
    assert outcome(home, flow_id) == (FLOW_STATUS_RUNNING, "")
    home.world.after(NOTICED_SECONDS)
    assert outcome(home, flow_id) == (FLOW_STATUS_FAILED, "flow.counterparty_failed")


def test_f03_an_initiator_that_has_returned_is_not_waited_for(parties: Parties) -> None:
    async def tell(ctx: FlowContext, peer: bytes) -> None:
        ctx.send(peer, note())

    home, other = parties(2, toy("tell", tell, _never_answer))
    home.begin("tell", to(other.identity))
    (theirs,) = other.rows()
    home.world.after(NOTICED_SECONDS)
    assert outcome(other, theirs) == (FLOW_STATUS_FAILED, "flow.counterparty_failed")


def test_f03_a_peer_that_runs_is_waited_for_and_asked_less_and_less(parties: Parties) -> None:
    home, other = parties(2, SILENT)
    asked: list[int] = []
    answer = other.services[SESSION]

    def count(peer: bytes, payload: bytes) -> Reply | None:
        asked.append(home.world.now_ns)
        return answer(peer, payload)

    other.services[SESSION] = count
    flow_id = home.begin("silent", to(other.identity))
    home.world.after(300)
    assert outcome(home, flow_id) == (FLOW_STATUS_RUNNING, "")
    gaps = [(later - earlier) // SECOND_NS for earlier, later in pairwise(asked)]
    assert gaps == sorted(gaps)
    assert 5 <= len(asked) <= 10
    assert 50 <= gaps[-1] <= 75


def test_f03_nobody_is_asked_for_a_flow_that_gets_its_answers(parties: Parties) -> None:
    home, other = parties(2, toy("ask", lambda ctx, peer: ctx.ask(peer, note(), Note), _answer_once))
    other.services.clear()
    home.services.clear()
    for _ in range(20):
        home.begin("ask", to(other.identity))
        home.world.after(1)
    assert {row.status for row in home.rows().values()} == {FLOW_STATUS_COMPLETED}


def test_f03_a_peer_that_has_not_even_got_the_message_is_waited_for(parties: Parties) -> None:
    """A node that is down, then one that knows nothing of the flow yet."""
    home, other = parties(2, toy("ask", lambda ctx, peer: ctx.ask(peer, note(), Note), _answer_once))
    other.kill()
    flow_id = home.begin("ask", to(other.identity))
    home.world.after(60)
    assert outcome(home, flow_id) == (FLOW_STATUS_RUNNING, "")
    other.start()
    home.world.run()
    assert outcome(home, flow_id) == (FLOW_STATUS_COMPLETED, "")


def test_f03_a_peer_that_ended_is_noticed_after_a_restart(parties: Parties) -> None:
    home, other = parties(2, SHORT)
    flow_id = home.begin("short", to(other.identity))
    home.restart()
    home.world.after(NOTICED_SECONDS)
    assert outcome(home, flow_id) == (FLOW_STATUS_FAILED, "flow.counterparty_failed")


def test_f03_what_an_ended_half_has_sent_is_heard_before_its_end(parties: Parties) -> None:
    """The peer says that it is over, and names a message that has not come: then it is not over here."""
    home, other = parties(2, SILENT)
    flow_id = home.begin("silent", to(other.identity))
    other.services[SESSION] = lambda peer, payload: Reply(payload=SessionReply(last_sent=9).SerializeToString())
    home.world.after(60)
    assert outcome(home, flow_id) == (FLOW_STATUS_RUNNING, "")


@pytest.mark.parametrize("reply", [b"\xff", b""], ids=["no message", "an end that the peer makes up"])
def test_f03_an_answer_of_a_hostile_peer_costs_its_own_session_only(parties: Parties, reply: bytes) -> None:
    home, other = parties(2, SILENT)
    flow_id = home.begin("silent", to(other.identity))
    other.services[SESSION] = lambda peer, payload: Reply(payload=reply)
    home.world.after(60)
    assert outcome(home, flow_id)[0] == (FLOW_STATUS_RUNNING if reply else FLOW_STATUS_FAILED)


def test_f03_either_side_may_send_first_and_all_arrives_in_order(parties: Parties) -> None:
    heard: list[bytes] = []

    async def initiate(ctx: FlowContext, peer: bytes) -> None:
        ctx.send(peer, note(b"hello"))
        for _ in range(5):
            heard.append((await ctx.receive(peer, Note)).proposal)

    async def respond(ctx: FlowContext, peer: bytes) -> None:
        # Before it has read what opened the session.
        for number in range(5):
            ctx.send(peer, note(b"%d" % number))
        await ctx.receive(peer, Note)

    home, other = parties(2, toy("chat", initiate, respond))
    flow_id = home.begin("chat", to(other.identity))
    assert heard == [b"0", b"1", b"2", b"3", b"4"]
    assert outcome(home, flow_id) == (FLOW_STATUS_COMPLETED, "")


# Many at once.


def test_f06_one_dead_and_one_refusing_of_twelve_cost_their_own_answers_only(parties: Parties) -> None:
    peers: list[Node] = []
    answers: dict[bytes, Note | NodeError] = {}

    async def survey(ctx: FlowContext, _: bytes) -> None:
        deadline_ns = await ctx.now_ns("asked at") + 20 * SECOND_NS
        answers.update(await ctx.ask_all({one.identity: note() for one in peers}, Note, deadline_ns))

    async def answer(ctx: FlowContext, peer: bytes) -> None:
        await ctx.receive(peer, Note)
        if ctx.me == peers[1].identity:
            raise FlowError("not today")
        ctx.send(peer, note(ctx.me))

    home, *others = parties(13, toy("survey", survey, answer))
    peers.extend(others)
    dead, refusing, *well = others
    dead.kill()
    flow_id = home.begin("survey")
    home.world.after(10)
    # A restart in the middle asks nobody again and loses no answer.
    home.restart()
    assert outcome(home, flow_id) == (FLOW_STATUS_RUNNING, "")
    home.world.after(15)
    assert outcome(home, flow_id) == (FLOW_STATUS_COMPLETED, "")
    assert all(answers[one.identity] == note(one.identity) for one in well)
    assert isinstance(answers[dead.identity], FlowTimeout)
    assert str(answers[refusing.identity]) == "not today"
    assert all(len(one.rows()) == 1 for one in (refusing, *well))


# F12: timers.


async def _rest(ctx: FlowContext, _: bytes) -> None:
    await ctx.pause_for(60 * SECOND_NS)


async def _wait_a_minute(ctx: FlowContext, peer: bytes) -> None:
    await ctx.ask(peer, note(), Note, ctx.started_at_ns + 60 * SECOND_NS)


def test_f12_a_pause_survives_restarts_and_ends_when_it_was_to(parties: Parties) -> None:
    (home,) = parties(1, toy("rest", _rest))
    flow_id = home.begin("rest")
    assert home.info(flow_id).waiting_for == "until 2027-01-15T08:01:00Z"
    home.world.after(30)
    home.restart()
    home.world.after(29)
    assert outcome(home, flow_id) == (FLOW_STATUS_RUNNING, "")
    home.kill()
    home.world.after(3600)
    home.start()
    home.world.after(1)
    assert outcome(home, flow_id) == (FLOW_STATUS_COMPLETED, "")


def test_f12_a_deadline_survives_restarts_and_passes_when_it_was_to(parties: Parties) -> None:
    home, other = parties(2, toy("wait", _wait_a_minute, _never_answer))
    flow_id = home.begin("wait", to(other.identity))
    name = other.member.identity.name
    assert home.info(flow_id).waiting_for == f"an answer of {name}, until 2027-01-15T08:01:00Z"
    home.world.after(30)
    home.restart()
    home.world.after(28)
    assert outcome(home, flow_id) == (FLOW_STATUS_RUNNING, "")
    home.world.after(5)
    assert outcome(home, flow_id) == (FLOW_STATUS_FAILED, "flow.timeout")
    # The passed deadline is as durable as a message: the other side is told once.
    assert [row.status for row in other.rows().values()] == [FLOW_STATUS_FAILED]


def test_f12_a_clock_that_is_set_back_delays_and_loses_nothing(parties: Parties) -> None:
    (home,) = parties(1, toy("rest", _rest))
    flow_id = home.begin("rest")
    home.world.now_ns -= 3600 * SECOND_NS
    home.world.after(61)
    assert outcome(home, flow_id) == (FLOW_STATUS_RUNNING, "")
    home.world.after(3600)
    assert outcome(home, flow_id) == (FLOW_STATUS_COMPLETED, "")


# F08: sub-flows.


def test_f08_steps_of_a_sub_flow_are_nested(parties: Parties) -> None:
    async def move(ctx: FlowContext, fails: bool) -> bytes:
        ctx.progress("notarising")
        await ctx.pause_for(SECOND_NS)
        if fails:
            raise FlowError("refused")
        return b"moved"

    async def work(ctx: FlowContext, _: bytes) -> None:
        ctx.progress("building")
        assert await ctx.sub_flow("moving", ctx.sub_flow("in parts", move(ctx, False))) == b"moved"
        with pytest.raises(FlowError):
            await ctx.sub_flow("moving again", move(ctx, True))
        ctx.progress("recording")
        await ctx.pause_for(60 * SECOND_NS)

    (home,) = parties(1, toy("work", work))
    flow_id, follower = home.begin("work"), Follower()
    _, steps = home.watch(flow_id, follower)
    home.world.after(3)
    _, later = home.watch(flow_id, None)
    seen = [(step.step, step.name, step.depth) for step in [*steps, *follower.steps]]
    assert seen == [
        (0, "building", 0),
        (1, "moving", 0),
        (2, "in parts", 1),
        (3, "notarising", 2),
        (4, "moving again", 0),
        (5, "notarising", 1),
        (6, "recording", 0),
    ]
    assert [(step.name, step.depth) for step in later] == [(name, depth) for _, name, depth in seen]


def test_f08_the_steps_of_a_flow_that_has_just_ended_are_still_told(parties: Parties) -> None:
    """Who starts a short flow and watches it then may come too late."""

    async def work(ctx: FlowContext, _: bytes) -> None:
        ctx.progress("building")

    (home,) = parties(1, toy("work", work))
    info, steps = home.watch(home.begin("work"), None)
    assert (info.outcome.status, [step.name for step in steps]) == (FLOW_STATUS_COMPLETED, ["building"])


# F05: versions.


def test_f05_a_version_two_begins_beside_a_version_one_that_goes_on(parties: Parties) -> None:
    ends: list[int] = []

    async def old(ctx: FlowContext, peer: bytes) -> None:
        await ctx.once("old step", lambda: b"")
        await ctx.ask(peer, note(), Note)
        ends.append(1)

    async def new(ctx: FlowContext, peer: bytes) -> None:
        await ctx.once("new step", lambda: b"")
        await ctx.ask(peer, note(), Note)
        ends.append(2)

    first, second = toy("work", old, _answer_once), toy("work", new, _answer_once, version=2)
    home, other = parties(2, first)
    other.kill()
    before = home.begin("work", to(other.identity))
    home.restart(flows=(first, second))
    after = home.begin("work", to(other.identity))
    other.start()
    home.world.run()
    assert (outcome(home, before), ends) == ((FLOW_STATUS_COMPLETED, ""), [1])
    # The peer has not been given version 2: both sides learn which, of what, and where.
    refused = home.info(after).outcome
    assert (refused.status, refused.error_code) == (FLOW_STATUS_FAILED, "flow.unknown")
    assert refused.error_message.startswith(f"{other.member.identity.name} has no work version 2; it has [1]")
    assert len(other.rows()) == 1
    other.restart(flows=(first, second))
    assert outcome(home, home.begin("work", to(other.identity))) == (FLOW_STATUS_COMPLETED, "")
    assert outcome(home, home.begin("work", to(other.identity), version=1)) == (FLOW_STATUS_COMPLETED, "")
    assert ends == [1, 2, 1]


# F09: draining.


def test_f09_a_draining_node_finishes_what_is_under_way_and_begins_nothing(parties: Parties) -> None:
    home, other = parties(2, toy("rest", _rest), SHORT)
    flow_id = home.begin("rest", client_id="mine")
    assert home.drain() == (1, 0)
    with pytest.raises(NodeDraining):
        home.begin("rest")
    # What has been started is still told.
    assert home.begin("rest", client_id="mine") == flow_id
    opened = other.begin("short", to(home.identity))
    assert [row.waiting for row in home.rows().values() if row.flow == "short"] == [True]
    assert not home.drained
    home.world.after(61)
    assert (outcome(home, flow_id)[0], home.drained) == (FLOW_STATUS_COMPLETED, True)
    # The next start answers whom it had kept waiting.
    home.restart()
    assert [row.status for row in home.rows().values()] == [FLOW_STATUS_COMPLETED] * 2
    other.world.after(NOTICED_SECONDS)
    assert outcome(other, opened) == (FLOW_STATUS_FAILED, "flow.counterparty_failed")


def test_f09_a_drain_is_undone(parties: Parties) -> None:
    home, other = parties(2, toy("rest", _rest), SHORT)
    home.begin("rest")
    home.drain()
    other.begin("short", to(home.identity))
    assert home.drain(undo=True) == (1, 0)
    home.world.run()
    assert home.engine.counters()["flows_waiting"] == 0
    home.begin("rest")
    home.world.after(120)
    assert not home.drained


def test_f09_a_node_without_flows_is_drained_at_once_and_parked_ones_do_not_count(parties: Parties) -> None:
    async def fail(ctx: FlowContext, _: bytes) -> None:
        raise ZeroDivisionError

    (home,) = parties(1, toy("fail", fail))
    home.begin("fail")
    assert home.drain() == (0, 1)
    assert home.drained


# What is waited for.


def test_f06_a_flow_says_what_it_waits_for(parties: Parties) -> None:
    async def call(ctx: FlowContext, peer: bytes) -> None:
        await ctx.call(peer, "notarise" if peer else "status", b"")

    home, other = parties(2, toy("call", call), SILENT)
    name = other.member.identity.name
    other.services["notarise"] = lambda peer, payload: None
    words = {
        "the notary " + name: partial(home.begin, "call", to(other.identity)),
        "the notary a node that the network map does not know": partial(home.begin, "call", to(b"")),
        "an answer of " + name: partial(home.begin, "silent", to(other.identity)),
    }
    for expected, begin in words.items():
        assert home.info(begin()).waiting_for == expected
    assert home.count(Table.FLOW) == 3


def test_f03_the_end_of_a_session_is_an_error_that_a_flow_can_handle(parties: Parties) -> None:
    async def ask(ctx: FlowContext, peer: bytes) -> None:
        with pytest.raises(CounterpartyFailed):
            await _ask_twice(ctx, peer)
        await ctx.vault.reserve("reserve", [REF])

    home, other = parties(2, toy("ask", ask, _answer_once))
    flow_id = home.begin("ask", to(other.identity))
    home.world.after(NOTICED_SECONDS)
    home.restart()
    assert outcome(home, flow_id) == (FLOW_STATUS_COMPLETED, "")


def test_f03_a_peer_that_floods_a_flow_keeps_it_from_no_deadline_and_no_other_peer(parties: Parties) -> None:
    answers: list[dict[bytes, Note | NodeError]] = []

    async def ask(ctx: FlowContext, peer: bytes) -> None:
        messages = {one.identity: note() for one in others}
        answers.append(await ctx.ask_all(messages, Note, ctx.started_at_ns + 20 * SECOND_NS))

    async def answer(ctx: FlowContext, peer: bytes) -> None:
        await ctx.receive(peer, Note)
        if ctx.me == last.identity:
            for _ in range(MAIL_UNREAD_MAX + 10):
                ctx.send(peer, note(b"flood"))
        elif ctx.me == middle.identity:
            await ctx.pause_for(SECOND_NS)
            ctx.send(peer, note(b"late"))
        await ctx.receive(peer, Note)

    home, *others = parties(4, toy("ask", ask, answer))
    # In the order in which they are waited for: one that is silent comes first.
    silent, middle, last = sorted(others, key=lambda node: node.identity)
    flow_id = home.begin("ask")
    home.world.after(25)
    assert home.info(flow_id).outcome.status == FLOW_STATUS_COMPLETED
    ((said,),) = [answers]
    assert isinstance(said[silent.identity], FlowTimeout)
    assert (said[middle.identity], said[last.identity]) == (note(b"late"), note(b"flood"))


def test_f06_a_peer_that_has_not_got_the_first_message_yet_is_not_taken_for_one_that_has_ended(
    parties: Parties,
) -> None:
    """The flow is parked and runs again before the peer, which is down, hears of it."""
    faults = [ZeroDivisionError]

    async def ask(ctx: FlowContext, peer: bytes) -> None:
        ctx.send(peer, note())
        # So its peer is not told of the bug.
        ctx.in_flight.begin(b"t" * 32, InFlightRow())
        while faults:
            raise faults.pop()
        ctx.in_flight.end(b"t" * 32)
        await ctx.receive(peer, Note)

    async def answer(ctx: FlowContext, peer: bytes) -> None:
        await ctx.receive(peer, Note)
        ctx.send(peer, note())

    home, other = parties(2, toy("ask", ask, answer))
    other.kill()
    flow_id = home.begin("ask", to(other.identity))
    home.operate(Retry, flow_id)
    home.world.after(NOTICED_SECONDS)
    other.start()
    home.world.run()
    assert outcome(home, flow_id) == (FLOW_STATUS_COMPLETED, "")
