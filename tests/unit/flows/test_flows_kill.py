"""An operator ends flows: what they held is free, nothing is asked for them any more, and their peers are told."""

import pytest
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_COMPLETED, FLOW_STATUS_FAILED, FLOW_STATUS_RUNNING
from p2pet.peer.v1.peer_pb2 import Reply

from p2petd.errors import FlowNotFound, FlowNotParked, UnknownFlow
from p2petd.flows import engine
from p2petd.flows.context import FlowContext
from p2petd.flows.events import Drop, Kill, Remove, Retry
from p2petd.flows.registry import FlowDefinition
from p2petd.flows.settling import SETTLE
from p2petd.ledger.refs import StateRef
from p2petd.store.tables import Table
from tests.support.engines import Follower, Node
from tests.support.toys import Note, note, to, toy
from tests.unit.flows.conftest import Parties

REF = StateRef(b"t" * 32, 0)


async def _ask(ctx: FlowContext, peer: bytes) -> None:
    await ctx.vault.reserve("reserve", [REF])
    await ctx.ask(peer, note(), Note)


async def _never_answer(ctx: FlowContext, peer: bytes) -> None:
    await ctx.receive(peer, Note)
    await ctx.vault.reserve("reserve", [REF])
    await ctx.receive(peer, Note)


ASK = toy("ask", _ask, _never_answer)


def _clean(*nodes: Node) -> bool:
    return not any(node.count(table) for node in nodes for table in (Table.LOCK, Table.STEP, Table.MAIL))


def test_f07_a_kill_frees_what_is_reserved_and_tells_the_other_side(parties: Parties) -> None:
    home, other = parties(2, ASK)
    flow_id, follower = home.begin("ask", to(other.identity)), Follower()
    home.watch(flow_id, follower)
    assert (home.count(Table.LOCK), other.count(Table.LOCK)) == (1, 1)
    ended = home.operate(Kill, flow_id)
    assert ended is not None
    assert (ended.outcome.status, ended.outcome.error_code, ended.in_flight) == (FLOW_STATUS_FAILED, "flow.killed", ())
    assert follower.outcomes == [ended.outcome]
    (theirs,) = other.rows().values()
    assert (theirs.status, theirs.error_code) == (FLOW_STATUS_FAILED, "flow.killed")
    assert theirs.error_message == "an operator has ended the flow"
    assert _clean(home, other)
    assert home.engine.counters()["flows_running"] == 0
    # It stays so, and what is reserved no more can be reserved again.
    home.restart()
    assert home.info(flow_id).outcome == ended.outcome
    again = home.begin("ask", to(other.identity))
    assert home.info(again).outcome.status == FLOW_STATUS_RUNNING


def test_f07_a_responder_is_killed_and_its_initiator_told(parties: Parties) -> None:
    home, other = parties(2, ASK)
    flow_id = home.begin("ask", to(other.identity))
    other.operate(Kill, other.only(FLOW_STATUS_RUNNING))
    outcome = home.info(flow_id).outcome
    assert (outcome.status, outcome.error_code) == (FLOW_STATUS_FAILED, "flow.killed")
    assert _clean(home, other)


def test_f07_a_peer_that_is_down_is_told_when_it_is_back(parties: Parties) -> None:
    home, other = parties(2, ASK)
    flow_id = home.begin("ask", to(other.identity))
    other.kill()
    home.operate(Kill, flow_id)
    other.start()
    home.world.run()
    assert [row.error_code for row in other.rows().values()] == ["flow.killed"]
    assert _clean(home, other)


def test_f07_what_a_killed_flow_waits_for_is_forgotten(parties: Parties) -> None:
    async def wait(ctx: FlowContext, peer: bytes) -> None:
        await ctx.call(peer, "silent", b"")

    async def pause(ctx: FlowContext, _: bytes) -> None:
        await ctx.pause_for(10**9)

    home, other = parties(2, toy("wait", wait), toy("pause", pause))
    other.services["silent"] = lambda peer, payload: None
    calling, pausing = home.begin("wait", to(other.identity)), home.begin("pause")
    home.operate(Kill, calling)
    home.operate(Kill, pausing)
    (asked,) = home.wire.forgotten
    assert asked[:16] == calling
    # An answer that comes all the same, and the timer, find nobody.
    other.services["silent"] = lambda peer, payload: Reply()
    home.wire.call(other.identity, asked, "silent", b"")
    home.world.after(3)
    assert {row.error_code for row in home.rows().values()} == {"flow.killed"}


def test_f07_a_flow_that_waits_for_its_turn_is_killed(parties: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "RESPONDERS_PER_PEER_MAX", 1)
    home, other = parties(2, toy("ask", lambda ctx, peer: ctx.ask(peer, note(), Note), _never_answer))
    first, second, third = (home.begin("ask", to(other.identity)) for _ in range(3))
    waiting = [flow_id for flow_id, row in other.rows().items() if row.waiting]
    assert len(waiting) == 2
    for flow_id in waiting:
        other.operate(Kill, flow_id)
    assert home.info(first).outcome.status == FLOW_STATUS_RUNNING
    assert [home.info(one).outcome.error_code for one in (second, third)] == ["flow.killed"] * 2
    home.operate(Kill, first)
    assert _clean(home, other)
    assert other.engine.counters()["flows_waiting"] == 0


def test_f07_an_ended_flow_cannot_be_killed(parties: Parties) -> None:
    async def nothing(ctx: FlowContext, _: bytes) -> None:
        pass

    (home,) = parties(1, toy("nothing", nothing))
    flow_id = home.begin("nothing")
    before = home.rows()
    for operation in (Kill, Drop, Retry):
        with pytest.raises(FlowNotParked, match="is completed"):
            home.operate(operation, flow_id)
    with pytest.raises(FlowNotFound):
        home.operate(Kill, b"n" * 16)
    assert home.rows() == before


def test_f07_a_running_flow_is_neither_dropped_nor_retried_nor_removed(parties: Parties) -> None:
    home, other = parties(2, ASK)
    flow_id = home.begin("ask", to(other.identity))
    for operation in (Drop, Retry, Remove):
        with pytest.raises(FlowNotParked, match="is running"):
            home.operate(operation, flow_id)
    assert home.info(flow_id).outcome.status == FLOW_STATUS_RUNNING


def test_f07_what_follows_a_signature_is_the_nodes_own(parties: Parties) -> None:
    """No client starts such a flow, and none is told that there is one."""
    settle = FlowDefinition(SETTLE, 1, Note, "", ASK.initiator, None, internal=True)
    (home,) = parties(1, settle)
    with pytest.raises(UnknownFlow, match="by the node itself"):
        home.begin(SETTLE)
    assert not home.rows()


# Removing.


def test_f02_a_removed_flow_is_forgotten_with_its_client_id(parties: Parties) -> None:
    runs = []

    async def count(ctx: FlowContext, _: bytes) -> None:
        runs.append(ctx.me)

    (home,) = parties(1, toy("count", count))
    first = home.begin("count", client_id="mine")
    assert home.begin("count", client_id="mine") == first
    home.operate(Remove, first)
    with pytest.raises(FlowNotFound):
        home.info(first)
    with pytest.raises(FlowNotFound):
        home.operate(Remove, first)
    assert [home.count(table) for table in (Table.FLOW, Table.FLOW_ORDER, Table.CLIENT_ID)] == [0, 0, 0]
    second = home.begin("count", client_id="mine")
    assert (second != first, len(runs)) == (True, 2)
    home.restart()
    assert home.begin("count", client_id="mine") == second
    assert home.info(second).outcome.status == FLOW_STATUS_COMPLETED


def test_f07_a_flow_with_a_bug_in_its_end_is_killed_all_the_same(parties: Parties) -> None:
    async def stubborn(ctx: FlowContext, _: bytes) -> None:
        try:
            await ctx.vault.reserve("reserve", [REF])
            await ctx.pause_for(3600 * 10**9)
        finally:
            raise ZeroDivisionError

    (home,) = parties(1, toy("stubborn", stubborn))
    flow_id = home.begin("stubborn")
    home.operate(Kill, flow_id)
    assert home.info(flow_id).outcome.error_code == "flow.killed"
    assert _clean(home)
