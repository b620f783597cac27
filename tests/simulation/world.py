"""The world of one seed: nodes, network, clients, and a fault injector; then quiet, and what must be true of it."""

import asyncio
import contextlib
import contextvars
import hashlib
import logging
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_COMPLETED, FLOW_STATUS_FAILED
from p2pet.ledger.v1.transaction_pb2 import Proposal, UniquenessProposal
from p2pet.notary.v1.notary_pb2 import NotarisationReply, NotarisationRequest
from p2pet.store.v1.store_pb2 import FlowRow, TransactionRow

from p2petd import native
from p2petd.errors import InternalError, NotaryConflict
from p2petd.flows.builtin import installed_flows
from p2petd.flows.events import Drain, Kill
from p2petd.flows.registry import FlowRegistry
from p2petd.ledger.groups import Group
from p2petd.network.parameters import NotaryMode
from p2petd.store import room
from p2petd.store.tables import Table
from p2petd.units import HOUR_NS, MINUTE_NS, SECOND_NS
from tests.simulation import respend
from tests.simulation.audit import audit
from tests.simulation.clients import Clients
from tests.simulation.community import found
from tests.simulation.model import Ledger
from tests.simulation.node import NOTARY_POINTS, PARTY_POINTS, Change, Crashed, Node, Rows, Violation
from tests.simulation.virtual_loop import Life, VirtualLoop
from tests.simulation.wires import Weather, Wires

QUIET_SECONDS_MAX = 4 * 3600.0
LAST_EVENTS = 60
UNFINISHED = (1, 4)
SIGNED_BY_TWO = ("energy.trade", "energy.transfer", "payment.redeem")


@dataclass(frozen=True)
class Plan:
    """What a seed is run with."""

    homes: int = 3
    notaries: tuple[NotaryMode, ...] = (NotaryMode.VERIFYING, NotaryMode.VERIFYING)
    storm_seconds: float = 60.0
    # Issues of money and energy at the very beginning.
    endowments: int = 30
    # Each second so many, on average.
    wants: float = 1.5
    faults: float = 0.5


VERIFYING, UNSEEING = NotaryMode.VERIFYING, NotaryMode.UNIQUENESS_ONLY
NOTARIES = ((VERIFYING, VERIFYING), (VERIFYING, UNSEEING), (VERIFYING,))


def plan_of(seed: int) -> Plan:
    """Other notaries, more or fewer homes, more or fewer faults, from seed to seed."""
    chance = random.Random(f"plan {seed}")
    return Plan(
        homes=chance.randint(1, 4),
        notaries=chance.choice(NOTARIES),
        wants=chance.choice((2.0, 4.0, 6.0)),
        faults=chance.choice((0.2, 0.6, 1.5)),
    )


def short(seed: int) -> Plan:
    """Less of the same."""
    return replace(plan_of(seed), storm_seconds=20.0)


@dataclass(frozen=True)
class Summary:
    """What was run. `steps` are frames, batches, decisions and faults."""

    seed: int
    steps: int
    accepted: int
    crashes: int
    completed: int
    failed: int
    trace: str
    codes: Counter[str]
    faults: Counter[str]
    quiet_seconds: float


class World:
    """One seed's world. `node` makes the nodes: what a test breaks, it breaks there."""

    def __init__(self, seed: int, directory: Path, plan: Plan, node: type[Node] = Node) -> None:
        self.seed = seed
        self.plan = plan
        self.loop = VirtualLoop()
        self.chance = random.Random(seed)
        self.ledger = Ledger()
        self.steps = 0
        self.faults: Counter[str] = Counter()
        self._digest = hashlib.sha256()
        self._last: deque[str] = deque(maxlen=LAST_EVENTS)
        self._failure: BaseException | None = None
        self._locks: dict[str, dict[bytes, bytes]] = {}
        community = found(seed, plan.homes, plan.notaries)
        self.wires = Wires(self.loop, random.Random(seed + 1), self.trace)
        registry = FlowRegistry((*installed_flows().all(), respend.FLOW))
        self.nodes: dict[str, Node] = {}
        for number, member in enumerate(community.members):
            home = directory / member.name
            home.mkdir()
            chance = random.Random(f"{seed} {number}")
            self.nodes[member.name] = node(member, community, home, self.loop, self.wires, chance, self, registry)
        for one in self.nodes.values():
            one.peers = self.nodes
        self.parties = tuple(self.nodes[name] for name in community.parties)
        self.clients = Clients(
            self.loop,
            random.Random(seed + 2),
            self.parties,
            tuple(self.nodes[name].member.info.notary_service_key for name in community.notaries),
        )

    # What the nodes tell.

    def trace(self, kind: str, who: str, data: bytes) -> None:
        self.steps += kind in ("frame", "commit", "decide", "fault", "crash")
        line = f"{self.loop.time():.6f} {kind} {who} {hashlib.sha256(data).hexdigest()[:16]}"
        self._digest.update(line.encode())
        self._last.append(line + (f" {data.decode(errors='replace')}" if kind in ("fault", "ended") else ""))

    def committed(self, who: str, changes: Sequence[Change], rows: Rows) -> None:
        """1. A party calls final only what a notary has accepted, and never forgets it.
        2. Locks are of flows that live.
        """
        self.trace("commit", who, repr(sorted(changes, key=lambda change: change[:2])).encode())
        locks = self._locks.setdefault(who, {})
        ended = set()
        for table, key, value in changes:
            if table == Table.TRANSACTION:
                self._recorded(who, key, value)
            if table == Table.LOCK:
                if value is None:
                    locks.pop(key, None)
                else:
                    locks[key] = value
            if table == Table.FLOW and value is not None and FlowRow.FromString(value).status not in UNFINISHED:
                ended.add(key)
        if leaked := ended.intersection(locks.values()):
            raise Violation(f"{who}: the flows {[flow.hex() for flow in leaked]} have ended and hold locks")

    def decided(self, who: str, request: NotarisationRequest, reply: NotarisationReply, now_ns: int) -> None:
        self.trace("decide", who, reply.SerializeToString(deterministic=True))
        if request.uniqueness_proposal:
            self._decided_unseen(request.uniqueness_proposal, reply)
            return
        transaction = Proposal.FromString(request.proposal).transaction
        if reply.WhichOneof("result") == "finality_proof":
            self.ledger.accept(transaction)
        elif reply.error.code == NotaryConflict.code and not self.ledger.may_conflict(transaction, now_ns):
            raise Violation("an honest flow spends what it has not reserved")

    def _decided_unseen(self, proposal: bytes, reply: NotarisationReply) -> None:
        """What was decided shows only when a party records it."""
        if reply.finality_proof:
            identifier = native.finality_summary(reply.finality_proof)[0]
            shown = UniquenessProposal.FromString(proposal).transaction.SerializeToString(deterministic=True)
            _, inputs = native.verify_tear_off(shown, identifier).groups[Group.INPUTS]
            self.ledger.promise(identifier, tuple(inputs[index] for index in sorted(inputs)))

    def _recorded(self, who: str, identifier: bytes, value: bytes | None) -> None:
        if value is None:
            raise Violation(f"{who} forgets the transaction {identifier.hex()}")
        if identifier in self.ledger.promised:
            self.ledger.accept(Proposal.FromString(TransactionRow.FromString(value).signed_transaction).transaction)
        if identifier not in self.ledger.accepted:
            raise Violation(f"{who} believes the transaction {identifier.hex()}, which no notary has accepted")

    # The run.

    def run(self) -> Summary:
        """Raises Violation, with the seed."""
        with self._everything_counts():
            try:
                return self.loop.run_until_complete(self._run())
            finally:
                for node in self.nodes.values():
                    node.on_crash = lambda _: None
                    node.crash()
                # Tasks unwind.
                self.loop.run_until_complete(asyncio.sleep(0.0))
                self.loop.close()

    async def _run(self) -> Summary:
        for node in self.nodes.values():
            node.on_crash = self._revive
            node.start()
        for _ in range(self.plan.endowments):
            self.clients.endow()
        await self._storm()
        began = self.loop.time()
        await self._quiet()
        quiet = self.loop.time() - began
        for node in self.nodes.values():
            node.stop()
        await asyncio.sleep(1.0)
        self._check()
        audit(self.parties, self.ledger, self.clients.intents)
        return self._summary(quiet)

    async def _storm(self) -> None:
        end = self.loop.time() + self.plan.storm_seconds
        total = self.plan.wants + self.plan.faults
        while self.loop.time() < end:
            await asyncio.sleep(self.chance.expovariate(total))
            if self.chance.random() * total < self.plan.wants:
                self.clients.want()
            else:
                self._fault()
            self._check()

    async def _quiet(self) -> None:
        """Heal everything, and let the time pass until nobody has anything to do."""
        self.wires.weather, self.clients.lose = Weather(), 0.0
        self.wires.heal_all()
        for node in self.nodes.values():
            node.armed = ""
            node.paused = node.disk_is_full = False
            node.step_clock(0)
            if not node.is_up:
                node.start()
        end = self.loop.time() + QUIET_SECONDS_MAX
        while not all(map(self._is_idle, self.nodes.values())) or not all(
            intent.outcome or intent.refused for intent in self.clients.intents
        ):
            await asyncio.sleep(3.0)
            self._check()
            if self.loop.time() > end:
                raise Violation(f"no quiet comes: {self._unfinished()}")

    def _is_idle(self, node: Node) -> bool:
        counters = node.engine.counters()
        return not counters["flows_running"] and not counters["flows_waiting"] and not node.outbox

    def _unfinished(self) -> list[str]:
        found = []
        for node in self.nodes.values():
            for (table, key), value in node.rows.items():
                if table == Table.FLOW and (row := FlowRow.FromString(value)).status in UNFINISHED:
                    found.append(f"{node.name} {key.hex()} {row.flow} {row.current_step!r} {row.error_message}")
            found += [f"{node.name} has {node.outbox} messages to send"] if node.outbox else []
        return found + [i.client_id for i in self.clients.intents if not i.outcome and not i.refused]

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    # Faults.

    def _fault(self) -> None:
        kinds: list[Callable[[Node], str]] = [*(self._crash,) * 3, *(self._arm,) * 4, *(self._cut,) * 3]
        kinds += [self._break, self._storms, self._stop, self._set_clock, self._pause, self._lose, self._repeat]
        kinds += [self._fill, self._kill, self._kill, self._drain]
        node = self.chance.choice(list(self.nodes.values()))
        kind = self.chance.choice(kinds)
        what = kind(node)
        self.faults[kind.__name__] += 1
        self.trace("fault", node.name, what.encode())

    def _later(self, seconds: tuple[float, float], action: Callable[..., None], *arguments: object) -> None:
        self.loop.call_later(self.chance.uniform(*seconds), action, *arguments, context=contextvars.Context())

    def _crash(self, node: Node) -> str:
        node.crash()
        return "crash"

    def _arm(self, node: Node) -> str:
        node.armed = self.chance.choice(PARTY_POINTS if node.member.mode is None else NOTARY_POINTS)
        return f"crash {node.armed}"

    def _revive(self, node: Node) -> None:
        self._later((0.1, 90.0) if self.chance.random() < 0.2 else (0.05, 5.0), self._start, node)

    def _start(self, node: Node) -> None:
        if not node.is_up:
            node.start()

    def _stop(self, node: Node) -> str:
        node.stop()
        self._revive(node)
        return "stop"

    def _cut(self, node: Node) -> str:
        other = self.chance.choice([one for one in self.nodes.values() if one is not node])
        ways = [(node.name, other.name), (other.name, node.name)]
        chosen = self.chance.choice(([ways[0]], [ways[1]], ways, ways))
        for way in chosen:
            self.wires.cut(*way)
            self._later((0.5, 60.0), self.wires.heal, *way)
        return f"cut {chosen}"

    def _break(self, node: Node) -> str:
        for other in self.nodes.values():
            self.wires.break_between(node.name, other.name)
        return "break all connections"

    def _storms(self, _: Node) -> str:
        weather = self.chance.choice(
            (Weather(), Weather(lost=0.02), Weather(doubled=0.2), Weather(swapped=0.1), Weather(delay=(0.05, 1.5)))
        )
        self.wires.weather = weather
        return str(weather)

    def _set_clock(self, node: Node) -> str:
        ranges = (2 * SECOND_NS, 2 * SECOND_NS, 40 * SECOND_NS, 10 * MINUTE_NS, HOUR_NS)
        reach = self.chance.choice(ranges)
        node.step_clock(self.chance.randint(-reach, reach))
        self._later((1.0, 60.0), node.step_clock, 0)
        return f"clock {node.offset_ns / SECOND_NS:+.3f} s"

    def _pause(self, node: Node) -> str:
        node.paused = True
        self._later((0.5, 40.0), self._resume, node)
        return "pause"

    def _resume(self, node: Node) -> None:
        node.paused = False

    def _kill(self, node: Node) -> str:
        """An operator ends a flow. One that only waits to be told of a payment is left alone: it would not be."""
        flows = node.flows()
        chosen = sorted(flow for flow, row in flows.items() if not row.counterparty or row.flow in SIGNED_BY_TWO)
        if not chosen:
            return "nothing to kill"
        flow = self.chance.choice(chosen)
        node.submit(Kill(flow, lambda _: None))
        self.clients.give_up(node, flows[flow])
        return f"kill {flows[flow].flow} {flow.hex()}"

    def _drain(self, node: Node) -> str:
        if not node.is_up:
            return "nothing to drain"
        life = node.life

        def drained() -> None:
            if life.alive:
                node.stop()
                self._revive(node)

        node.submit(Drain(False, lambda _: None, drained))
        self._later((1.0, 30.0), self._undrain, node, life)
        return "drain"

    def _undrain(self, node: Node, life: Life) -> None:
        if life.alive:
            node.submit(Drain(True, lambda _: None, lambda: None))

    def _fill(self, node: Node) -> str:
        node.disk_is_full = True
        self._later((0.5, 20.0), self._free, node)
        return "disk full"

    def _free(self, node: Node) -> None:
        node.disk_is_full = False

    def _lose(self, _: Node) -> str:
        self.clients.lose = self.chance.choice((0.0, 0.2, 0.5))
        return f"clients lose {self.clients.lose} of all answers"

    def _repeat(self, _: Node) -> str:
        self.clients.repeat()
        return "a client repeats itself"

    # What goes wrong.

    @contextlib.contextmanager
    def _everything_counts(self) -> Iterator[None]:
        """Nothing fails unseen; and what the product draws from the common source of chances follows from the seed."""
        self.loop.set_exception_handler(self._unhandled)
        watch = _Errors(self._failed)
        logger, before = logging.getLogger("p2petd"), random.getstate()
        level = logger.level
        logger.addHandler(watch)
        logger.setLevel(logging.ERROR)
        random.seed(self.seed)
        try:
            yield
        except BaseException as error:
            events = "\n".join(self._last)
            raise Violation(
                f"{type(error).__name__}: {error}\nlast events:\n{events}\n"
                f"replay: P2PET_SIM_SEED={self.seed} pytest tests/simulation -k storm"
            ) from error
        finally:
            random.setstate(before)
            logger.removeHandler(watch)
            logger.setLevel(level)

    def _unhandled(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, Crashed):
            return
        self._failed(error or Violation(str(context["message"])))

    def _failed(self, error: BaseException) -> None:
        self._failure = self._failure or error

    def _summary(self, quiet: float) -> Summary:
        statuses: Counter[int] = Counter()
        codes: Counter[str] = Counter()
        for intent in self.clients.intents:
            if intent.outcome is not None:
                statuses[intent.outcome.status] += 1
                codes[f"{intent.flow} {intent.outcome.error_code}"] += 1
                if intent.outcome.error_code == InternalError.code:
                    raise Violation(f"{intent.client_id}, {intent.flow}: {intent.outcome.error_message}")
        return Summary(
            seed=self.seed,
            steps=self.steps,
            accepted=len(self.ledger.accepted),
            crashes=sum(node.crashes for node in self.nodes.values()),
            completed=statuses[FLOW_STATUS_COMPLETED],
            failed=statuses[FLOW_STATUS_FAILED],
            trace=self._digest.hexdigest(),
            codes=codes,
            faults=self.faults,
            quiet_seconds=quiet,
        )


class _Errors(logging.Handler):
    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        super().__init__(logging.ERROR)
        self._failed = failed

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == room.__name__:
            # A full disk is told, and is no failure.
            return
        error = record.exc_info[1] if record.exc_info else None
        self._failed(error or Violation(record.getMessage()))
