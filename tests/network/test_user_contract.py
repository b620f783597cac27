"""A contract of somebody else on a real network: installed, permitted by new parameters, used, and refused."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from p2pet.localnet import LocalNetwork

from p2petd.network.bootstrap import MadeNetwork
from tests.support.community import make_community

PACKAGE = Path(__file__).parents[2] / "docs" / "examples" / "ev-charging-voucher"
IN_FORCE_AFTER_SECONDS = 1
END = "2031-01-01T00:00Z"


@dataclass(frozen=True)
class Installed:
    """A network whose nodes have the package, except those that start without `environment`."""

    made: MadeNetwork
    network: LocalNetwork
    environment: dict[str, str]

    def cli(self, *words: str) -> dict[str, object]:
        command = [sys.executable, "-m", "p2pet.cli.main", *words, "--json"]
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.stdout, done.stderr
        answer: dict[str, object] = json.loads(done.stdout)
        return answer

    def flow(self, node: str, *words: str) -> dict[str, object]:
        return self.cli("--node", str(self.network.node_directory(node)), "flow", "start", *words)


def place_on_path(directory: Path) -> dict[str, str]:
    """The package with the metadata that an installer would write; the environment of programs that shall find it."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    for name in ("ev_voucher", "ev_voucher_flows"):
        shutil.copytree(PACKAGE / name, directory / name)
    metadata = directory / "ev_charging_voucher-1.0.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 1.0.0\n")
    groups = project["entry-points"].items()
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for group, points in groups]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    return {"PYTHONPATH": str(directory)}


@pytest.fixture(scope="module")
def vouchers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    directory = tmp_path_factory.mktemp("vouchers")
    environment = place_on_path(directory / "site")
    made = make_community(directory / "net", homes=3)
    with LocalNetwork(made.directory) as network:
        installed = Installed(made, network, environment)
        permitted = installed.cli(
            "contract", "permit", "ev-voucher", "--dir", str(made.directory), "--in", str(IN_FORCE_AFTER_SECONDS)
        )
        assert permitted["parameters_version"] == 2, permitted
        time.sleep(max(0.0, (int(str(permitted["valid_from_ns"])) - time.time_ns()) / 1e9))
        asyncio.run(network.start("notary", "community", "home-1", "home-2", environment=environment))
        asyncio.run(network.start("home-3"))
        yield installed


def outcome(answer: dict[str, object]) -> dict[str, str]:
    found = answer["outcome"]
    assert isinstance(found, dict)
    return found


def test_a_voucher_is_issued_and_redeemed_in_parts(vouchers: Installed) -> None:
    issued = outcome(vouchers.flow("home-1", "ev-voucher.issue", "holder=home-2", "energy=20kWh", f"valid_until={END}"))
    assert issued["status"] == "completed", issued
    state = f"{issued['transaction_id']}:0"
    redeemed = outcome(vouchers.flow("home-2", "ev-voucher.redeem", f"state={state}", "charged=7.5kWh"))
    assert redeemed["status"] == "completed", redeemed
    again = outcome(vouchers.flow("home-2", "ev-voucher.redeem", f"state={state}", "charged=7.5kWh"))
    assert again["status"] == "failed", again
    rest = f"{redeemed['transaction_id']}:0"
    more = outcome(vouchers.flow("home-2", "ev-voucher.redeem", f"state={rest}", "charged=12.501kWh"))
    assert more["status"] == "failed"
    assert "12500" in more["error_message"]
    last = outcome(vouchers.flow("home-2", "ev-voucher.redeem", f"state={rest}", "charged=12.5kWh"))
    assert last["status"] == "completed", last


def test_a_node_without_the_package_has_no_such_flow(vouchers: Installed) -> None:
    refused = vouchers.flow("home-3", "ev-voucher.issue", "holder=home-2", "energy=1kWh", f"valid_until={END}")
    assert refused["error"] == {
        "code": "flow.unknown",
        "message": "the node has no flow ev-voucher.issue; `p2pet-cli flow types` lists its flows",
    }


def test_permitting_it_twice_is_refused(vouchers: Installed) -> None:
    refused = vouchers.cli("contract", "permit", "ev-voucher", "--dir", str(vouchers.made.directory))
    error = refused["error"]
    assert isinstance(error, dict)
    assert error["message"] == "the network permits contract ev-voucher version 1 already"


def test_the_packages_own_tests_pass(vouchers: Installed) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(PACKAGE / "tests")]
    done = subprocess.run(
        command, env={**os.environ, **vouchers.environment}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout
