"""The row that times contracts."""

from pathlib import Path

import pytest
from p2pet.bench import contract_rows
from p2pet.bench.contract_rows import VERIFY_US, WHOLE_US, contract_cost


def test_contracts_are_timed_on_trades_that_verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract_rows, "WARM_UP_TRADES", 5)
    cost = contract_cost(tmp_path, trades=11)
    assert 0 < cost[VERIFY_US] < cost[WHOLE_US]
