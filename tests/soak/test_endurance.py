"""Hours of steady trade: memory, descriptors and threads of every node stay what they were.

Runs when P2PET_SOAK_MINUTES says for how long; `scripts/soak` sets it. Prints a table of what it has measured.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression, median

import pytest
from p2pet.bench.machine import disk_bytes, memory
from p2pet.flows.v1.arguments_pb2 import PaymentPayArguments
from p2pet.localnet import LocalNetwork

from tests.support.community import CURRENCY, EURO_NANO, Community, completed, make_community
from tests.support.scripted import eventually

MINUTES = float(os.environ.get("P2PET_SOAK_MINUTES", "0"))
SELLER, BUYER, THIRD = "home-1", "home-2", "home-3"
START_NANO = 10_000 * EURO_NANO
QUANTITY_WH, PRICE = 1_000, 250_000
SAMPLES = 120
# What is measured before is the filling of caches and of the list of ended flows.
WARM_UP = 0.5
# Small, so that logs are trimmed and snapshots taken again and again.
STORE = "segment_bytes = 4194304\nsnapshot_log_bytes = 16777216"
DESCRIPTORS_MORE = 16
THREADS_MORE = 4
MEBIBYTE = 1024 * 1024
# Allocators keep what they once needed; a leak of 200 bytes a flow would exceed it within the hour.
GROWTH_BYTES_MAX = 24 * MEBIBYTE

pytestmark = pytest.mark.skipif(not MINUTES, reason="P2PET_SOAK_MINUTES is not set; scripts/soak runs this")


@dataclass
class Course:
    """What one node took over time: (seconds, anonymous bytes, descriptors, threads, bytes on the disk)."""

    samples: list[tuple[float, int, int, int, int]] = field(default_factory=list)

    def column(self, number: int) -> list[int]:
        """After the warm-up."""
        settled = self.samples[int(len(self.samples) * WARM_UP) :]
        return [int(sample[number]) for sample in settled]

    def slope_per_hour(self, number: int) -> float:
        settled = self.samples[int(len(self.samples) * WARM_UP) :]
        line = linear_regression([sample[0] for sample in settled], [sample[number] for sample in settled])
        return line.slope * 3600


@pytest.mark.timeout(int(MINUTES * 60) + 600)
def test_r21_a_long_run_takes_no_more_memory_descriptors_or_threads(tmp_path: Path) -> None:
    made = make_community(tmp_path / "net", homes=3)
    for config in (tmp_path / "net").glob("*/node.toml"):
        lines = [line for line in config.read_text().splitlines() if not line.startswith("segment_bytes")]
        config.write_text("\n".join(lines).replace("[store]", f"[store]\n{STORE}") + "\n")
    with LocalNetwork(tmp_path / "net") as network:
        courses, flows = asyncio.run(_endure(Community(made, network)))
    print(f"\n{flows} flows in {MINUTES:g} minutes")
    print(f"{'node':12}{'MB':>8}{'MB/h':>8}{'descr.':>8}{'threads':>8}{'disk MB':>9}{'disk MB/h':>10}")
    for name, course in courses.items():
        mib = median(course.column(1)) / MEBIBYTE
        growth, disk = course.slope_per_hour(1) / MEBIBYTE, course.slope_per_hour(4) / MEBIBYTE
        descriptors, threads = max(course.column(2)), max(course.column(3))
        last = course.samples[-1][4] / MEBIBYTE
        print(f"{name:12}{mib:8.1f}{growth:8.1f}{descriptors:8}{threads:8}{last:9.1f}{disk:10.1f}")
    for name, course in courses.items():
        for number, more, what in ((2, DESCRIPTORS_MORE, "descriptors"), (3, THREADS_MORE, "threads")):
            column = course.column(number)
            assert max(column) - column[0] <= more, f"{what} of {name} grow: {column}"
        anonymous = course.column(1)
        half = len(anonymous) // 2
        assert median(anonymous[half:]) - median(anonymous[:half]) < GROWTH_BYTES_MAX, f"{name} takes more and more"


async def _endure(community: Community) -> tuple[dict[str, Course], int]:
    network = community.network
    await network.start()
    for home in (SELLER, BUYER, THIRD):
        for _ in range(8):
            completed(await community.issue_money(home, START_NANO // 8))
        await eventually(lambda home=home: community.money_nano(home), START_NANO)
    courses = {name: Course() for name in network.names}
    end = time.monotonic() + MINUTES * 60
    count = 0

    async def repeat(step: Callable[[int], Awaitable[int]]) -> None:
        nonlocal count
        turn = 0
        while time.monotonic() < end:
            count += await step(turn)
            turn += 1

    async def sample() -> None:
        start = time.monotonic()
        while (now := time.monotonic()) < end:
            for name, course in courses.items():
                course.samples.append((now - start, *_taken(network, name)))
            await asyncio.sleep(MINUTES * 60 / SAMPLES)

    await asyncio.gather(
        sample(),
        repeat(lambda turn: _trade(community, turn)),
        repeat(lambda _: _pay(community, THIRD, BUYER)),
        repeat(lambda _: _pay(community, BUYER, THIRD)),
        repeat(lambda _: _pay(community, SELLER, BUYER, QUANTITY_WH * PRICE)),
    )
    for home in (SELLER, BUYER, THIRD):
        await eventually(lambda home=home: community.locked(home), 0)
    money = [await community.money_nano(home) for home in (SELLER, BUYER, THIRD)]
    assert sum(money) == 3 * START_NANO
    return courses, count


async def _trade(community: Community, turn: int) -> int:
    completed(await community.issue_energy(SELLER, QUANTITY_WH, turn))
    completed(await community.trade(BUYER, SELLER, QUANTITY_WH, turn, PRICE))
    return 2


async def _pay(community: Community, payer: str, payee: str, amount_nano: int = EURO_NANO) -> int:
    arguments = PaymentPayArguments(currency=CURRENCY, amount_nano=amount_nano, recipient=community.identity[payee])
    completed(await community.run(payer, "payment.pay", arguments))
    return 1


def _taken(network: LocalNetwork, name: str) -> tuple[int, int, int, int]:
    process = Path(f"/proc/{network.pid(name)}")
    descriptors, threads = (len(list((process / part).iterdir())) for part in ("fd", "task"))
    return memory(network.pid(name)).anonymous, descriptors, threads, disk_bytes(network.node_directory(name) / "data")
