"""Makes the data directories that later versions must open: run once with a version before its format changes.

    .venv/bin/python -m tests.golden.make_data tests/golden/data-<version>.tar.xz

A small network stops in the middle of its work: a buyer and a payer have died after the notary decided and before they
knew, a seller that has signed waits, and a payment waits for a node that is down. Views are left out, as in a backup.
"""

import asyncio
import contextlib
import json
import shutil
import signal
import sys
import tarfile
import tempfile
from pathlib import Path

from google.protobuf.message import Message
from p2pet.client import ApiError
from p2pet.flows.v1.arguments_pb2 import PaymentIssueArguments, PaymentPayArguments
from p2pet.localnet import LocalNetwork

from tests.support.community import CURRENCY, EURO_NANO, Community, completed, make_community

# Outside the range from which systems take ports for outgoing connections.
BASE_PORT = 21_310
SEGMENT_BYTES = 1024 * 1024
BUYER, SELLER = "home-2", "home-1"
QUANTITY_WH, PRICE = 1_000, 250_000
# A flow's second commit: the notary has answered, and nobody else knows.
AFTER_THE_NOTARY = {"P2PET_FAILPOINTS": "log.before_write:2"}
# The buyer's offer and the seller's answer come first.
AFTER_THE_NOTARY_OF_A_TRADE = {"P2PET_FAILPOINTS": "log.before_write:3"}


async def _run(community: Community) -> None:
    network = community.network
    await network.start()
    for home in (BUYER, SELLER):
        completed(await community.issue_money(home, 100 * EURO_NANO))
    completed(await community.issue_energy(SELLER, 2 * QUANTITY_WH))
    completed(await community.trade(BUYER, SELLER, QUANTITY_WH, 0, PRICE))

    await _dies(community, BUYER, AFTER_THE_NOTARY_OF_A_TRADE)
    await _refused(community, BUYER, "energy.trade", community.trade_terms(SELLER, QUANTITY_WH, 0, PRICE), "trade")
    network.stop(SELLER)
    await _dies(community, SELLER, AFTER_THE_NOTARY)
    pay = PaymentPayArguments(currency=CURRENCY, amount_nano=EURO_NANO, recipient=community.identity[BUYER])
    await _refused(community, SELLER, "payment.pay", pay, "pay")
    issue = PaymentIssueArguments(currency=CURRENCY, amount_nano=EURO_NANO, recipient=community.identity[BUYER])
    completed(await community.run("community", "payment.issue", issue, "issue"))
    network.stop()


async def _dies(community: Community, name: str, environment: dict[str, str]) -> None:
    community.network.stop(name)
    await community.network.start(name, environment=environment)


async def _refused(community: Community, name: str, flow: str, arguments: Message, client_id: str) -> None:
    with contextlib.suppress(ApiError):
        await community.run(name, flow, arguments, client_id)
    assert community.network.wait_ended(name) == -signal.SIGKILL


def make(archive: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / "net"
        made = make_community(directory, base_port=BASE_PORT)
        for path in directory.glob("*/node.toml"):
            lines = path.read_text().splitlines()
            path.write_text("\n".join(_small_segments(line) for line in lines) + "\n")
        with LocalNetwork(directory) as network:
            asyncio.run(_run(Community(made, network)))
        for view in directory.glob("*/data/*/view"):
            shutil.rmtree(view)
        for log in directory.glob("*/node.log"):
            log.unlink()
        paid = QUANTITY_WH * PRICE
        expected = {
            "energy_wh": {BUYER: 2 * QUANTITY_WH, SELLER: 0},
            "money_nano": {BUYER: 102 * EURO_NANO - 2 * paid, SELLER: 99 * EURO_NANO + 2 * paid},
            "finished": {BUYER: "trade", SELLER: "pay"},
        }
        (directory / "expected.json").write_text(json.dumps(expected, indent=2) + "\n")
        (directory / "identities.json").write_text(
            json.dumps({node.directory.name: node.identity.hex() for node in made.nodes}, indent=2) + "\n"
        )
        with tarfile.open(archive, "w:xz") as tar:
            tar.add(directory, "net")


def _small_segments(line: str) -> str:
    return f"segment_bytes = {SEGMENT_BYTES}" if line.startswith("segment_bytes") else line


if __name__ == "__main__":
    make(Path(sys.argv[1]))
