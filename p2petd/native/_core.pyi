"""The Rust extension: hashing, proofs, signatures, the log and its view, the notary.

Bytes go in and come out; the GIL is released wherever work grows with the input. Byte layouts: docs/protocol.md.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import final

# Takes phase, what is done and what there is to do, from the calling thread, at most four times a second.
_Progress = Callable[[str, int, int], None] | None
# Rows, rows that differ, and (table, key, clause) of the first of these.
_Comparison = tuple[int, int, list[tuple[int, bytes, str]]]

class NativeError(Exception):
    """Base of every error of the extension. `code` is stable, such as "proof.invalid"; the text is one sentence."""

    code: str

class MalformedError(NativeError):
    """Bytes that do not decode: not canonical, truncated, over a cap, of a wrong length."""

class ProofError(NativeError):
    """A tear-off, path, root or certificate that does not prove what it claims."""

class KeyFormatError(NativeError):
    """A key that is not 32 bytes, not canonical, of small order or with torsion."""

class LogDamagedError(NativeError):
    """The log is damaged where it may not be cut; the text names file and offset."""

class StoreError(NativeError):
    """The operating system or LMDB refused; the text says which file and what to do. A failed sync aborts instead."""

def transaction_id(salt: bytes, groups: Sequence[Sequence[bytes]]) -> bytes:
    """The id (section 2). Raises MalformedError unless salt is 32 bytes and there are 12 groups."""

def encode_transaction(salt: bytes, groups: Sequence[Sequence[bytes]]) -> bytes:
    """The canonical `ledger.v1.Transaction`."""

@final
class Transaction:
    """A decoded transaction; its components are the bytes that were hashed."""

    @staticmethod
    def decode(data: bytes) -> Transaction:
        """Raises MalformedError."""
    @property
    def id(self) -> bytes: ...
    @property
    def salt(self) -> bytes: ...
    @property
    def groups(self) -> list[list[bytes]]: ...

@final
class Revealed:
    """What a verified tear-off shows: its id and, per group number, (count, {index: component})."""

    @property
    def id(self) -> bytes: ...
    @property
    def groups(self) -> dict[int, tuple[int, dict[int, bytes]]]: ...
    def is_complete(self, group: int) -> bool: ...

def tear_off(transaction: bytes, components: Sequence[tuple[int, int]], whole_groups: Sequence[int]) -> bytes:
    """A `ledger.v1.TearOff` that shows the (group, index) pairs and the whole groups, nothing else."""

def verify_tear_off(tear_off: bytes, expected_id: bytes) -> Revealed:
    """Raises ProofError when it does not lead to `expected_id`, MalformedError when it does not decode."""

def input_proof(transaction: bytes, index: int, finality_proof: bytes) -> bytes:
    """The `ledger.v1.InputProof` of output `index` of a final transaction."""

def lock_proof(transaction: bytes, index: int, finality_proof: bytes) -> bytes:
    """The same with the output's lock in place of the output, for a uniqueness-only notary."""

def uniqueness_proposal(transaction: bytes, input_proofs: Sequence[bytes], unlock_signatures: Sequence[bytes]) -> bytes:
    """The `ledger.v1.UniquenessProposal` of a transaction. Raises MalformedError."""

def decode_output(component: bytes) -> tuple[str, int, bytes, str, int, bytes, int]:
    """Strictly decode `ledger.v1.OutputState`.

    Answers contract, contract version, notary, type name, schema version, payload, encumbered by (0: nothing).
    """

def change_notary(component: bytes, notary: bytes, encumbered_by: int) -> bytes:
    """The same `ledger.v1.OutputState` under another notary and with another encumbrance. Raises MalformedError."""

def decode_command(component: bytes) -> tuple[str, str, int, bytes]:
    """Strictly decode `ledger.v1.Command`: contract, type name, schema version, payload."""

def sha256(data: bytes) -> bytes: ...
def composite_key(threshold: int, children: Sequence[tuple[int, bytes]]) -> bytes:
    """The canonical encoding of a composite key (section 2): children are (weight, 32-byte key or composite encoding).

    Raises KeyFormatError for weights, thresholds, depths or counts out of range, for a key that stands twice, and for a
    leaf that `check_key` refuses.
    """

def key_id(key: bytes) -> bytes:
    """32 bytes: the key itself for an Ed25519 key, SHA-256(0x05 ‖ encoding) for a composite one.

    Raises KeyFormatError, also for a composite encoding that is not canonical and for a leaf that `check_key` refuses.
    """

def key_leaves(key: bytes) -> list[bytes]:
    """The Ed25519 keys of a key: itself, or the leaves of a composite one, ascending.

    Raises KeyFormatError for an encoding that is not canonical; that the leaves are good keys is not checked.
    """

def key_is_satisfied(key: bytes, signed: Sequence[bytes]) -> bool:
    """Whether signatures by these Ed25519 keys satisfy the key, each counted once. Raises as `key_leaves` does."""

def encode_signers(keys: Sequence[bytes]) -> bytes:
    """One component of group 4 for these keys, Ed25519 or composite: each once, ascending by its bytes.

    Raises KeyFormatError for an encoding that is not canonical, MalformedError for a key that is too long.
    """

def decode_signers(component: bytes) -> list[tuple[bytes, bytes]]:
    """The keys of one component of group 4, (id, encoding) each, in order. Raises MalformedError unless canonical."""

def lock_of(owner: bytes, salt: bytes, index: int) -> bytes:
    """The lock of output `index` that `owner`, an Ed25519 key, spends (section 2). Raises KeyFormatError."""

@final
class SigningKey:
    """An Ed25519 key; its seed never leaves it."""

    @staticmethod
    def from_seed(seed: bytes) -> SigningKey:
        """Raises KeyFormatError unless seed is 32 bytes."""
    @property
    def public(self) -> bytes: ...
    def sign(self, network_id: bytes, purpose: int, digest: bytes) -> bytes:
        """64 bytes over the message of section 4."""
    def unlock(self, network_id: bytes, salt: bytes, index: int, transaction_id: bytes) -> bytes:
        """64 bytes by the key of the lock of an output that this key owns (the salt is of the transaction that made the
        output), purpose 9, over the id of the transaction that consumes it."""
    def sign_many(self, network_id: bytes, purpose: int, digests: Sequence[bytes]) -> list[bytes]: ...

def check_key(key: bytes) -> None:
    """Raises KeyFormatError."""

def verify_signatures(items: Sequence[tuple[bytes, bytes, int, bytes, bytes]]) -> list[bool]:
    """One answer for each (key, network id, purpose, digest, signature), checked as a batch; bisects on failure."""

def certify_worker(
    service: SigningKey, network_id: bytes, worker_key: bytes, not_before_ns: int, not_after_ns: int
) -> bytes:
    """A `ledger.v1.WorkerCertificate`."""

@final
class Checked:
    """A proposal that passed every platform check. Only contracts remain."""

    @property
    def id(self) -> bytes: ...
    @property
    def groups(self) -> list[list[bytes]]: ...
    @property
    def input_outputs(self) -> list[bytes]:
        """The proven `OutputState` component of each input, in order."""
    @property
    def reference_outputs(self) -> list[bytes]: ...
    @property
    def signed_by(self) -> list[bytes]: ...

@final
class Refusal:
    """Why a proposal is refused: a stable code, one sentence, the ids of keys that lack (for signature.missing)."""

    @property
    def code(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def missing_keys(self) -> list[bytes]: ...

@final
class Rules:
    """What the network permits, as far as bytes can tell: every version of the parameters that is known."""

    def __new__(
        cls, network_id: bytes, parameters: Sequence[tuple[bytes, Sequence[tuple[bytes, int]], int, int]]
    ) -> Rules:
        """Each entry: parameters hash, [(notary service key, mode)], transaction_bytes_max, inputs_max."""
    def check_proposals(self, proposals: Sequence[bytes], require_all_signatures: bool) -> list[Checked | Refusal]:
        """Shape, id, platform checks (L20), input proofs (L24) and all signatures of each `ledger.v1.Proposal`.

        Without `require_all_signatures` a required signature may lack; one that is there must verify.
        """
    def check_resolved(
        self,
        proposals: Sequence[tuple[bytes, Sequence[bytes], Sequence[bytes]]],
        require_all_signatures: bool,
    ) -> list[Checked | Refusal]:
        """Like `check_proposals` for transactions under a uniqueness-only notary.

        Each comes with the `OutputState` components of its inputs and its references, which the caller knows from
        transactions that it has verified, and without input proofs. Refused under a verifying notary.
        """
    def check_finals(
        self, finals: Sequence[tuple[bytes, bytes]], *, verify_signers: bool = ...
    ) -> list[Checked | Refusal]:
        """Each (`ledger.v1.Proposal` without input proofs, `ledger.v1.FinalityProof`): steps 2 to 7 of section 6.

        `input_outputs` of the answer is empty: the notary saw them, we need not.
        """

def verify_finality(
    network_id: bytes,
    transaction: bytes,
    finality_proof: bytes,
    parameters_hash: bytes,
    notaries: Sequence[tuple[bytes, int]],
) -> bytes:
    """Steps 2 to 6 of section 6; returns the id. Raises ProofError naming the step."""

def finality_summary(finality_proof: bytes) -> tuple[bytes, bytes, int, int, int, int]:
    """Transaction id, notary, mode, sequence, decided_at_ns, count. Nothing is verified."""

@final
class Store:
    """A node's log and its LMDB view (docs/architecture.md, section 3)."""

    @staticmethod
    def open(directory: str, *, segment_bytes: int = ..., map_bytes: int = ..., progress: _Progress = ...) -> Store:
        """Recovers the log, brings the view up to date. Raises LogDamagedError, StoreError.

        A view that is not believed is rebuilt from the newest whole snapshot, or from the log's start. The phases are
        checking_log, restoring_snapshot (bytes) and rebuilding_view (records).

        Takes an exclusive lock on the directory; a second open raises StoreError with code "store.locked".
        """
    def commit(self, changes: Sequence[tuple[int, bytes, bytes | None]]) -> int:
        """One record: append, fdatasync, apply to the view; returns its sequence. `None` deletes. Table 0 to 255.

        Raises StoreError, with nothing changed, and for a disk or a map that is full with the code "store.disk_full" or
        "store.map_full". Aborts the process when the sync fails: what the disk holds is then unknown.
        """
    def has_room(self, bytes: int) -> bool:
        """Whether a commit of about so many bytes finds room on the disk and in the map of the view."""
    def get(self, table: int, key: bytes) -> bytes | None: ...
    def get_many(self, table: int, keys: Sequence[bytes]) -> list[bytes | None]: ...
    def scan(
        self, table: int, start: bytes, end: bytes | None, limit: int, *, reverse: bool = ...
    ) -> list[tuple[bytes, bytes]]:
        """At most `limit` entries of start ≤ key < end in key order (backwards from `end` with reverse)."""
    @property
    def sequence(self) -> int: ...
    @property
    def chain_value(self) -> bytes: ...
    def stats(self) -> Mapping[str, int]:
        """appends, bytes_appended, sync_ns_total, apply_ns_total, replayed_records, view_rebuilt (0 or 1),
        snapshot_restored (the record of the snapshot that the opening began with, or 0), snapshots_taken,
        snapshot_ns_total, snapshot_sequence, log_first_sequence, log_bytes_since_snapshot."""
    def take_snapshot(self) -> int:
        """A durable, checked snapshot of the view beside commits; returns the record that it shows. Two are kept.
        Raises StoreError, "store.closed" when the store is closed meanwhile; only the snapshot is lost."""
    def trim(self) -> int:
        """Removes from the log what the second newest snapshot covers, if whole; returns the first sequence kept."""
    def close(self) -> None:
        """Syncs the view and marks the shutdown clean. Repeating it does nothing."""

@final
class NotaryBatch:
    """Requests on their way through one decision."""

    @property
    def to_verify(self) -> list[tuple[int, Checked]]:
        """(index in the batch, proposal) of each request that awaits its contracts."""

@final
class Notary:
    """The uniqueness log and index of one notary worker. Signs nothing before its record is durable."""

    @staticmethod
    def open(
        directory: str,
        rules: Rules,
        network_id: bytes,
        mode: int,
        worker: SigningKey,
        worker_certificate: bytes,
        *,
        segment_bytes: int = ...,
        map_bytes: int = ...,
        progress: _Progress = ...,
    ) -> Notary:
        """Recovers the log, and appends the worker's certificate to it when it is another than the last one there.

        Raises LogDamagedError, StoreError, ProofError for a certificate of another key, service or network.
        """
    def hold(self, why: str) -> None:
        """Decides nothing from now on: what is in the log is proven as before, anything else is answered
        "notary.internal" with `why`, and no status is *never*. The first reason stays.
        """
    def check(self, requests: Sequence[tuple[bytes, bytes]]) -> NotaryBatch:
        """(caller identity, `notary.v1.NotarisationRequest`) each: section 7 up to the contracts. Changes nothing.

        Raises StoreError with the code "notary.rolled_back", and holds, when a request proves a decision that this
        service has signed and that its log does not hold: the log was put back to an earlier state.
        """
    def decide(self, batch: NotaryBatch, refusals: Mapping[int, tuple[str, str]], now_ns: int) -> list[bytes]:
        """Decides the batch: conflicts, windows, one durable record, one signature.

        `refusals` holds (rule code, sentence) by index for contracts that refused. Returns a serialised
        `notary.v1.NotarisationReply` for each request, in order; "notary.internal" says nothing of the transaction.
        Raises MalformedError for a batch that another notary has checked, or that is decided.
        """
    def status(self, transaction_id: bytes, until_ns: int, now_ns: int) -> tuple[bytes | None, bool]:
        """(serialised FinalityProof, False) when notarised; (None, True) when it never will be, because the notary's
        clock has reached `until_ns`; (None, False) otherwise. After *never* no batch is decided at an earlier time.

        Otherwise is also: a decision that this worker cannot prove, a disk that is full, a clock that cannot be right.
        """
    def who_spent(self, subject: bytes) -> tuple[bytes, bytes, int, int, int, bytes, list[bytes]] | None:
        """Who consumed a state (36 bytes) or a claim (32): transaction id, caller, decided_at_ns, sequence, index in
        the batch, the caller's request signature, the request's inputs. None when nobody did here.
        """
    def consumer_hashes(self, states: Sequence[bytes]) -> list[bytes]:
        """For each state (36 bytes) SHA-256 of the transaction id that consumed it here; empty when none did.

        Raises ProofError when the notary is held and one of them is not consumed in its log.
        """
    @property
    def sequence(self) -> int: ...
    def stats(self) -> Mapping[str, int]:
        """batches, accepted, refused, repeated, unproven, appends, sync_ns_total, decide_ns_total, signatures_verified,
        root_signatures."""
    def take_snapshot(self) -> int:
        """As `Store.take_snapshot`; of the index. The log is evidence and is never trimmed."""
    def store_stats(self) -> Mapping[str, int]:
        """As `Store.stats`."""
    def close(self) -> None: ...

def segment_header(header: bytes) -> tuple[int, int, bytes]:
    """(salt, first sequence, chain value before it) of the first 64 bytes of a segment. Raises MalformedError."""

def record_size(header: bytes) -> int | None:
    """Bytes that the record with these 48 bytes of header takes in its file; None when no record does."""

def read_record(salt: int, chain: bytes | None, record: bytes) -> tuple[int, bytes] | None:
    """(sequence, chain value) of a whole record, padding included, of a segment with this salt.

    None for a bad checksum, and for one that is not chained to `chain`, unless that is None.
    """

def file_identity(path: str) -> tuple[int, int]:
    """(inode, nanoseconds of birth, 0 where the file system keeps none): what no copy of a file has. Raises OSError."""

@final
class Inspection:
    """A store or a notary's log that is not running: its lock is held and nothing of it is changed; its log is replayed
    once more into a view in another directory, which `get` and `scan` read."""

    @staticmethod
    def begin(
        directory: str, scratch: str, *, notary: bool = ..., map_bytes: int = ..., progress: _Progress = ...
    ) -> Inspection:
        """Checks the log and all snapshots, and begins a view in `scratch`: with nothing, or for a trimmed log the
        oldest whole snapshot. Raises LogDamagedError, StoreError ("store.locked", "store.no_snapshot")."""
    @property
    def log(self) -> tuple[int, int, bytes, tuple[str, int, str] | None]:
        """First and last sequence, chain value, and (file, offset, clause) of a last record that was never finished."""
    @property
    def snapshots(self) -> list[tuple[int, str | None]]:
        """(record, what is wrong with it) of each snapshot, newest first."""
    @property
    def view_is_believed(self) -> bool:
        """Whether the next start would keep the view."""
    def rebuild(self, up_to: int, *, progress: _Progress = ...) -> int:
        """Applies the log's records up to this one; returns the last that is applied."""
    def compare_snapshot(self, *, progress: _Progress = ...) -> _Comparison | None:
        """With the whole snapshot of the last record that is applied; None when there is none."""
    def get(self, table: int, key: bytes) -> bytes | None: ...
    def scan(
        self, table: int, start: bytes, end: bytes | None, limit: int, *, reverse: bool = ...
    ) -> list[tuple[bytes, bytes]]:
        """As `Store.scan`."""
    def audit_notary(
        self, network_id: bytes, *, progress: _Progress = ...
    ) -> tuple[int, int, list[tuple[int, int, str]]]:
        """Transactions accepted, findings, and (record, place in the batch, clause) of the first of these: signatures,
        certificates, the order in time, and that nothing was consumed twice. Everything is rebuilt before."""
    def close(self) -> None:
        """Gives the directory back. Repeating it does nothing."""

def head_of_pages(pages: str) -> int:
    """The last record that a view's file of pages shows. Damaged pages may end the process."""

def compare_pages(expected: str, found: str, *, progress: _Progress = ...) -> _Comparison:
    """Two files of pages. Damaged pages may end the process."""

def failpoints() -> list[str]:
    """The names of all failpoints in Rust. P2PET_FAILPOINTS=name:n kills the process at the n-th pass."""

def commit_failpoints() -> list[str]:
    """Those of them that every commit passes, the notary's own among them."""
