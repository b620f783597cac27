"""Settings of all tests."""

from collections.abc import Iterator

import pytest
from hypothesis import settings
from p2pet.localnet import Launcher, LocalNetwork, start_subprocess

from tests.support.forked import fork_daemon

# The machine's load must not fail a property.
settings.register_profile("p2petd", deadline=None)
settings.load_profile("p2petd")


@pytest.fixture(scope="module", autouse=True)
def _launcher(request: pytest.FixtureRequest) -> Iterator[None]:
    """Daemons are forked, real ones all the same; a module marked `subprocesses` starts them as a user does."""
    real = request.node.get_closest_marker("subprocesses") is not None
    LocalNetwork.launcher = Launcher(start_subprocess if real else fork_daemon)
    yield
    LocalNetwork.launcher = Launcher(start_subprocess)
