"""Rows idle-memory and idle-ready: a home that has just started, alone on the machine."""

import asyncio
import socket
import time

from p2pet.bench.budgets import MEGABYTES, SECONDS
from p2pet.bench.machine import memory
from p2pet.bench.meter import Measured
from p2pet.bench.networks import BenchNetwork
from p2pet.client import ClientSettings, NodeClient
from p2pet.localnet import READY_SECONDS_MAX, DaemonFailed

HOME = "home-1"
PROBE_SECONDS = 0.002
SETTLE_SECONDS = 1.0


async def start_once(network: BenchNetwork) -> Measured:
    """Seconds from starting the process to its first answer SERVING, and resident megabytes a second later."""
    try:
        ready = await serving_seconds(network)
        await asyncio.sleep(SETTLE_SECONDS)
        resident = memory(network.daemons.pid(HOME)).resident
    finally:
        network.daemons.stop(HOME)
    return Measured({SECONDS: ready, MEGABYTES: resident / 1e6})


async def serving_seconds(network: BenchNetwork, seconds_max: float = READY_SECONDS_MAX) -> float:
    """Start the home; seconds from starting the process to its first answer SERVING. Raises DaemonFailed."""
    daemons = network.daemons
    settings = ClientSettings.from_config(daemons.node_directory(HOME))
    started = time.perf_counter()
    daemons.launch(HOME)
    # A probe of our own, because a gRPC channel that was refused waits a second before it tries again.
    while not _accepts(settings.address):
        if not daemons.is_running(HOME) or time.perf_counter() - started > seconds_max:
            raise DaemonFailed(f"{HOME} does not listen: {daemons.log(HOME)}")
        await asyncio.sleep(PROBE_SECONDS)
    async with daemons.client(HOME) as client:
        await _serving(client)
    return time.perf_counter() - started


async def _serving(client: NodeClient) -> None:
    limit = time.monotonic() + READY_SECONDS_MAX
    while not await client.is_serving():
        if time.monotonic() > limit:
            raise DaemonFailed(f"{HOME} listens, but does not serve")
        await asyncio.sleep(PROBE_SECONDS)


def _accepts(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        return probe.connect_ex((host.strip("[]"), int(port))) == 0
