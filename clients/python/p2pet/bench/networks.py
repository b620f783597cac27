"""A new network for a part of the bench, and the keys of a party of it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from p2pet.localnet import LocalNetwork
from p2petd.config import load_config
from p2petd.contracts.registry import installed
from p2petd.membership import Membership
from p2petd.network.bootstrap import MadeNetwork, NetworkPlan, bootstrap

CURRENCY = "EUR"
ISSUER = "community"
NOTARY = "notary"


@dataclass(frozen=True)
class BenchNetwork:
    """What was made, and its daemons."""

    made: MadeNetwork
    daemons: LocalNetwork

    def identity(self, name: str) -> bytes:
        return next(node.identity for node in self.made.nodes if node.directory.name == name)

    def membership(self, name: str) -> Membership:
        """The keys and the network map of a node, for a program that takes its place while no daemon does."""
        return Membership.load(load_config(self.daemons.node_directory(name) / "node.toml"))

    def peer_address(self, name: str) -> str:
        return next(node.listeners.peer for node in self.made.nodes if node.directory.name == name)


@contextmanager
def new_network(directory: Path, homes: int) -> Iterator[BenchNetwork]:
    """A network with one notary and registered meters in a new directory; no daemon outlives the context."""
    registry = installed()
    contracts = {(c.name, c.version): registry.code_hash(c.name, c.version) for c in registry.contracts}
    made = bootstrap(NetworkPlan(directory, homes, CURRENCY, contracts, oracles=0), time.time_ns())
    with LocalNetwork(directory) as daemons:
        yield BenchNetwork(made, daemons)
