"""How a node asks again when a service was too busy: not before it was told to, and never all askers at once."""

import asyncio

import pytest
from p2pet.peer.v1.peer_pb2 import Reply

from p2petd.flows.events import Event, RetryCall
from p2petd.flows.inbound import FlowInbound
from p2petd.notary.queue import RETRY_MIN_NS
from p2petd.peer.calls import PeerCalls

ASKERS = 20


async def _delays(retry_after_ns: int) -> list[float]:
    """After how many seconds each of ASKERS calls is asked again."""
    loop = asyncio.get_running_loop()
    inbound = FlowInbound(None, lambda _: None, {}, PeerCalls())
    delays: list[float] = []
    everybody = asyncio.Event()
    started = loop.time()

    def submit(event: Event) -> None:
        assert isinstance(event, RetryCall)
        delays.append(loop.time() - started)
        if len(delays) == ASKERS:
            everybody.set()

    inbound.submit = submit
    for number in range(ASKERS):
        reply = Reply(call_id=bytes([number]) * 20, error_code="notary.overloaded", retry_after_ns=retry_after_ns)
        inbound.on_reply(reply)
    await asyncio.wait_for(everybody.wait(), 20)
    return delays


@pytest.mark.parametrize(
    ("told_ns", "earliest_ns"),
    [(2 * RETRY_MIN_NS, 2 * RETRY_MIN_NS), (1, RETRY_MIN_NS), (RETRY_MIN_NS, RETRY_MIN_NS)],
    ids=["what it was told", "never too soon", "the least"],
)
def test_n15_a_caller_waits_as_it_was_told_and_jitters(told_ns: int, earliest_ns: int) -> None:
    delays = asyncio.run(_delays(told_ns))
    # Timers of the event loop are as exact as its clock.
    assert min(delays) > 0.99 * earliest_ns / 1e9
    assert len({round(delay, 3) for delay in delays}) > 1
