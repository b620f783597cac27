"""Rows notary and notary-latency: one notary and a load of trades, built and signed before the clock starts."""

import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from p2pet.bench.meter import Measured, Meter
from p2pet.bench.networks import CURRENCY, ISSUER, NOTARY, BenchNetwork
from p2pet.bench.notary_stream import Answered, NotaryStream, PreparedCalls
from p2pet.bench.trades import TradeFactory
from p2petd.flows.finality import read_reply

OUTSTANDING = 512
OPEN_LOOP_PER_SECOND = 3000
WARM_UP_TRADES = 512
CLOSED_TRADES_MAX = 60_000


class NotaryLoad:
    """A running notary with one caller."""

    def __init__(self, stream: NotaryStream, meter: Meter, factory: TradeFactory) -> None:
        self._stream = stream
        self._meter = meter
        self._factory = factory
        self._per_second = 0.0

    async def register_meters(self) -> None:
        registrations = PreparedCalls(self._factory.registrations())
        self._factory.registered((await self._stream.closed_loop(registrations, OUTSTANDING)).replies)

    async def warm_up(self, trades: int = WARM_UP_TRADES) -> None:
        """Measures roughly how fast it is, so that a repeat can be prepared to last as long as it should."""
        calls = await self._prepare(trades)
        answered = await self._stream.closed_loop(calls, OUTSTANDING)
        self._per_second = answered.timed.metrics["per_second"]

    async def throughput(self, seconds: float) -> Measured:
        """One repeat of row notary."""
        calls = await self._prepare(min(CLOSED_TRADES_MAX, int(self._per_second * seconds) + 1))
        await self._meter.start()
        with _no_collection():
            answered = await self._stream.closed_loop(calls, OUTSTANDING)
        measured = await self._meter.stop(answered.timed, len(calls))
        _all_notarised(answered)
        self._per_second = answered.timed.metrics["per_second"]
        return measured

    async def latency(self, seconds: float) -> Measured:
        """One repeat of row notary-latency."""
        calls = await self._prepare(int(OPEN_LOOP_PER_SECOND * seconds) + 1)
        await self._meter.start()
        with _no_collection():
            answered = await self._stream.open_loop(calls, OPEN_LOOP_PER_SECOND)
        measured = await self._meter.stop(answered.timed, len(calls))
        _all_notarised(answered)
        return measured

    async def _prepare(self, trades: int) -> PreparedCalls:
        issues = self._factory.issues(trades)
        issued = await self._stream.closed_loop(PreparedCalls([issue.request for issue in issues]), OUTSTANDING)
        return PreparedCalls(self._factory.trades(issues, issued.replies)[:trades])


@asynccontextmanager
async def notary_load(network: BenchNetwork) -> AsyncIterator[NotaryLoad]:
    """Starts the notary alone; the caller has the place of the currency's issuer."""
    await network.daemons.start(NOTARY)
    member = network.membership(ISSUER)
    stream = NotaryStream(member, network.peer_address(NOTARY), network.identity(NOTARY))
    async with Meter(network.daemons) as meter, stream:
        load = NotaryLoad(stream, meter, TradeFactory(member, CURRENCY))
        await load.register_meters()
        yield load


def _all_notarised(answered: Answered) -> None:
    """Raises NotaryError when a request was refused: then nothing was measured that counts."""
    for reply in answered.replies:
        read_reply(reply)


@contextmanager
def _no_collection() -> Iterator[None]:
    """The generator's garbage collector must not appear in the notary's latency."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
