"""After quiet: every vault against the reference, every flow against what its client wanted, and nothing left over."""

from collections.abc import Sequence

from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_COMPLETED
from p2pet.store.v1.store_pb2 import FlowRow, StateRow

from p2petd.store.tables import Table
from tests.simulation.clients import ENDED, Intent
from tests.simulation.model import Holding, Ledger
from tests.simulation.node import Node, Violation

EMPTY = (Table.STEP, Table.MAIL, Table.OUTBOX, Table.LOCK, Table.IN_FLIGHT)


def audit(parties: Sequence[Node], ledger: Ledger, intents: Sequence[Intent]) -> None:
    """Raises Violation unless all of this holds, the nodes being stopped.

    1. Every flow has ended, and left no step, message, lock or transaction in flight behind (I7, I10).
    2. Every vault holds exactly the unspent states that the reference says, spendable for what they are worth (I5).
    3. Every vault holds exactly the transactions that its party takes part in (I6).
    4. Every flow that a client was told of has made its change exactly once, or not at all when it failed (I7).
    5. Nothing was accepted that nobody wanted.
    """
    if unseen := ledger.promised.keys() - ledger.accepted.keys():
        raise Violation(f"{len(unseen)} transactions were accepted that no party has recorded")
    for node in parties:
        _nothing_left(node)
        _vault(node, ledger)
    _effects(ledger, intents)


def _rows(node: Node, table: Table) -> dict[bytes, bytes]:
    return {key: value for (where, key), value in node.rows.items() if where == table}


def _nothing_left(node: Node) -> None:
    for table in EMPTY:
        if left := _rows(node, table):
            raise Violation(f"{node.name} has {len(left)} rows left in {table.name}: {next(iter(left)).hex()}")
    for key, value in _rows(node, Table.FLOW).items():
        row = FlowRow.FromString(value)
        if row.status not in ENDED:
            raise Violation(f"{node.name}: {row.flow} {key.hex()} has not ended: {row.error_message}")


def _vault(node: Node, ledger: Ledger) -> None:
    wanted = ledger.of(node.me)
    states = {ref: StateRow.FromString(value) for ref, value in _rows(node, Table.STATE).items()}
    held = {ref: Holding.read(row.output) for ref, row in states.items() if not row.consumed_by}
    held = {ref: holding for ref, holding in held.items() if holding.owner == node.me}
    if held != wanted:
        ref = sorted(ref for ref, _ in held.items() ^ wanted.items())[0]
        raise Violation(f"{node.name}: {ref.hex()} is {held.get(ref)} in the vault and {wanted.get(ref)} in truth")
    spendable = {
        key[-36:]: (int.from_bytes(value[:8]), value[8:]) for key, value in _rows(node, Table.SPENDABLE).items()
    }
    if spendable != {ref: (holding.amount, holding.notary) for ref, holding in wanted.items()}:
        raise Violation(f"{node.name}: what can be spent is not what is held")
    for ref, row in states.items():
        if row.consumed_by and ledger.spent.get(ref) != row.consumed_by:
            raise Violation(f"{node.name}: {ref.hex()} counts as consumed by {row.consumed_by.hex()}")
    known = set(_rows(node, Table.TRANSACTION))
    takes_part = {one.id for one in ledger.accepted.values() if node.me in one.parties}
    if known != takes_part:
        identifier = sorted(known ^ takes_part)[0]
        how = "lacks" if identifier in takes_part else "has no part in, and keeps,"
        raise Violation(f"{node.name} {how} {identifier.hex()} ({ledger.accepted[identifier].commands})")


def _effects(ledger: Ledger, intents: Sequence[Intent]) -> None:
    made: dict[bytes, Intent] = {}
    for intent in intents:
        stored = intent.node.rows.get((int(Table.CLIENT_ID), intent.client_id.encode()))
        if intent.refused and stored is None:
            continue
        if stored is None or (intent.flow_id and stored != intent.flow_id):
            raise Violation(f"the node has lost {intent.client_id}, which it said was durable")
        row = FlowRow.FromString(intent.node.rows[int(Table.FLOW), stored])
        if intent.outcome is None or (intent.outcome.status, intent.outcome.transaction_id) != (
            row.status,
            row.transaction_id,
        ):
            raise Violation(f"{intent.client_id} was told {intent.outcome}, and the node says {row.status}")
        if row.status != FLOW_STATUS_COMPLETED:
            continue
        if row.transaction_id in made:
            raise Violation(f"{intent.client_id} and {made[row.transaction_id].client_id} made one transaction")
        made[row.transaction_id] = intent
        accepted = ledger.accepted.get(row.transaction_id)
        if accepted is None or accepted.change != intent.change:
            change = None if accepted is None else accepted.change
            raise Violation(f"{intent.client_id}, {intent.flow}, made {change} and wanted {intent.change}")
    given_up = [dict(intent.change) for intent in intents if intent.given_up]
    for accepted in ledger.accepted.values():
        if accepted.id in made or accepted.is_move:
            continue
        if dict(accepted.change) not in given_up:
            raise Violation(f"nobody made {accepted.id.hex()} ({accepted.commands}), and it is accepted")
        given_up.remove(dict(accepted.change))
