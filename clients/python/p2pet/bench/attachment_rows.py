"""Row attachment: a large file is uploaded to a home, fetched by another one, and downloaded there."""

import io
import os
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from p2pet.bench.budgets import MEGABYTES
from p2pet.bench.machine import memory
from p2pet.bench.meter import Measured
from p2pet.bench.networks import BenchNetwork
from p2pet.client import NodeClient

GIVER, TAKER = "home-1", "home-2"
CONTENT_BYTES = 50_000_000
UPLOAD, MOVE, DOWNLOAD = "upload_mb_per_second", "move_mb_per_second", "download_mb_per_second"

T = TypeVar("T")


@dataclass(frozen=True)
class AttachmentLoad:
    """Two running homes with a client of each."""

    network: BenchNetwork
    giver: NodeClient
    taker: NodeClient

    async def transfer(self, seconds: float) -> Measured:
        """One repeat with content that neither home has: megabytes per second of each way, one after the other.

        It lasts as long as the file takes, whatever `seconds` says. `megabytes` is the largest growth of the resident
        memory of either daemon, from before the transfers to its peak.
        """
        content = os.urandom(CONTENT_BYTES)
        daemons = self.network.daemons
        before = {name: memory(daemons.pid(name)).resident for name in (GIVER, TAKER)}
        stored, upload = await _timed(self.giver.attachments.upload(io.BytesIO(content)))
        peer = self.network.identity(GIVER)
        _, move = await _timed(self.taker.attachments.fetch(stored.hash, peer))
        size, download = await _timed(self.taker.attachments.download(stored.hash, lambda part: None))
        assert size == CONTENT_BYTES
        growth = max(memory(daemons.pid(name)).peak - resident for name, resident in before.items())
        rates = {name: CONTENT_BYTES / 1e6 / taken for name, taken in zip(_WAYS, (upload, move, download), strict=True)}
        return Measured({**rates, MEGABYTES: max(0, growth) / 1e6})


_WAYS = (UPLOAD, MOVE, DOWNLOAD)


@asynccontextmanager
async def attachment_load(network: BenchNetwork) -> AsyncIterator[AttachmentLoad]:
    """Starts two homes; nothing else is needed to move a file."""
    await network.daemons.start(GIVER, TAKER)
    async with network.daemons.client(GIVER) as giver, network.daemons.client(TAKER) as taker:
        yield AttachmentLoad(network, giver, taker)


async def _timed(work: Awaitable[T]) -> tuple[T, float]:
    began = time.perf_counter()
    result = await work
    return result, time.perf_counter() - began
