"""I1 to I12 of docs/invariants.md over a whole network of real nodes, as far as they can be seen from outside.

What the vaults say is compared with what the notaries' logs say, which are read by the independent reader of
tests/interop. A violation is an AssertionError that names the invariant.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2pet.client import ApiError, NodeClient
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_COMPLETED, FLOW_STATUS_RUNNING, FlowInfo
from p2pet.ledger.v1 import energy_pb2, payment_pb2
from p2pet.vault.v1.vault_pb2 import STATE_STATUS_UNCONSUMED, VaultState

from p2petd import native
from p2petd.config import load_config
from p2petd.contracts.registry import installed
from p2petd.ledger.groups import Group
from p2petd.ledger.proposal import Proposal
from p2petd.ledger.resolved import Command, OutputState
from p2petd.ledger.window import TimeWindow
from p2petd.offline.verify import verify
from tests.interop.notary_log import Accepted, Record, read_certificate_record, read_notary_record, scan
from tests.support.community import Community

QUIET_SECONDS_MAX = 60.0
PAGE = 1000
CALLS_AT_ONCE = 32
# Commands that make or end energy and money; all others conserve them.
MAKES_OR_ENDS_ENERGY = frozenset({"EnergyIssue", "EnergyDeliver", "EnergyRetire", "EnergyExpire"})
MAKES_OR_ENDS_MONEY = frozenset({"PaymentIssue", "PaymentRedeem"})


@dataclass(frozen=True)
class Seen:
    """One final transaction as one vault holds it."""

    id: bytes
    groups: tuple[tuple[bytes, ...], ...]
    signers: frozenset[bytes]
    proof: bytes
    decided_at_ns: int

    @property
    def outputs(self) -> list[OutputState]:
        return [OutputState.decode(component) for component in self.groups[Group.OUTPUTS]]

    @property
    def commands(self) -> list[Command]:
        return [Command.decode(component) for component in self.groups[Group.COMMANDS]]


@dataclass
class Vault:
    """What one node holds."""

    identity: bytes
    transactions: dict[bytes, Seen] = field(default_factory=dict)
    states: dict[bytes, VaultState] = field(default_factory=dict)
    flows: list[FlowInfo] = field(default_factory=list)


@dataclass(frozen=True)
class Decision:
    accepted: Accepted
    decided_at_ns: int


@dataclass(frozen=True)
class Findings:
    """What was compared."""

    transactions: int
    states: int
    flows: int
    decisions: int


async def quiet(community: Community, names: Iterable[str] = ()) -> None:
    """Returns when no flow runs on these nodes (all that run when none is named) and nothing waits to be delivered."""
    limit = time.monotonic() + QUIET_SECONDS_MAX
    running = [name for name in community.network.names if community.network.is_running(name)]
    for name in tuple(names) or running:
        while (busy := await _busy(community, name)) is not None:
            assert time.monotonic() < limit, f"I7 {name} does not come to rest: {busy}"
            await asyncio.sleep(0.02)


async def _busy(community: Community, name: str) -> str | None:
    try:
        async with community.client(name) as client:
            flows = (await client.flows.list(status=FLOW_STATUS_RUNNING)).flows
            outbox = {peer.name: peer.outbox for peer in (await client.peers()).peers if peer.outbox}
    except ApiError as error:
        return str(error)
    running = [f"{flow.flow} {flow.flow_id.hex()} at {flow.current_step!r}" for flow in flows]
    return f"{running[:5]} run, {outbox} wait" if running or outbox else None


async def check_invariants(community: Community) -> Findings:
    """Wait for quiet, then compare all running nodes and the logs of all notaries."""
    network = community.network
    await quiet(community)
    running = [name for name in network.names if network.is_running(name)]
    vaults = dict(zip(running, await asyncio.gather(*(_read(community, name) for name in running)), strict=True))
    decisions = _decisions(community)
    transactions: dict[bytes, Seen] = {}
    for vault in vaults.values():
        for seen in vault.transactions.values():
            same = transactions.setdefault(seen.id, seen)
            assert same.proof == seen.proof, f"I3 {seen.id.hex()} has two proofs"
    _consumed_once(decisions)
    consumed = {ref: one.accepted.id for one in decisions.values() for ref in one.accepted.inputs}
    for seen in transactions.values():
        _decided(seen, decisions)
        _conserves(seen, transactions)
    for name, vault in vaults.items():
        _whole(name, vault, consumed)
        _only_ours(name, vault, vaults)
        _flows_ended_once(name, vault)
    _everybody_has_its_own(vaults, transactions)
    for name in running:
        await _nothing_left(community, name)
    return Findings(
        len(transactions),
        sum(len(vault.states) for vault in vaults.values()),
        sum(len(vault.flows) for vault in vaults.values()),
        len(decisions),
    )


def verify_stopped(directory: Path) -> None:
    """`p2petd verify` finds nothing on any node of a stopped network: chains, views and logs, proofs, signatures."""
    for config in sorted(directory.glob("*/node.toml")):
        verification = verify(load_config(config), None, lambda doing, done, of: None)
        assert verification.count == 0, f"I12 {config.parent.name}: {verification.lines()}"


# Reading.


async def _read(community: Community, name: str) -> Vault:
    vault = Vault(community.identity[name])
    async with community.client(name) as client:
        async for page in _pages(lambda token: client.vault.transactions(page_size=PAGE, page_token=token)):
            ids = [one.id for one in page.transactions]
            for at in range(0, len(ids), CALLS_AT_ONCE):
                some = await asyncio.gather(*(_transaction(client, one) for one in ids[at : at + CALLS_AT_ONCE]))
                vault.transactions |= {one.id: one for one in some}
        async for page in _pages(lambda token: client.vault.states(page_size=PAGE, page_token=token)):
            vault.states |= {state.ref: state for state in page.states}
        async for page in _pages(lambda token: client.flows.list(page_size=PAGE, page_token=token)):
            vault.flows += page.flows
    return vault


async def _pages(ask: Callable[[str], Awaitable[Any]]) -> AsyncIterator[Any]:
    token = ""
    while True:
        page = await ask(token)
        yield page
        token = page.next_page_token
        if not token:
            return


async def _transaction(client: NodeClient, transaction_id: bytes) -> Seen:
    answer = await client.vault.transaction(transaction_id)
    proposal = Proposal.decode(answer.signed_transaction)
    groups = native.Transaction.decode(proposal.transaction).groups
    return Seen(
        transaction_id,
        tuple(tuple(group) for group in groups),
        frozenset(signature.key for signature in proposal.signatures),
        answer.finality_proof,
        answer.summary.decided_at_ns,
    )


def _decisions(community: Community) -> dict[bytes, Decision]:
    """What each notary has accepted, by transaction; I12: the hash chain of each of their logs is verified by that."""
    found: dict[bytes, Decision] = {}
    for directory in sorted(community.made.directory.glob("*/data/notary/log")):
        claims: set[bytes] = set()
        for record in _records(directory):
            if read_certificate_record(record.payload) is not None:
                continue
            batch = read_notary_record(record.payload)
            for accepted in batch.accepted:
                assert accepted.id not in found, f"I1 {accepted.id.hex()} was accepted twice"
                assert claims.isdisjoint(accepted.claims), f"I1 {accepted.id.hex()} claims what is claimed"
                claims.update(accepted.claims)
                found[accepted.id] = Decision(accepted, batch.decided_at_ns)
    return found


def _records(directory: Path) -> list[Record]:
    return scan([(file.name, file.read_bytes()) for file in sorted(directory.glob("*.log"))])


# Comparing.


def _consumed_once(decisions: Mapping[bytes, Decision]) -> None:
    times = Counter(ref for one in decisions.values() for ref in one.accepted.inputs)
    assert all(count == 1 for count in times.values()), f"I1 {[r.hex() for r, n in times.items() if n > 1]}"


def _decided(seen: Seen, decisions: Mapping[bytes, Decision]) -> None:
    decision = decisions.get(seen.id)
    assert decision is not None, f"I2 {seen.id.hex()} has a proof and is in no notary's log"
    assert tuple(seen.groups[Group.INPUTS]) == decision.accepted.inputs, f"I4 the inputs of {seen.id.hex()}"
    assert seen.decided_at_ns == decision.decided_at_ns, f"I3 the time of {seen.id.hex()}"
    for component in seen.groups[Group.TIME_WINDOW]:
        assert TimeWindow.decode(component).contains(seen.decided_at_ns), f"I8 {seen.id.hex()} outside its window"


def _conserves(seen: Seen, transactions: Mapping[bytes, Seen]) -> None:
    """Where this network's vaults hold all that it consumes."""
    sources = [(transactions.get(ref[:32]), int.from_bytes(ref[32:])) for ref in seen.groups[Group.INPUTS]]
    inputs = [source.outputs[index] for source, index in sources if source is not None]
    assert len(inputs) == len(sources), f"I6 nobody holds what {seen.id.hex()} consumes"
    commands = {command.type_name for command in seen.commands}
    before, after = _sums(inputs), _sums(seen.outputs)
    for kind in {*before, *after}:
        free = MAKES_OR_ENDS_MONEY if kind[0] == "money" else MAKES_OR_ENDS_ENERGY
        if commands.isdisjoint(free):
            assert before[kind] == after[kind], f"I5 {seen.id.hex()}: {kind} was {before[kind]}, is {after[kind]}"


def _sums(states: Iterable[OutputState]) -> Counter[tuple[str, str, bytes]]:
    """Quantities by lot and by currency and issuer."""
    sums: Counter[tuple[str, str, bytes]] = Counter()
    for state in states:
        if state.type_name == "EnergyState":
            lot = energy_pb2.EnergyState.FromString(state.payload)
            sums["energy", lot.energy_type, lot.lot_id] += lot.quantity_wh
        elif state.type_name == "PaymentState":
            money = payment_pb2.PaymentState.FromString(state.payload)
            sums["money", money.currency, money.issuer] += money.amount_nano
    return sums


def _whole(name: str, vault: Vault, consumed: Mapping[bytes, bytes]) -> None:
    """A vault's states are consumed exactly where a notary has consumed them, and each is of a transaction it holds."""
    for ref, state in vault.states.items():
        spent_by = consumed.get(ref, b"")
        if state.status == STATE_STATUS_UNCONSUMED:
            assert not spent_by, f"I6 {name} holds {ref.hex()}, which {spent_by.hex()} consumed"
            assert not state.soft_locked, f"I7 {name} keeps {ref.hex()} locked, and no flow runs"
        else:
            assert state.consumed_by == spent_by, f"I4 {name} has another consumer of {ref.hex()}"
        assert ref[:32] in vault.transactions, f"I4 {name} holds {ref.hex()} without its transaction"


def _only_ours(name: str, vault: Vault, vaults: Mapping[str, Vault]) -> None:
    """Nothing is in a vault that does not concern its node."""
    identities = {one.identity for one in vaults.values()}
    for seen in vault.transactions.values():
        held = any(ref in vault.states for ref in seen.groups[Group.INPUTS])
        made = any(ref_of(seen.id, index) in vault.states for index in range(len(seen.groups[Group.OUTPUTS])))
        ours = held or made or vault.identity in seen.signers or _observes(seen, vault.identity)
        assert ours, f"I6 {name} holds {seen.id.hex()}, which does not concern it"
    for state in vault.states.values():
        output = OutputState.decode(state.output)
        owner, participants = installed().parties(output)
        concerned = {owner, *participants} & identities
        if output.type_name != energy_pb2.EnergyAllocation.DESCRIPTOR.name:
            assert vault.identity in concerned, f"I6 {name} keeps {state.ref.hex()} of others"


def _observes(seen: Seen, identity: bytes) -> bool:
    trades = [command for command in seen.commands if command.type_name == "EnergyTrade"]
    return any(identity in energy_pb2.EnergyTrade.FromString(trade.payload).observers for trade in trades)


def _everybody_has_its_own(vaults: Mapping[str, Vault], transactions: Mapping[bytes, Seen]) -> None:
    for name, vault in vaults.items():
        for seen in transactions.values():
            for index, output in enumerate(seen.outputs):
                owner, participants = installed().parties(output)
                if vault.identity in {owner, *participants}:
                    where = f"output {index} of {seen.id.hex()}"
                    assert seen.id in vault.transactions, f"I6 {name} does not know {where}, which is its own"
                    assert ref_of(seen.id, index) in vault.states, f"I6 {name} lacks {where}, which is its own"
            if any(ref in vault.states for ref in seen.groups[Group.INPUTS]):
                assert seen.id in vault.transactions, f"I6 {name} lacks {seen.id.hex()}, which spends what it holds"


def ref_of(transaction_id: bytes, index: int) -> bytes:
    return transaction_id + index.to_bytes(4)


def _flows_ended_once(name: str, vault: Vault) -> None:
    running = [flow.flow for flow in vault.flows if flow.outcome.status == FLOW_STATUS_RUNNING]
    assert not running, f"I7 {running} run on {name}"
    clients = Counter(flow.client_id for flow in vault.flows if flow.client_id)
    assert all(count == 1 for count in clients.values()), f"I7 {name} has several flows of one client id: {clients}"
    done = [f for f in vault.flows if f.outcome.status == FLOW_STATUS_COMPLETED and f.outcome.transaction_id]
    for flow in done:
        known = flow.outcome.transaction_id in vault.transactions
        assert known, f"I7 {flow.flow} completed on {name} with a transaction that its vault lacks"
    results = Counter(flow.outcome.transaction_id for flow in done if flow.initiator)
    assert all(count == 1 for count in results.values()), f"I7 two flows of {name} completed with one transaction"


async def _nothing_left(community: Community, name: str) -> None:
    async with community.client(name) as client:
        balance = await client.vault.balance()
        locked = sum(e.locked_wh for e in balance.energy) + sum(m.locked_nano for m in balance.money)
        assert not locked, f"I7 {locked} Wh and nano are locked on {name}, and no flow runs"
        left = (await client.vault.in_flight()).transactions
        assert not left, f"I7 {[one.id.hex() for one in left]} are in flight on {name}, and no flow runs"
        stats = await client.stats()
        for queue in ("notary_queue_length", "notary_queries_waiting", "flows_waiting"):
            assert not stats.get(queue), f"I10 {queue} of {name} is {stats[queue]}"
