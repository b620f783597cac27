"""Data directories of earlier versions open, and the flows that stood in the middle of their work finish."""

import asyncio
import json
import tarfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_COMPLETED
from p2pet.localnet import LocalNetwork

from p2petd.network.amend import amend
from p2petd.network.parameters import ContractVersion, NetworkParameters
from tests.support.community import Community, completed, contract_hashes
from tests.support.scripted import eventually

HERE = Path(__file__).parent
ARCHIVES = sorted(HERE.glob("data-*.tar.xz"))


@dataclass(frozen=True)
class _Node:
    directory: Path
    identity: bytes


@dataclass(frozen=True)
class _Made:
    """As much of a MadeNetwork as a Community reads."""

    nodes: tuple[_Node, ...]


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.name)
@pytest.mark.timeout(120)
def test_r20_data_of_an_earlier_version_opens_and_its_flows_finish(archive: Path, tmp_path: Path) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    directory = tmp_path / "net"
    expected = json.loads((directory / "expected.json").read_text())
    identities = json.loads((directory / "identities.json").read_text())
    made: Any = _Made(tuple(_Node(directory / name, bytes.fromhex(key)) for name, key in identities.items()))
    _permit_installed_contracts(directory)
    with LocalNetwork(directory) as network:
        asyncio.run(_finish(Community(made, network), expected))


def _permit_installed_contracts(directory: Path) -> None:
    """What an upgrade needs when the code of a contract has changed: parameters that permit it."""
    pinned = tuple(ContractVersion(name, version, code) for (name, version), code in sorted(contract_hashes().items()))

    def permit(parameters: NetworkParameters) -> NetworkParameters:
        return replace(parameters, contracts=pinned)

    amend(directory / "network", permit, time.time_ns())


async def _finish(community: Community, expected: dict[str, Any]) -> None:
    await community.network.start()
    for name, client_id in expected["finished"].items():
        async with asyncio.timeout(60), community.client(name) as client:
            flow = (await client.flows.get(client_id=client_id)).flow
            async for event in client.flows.watch(flow.flow_id):
                if event.HasField("outcome"):
                    assert event.outcome.status == FLOW_STATUS_COMPLETED, event.outcome
    for name, energy_wh in expected["energy_wh"].items():
        await eventually(lambda name=name: community.energy_wh(name), energy_wh)
        await eventually(lambda name=name: community.money_nano(name), expected["money_nano"][name])
        await eventually(lambda name=name: community.locked(name), 0)
    # Old and new states are one: what the earlier version issued is sold by this one.
    completed(await community.issue_energy("home-1", 500, 1))
    completed(await community.trade("home-2", "home-1", 500, 1, 250_000))
    balance = expected["energy_wh"]["home-2"] + 500
    await eventually(lambda: community.energy_wh("home-2"), balance)
