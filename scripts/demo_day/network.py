"""The network of the demo: made, started in waves, stopped; never two at once in one directory."""

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from p2pet.client import NodeClient
from p2pet.localnet import LocalNetwork

from p2petd.contracts.registry import installed
from p2petd.network.bootstrap import NetworkPlan, bootstrap
from p2petd.units import HOUR_NS

NOTARY = "notary"
COMMUNITY = "community"
ORACLE = "oracle"
TRADE_DEADLINE_NS = 3 * 24 * HOUR_NS
STOP_SECONDS_MAX = 20.0
POLL_SECONDS = 0.05


class DirectoryRefused(Exception):
    """The directory cannot be used: other files are in it, or a network runs in it."""


@dataclass(frozen=True)
class Layout:
    """What lies where in the demo's directory."""

    base: Path

    @property
    def network(self) -> Path:
        return self.base / "network"

    @property
    def processes(self) -> Path:
        return self.base / "processes.json"

    @property
    def proof(self) -> Path:
        return self.base / "trade.proof"

    @property
    def root(self) -> Path:
        return self.network / "network" / "root.crt"

    def home(self, number: int) -> Path:
        return self.network / home_name(number)


def home_name(number: int) -> str:
    """The node of a home, as the bootstrap calls it."""
    return f"home-{number}"


def clear(layout: Layout) -> None:
    """Removes what an earlier demo left in the directory. Raises DirectoryRefused, and removes nothing then."""
    running = list(_running(layout))
    if running:
        raise DirectoryRefused(
            f"a network still runs in {layout.base} ({len(running)} processes); scripts/demo --stop ends it"
        )
    if layout.base.exists() and any(layout.base.iterdir()) and not layout.processes.exists():
        raise DirectoryRefused(f"{layout.base} holds other files than those of a demo; choose another --directory")
    shutil.rmtree(layout.base, ignore_errors=True)


def make(layout: Layout, homes: int, currency: str) -> dict[str, bytes]:
    """Bootstraps the network; the identity key of each node by its name. Raises NetworkError."""
    registry = installed()
    contracts = {(c.name, c.version): registry.code_hash(c.name, c.version) for c in registry.contracts}
    layout.base.mkdir(parents=True, exist_ok=True)
    layout.processes.write_text("{}\n")
    # The day is over already, so that its readings can come: this network settles trades until two days later.
    plan = NetworkPlan(layout.network, homes, currency, contracts, trade_deadline_ns=TRADE_DEADLINE_NS)
    made = bootstrap(plan, time.time_ns())
    return {node.directory.name: node.identity for node in made.nodes}


class DemoNetwork:
    """The daemons of the network. Whoever makes one closes it, unless they shall outlive the demo."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._nodes = LocalNetwork(layout.network)

    @property
    def names(self) -> tuple[str, ...]:
        return self._nodes.names

    def client(self, name: str) -> NodeClient:
        return self._nodes.client(name)

    async def start(self, *names: str) -> None:
        """Start these nodes, all when none is named, and wait until each serves. Raises DaemonFailed."""
        # Not all at once: on few cores the first would be ready only with the last, and all of them late.
        waiting, width = names or self.names, 2 * (os.cpu_count() or 1)
        while waiting:
            wave, waiting = waiting[:width], waiting[width:]
            for name in wave:
                self._nodes.launch(name)
            self._record()
            for name in wave:
                await self._nodes.wait_ready(name)

    def stop(self) -> None:
        """Ask all to stop and wait until they have."""
        self._nodes.stop()

    def close(self) -> None:
        """Stop all; kill what does not stop in time."""
        self._nodes.close()

    def ended_with(self) -> dict[str, int]:
        """The exit status of each node after `stop`."""
        return {name: self._nodes.wait_ended(name) for name in self.names}

    def _record(self) -> None:
        running = {name: self._nodes.pid(name) for name in self.names if self._nodes.is_running(name)}
        self._layout.processes.write_text(json.dumps(running) + "\n")


def stop_recorded(layout: Layout) -> int:
    """Stop the network that an earlier demo left running in the directory; how many processes there were."""
    pids = list(_running(layout))
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    limit = time.monotonic() + STOP_SECONDS_MAX
    while list(_running(layout)):
        if time.monotonic() > limit:
            for pid in _running(layout):
                os.kill(pid, signal.SIGKILL)
        time.sleep(POLL_SECONDS)
    return len(pids)


def _running(layout: Layout) -> Iterator[int]:
    """The recorded processes that still are daemons of this network: the number may belong to another by now."""
    try:
        recorded = json.loads(layout.processes.read_text())
    except (OSError, ValueError):
        return
    for name, pid in recorded.items():
        config = str(layout.network / name / "node.toml").encode()
        try:
            if config in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                yield pid
        except OSError:
            continue
