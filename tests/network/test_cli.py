"""The command line against real daemons, as a person types it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.community import Community

pytestmark = pytest.mark.subprocesses

PERIOD = "2030-01-01T12:00Z/PT15M"


def cli(node: Path | None, *words: str, code: int = 0) -> str:
    """What the command prints; it must end with `code`."""
    environment = {**os.environ, **({"P2PET_NODE": str(node)} if node else {})}
    command = [sys.executable, "-m", "p2pet.cli.main", *words]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert ended.returncode == code, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stdout if code == 0 else ended.stdout + ended.stderr


def answer(node: Path, *words: str) -> Any:
    return json.loads(cli(node, *words, "--json"))


def test_issue_trade_export_and_verify_offline(community: Community, tmp_path: Path) -> None:
    directory = community.made.directory
    issuer, seller, buyer = (directory / name for name in ("community", "home-1", "home-2"))
    energy = ("energy_type=solar", f"delivery={PERIOD}")
    request = ("asked_price=0.20/kWh", "meter=cli-1", "zone=feeder-1", "quantity=1.5kWh")
    cli(seller, "flow", "start", "energy.request", *energy, *request, "--watch")
    cli(issuer, "flow", "start", "payment.issue", "currency=EUR", "amount=10", "recipient=home-2")
    terms = ("seller=home-1", "quantity=0.5kWh", "price=0.25/kWh", "currency=EUR")
    nested = tuple(f"energy.{pair}" for pair in energy)
    trade = answer(buyer, "flow", "start", "energy.trade", *nested, *terms, "--client-id", "cli-trade")
    identifier = trade["outcome"]["transaction_id"]

    again = answer(buyer, "flow", "start", "energy.trade", *nested, *terms, "--client-id", "cli-trade")
    assert again["flow_id"] == trade["flow_id"]
    assert [lot["quantity_wh"] for lot in answer(buyer, "vault", "balance")["energy"]] == [500]
    assert "0.5 kWh" in cli(buyer, "vault", "balance")
    assert identifier in {one["id"] for one in answer(buyer, "tx", "list")["transactions"]}
    assert "EnergyTrade" in cli(buyer, "tx", "show", identifier)

    proof = tmp_path / "trade.proof"
    cli(buyer, "tx", "export", identifier, "--out", str(proof))
    root = directory / "network" / "root.crt"
    assert "is final" in cli(None, "tx", "verify", str(proof), "--root", str(root))
    damaged = proof.read_bytes().replace(bytes.fromhex(identifier), bytes(32))
    proof.write_bytes(damaged)
    assert "NOT proven: step 2" in cli(None, "tx", "verify", str(proof), "--root", str(root), code=1)


def test_a_flow_that_is_refused_ends_with_1_and_its_code(community: Community) -> None:
    home = community.made.directory / "home-3"
    before = answer(home, "vault", "balance")
    energy = ("energy.energy_type=wind", f"energy.delivery={PERIOD}")
    words = ("flow", "start", "energy.transfer", "quantity=1kWh", "recipient=home-1", *energy)
    assert "vault.insufficient" in cli(home, *words, code=1)
    assert answer(home, "vault", "balance") == before


def test_peers_and_health_of_a_running_node(community: Community) -> None:
    home = community.made.directory / "home-1"
    assert {peer["name"].split(",")[0] for peer in answer(home, "node", "peers")["peers"]} >= {"CN=notary", "CN=home-2"}
    assert answer(home, "node", "health") == {"serving": True}
    assert answer(home, "node", "info")["identity"] == community.identity["home-1"].hex()
