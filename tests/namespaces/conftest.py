"""One community of daemons in namespaces for each test module; none where the machine forbids it."""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.community import EURO_NANO, Community, completed, make_community
from tests.support.netns import HERE, PORT, SpacedNetwork, space_addresses, unavailable
from tests.support.relay import Relay

HOMES = 8
# In so many states each, because one that waits for a party that is cut off is of no use for others.
STATES = 16
MONEY_NANO, ENERGY_WH = STATES * EURO_NANO, STATES * 1_000
SEED_VARIABLE = "P2PET_SEED"


@dataclass(frozen=True)
class Spaced:
    """A community whose links obey `relay`. Every home has MONEY_NANO and ENERGY_WH at the start."""

    community: Community
    relay: Relay


@pytest.fixture(scope="module")
def seed() -> int:
    """Of what becomes of packets, as far as their order is the same: printed, and given back by the environment."""
    chosen = int(os.environ.get(SEED_VARIABLE, "") or int.from_bytes(os.urandom(4)))
    print(f"{SEED_VARIABLE}={chosen}")
    return chosen


@pytest.fixture(scope="module")
def spaced(tmp_path_factory: pytest.TempPathFactory, seed: int) -> Iterator[Spaced]:
    reason = unavailable()
    if reason:
        pytest.skip(reason)
    homes = [f"home-{number}" for number in range(1, HOMES + 1)]
    names = ("notary", "community", *homes)
    addresses = space_addresses((*names, HERE))
    directory = tmp_path_factory.mktemp("spaced") / "net"
    hosts = tuple(addresses[name] for name in names)
    made = make_community(directory, homes=HOMES, base_port=PORT, hosts=hosts)

    async def provide(community: Community) -> None:
        await community.network.start()
        for period in range(STATES):
            issues = [community.issue_money(home, EURO_NANO) for home in homes]
            requests = [community.issue_energy(home, 1_000, period) for home in homes]
            for outcome in await asyncio.gather(*issues, *requests):
                completed(outcome)

    with SpacedNetwork(directory, addresses, seed) as network:
        community = Community(made, network)
        asyncio.run(provide(community))
        yield Spaced(community, network.relay)
