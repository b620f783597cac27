"""A real notary and one real home for each test module; every other node of the community is scripted by the test."""

import asyncio
from collections.abc import Iterator

import pytest
from p2pet.localnet import LocalNetwork

from tests.support.community import make_community
from tests.support.scripted import ScriptedCommunity


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedCommunity]:
    directory = tmp_path_factory.mktemp("scripted") / "net"
    made = make_community(directory, homes=5)
    with LocalNetwork(directory) as network:
        asyncio.run(network.start("notary", "home-1"))
        yield ScriptedCommunity(made, network)
