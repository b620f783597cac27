import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_runner import Run, run_cli
from fake_node import Served

from p2petd.network.bootstrap import NetworkPlan, bootstrap

CONTRACTS = {("energy", 1): b"\x01" * 32, ("payment", 1): b"\x02" * 32}


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a network with two homes, a notary and a community."""
    directory = tmp_path_factory.mktemp("cli") / "net"
    # TLS libraries read the wall clock, so the network is of today.
    return bootstrap(NetworkPlan(directory, 2, "EUR", CONTRACTS), time.time_ns()).directory


@pytest.fixture(scope="module")
def served(network: Path) -> Iterator[Served]:
    """A fake node at home-1."""
    node = Served(network / "home-1")
    yield node
    node.stop()


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs p2pet-cli in this process: `code, out, err = cli("node", "info")`."""
    monkeypatch.delenv("P2PET_NODE", raising=False)
    return lambda *words: run_cli(capsys, *words)
