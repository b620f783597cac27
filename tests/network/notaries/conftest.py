"""A real community with two notaries; the tests of this directory share it."""

import asyncio
from collections.abc import Iterator

import pytest
from p2pet.localnet import LocalNetwork

from tests.support.community import make_community
from tests.support.two_notaries import TwoNotaries


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoNotaries]:
    """The nodes of both notaries, the community and two homes run."""
    directory = tmp_path_factory.mktemp("two") / "net"
    made = make_community(directory, homes=2, notaries=2)
    with LocalNetwork(directory) as network:
        asyncio.run(network.start())
        yield TwoNotaries(made, network)
