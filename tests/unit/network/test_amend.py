"""A new version of the network parameters, as an operator signs it."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from p2petd.errors import NetworkError
from p2petd.identity.certificates import load_root
from p2petd.network.amend import amend, permit_contract
from p2petd.network.bootstrap import NetworkPlan, bootstrap
from p2petd.network.network_map import NetworkMap
from p2petd.network.parameters import ContractVersion, NetworkParameters
from p2petd.units import SECOND_NS

NEW = ContractVersion("booking", 1, b"\x07" * 32)


@pytest.fixture
def network(tmp_path: Path) -> Path:
    plan = NetworkPlan(tmp_path / "net", 0, "EUR", {("energy", 1): b"\x01" * 32}, notaries=2)
    return bootstrap(plan, time.time_ns()).directory / "network"


def loaded(network: Path) -> NetworkMap:
    root = load_root(network / "root.crt")
    return NetworkMap.load(network / "nodes", network / "parameters", root, time.time_ns())


def test_nodes_accept_the_new_version_and_keep_the_old_one(network: Path) -> None:
    at_ns = time.time_ns() + SECOND_NS
    amended = amend(network, lambda parameters: permit_contract(parameters, NEW), at_ns)
    known = loaded(network)
    assert NEW in amended.contracts
    assert known.current_parameters(at_ns) == amended
    assert known.current_parameters(at_ns - 1).version == 1


def test_a_contract_is_permitted_once_and_never_with_other_code(network: Path) -> None:
    amend(network, lambda parameters: permit_contract(parameters, NEW), time.time_ns() + SECOND_NS)
    later = time.time_ns() + 2 * SECOND_NS
    with pytest.raises(NetworkError, match="permits contract booking version 1 already"):
        amend(network, lambda parameters: permit_contract(parameters, NEW), later)
    with pytest.raises(NetworkError, match="with other code; changed code gets a new version"):
        amend(network, lambda parameters: permit_contract(parameters, replace(NEW, code_hash=b"\x08" * 32)), later)
    assert len(loaded(network).parameters) == 2


def test_what_nodes_would_refuse_is_not_written(network: Path) -> None:
    def reversed_notaries(parameters: NetworkParameters) -> NetworkParameters:
        return replace(parameters, notaries=parameters.notaries[::-1])

    with pytest.raises(NetworkError, match="the first notary"):
        amend(network, reversed_notaries, time.time_ns() + SECOND_NS)
    with pytest.raises(NetworkError, match="before its predecessor"):
        amend(network, lambda parameters: permit_contract(parameters, NEW), 1)
    assert [path.name for path in (network / "parameters").iterdir()] == ["1.params"]
