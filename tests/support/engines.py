"""Engines of several nodes in this process: real stores and journals, toy flows, a clock and a network of the test's.

Nothing runs by itself: `World.run` delivers what is on its way, in order, until nobody has anything to say.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from p2pet.flows.v1.flows_pb2 import FlowInfo, FlowOutcome, FlowStart, ProgressStep
from p2pet.peer.v1.peer_pb2 import Message, Reply
from p2pet.store.v1.store_pb2 import FlowRow

from p2petd import native
from p2petd.config import load_config
from p2petd.errors import NodeError
from p2petd.flows.effects import Effects
from p2petd.flows.engine import Engine
from p2petd.flows.events import Acknowledged, Arrived, CallAnswered, Drain, Ended, Event, Operation, Start, Watch
from p2petd.flows.registry import FlowDefinition, FlowRegistry
from p2petd.flows.services import FlowServices
from p2petd.flows.sessions import SESSION, SessionService
from p2petd.membership import Membership
from p2petd.store.changes import Changes, scan_prefix
from p2petd.store.tables import PEER_KEY_BYTES, Table
from p2petd.units import SECOND_NS, TimeNs
from p2petd.vault.locks import SoftLocks

EPOCH = b"e" * 16
Service = Callable[[bytes, bytes], Reply | None]
"""Of (caller, payload): the reply, or none from a service that is silent."""


class Follower:
    """Remembers what a watcher is told."""

    wants_progress = True

    def __init__(self) -> None:
        self.steps: list[ProgressStep] = []
        self.outcomes: list[FlowOutcome] = []

    def on_progress(self, step: ProgressStep) -> None:
        self.steps.append(step)

    def on_outcome(self, outcome: FlowOutcome) -> None:
        self.outcomes.append(outcome)


@dataclass
class World:
    """The nodes by identity, what is on its way between them, and the time."""

    now_ns: int = 1_800_000_000 * SECOND_NS
    nodes: dict[bytes, "Node"] = field(default_factory=dict)
    on_the_way: deque[tuple[bytes, Event]] = field(default_factory=deque)

    def run(self) -> None:
        """Until all is quiet; what is for a node that is down is lost, as on a wire."""
        while self.on_the_way or any(node.is_busy for node in self.nodes.values()):
            while self.on_the_way:
                to, event = self.on_the_way.popleft()
                if to in self.nodes and self.nodes[to].is_up:
                    self.nodes[to].handle(event)
            for node in self.nodes.values():
                if node.is_busy:
                    node.handle()

    def after(self, seconds: float) -> None:
        """Let so much time pass, timers included, in steps of a second."""
        for _ in range(max(1, int(seconds))):
            self.now_ns += int(min(1.0, seconds) * SECOND_NS)
            for node in self.nodes.values():
                if node.is_up:
                    node.handle(*node.engine.due_timers(self.now_ns))
            self.run()


class Wire:
    """A node's transport: the world's queue. Calls are made again to a node that was down."""

    def __init__(self, world: World, identity: bytes) -> None:
        self.forgotten: list[bytes] = []
        self.calls: dict[bytes, tuple[bytes, str, bytes]] = {}
        self._world = world
        self._me = identity

    def send(self, peer: bytes, sequence: int, message: bytes) -> None:
        arrived = Arrived(self._me, EPOCH, (Message(sequence=sequence, session=message),))
        self._world.on_the_way.append((peer, arrived))

    def acknowledge(self, peer: bytes, epoch: bytes, sequence: int, token: bytes) -> None:
        self._world.on_the_way.append((peer, Acknowledged(self._me, 1, sequence, token)))

    def call(self, peer: bytes, call_id: bytes, service: str, payload: bytes) -> None:
        self.calls[call_id] = (peer, service, payload)
        node = self._world.nodes.get(peer)
        if node is None or not node.is_up or service not in node.services:
            return
        reply = node.services[service](self._me, payload)
        if reply is not None:
            del self.calls[call_id]
            self._world.on_the_way.append((self._me, CallAnswered(call_id, reply.payload)))

    def forget_call(self, peer: bytes, call_id: bytes) -> None:
        if self.calls.pop(call_id, None) is not None:
            self.forgotten.append(call_id)


class Node:
    """One party's engine and its store."""

    def __init__(self, world: World, directory: Path, flows: tuple[FlowDefinition, ...]) -> None:
        self.world = world
        self.member = Membership.load(load_config(directory))
        self.identity = self.member.identity.public
        self.flows = flows
        self.services: dict[str, Service] = {}
        self.drained = False
        self.is_up = False
        self.wire = Wire(world, self.identity)
        self._directory = directory
        world.nodes[self.identity] = self

    # The life of the node.

    def start(self) -> "Node":
        self.store = native.Store.open(str(self._directory / "engine-store"))
        signed = self.member.network_map.current_parameters(self.world.now_ns)
        services = FlowServices(
            identity=self.identity,
            key=self.member.identity.signing_key,
            network_id=self.member.identity.network_id,
            parameters=signed,
            parameters_hash=signed.hash,
            contract_parameters=self.member.contract_parameters[signed.hash],
            network_map=self.member.network_map,
            store=self.store,
            locks=SoftLocks(self.store),
            clock=lambda: TimeNs(self.world.now_ns),
            attachments=cast(Any, None),
            # Toy flows have no histories.
            chains=cast(Any, SimpleNamespace(ancestry=None)),
            outbox_messages_max=1000,
        )
        self.engine = Engine(services, {signed.hash: services}, FlowRegistry(self.flows), self.member.rules, self.wire)
        self.services[SESSION] = self._session
        self.is_up = True
        self._commit(*self.engine.recover())
        for key, message in scan_prefix(self.store, Table.OUTBOX, b""):
            self.wire.send(key[:PEER_KEY_BYTES], int.from_bytes(key[PEER_KEY_BYTES:]), message)
        for other in self.world.nodes.values():
            if other is not self and other.is_up:
                other.reconnect(self.identity)
        return self

    def reconnect(self, peer: bytes) -> None:
        """Send a peer that was down what it has not acknowledged, and ask it again."""
        for key, message in scan_prefix(self.store, Table.OUTBOX, peer):
            self.wire.send(peer, int.from_bytes(key[PEER_KEY_BYTES:]), message)
        for call_id, (asked, service, payload) in list(self.wire.calls.items()):
            if asked == peer:
                self.wire.call(peer, call_id, service, payload)

    def kill(self) -> None:
        """Only what was committed stays; calls that were out are made again by `start`."""
        self.is_up = False
        self.wire.calls.clear()
        self.store.close()

    def restart(self, flows: tuple[FlowDefinition, ...] | None = None) -> None:
        """As after `kill -9`, with other flows installed when they are given."""
        self.kill()
        self.flows = self.flows if flows is None else flows
        self.start()
        self.world.run()

    @property
    def is_busy(self) -> bool:
        return self.is_up and self.engine.has_turns()

    def handle(self, *events: Event) -> None:
        """One batch."""
        self._commit(*self.engine.handle(list(events)))

    def _commit(self, changes: Changes, effects: Effects) -> None:
        if changes:
            self.store.commit(changes.record())
        self.engine.committed()
        for action in effects.actions:
            action()

    # What a client does.

    def begin(self, flow: str, arguments: bytes = b"", client_id: str = "", version: int = 0) -> bytes:
        """Start a flow and let the world run; its id. Raises what the node refuses with."""
        answers: list[bytes | NodeError] = []
        start = FlowStart(flow=flow, version=version, client_id=client_id, arguments=arguments)
        self.handle(Start(start, answers.append, None))
        self.world.run()
        (answer,) = answers
        if isinstance(answer, NodeError):
            raise answer
        return answer

    def operate(self, operation: type[Operation], flow_id: bytes) -> Ended | None:
        """Raises what the node refuses with."""
        answers: list[Any] = []
        self.handle(cast(Any, operation)(flow_id, answers.append))
        self.world.run()
        (answer,) = answers
        if isinstance(answer, NodeError):
            raise answer
        return cast(Ended | None, answer)

    def drain(self, *, undo: bool = False) -> tuple[int, int]:
        counts: list[tuple[int, int]] = []
        self.handle(Drain(undo, counts.append, lambda: setattr(self, "drained", True)))
        self.world.run()
        return counts[0]

    def info(self, flow_id: bytes) -> FlowInfo:
        return self.watch(flow_id, None)[0]

    def watch(self, flow_id: bytes, follower: Follower | None) -> tuple[FlowInfo, list[ProgressStep]]:
        seen: list[Any] = []
        self.handle(Watch(flow_id, seen.append, follower))
        (answer,) = seen
        if isinstance(answer, NodeError):
            raise answer
        return cast(tuple[FlowInfo, list[ProgressStep]], answer)

    def rows(self) -> Mapping[bytes, FlowRow]:
        """All flows, by id, as they are on the disk."""
        return {key: FlowRow.FromString(row) for key, row in scan_prefix(self.store, Table.FLOW, b"")}

    def only(self, status: int) -> bytes:
        """The id of the one flow with this status."""
        (found,) = [flow_id for flow_id, row in self.rows().items() if row.status == status]
        return found

    def count(self, table: Table) -> int:
        return len(list(scan_prefix(self.store, table, b"")))

    def _session(self, caller: bytes, payload: bytes) -> Reply:
        replies: list[Reply] = []
        SessionService(self.store).serve(caller, payload, replies.append)
        return replies[0]
