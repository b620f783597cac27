from pathlib import Path

import pytest
from made_network import CONTRACTS, NOW_NS, Made

from p2petd.identity.certificates import load_root
from p2petd.network.bootstrap import NetworkPlan, bootstrap


@pytest.fixture
def network(tmp_path: Path) -> Made:
    """Three homes, a community that issues money, and two notaries, new for each test."""
    plan = NetworkPlan(tmp_path / "net", homes=3, currency="EUR", contracts=CONTRACTS, notaries=2, base_port=20_000)
    made = bootstrap(plan, NOW_NS)
    return Made(made, made.directory, load_root(made.directory / "network" / "root.crt"))
