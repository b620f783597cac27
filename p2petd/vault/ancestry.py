"""Verified transactions under uniqueness-only notaries: this vault's own, and the history behind them.

A transaction stands here only when everything behind it does. Histories have a store of their own, which the resolver
writes; what this node takes part in is in the node's store, which the engine writes.
"""

from collections.abc import Callable, Sequence

from p2pet.store.v1.store_pb2 import TransactionRow

from p2petd import native
from p2petd.ledger.groups import DIGEST_BYTES, Group
from p2petd.ledger.proposal import Proposal
from p2petd.ledger.refs import StateRef
from p2petd.network.network_map import NetworkMap
from p2petd.network.parameters import NotaryMode
from p2petd.observe import failpoints
from p2petd.observe.failpoints import Failpoint
from p2petd.store.changes import Changes, Reader
from p2petd.store.room import Room
from p2petd.store.tables import Table

ModeOf = Callable[[bytes, bytes], NotaryMode | None]
"""The mode with which the parameters of a hash list a notary; None when they are not known or do not."""

Row = tuple[int, bytes, bytes | None]


def mode_reader(network_map: NetworkMap) -> ModeOf:
    modes = {
        (parameters_hash, notary.service_key): NotaryMode(notary.mode)
        for parameters_hash, signed in network_map.parameters.items()
        for notary in signed.parameters.notaries
    }
    return lambda parameters_hash, notary: modes.get((parameters_hash, notary))


def grant_key(peer: bytes, root: bytes) -> bytes:
    return peer + root


def split_ids(joined: bytes) -> tuple[bytes, ...]:
    return tuple(joined[at : at + DIGEST_BYTES] for at in range(0, len(joined), DIGEST_BYTES))


class Ancestry:
    """Reads both stores, from any thread; only `add` writes, to the store of histories."""

    def __init__(self, store: Reader, histories: native.Store, mode_of: ModeOf) -> None:
        self._store = store
        self._histories = histories
        self._room = Room(histories, "histories")
        self.mode_of = mode_of

    def is_unseen(self, groups: Sequence[Sequence[bytes]]) -> bool:
        """Whether a uniqueness-only notary decides the transaction, which does not see what it says."""
        notary, parameters = groups[Group.NOTARY], groups[Group.PARAMETERS]
        if len(notary) != 1 or len(parameters) != 1:
            return False
        return self.mode_of(parameters[0], notary[0]) is NotaryMode.UNIQUENESS_ONLY

    def parents_of(self, groups: Sequence[Sequence[bytes]]) -> tuple[bytes, ...]:
        """The distinct transactions that made what it consumes and reads, in order; none under a verifying notary,
        which has seen their proofs."""
        if not self.is_unseen(groups):
            return ()
        refs = [*groups[Group.INPUTS], *groups[Group.REFERENCES]]
        return tuple(dict.fromkeys(ref[:DIGEST_BYTES] for ref in refs))

    def knows(self, transaction_id: bytes, vault: Reader | None = None) -> bool:
        """Whether it is verified here with its history. `vault` may show the node's store with the running batch."""
        held = (vault or self._store).get(Table.TRANSACTION, transaction_id)
        return held is not None or self._histories.get(Table.PARENTS, transaction_id) is not None

    def parents(self, transaction_id: bytes) -> tuple[bytes, ...] | None:
        """The parents of a verified transaction; None when it is not here."""
        for store in (self._store, self._histories):
            joined = store.get(Table.PARENTS, transaction_id)
            if joined is not None:
                return split_ids(joined)
        return () if self._store.get(Table.TRANSACTION, transaction_id) is not None else None

    def final(self, transaction_id: bytes, vault: Reader | None = None) -> TransactionRow | None:
        """A verified transaction with its proof."""
        row = (vault or self._store).get(Table.TRANSACTION, transaction_id)
        if row is None:
            row = self._histories.get(Table.ANCESTOR, transaction_id)
        return None if row is None else TransactionRow.FromString(row)

    def output(self, ref: bytes, vault: Reader | None = None) -> bytes | None:
        """The `OutputState` component of a reference to a verified transaction."""
        decoded = StateRef.decode(ref)
        final = self.final(decoded.transaction_id, vault)
        if final is None:
            return None
        outputs = native.Transaction.decode(Proposal.decode(final.signed_transaction).transaction).groups[Group.OUTPUTS]
        return outputs[decoded.index] if decoded.index < len(outputs) else None

    def consumer(self, ref: bytes) -> bytes | None:
        """The verified transaction that consumed a state."""
        for store in (self._store, self._histories):
            consumer = store.get(Table.SPENT, ref)
            if consumer is not None:
                return consumer
        return None

    def heads(self, peer: bytes, root: bytes) -> tuple[bytes, ...]:
        """The transactions whose history the peer may ask for under this root."""
        granted = self._store.get(Table.GRANT, grant_key(peer, root))
        return () if granted is None else split_ids(granted)

    def add(self, rows: Sequence[Row]) -> bool:
        """Keep what is verified, durably; each transaction's rows are complete by themselves. False: full disk."""
        failpoints.pass_(Failpoint.HISTORY_BEFORE_COMMIT)
        kept = self._room.commit(rows)
        failpoints.pass_(Failpoint.HISTORY_AFTER_COMMIT)
        return kept


def ancestor_rows(
    transaction_id: bytes, parents: Sequence[bytes], inputs: Sequence[bytes], final: TransactionRow
) -> list[Row]:
    """What the store of histories holds of a verified transaction."""
    return [
        (Table.ANCESTOR, transaction_id, final.SerializeToString()),
        (Table.PARENTS, transaction_id, b"".join(parents)),
        *((Table.SPENT, ref, transaction_id) for ref in inputs),
    ]


def mark_verified(changes: Changes, transaction_id: bytes, parents: Sequence[bytes], inputs: Sequence[bytes]) -> None:
    """What the node's store holds beside the transaction itself, when it takes part in it."""
    changes.put(Table.PARENTS, transaction_id, b"".join(parents))
    for ref in inputs:
        changes.put(Table.SPENT, ref, transaction_id)
