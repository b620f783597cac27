"""This machine's limits, measured in the same run: signatures, durable appends, frames over loopback TLS."""

import itertools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from p2pet.bench.echo import EchoClient, EchoServer
from p2pet.bench.load import NS_PER_SECOND
from p2pet.bench.networks import NOTARY, BenchNetwork
from p2petd.ledger.proposal import PURPOSE_TRANSACTION
from p2petd.native import SigningKey, sha256, verify_signatures

KEYS = 64
SIGNATURES = 1024
SIGNATURES_IN_BATCH = 512
APPEND_BYTES = 512
APPEND_FILE_BYTES = 16 * 1024 * 1024
FRAME_BYTES = 1024

Item = tuple[bytes, bytes, int, bytes, bytes]


@dataclass(frozen=True)
class Limits:
    """One processor core does so many signatures; the file system of the bench so many appends, one after the other."""

    signatures_made: float
    signatures_verified_single: float
    signatures_verified_batched: float
    durable_appends: float
    tls_frames: float
    tls_round_trips: float


async def measure_limits(network: BenchNetwork, directory: Path, seconds: float, repeats: int) -> Limits:
    """The median of `repeats` measurements of each, `seconds` long."""
    keys = [SigningKey.from_seed(os.urandom(32)) for _ in range(KEYS)]
    items = _signed(keys)
    digest, key = items[0][3], keys[0]
    batch = items[:SIGNATURES_IN_BATCH]
    one_by_one = itertools.cycle(items)

    def rate(work: Callable[[], object]) -> float:
        return median(_rate(work, seconds) for _ in range(repeats))

    made = rate(lambda: key.sign(bytes(32), PURPOSE_TRANSACTION, digest))
    single = rate(lambda: verify_signatures([next(one_by_one)]))
    batched = rate(lambda: verify_signatures(batch)) * SIGNATURES_IN_BATCH
    appends = median(_appends(directory, seconds) for _ in range(repeats))
    with EchoServer(network.membership("home-1").tls) as server:
        name = network.membership("home-1").identity.fingerprint
        client = EchoClient(server, network.membership(NOTARY).tls, name, FRAME_BYTES)
        frames = [await client.frames_per_second(seconds) for _ in range(repeats)]
        trips = [await client.round_trips_per_second(seconds) for _ in range(repeats)]
    return Limits(made, single, batched, appends, median(frames), median(trips))


def _signed(keys: list[SigningKey]) -> list[Item]:
    network = bytes(32)
    items = []
    for number in range(SIGNATURES):
        key, digest = keys[number % len(keys)], sha256(number.to_bytes(4))
        signature = key.sign(network, PURPOSE_TRANSACTION, digest)
        items.append((key.public, network, PURPOSE_TRANSACTION, digest, signature))
    return items


def _rate(work: Callable[[], object], seconds: float) -> float:
    done = 0
    started = time.perf_counter_ns()
    until = started + int(seconds * NS_PER_SECOND)
    while (now := time.perf_counter_ns()) < until:
        work()
        done += 1
    return done * NS_PER_SECOND / (now - started)


def _appends(directory: Path, seconds: float) -> float:
    """Appends with fdatasync to a file whose blocks are there and written already: the best that there is."""
    path = directory / "appends"
    record = os.urandom(APPEND_BYTES)
    offsets = itertools.cycle(range(0, APPEND_FILE_BYTES, APPEND_BYTES))
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.pwrite(descriptor, bytes(APPEND_FILE_BYTES), 0)
        os.fsync(descriptor)

        def append() -> None:
            os.pwrite(descriptor, record, next(offsets))
            os.fdatasync(descriptor)

        return _rate(append, seconds)
    finally:
        os.close(descriptor)
        path.unlink()
