"""One node of the simulated network: the real parts of a node, but for the threads, TLS and the disk's delays."""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

from p2pet.flows.v1.flows_pb2 import FlowOutcome, ProgressStep
from p2pet.notary.v1.notary_pb2 import NotarisationReply, NotarisationRequest
from p2pet.store.v1.store_pb2 import FlowRow

from p2petd import native
from p2petd.attachments.chunks import ATTACHMENT
from p2petd.attachments.library import open_attachments
from p2petd.errors import RolledBack
from p2petd.flows.attachments import FETCH, FetchForFlows
from p2petd.flows.engine import Engine
from p2petd.flows.events import Event
from p2petd.flows.histories import histories_of
from p2petd.flows.inbound import FlowInbound
from p2petd.flows.loop import NodeLoop, _run_all
from p2petd.flows.policy import load_policy
from p2petd.flows.registry import FlowRegistry
from p2petd.flows.services import FlowServices
from p2petd.flows.sessions import SESSION, SessionService
from p2petd.notary.service import NotaryService, QueueLimits, _answer_all
from p2petd.peer.calls import PeerCalls
from p2petd.peer.hello import HelloRefused, LocalNode
from p2petd.peer.intake import ProtocolError
from p2petd.peer.link import KnownPeers, Link
from p2petd.peer.streams import Stream
from p2petd.peer.tokens import Tokens
from p2petd.peer.transport import PeerTransport
from p2petd.store.tables import META_EPOCH, META_IDENTITY, META_SECRET, Table
from p2petd.units import SECOND_NS, TimeNs
from p2petd.vault.locks import SoftLocks
from tests.simulation.community import BEGIN_NS, Community, Member
from tests.simulation.virtual_loop import Life, VirtualLoop
from tests.simulation.wires import End, Wires

SEGMENT_BYTES, MAP_BYTES = 1 << 22, 1 << 26
STREAM_ENDS = (HelloRefused, ProtocolError, TimeoutError, asyncio.InvalidStateError)

BEFORE_COMMIT, AFTER_COMMIT, AMID_EFFECTS = "before commit", "after commit", "amid effects"
BEFORE_DECISION, AFTER_DECISION = "before decision", "after decision"
PARTY_POINTS = (BEFORE_COMMIT, AFTER_COMMIT, AMID_EFFECTS)
NOTARY_POINTS = (BEFORE_DECISION, AFTER_DECISION)

Rows = dict[tuple[int, bytes], bytes]
Change = tuple[int, bytes, bytes | None]


class Crashed(BaseException):
    """The node ends here; nothing of it may catch that."""


class Violation(AssertionError):
    """Something that must always hold does not."""


class Observer(Protocol):
    """Who watches the nodes."""

    def trace(self, kind: str, who: str, data: bytes) -> None: ...

    def committed(self, who: str, changes: Sequence[Change], rows: Rows) -> None: ...

    def decided(self, who: str, request: NotarisationRequest, reply: NotarisationReply, now_ns: int) -> None: ...


class Disk:
    """A `native.Store` that ends with its node, and what it must hold after every end."""

    def __init__(self, node: "Node", directory: str, rows: Rows, *, watched: bool) -> None:
        self._node = node
        self._life = node.life
        self._rows = rows
        self._watched = watched
        self._store: native.Store | None = native.Store.open(
            directory, segment_bytes=SEGMENT_BYTES, map_bytes=MAP_BYTES
        )
        self._compare(directory)

    def _compare(self, directory: str) -> None:
        held: Rows = {}
        for table in Table:
            held |= {(int(table), key): value for key, value in self._open.scan(int(table), b"", None, 1 << 20)}
        if held != self._rows:
            differing = sorted({key for key, _ in held.items() ^ self._rows.items()})[:5]
            raise Violation(f"{directory} came back with other rows than were committed: {differing}")

    @property
    def _open(self) -> native.Store:
        if self._store is None:
            raise Crashed
        return self._store

    def commit(self, changes: Sequence[Change]) -> int:
        node = self._node
        if self._watched:
            node.crash_at(BEFORE_COMMIT)
            if node.disk_is_full:
                full = native.StoreError("the disk is full")
                full.code = "store.disk_full"
                raise full
        sequence = self._open.commit(changes)
        for table, key, value in changes:
            if value is None:
                self._rows.pop((table, key), None)
            else:
                self._rows[table, key] = value
        if self._watched:
            node.observer.committed(node.name, changes, self._rows)
            node.crash_at(AFTER_COMMIT)
        return sequence

    def has_room(self, _: int) -> bool:
        return not self._node.disk_is_full

    def __getattr__(self, name: str) -> Any:
        """Everything else is the store's."""
        return getattr(self._open, name)

    def drop(self) -> None:
        """As a kill does: nothing is synced, nothing is marked as clean, the lock is free."""
        self._store = None

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None


class Decisions:
    """A `native.Notary` that ends with its node, and tells what it has decided."""

    def __init__(self, node: "Node", notary: native.Notary) -> None:
        self._node = node
        self._notary: native.Notary | None = notary
        self._batches: dict[int, Sequence[tuple[bytes, bytes]]] = {}

    @property
    def _open(self) -> native.Notary:
        if self._notary is None:
            raise Crashed
        return self._notary

    def check(self, requests: Sequence[tuple[bytes, bytes]]) -> native.NotaryBatch:
        batch = self._open.check(requests)
        self._batches = {id(batch): requests}
        return batch

    def decide(self, batch: native.NotaryBatch, refusals: Mapping[int, tuple[str, str]], now_ns: int) -> list[bytes]:
        node = self._node
        node.crash_at(BEFORE_DECISION)
        replies = self._open.decide(batch, refusals, now_ns)
        for (_, request), reply in zip(self._batches.pop(id(batch)), replies, strict=True):
            decoded = NotarisationRequest.FromString(request), NotarisationReply.FromString(reply)
            node.observer.decided(node.name, *decoded, now_ns)
        node.crash_at(AFTER_DECISION)
        return replies

    def __getattr__(self, name: str) -> Any:
        """Everything else is the notary's."""
        return getattr(self._open, name)

    def drop(self) -> None:
        self._notary = None

    def close(self) -> None:
        if self._notary is not None:
            self._notary.close()
            self._notary = None


class SteppedNotary(NotaryService):
    """The notary's service without its thread: a batch is decided when its turn comes."""

    def attach(self, node: "Node") -> None:
        self._node = node
        self._due = False
        # Then a batch that is empty is none, instead of one that is waited for.
        self._stopping = True

    def _queue(self, waiting: Any, caller: bytes, item: Any, size: int) -> None:
        super()._queue(waiting, caller, item, size)
        if not self._due:
            self._due = True
            self._node.later(self._turn, 0.003)

    def _turn(self) -> None:
        self._due = False
        batch = self._next_batch()
        if batch is not None:
            _answer_all(self._answers(*batch))
            if self._requests or self._queries:
                self._due = True
                self._node.later(self._turn, 0.003)


class SteppedLoop(NodeLoop):
    """The engine's loop without its thread: a batch is committed when its turn comes; effects follow one by one."""

    def __init__(self, node: "Node", engine: Engine, store: native.Store) -> None:
        super().__init__(engine, store, node.clock)
        self._node = node
        self._due_at = float("inf")
        self._actions: deque[Callable[[], None]] = deque()
        self._running = False
        # Then an empty batch is none, instead of one that is waited for.
        self._stopping = True
        # It is asked for nothing but to do the effects.
        self._asyncio = cast(Any, self)

    def start(self) -> None:
        if not self._commit(*self._engine.recover()):
            raise Crashed
        self.poke()

    def submit(self, event: Any) -> None:
        super().submit(event)
        self.poke()

    def poke(self) -> None:
        """Something may be due."""
        if self.is_full:
            self._at(1.0)
        elif self._wait_for_work():
            self._at(self._node.chance.uniform(0.0, 0.004))
        elif (until := self._seconds_to_timer()) is not None:
            self._at(until + 1e-4)

    def _at(self, seconds: float) -> None:
        at = self._node.loop.time() + seconds
        if at < self._due_at:
            self._due_at = at
            self._node.later_exactly(self._turn, seconds)

    def _turn(self) -> None:
        if self._node.loop.time() + 1e-9 < self._due_at:
            return
        self._due_at = float("inf")
        if self._node.paused:
            self._at(0.5)
            return
        self._events_max = self._node.chance.choice((1, 2, 4, 4096))
        events = self._next_events()
        if events is not None:
            self._node.batches += 1
            if not self._commit(*self._engine.handle(events)):
                # The disk is full. A batch that waits for room is as one that never was: end before there is any.
                raise Crashed
        self.poke()

    def call_soon_threadsafe(self, callback: Callable[..., None], *arguments: Any) -> None:
        if callback is _run_all:
            (actions,) = arguments
            self._actions.extend(actions)
        else:
            self._actions.append(partial(callback, *arguments))
        if not self._running:
            self._running = True
            self._node.later(self._perform, 0.001)

    def _perform(self) -> None:
        count = self._node.chance.choice((1, 2, 5, 1000))
        while self._actions and count:
            count -= 1
            self._node.crash_at(AMID_EFFECTS)
            self._actions.popleft()()
        self._running = bool(self._actions)
        if self._running:
            self._node.later(self._perform, 0.001)

    def shut_down(self) -> None:
        """What a node that stops does before its store is closed."""
        while (events := self._next_events()) is not None:
            if not self._commit(*self._engine.handle(events)):
                raise Crashed
        last = self._engine.leftovers().record()
        if last:
            self._room.commit(last)


class SimulatedTransport(PeerTransport):
    """The transport with connections of the simulated network in the place of gRPC's."""

    node: "Node"

    async def _dial_once(self, link: Link, address: str) -> None:
        stream = await self.node.dial(address)
        if stream is not None:
            await self._talk(link, stream, dialled_here=True)

    async def accept(self, peer: bytes, stream: End) -> None:
        await self._talk(self._link(peer), stream, dialled_here=False)

    async def _talk(self, link: Link, stream: End, *, dialled_here: bool) -> None:
        try:
            await self._converse(link, cast(Stream, stream), dialled_here=dialled_here)
        except STREAM_ENDS as error:
            self.node.observer.trace("ended", self.node.name, str(error).encode())
        finally:
            stream.close()


class Node:
    """A node with its disk, over all its lives."""

    loop_type = SteppedLoop
    disk_type = Disk

    def __init__(
        self,
        member: Member,
        community: Community,
        directory: Path,
        loop: VirtualLoop,
        wires: Wires,
        chance: random.Random,
        observer: Observer,
        registry: FlowRegistry,
    ) -> None:
        self.name = member.name
        self.member = member
        self.loop = loop
        self.chance = chance
        self.observer = observer
        self.offset_ns = 0
        self.paused = False
        self.disk_is_full = False
        self.armed = ""
        self.batches = self.crashes = 0
        self.rows: Rows = {}
        self._open: list[Disk | Decisions] = []
        self.peers: Mapping[str, Node] = {}
        self.life = Life(self.name)
        self.life.alive = False
        self._history_rows: Rows = {}
        self.transport: SimulatedTransport | None = None
        self.on_crash: Callable[[Node], None] = lambda _: None
        self._community = community
        self._directory = directory
        self._wires = wires
        self._registry = registry

    @property
    def me(self) -> bytes:
        return self.member.info.identity

    @property
    def outbox(self) -> int:
        """How many messages wait for somebody's acknowledgement."""
        transport = self.transport
        return sum(transport.outbox_length(other.me) for other in self.peers.values()) if transport is not None else 0

    @property
    def is_up(self) -> bool:
        return self.life.alive

    def clock(self) -> TimeNs:
        return TimeNs(BEGIN_NS + int(self.loop.time() * SECOND_NS) + self.offset_ns)

    def later(self, action: Callable[[], None], seconds_max: float) -> None:
        """Some time from now, in this life."""
        self.later_exactly(action, self.chance.uniform(0.0, seconds_max))

    def later_exactly(self, action: Callable[[], None], seconds: float) -> None:
        self.loop.call_later(seconds, self._do, self.life, action, context=self.life.context)

    def _do(self, life: Life, action: Callable[[], None]) -> None:
        if life.alive:
            try:
                action()
            except Crashed:
                self.crash()

    def crash_at(self, point: str) -> None:
        if self.armed == point:
            self.armed = ""
            raise Crashed

    # The lives.

    def start(self) -> None:
        assert not self.is_up
        self.life = Life(self.name)
        self.armed = ""
        self._open = []
        try:
            self.life.context.run(self._build)
        except Crashed:
            self.crash()

    def _build(self) -> None:
        community, me = self._community, self.me
        store = self._disk("node", self.rows, watched=True)
        kept = self._disk("histories", self._history_rows, watched=False)
        if store.get(Table.META, META_IDENTITY) is None:
            secrets = {META_IDENTITY: me, META_EPOCH: self.chance.randbytes(16), META_SECRET: self.chance.randbytes(32)}
            store.commit([(Table.META, key, value) for key, value in secrets.items()])
        calls = PeerCalls(self.chance.randbytes)
        attachments = open_attachments(self._directory / "attachments", 1 << 20, lambda: 1 << 20, calls.call)
        notary = self._open_notary(attachments.library)
        histories = histories_of(AsyncExitStack(), kept, store, me, community, attachments.library, calls.call)
        offered = {ATTACHMENT: attachments.chunks.serve, FETCH: FetchForFlows(me, attachments.library).serve}
        offered[SESSION] = SessionService(store).serve
        inbound = FlowInbound(notary, self._rolled_back, {**offered, **histories.services}, calls)
        epoch, secret = store.get(Table.META, META_EPOCH), store.get(Table.META, META_SECRET)
        assert epoch is not None
        assert secret is not None
        local = LocalNode(me, self.member.info.fingerprint, community.network_id, epoch, Tokens(secret))
        # No TLS here.
        self.transport = transport = SimulatedTransport(
            local, community.network_map, cast(Any, None), KnownPeers.load(store), inbound
        )
        transport.node = self
        calls.port = transport
        services = FlowServices(
            identity=me,
            key=self.member.key,
            network_id=community.network_id,
            parameters=community.parameters,
            parameters_hash=community.parameters_hash,
            contract_parameters=community.contract_parameters[community.parameters_hash],
            network_map=community.network_map,
            store=store,
            locks=self._locks(store),
            clock=self.clock,
            attachments=attachments.library,
            chains=histories.verifier,
            outbox_messages_max=100_000,
            policy=load_policy(""),
        )
        versions = {community.parameters_hash: services}
        self.engine = Engine(
            services, versions, self._registry, community.rules, transport, entropy=self.chance.randbytes
        )
        self.engine_loop = self.loop_type(self, self.engine, store)
        inbound.submit = self.engine_loop.submit
        self.engine_loop.start()
        transport.start()

    def _disk(self, name: str, rows: Rows, *, watched: bool) -> native.Store:
        disk = self.disk_type(self, str(self._directory / name), rows, watched=watched)
        self._open.append(disk)
        # It has all methods of a store.
        return cast(native.Store, disk)

    def _locks(self, store: native.Store) -> SoftLocks:
        return SoftLocks(store)

    def _open_notary(self, attachments: Any) -> NotaryService | None:
        member, community = self.member, self._community
        if member.mode is None:
            return None
        opened = native.Notary.open(
            str(self._directory / "notary"),
            community.rules,
            community.network_id,
            int(member.mode),
            member.worker,
            member.worker_certificate,
            segment_bytes=SEGMENT_BYTES,
            map_bytes=MAP_BYTES,
        )
        decisions = Decisions(self, opened)
        self._open.append(decisions)
        limits = QueueLimits(batch_max=8, queue_max=100_000, queue_bytes_max=1 << 28)
        # It has the methods of a notary that the service uses.
        service = SteppedNotary(
            cast(native.Notary, decisions),
            community.contract_parameters,
            community.network_map,
            self.clock,
            limits,
            attachments,
            self._rolled_back,
        )
        service.attach(self)
        return service

    def _rolled_back(self, error: RolledBack) -> None:
        raise Violation(f"{self.name} is told to be an old copy: {error}")

    def crash(self) -> None:
        """As kill -9: what is not committed is lost."""
        if self.is_up:
            self.crashes += 1
            self._end("crash")
            for part in self._open:
                part.drop()
            self.on_crash(self)

    def stop(self) -> None:
        """As SIGTERM."""
        if not self.is_up:
            return
        try:
            self.engine_loop.shut_down()
        except Crashed:
            self.crash()
            return
        self._end("stop")
        for part in self._open:
            part.close()

    def _end(self, how: str) -> None:
        self.observer.trace(how, self.name, b"")
        self.life.alive = False
        self.paused = self.disk_is_full = False
        if self.transport is not None:
            self.transport._stopping = True
        self._wires.forget(self.name)
        self.loop.end(self.life)

    # What others do with it.

    async def dial(self, address: str) -> End | None:
        """A connection with another node; None when there is none."""
        await asyncio.sleep(self.chance.uniform(0.001, 0.05))
        ends = self._wires.connect(self.name, address) if self.peers[address].is_up else None
        if ends is None:
            await asyncio.sleep(self.chance.uniform(0.0, 1.0))
            return None
        there = self.peers[address]
        assert there.transport is not None
        self.loop.create_task(there.transport.accept(self.me, ends[1]), context=there.life.context)
        return ends[0]

    def locks(self) -> list[bytes]:
        """What flows have reserved, durably."""
        return [key for table, key in self.rows if table == Table.LOCK]

    def submit(self, event: Event) -> None:
        self.engine_loop.submit(event)

    def flows(self) -> dict[bytes, FlowRow]:
        """Those that are under way."""
        return {flow: run.row for flow, run in self.engine._runner.runs.items()} if self.is_up else {}

    def step_clock(self, offset_ns: int) -> None:
        """The operator, or a time server, has set the clock. Nobody tells the node."""
        self.offset_ns = offset_ns


class Watching:
    """A client that waits for the outcome of a flow."""

    wants_progress = False

    def __init__(self, told: Callable[[FlowOutcome], None]) -> None:
        self._told = told

    def on_progress(self, step: ProgressStep) -> None:
        """Not asked for."""

    def on_outcome(self, outcome: FlowOutcome) -> None:
        self._told(outcome)
