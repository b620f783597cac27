from collections.abc import Iterator
from pathlib import Path

import pytest
from scribe import Scribe

from p2petd import native


@pytest.fixture
def scribe(tmp_path: Path) -> Iterator[Scribe]:
    """An oracle that has been told nothing, with a log of its own."""
    store = native.Store.open(str(tmp_path / "oracle"))
    yield Scribe(store)
    store.close()
