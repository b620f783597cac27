"""Named points at which a test kills the process; unarmed, and next to free, unless `P2PET_FAILPOINTS` names them.

`name:n[,name:n]` kills the process, as `kill -9` does, at the n-th pass of that point. The points of the log, the view
and the notary's decisions are in Rust (core-rs/log/src/failpoint.rs) and share the variable. docs/invariants.md lists
all of them.
"""

import enum
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from p2petd import native
from p2petd.errors import ConfigError

VARIABLE = "P2PET_FAILPOINTS"


class Failpoint(enum.Enum):
    """The registry of the points in Python: name, where it is."""

    def __new__(cls, label: str, where: str) -> "Failpoint":
        point = object.__new__(cls)
        point._value_ = label
        point.where = where
        return point

    where: str

    # The engine.
    FLOW_BEGUN = "flow.begun", "a flow has begun, its row is in the batch under way"
    FLOW_BEFORE_STEP = "flow.before_step", "a flow awaits something that the engine has not looked at yet"
    FLOW_AFTER_STEP = "flow.after_step", "an answer is about to be given to a flow"
    FLOW_SENT = "flow.sent", "a message to a peer is in the batch under way"
    FLOW_RECEIVED = "flow.received", "a peer's message for a flow is in the batch under way"
    FLOW_ENDED = "flow.ended", "a flow has ended, its outcome is in the batch under way"
    FLOW_PARKED = "flow.parked", "a flow is parked, its row is in the batch under way"
    # The node's writer.
    BATCH_BEFORE_COMMIT = "batch.before_commit", "a batch is complete, nothing of it is written"
    BATCH_AFTER_COMMIT = "batch.after_commit", "a batch is durable and in the view, nothing of it is done"
    BATCH_EFFECTS = "batch.effects", "what a batch has caused is about to be done"
    STORE_BEFORE_FIRST = "store.before_first", "a new data directory is about to get its owner's row"
    STORE_AFTER_FIRST = "store.after_first", "a new data directory has its owner's row"
    # Histories under a uniqueness-only notary.
    HISTORY_BEFORE_COMMIT = "history.before_commit", "transactions of a history are verified and not written"
    HISTORY_AFTER_COMMIT = "history.after_commit", "transactions of a history are durable"
    # Between nodes.
    PEER_BEFORE_WRITE = "peer.before_write", "a frame for a peer is filled and not sent"
    PEER_AFTER_WRITE = "peer.after_write", "a frame for a peer is handed to the connection"
    PEER_AFTER_READ = "peer.after_read", "a peer's frame is read and not looked at"
    CALL_BEFORE_ANSWER = "call.before_answer", "a service of this node is about to answer a peer's call"
    # The notary's worker.
    WORKER_BEFORE_CHECK = "worker.before_check", "requests are taken from the notary's queue"
    WORKER_BEFORE_DECIDE = "worker.before_decide", "requests are checked, contracts included, and not decided"
    WORKER_BEFORE_REPLY = "worker.before_reply", "requests are decided durably, the replies are built and not sent"
    # The oracle.
    ORACLE_BEFORE_COMMIT = "oracle.before_commit", "an oracle's batch is complete, nothing of it is written"
    ORACLE_AFTER_COMMIT = "oracle.after_commit", "an oracle's batch is durable and in the view"
    ORACLE_BEFORE_REPLY = "oracle.before_reply", "an oracle is about to answer what it has made durable"
    # Attachments.
    ATTACHMENT_WRITTEN = "attachment.written", "an attachment's file is written and not synced"
    ATTACHMENT_SYNCED = "attachment.synced", "an attachment's file is synced under its temporary name"
    ATTACHMENT_RENAMED = "attachment.renamed", "an attachment's file has its name, the directory is not synced"

    @property
    def label(self) -> str:
        """The name in the variable."""
        return str(self.value)


_BY_NAME = {point.label: point for point in Failpoint}

_watched = False
_lock = threading.Lock()
_passes: Counter[Failpoint] = Counter()
_kills_at: dict[Failpoint, int] = {}
_recorders: list[Callable[[Failpoint], None]] = []


def pass_(point: Failpoint) -> None:
    """Kills the process when this is the pass that the variable names."""
    if _watched:
        _passed(point)


def _passed(point: Failpoint) -> None:
    with _lock:
        _passes[point] += 1
        if _passes[point] == _kills_at.get(point):
            os.kill(os.getpid(), signal.SIGKILL)
        recorders = tuple(_recorders)
    for record in recorders:
        record(point)


def all_names() -> tuple[str, ...]:
    """The points of both registries."""
    return (*native.failpoints(), *(point.label for point in Failpoint))


def arm_from_environment() -> None:
    """Arm what the variable names; the points in Rust arm themselves. Raises ConfigError for what it cannot mean."""
    global _watched
    for name, passes in parse(os.environ.get(VARIABLE, "")).items():
        _watched = True
        if name in _BY_NAME:
            _kills_at[_BY_NAME[name]] = passes


def parse(text: str) -> Mapping[str, int]:
    """Passes by name. Raises ConfigError."""
    armed = {}
    known = frozenset(all_names())
    for entry in filter(None, map(str.strip, text.split(","))):
        name, _, passes = entry.partition(":")
        if name not in known:
            raise ConfigError(f"{VARIABLE} holds {entry!r}: no failpoint has this name")
        if not passes.isascii() or not passes.isdigit() or int(passes) == 0:
            raise ConfigError(f"{VARIABLE} holds {entry!r}: write name:n, n from 1")
        armed[name] = int(passes)
    return armed


def counters() -> Mapping[str, int]:
    """How often each point in Python has been passed; nothing while no point at all is armed."""
    with _lock:
        return {f"failpoint_{point.label}": count for point, count in _passes.items()}


@contextmanager
def recording(record: Callable[[Failpoint], None]) -> Iterator[None]:
    """Tell `record` of every pass in this process, on the thread that passes."""
    global _watched
    before = _watched
    with _lock:
        _recorders.append(record)
        _watched = True
    try:
        yield
    finally:
        with _lock:
            _recorders.remove(record)
            _watched = before
