"""Row restart-1m: a node whose vault holds a million unconsumed states, started again after each kind of end."""

import asyncio
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from p2pet.bench.budgets import MEGABYTES, SECONDS
from p2pet.bench.idle import HOME, serving_seconds
from p2pet.bench.machine import memory
from p2pet.bench.meter import Measured
from p2pet.bench.networks import CURRENCY, BenchNetwork, new_network
from p2petd import native
from p2petd.config import load_config
from p2petd.contracts import payment
from p2petd.contracts.payment import PaymentIssue, PaymentState
from p2petd.ledger.proposal import Signature
from p2petd.ledger.transaction import Draft, TransactionBuilder
from p2petd.membership import Membership
from p2petd.node import open_store
from p2petd.store.changes import Changes
from p2petd.units import NanoMoney
from p2petd.vault.recording import record_final

STATES = 1_000_000
CLEAN_SECONDS, LOST_SECONDS, LOST_LOG_SECONDS = "clean_seconds", "lost_seconds", "lost_without_snapshot_seconds"
OUTPUTS = 100
# About as many bytes as a proof of a batch of some dozens has; a vault does not look at it again.
RESTART_SECONDS_MAX = 300.0
PROOF = b"\x00" * 600
TRANSACTIONS_AT_ONCE = 20


async def restart_once(directory: Path, states: int = STATES) -> Measured:
    """Seconds from starting the process to its first answer SERVING: after a clean stop, after a kill, after the loss
    of the machine with a snapshot of the view, and without one. Makes a network of its own, which takes longer."""
    with new_network(directory, homes=1) as network:
        await asyncio.to_thread(_fill, network, states)
        clean = await _start(network)
        resident = memory(network.daemons.pid(HOME)).resident
        network.daemons.kill(HOME)
        killed = await _start(network)
        network.daemons.stop(HOME)
        await asyncio.to_thread(_snapshot, network)
        _lose_machine(network)
        lost = await _start(network)
        network.daemons.stop(HOME)
        _lose_machine(network)
        for file in _store(network).glob("snapshots/*"):
            file.unlink()
        without = await _start(network)
    metrics = {SECONDS: killed, CLEAN_SECONDS: clean, LOST_SECONDS: lost, LOST_LOG_SECONDS: without}
    return Measured({**metrics, MEGABYTES: resident / 1e6})


def _fill(network: BenchNetwork, states: int) -> None:
    """The home's store as if it had been paid in so many coins."""
    member = network.membership(HOME)
    # Where snapshots are taken by themselves, a start might be measured beside one.
    config = network.daemons.node_directory(HOME) / "node.toml"
    config.write_text(config.read_text().replace("[store]\n", "[store]\nsnapshot_log_bytes = 0\n"))
    store = open_store(load_config(config), member.identity.public)
    changes = Changes()
    for number, draft in enumerate(_issues(member, states // OUTPUTS), start=1):
        signature = Signature(member.identity.public, b"\x00" * 64)
        signed = draft.signed([signature]).proposal().encode()
        record_final(changes, store, member.identity.public, draft.id, draft.groups, signed, PROOF, time.time_ns())
        if number % TRANSACTIONS_AT_ONCE == 0 or number == states // OUTPUTS:
            store.commit(changes.record())
            changes = Changes()
    store.close()


def _issues(member: Membership, count: int) -> Iterator[Draft]:
    (parameters_hash,) = member.network_map.parameters
    notary = member.network_map.parameters[parameters_hash].parameters.notaries[0].service_key
    me = member.identity.public
    for number in range(count):
        builder = TransactionBuilder(notary, parameters_hash)
        salt = sha256(number.to_bytes(8)).digest()
        builder.add_command(payment.NAME, PaymentIssue(salt), [me])
        for place in range(OUTPUTS):
            amount = NanoMoney(1_000_000 + 1000 * number + place)
            builder.add_output(payment.NAME, payment.VERSION, PaymentState(CURRENCY, amount, me, me))
        yield builder.build(salt, [me] * OUTPUTS)


async def _start(network: BenchNetwork) -> float:
    return await serving_seconds(network, RESTART_SECONDS_MAX)


def _store(network: BenchNetwork) -> Path:
    return network.daemons.node_directory(HOME) / "data" / "node"


def _snapshot(network: BenchNetwork) -> None:
    store = native.Store.open(str(_store(network)))
    store.take_snapshot()
    store.close()


def _lose_machine(network: BenchNetwork) -> None:
    """The view's mark says that another run of the machine has written it, and did not end it."""
    mark = _store(network) / "view" / "mark"
    lines = mark.read_text().splitlines()
    lines[1], lines[2] = "open", "another boot"
    mark.write_text("\n".join(lines) + "\n")
