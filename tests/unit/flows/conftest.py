"""Parties in this process, with certificates of a real network and flows of the test's own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from p2petd.flows.registry import FlowDefinition
from tests.support.community import make_community
from tests.support.engines import Node, World

Parties = Callable[..., list[Node]]


@pytest.fixture
def parties(tmp_path: Path) -> Iterator[Parties]:
    """`parties(count, *flows)`: so many nodes with these flows, started, in one world."""
    world = World()

    def make(count: int, *flows: FlowDefinition) -> list[Node]:
        made = make_community(tmp_path / "net", homes=count)
        homes = [node.directory for node in made.nodes if node.directory.name.startswith("home-")]
        return [Node(world, directory, flows).start() for directory in homes]

    yield make
    for node in world.nodes.values():
        if node.is_up:
            node.kill()
