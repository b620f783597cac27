from collections.abc import Iterator
from pathlib import Path

import pytest
from wallet import Wallet

from p2petd import native


@pytest.fixture
def wallet(tmp_path: Path) -> Iterator[Wallet]:
    """Empty, in a store of its own."""
    store = native.Store.open(str(tmp_path / "node"))
    yield Wallet(store)
    store.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Wallet]:
    """A second one."""
    store = native.Store.open(str(tmp_path / "other"))
    yield Wallet(store)
    store.close()
