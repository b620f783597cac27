"""One community of real daemons for each test module."""

import asyncio
from collections.abc import Iterator

import pytest
from p2pet.localnet import LocalNetwork

from tests.support.community import Community, make_community


@pytest.fixture(scope="module")
def community(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Community]:
    directory = tmp_path_factory.mktemp("community") / "net"
    made = make_community(directory, homes=3)
    with LocalNetwork(directory) as network:
        asyncio.run(network.start())
        yield Community(made, network)
