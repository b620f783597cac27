"""Do the rows of a node's store agree with each other, and does every stored signature and proof hold?

1. Each transaction: its key is its id; signatures and finality proof verify under the parameters that it names.
2. Each state: a stored transaction made it, with these bytes; what it says of its consumer is true.
3. Each unconsumed state that this node may spend, or looks up, stands where it is looked for, and nothing else does.
4. Each reservation, and each transaction in flight, belongs to a flow that has not ended.

Contracts are not run again: whoever recorded a transaction has run them, and the notary has.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from p2pet.store.v1.store_pb2 import FlowRow, StateRow, TransactionRow

from p2petd import native
from p2petd.errors import NodeError
from p2petd.flows.journal import UNFINISHED
from p2petd.ledger.groups import DIGEST_BYTES, Group
from p2petd.ledger.proposal import Proposal, check_signatures
from p2petd.ledger.refs import StateRef
from p2petd.ledger.resolved import OutputState
from p2petd.offline.findings import Part, Say
from p2petd.store.changes import Reader, scan_prefix
from p2petd.store.tables import FLOW_ID_BYTES, Table, order_key
from p2petd.vault.buckets import spendable
from p2petd.vault.known import known_prefix
from p2petd.vault.parties import concerns_party
from p2petd.vault.selection import encode_worth

# Transactions whose signatures are verified together.
BATCH = 256
REMEMBERED = 4096
REF_BYTES = 36
MISSING = "signature.missing"

Groups = Sequence[Sequence[bytes]]
FlowOf = Callable[[bytes, bytes], bytes]


@dataclass(frozen=True)
class Network:
    """What signatures and proofs are verified with; notaries with their modes by the hash of the parameters."""

    rules: native.Rules
    network_id: bytes
    notaries: Mapping[bytes, Sequence[tuple[bytes, int]]]


class VaultCheck:
    """One pass over the rows of the node's store, which `reader` shows as its log says."""

    def __init__(self, reader: Reader, network: Network, me: bytes, part: Part, say: Say) -> None:
        self._reader = reader
        self._network = network
        self._me = me
        self._part = part
        self._say = say
        self._groups = lru_cache(REMEMBERED)(self._read_groups)

    def run(self) -> None:
        """All of it."""
        transactions = self._transactions()
        states, spendable_states, known = self._states()
        self._part.facts |= {"transactions": transactions, "states": states, "spendable states": spendable_states}
        self._check_listed(Table.SPENDABLE, "spendable", spendable_states)
        self._check_listed(Table.KNOWN, "known", known)
        self._check_order(transactions)
        self._check_owned(Table.LOCK, "a reservation", lambda key, value: value)
        self._check_owned(Table.IN_FLIGHT, "a transaction in flight", lambda key, value: key[:FLOW_ID_BYTES])

    def _transactions(self) -> int:
        rows = scan_prefix(self._reader, Table.TRANSACTION, b"")
        checked = check_finals(rows, self._network, self._part, self._say)
        for transaction_id, _ in scan_prefix(self._reader, Table.TRANSACTION, b""):
            groups = self._groups(transaction_id)
            if groups is not None:
                self._check_effects(transaction_id, groups)
        return checked

    def _check_effects(self, transaction_id: bytes, groups: Groups) -> None:
        """What a transaction consumes is consumed, and what it makes for this node is here."""
        for ref in groups[Group.INPUTS]:
            row = self._reader.get(Table.STATE, ref)
            if row is not None and StateRow.FromString(row).consumed_by != transaction_id:
                self._part.found(f"state {ref.hex()} is not marked as consumed by transaction {transaction_id.hex()}")
        for index, component in enumerate(groups[Group.OUTPUTS]):
            ref = StateRef(transaction_id, index).encode()
            if self._reader.get(Table.STATE, ref) is None and concerns_party(OutputState.decode(component), self._me):
                self._part.found(f"state {ref.hex()} of this node is missing")

    def _states(self) -> tuple[int, int, int]:
        states = can_spend = known = 0
        for ref, value in scan_prefix(self._reader, Table.STATE, b""):
            states += 1
            if states % 4096 == 0:
                self._say(f"{self._part.name}: checking states", states, 0)
            row = StateRow.FromString(value)
            made = self._groups(ref[:DIGEST_BYTES])
            outputs = () if made is None else made[Group.OUTPUTS]
            index = int.from_bytes(ref[DIGEST_BYTES:])
            if index >= len(outputs) or outputs[index] != row.output:
                self._part.found(f"state {ref.hex()} is not what a stored transaction made")
                continue
            if row.consumed_by:
                self._check_consumer(ref, row)
                continue
            output = OutputState.decode(row.output)
            worth = spendable(output)
            prefix = known_prefix(output) if worth is None else None
            if worth is not None and worth.owner == self._me:
                can_spend += 1
                listed = self._reader.get(Table.SPENDABLE, worth.bucket + ref)
                if listed != encode_worth(worth.amount, output.notary):
                    self._part.found(f"state {ref.hex()} is not listed as spendable with its amount and notary")
            if prefix is not None:
                known += 1
                if self._reader.get(Table.KNOWN, prefix + ref) is None:
                    self._part.found(f"state {ref.hex()} is not listed where flows look for it")
        return states, can_spend, known

    def _check_consumer(self, ref: bytes, row: StateRow) -> None:
        if row.consumer_unknown:
            return
        groups = self._groups(row.consumed_by)
        if groups is None or ref not in groups[Group.INPUTS]:
            self._part.found(
                f"state {ref.hex()} is not consumed by transaction {row.consumed_by.hex()}, as its row says"
            )

    def _check_listed(self, table: Table, what: str, expected: int) -> None:
        """As many rows as states that belong there, each of which was found: nothing else is there."""
        count = sum(1 for _ in scan_prefix(self._reader, table, b""))
        if count == expected:
            return
        wrong = 0
        for key, _ in scan_prefix(self._reader, table, b""):
            row = self._reader.get(Table.STATE, key[-REF_BYTES:])
            if row is None or StateRow.FromString(row).consumed_by:
                wrong += 1
                self._part.found(f"state {key[-REF_BYTES:].hex()} is listed as {what}, but is not unconsumed here")
        if (left := count - expected - wrong) > 0:
            self._part.found(f"{left} more rows list states as {what} than there are such states", times=left)

    def _check_order(self, transactions: int) -> None:
        ordered = 0
        for key, _ in scan_prefix(self._reader, Table.TRANSACTION_ORDER, b""):
            ordered += 1
            transaction_id = key[-DIGEST_BYTES:]
            row = self._reader.get(Table.TRANSACTION, transaction_id)
            if row is None or order_key(TransactionRow.FromString(row).recorded_at_ns, transaction_id) != key:
                self._part.found(
                    f"the list of transactions names {transaction_id.hex()} at a time when none was recorded"
                )
        if ordered != transactions:
            self._part.found(f"{transactions} transactions are stored, and {ordered} listed by time")

    def _check_owned(self, table: Table, what: str, flow_of: FlowOf) -> None:
        count = 0
        for key, value in scan_prefix(self._reader, table, b""):
            count += 1
            flow_id = flow_of(key, value)
            row = self._reader.get(Table.FLOW, flow_id)
            if row is None or FlowRow.FromString(row).status not in UNFINISHED:
                self._part.found(f"{what} ({key.hex()}) belongs to flow {flow_id.hex()}, which is not under way")
        if count:
            self._part.facts[f"rows of {table.name}"] = count

    def _read_groups(self, transaction_id: bytes) -> Groups | None:
        row = self._reader.get(Table.TRANSACTION, transaction_id)
        if row is None:
            return None
        try:
            proposal = Proposal.decode(TransactionRow.FromString(row).signed_transaction)
            return native.Transaction.decode(proposal.transaction).groups
        except (NodeError, native.NativeError):
            return None


def check_finals(rows: Iterator[tuple[bytes, bytes]], network: Network, part: Part, say: Say) -> int:
    """Verify every `TransactionRow`; returns how many there are.

    One that this node learned from its notary may lack signatures of other parties, which the notary does not keep: it
    is counted among the facts of the part, and those that are there must verify.
    """
    count = incomplete = 0
    while batch := [(key, TransactionRow.FromString(value)) for key, value in islice(rows, BATCH)]:
        count += len(batch)
        say(f"{part.name}: verifying transactions", count, 0)
        verdicts = network.rules.check_finals([(row.signed_transaction, row.finality_proof) for _, row in batch])
        for (key, row), verdict in zip(batch, verdicts, strict=True):
            if isinstance(verdict, native.Checked):
                if verdict.id != key:
                    part.found(f"the row of transaction {key.hex()} holds transaction {verdict.id.hex()}")
            elif verdict.code == MISSING:
                incomplete += 1
                _check_incomplete(key, row, network, part)
            else:
                part.found(f"transaction {key.hex()}: {verdict.message} [{verdict.code}]")
    if incomplete:
        part.facts["without signatures of other parties"] = incomplete
    return count


def _check_incomplete(key: bytes, row: TransactionRow, network: Network, part: Part) -> None:
    """The proof of a transaction that lacks signatures, and those that are there."""
    try:
        proposal = Proposal.decode(row.signed_transaction)
        (parameters_hash,) = native.Transaction.decode(proposal.transaction).groups[Group.PARAMETERS]
        listed = network.notaries.get(parameters_hash, ())
        proven = native.verify_finality(
            network.network_id, proposal.transaction, row.finality_proof, parameters_hash, listed
        )
        check_signatures(network.network_id, key, proposal.signatures)
    except (NodeError, native.NativeError) as error:
        part.found(f"transaction {key.hex()}: {error} [{error.code}]")
        return
    if proven != key:
        part.found(f"the row of transaction {key.hex()} holds transaction {proven.hex()}")
