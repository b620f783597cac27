"""Whatever a flow awaits lies between two failpoints, so that the crash tests kill before and after it (R01)."""

import contextlib
from collections.abc import Callable

from p2pet.peer.v1.peer_pb2 import Reply

from p2petd.errors import NodeError
from p2petd.flows.context import FlowContext
from p2petd.flows.requests import CallService, CheckFinal, CheckProposal, LocalStep, Pause, Receive, Request
from p2petd.observe import failpoints
from p2petd.observe.failpoints import Failpoint
from tests.support.toys import toy
from tests.unit.flows.conftest import Parties

# A kind of request that is new stands here too, made so that it is answered at once.
ONE_OF_EACH: dict[type[Request], Callable[[FlowContext], Request]] = {
    LocalStep: lambda ctx: LocalStep("compute", lambda: b"x"),
    Receive: lambda ctx: Receive(ctx.me, 0),
    CallService: lambda ctx: CallService(ctx.me, "echo", b"x"),
    Pause: lambda ctx: Pause(0),
    CheckProposal: lambda ctx: CheckProposal(b"", require_all_signatures=True),
    CheckFinal: lambda ctx: CheckFinal(b"", b"", signers=True),
}


def _kinds(base: type[Request]) -> set[type[Request]]:
    return {kind for one in base.__subclasses__() for kind in ({one} | _kinds(one))}


def test_r01_every_request_of_a_flow_lies_between_failpoints(parties: Parties) -> None:
    assert set(ONE_OF_EACH) == {kind for kind in _kinds(Request) if kind.__module__.startswith("p2petd.")}
    passed: list[Failpoint] = []
    around: dict[str, list[Failpoint]] = {}

    async def work(ctx: FlowContext, _: bytes) -> None:
        for kind, make in ONE_OF_EACH.items():
            passed.clear()
            with contextlib.suppress(NodeError):
                await make(ctx)
            around[kind.__name__] = list(passed)

    (home,) = parties(1, toy("work", work))
    home.services["echo"] = lambda caller, payload: Reply(payload=payload)
    with failpoints.recording(passed.append):
        home.begin("work")
        home.world.after(3)
    assert list(around) == [kind.__name__ for kind in ONE_OF_EACH]
    for name, points in around.items():
        assert points[0] is Failpoint.FLOW_BEFORE_STEP, name
        assert points[-1] is Failpoint.FLOW_AFTER_STEP, name


def test_r01_begin_and_end_of_a_flow_are_failpoints(parties: Parties) -> None:
    passed: list[Failpoint] = []

    async def work(ctx: FlowContext, _: bytes) -> None:
        pass

    (home,) = parties(1, toy("work", work))
    with failpoints.recording(passed.append):
        home.begin("work")
    assert passed[0] is Failpoint.FLOW_BEGUN
    assert passed[-1] is Failpoint.FLOW_ENDED
