"""`p2petd backup`: a copy of a node's data that a restore can go on with, made while the node runs or is stopped."""

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from p2petd.config import NodeConfig
from p2petd.errors import BackupRefused
from p2petd.identity.certificates import ledger_key, load_certificates, load_root, network_id
from p2petd.observe.clock import system_clock
from p2petd.offline.manifest import FORMAT, NAME, Manifest, StoredFile, StoredLog
from p2petd.offline.segments import CHAIN_START, Copied, Place, copy_segment, segment_names
from p2petd.store.files import sync_directory, write_durably
from p2petd.version import VERSION

# In this order: the node's log refers to what is in the others, which may hold more than it.
STORES = ("node", "histories", "notary", "oracle")
ATTACHMENTS = "attachments"
KEYS = "keys"
PARTIAL = ".partial"
LOCK = "lock"
# A log may be trimmed while it is copied; then its copy is made again.
TAKES_MAX = 5
PART_BYTES = 1 << 20

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Owner:
    """Whose data a directory holds: identity key and network, in hex."""

    node: str
    identity: str
    network_id: str


@dataclass(frozen=True)
class Made:
    """A backup that is whole and durable; `left_out` are damaged attachments, which nobody can use."""

    manifest: Manifest
    directory: Path
    seconds: float
    left_out: tuple[str, ...]


class _Trimmed(Exception):
    """Parts of the log were removed while it was copied: what is copied does not fit together."""


def owner_of(config: NodeConfig) -> Owner:
    """Raises CertificateError. Whether the certificates are still valid is no matter here."""
    leaf = load_certificates(config.identity.certificate_file)[0]
    root = load_root(config.network.root_certificate)
    return Owner(config.node.name, ledger_key(leaf).hex(), network_id(root).hex())


def make_backup(config: NodeConfig, destination: Path, tell: Tell, keys_of: Path | None = None) -> Made:
    """A whole backup in `destination`, which does not exist before or is empty; repeating it needs another one.

    1. Each log is copied up to its last whole record, the node's first; its snapshots before it.
    2. The attachments, which are at least those that the logs refer to.
    3. With `keys_of`, the configuration's file, that and the keys that it names.
    4. The manifest, last. Everything is synced, and only then it gets its name.

    Raises BackupRefused, CertificateError; then nothing stands at `destination`.
    """
    began, began_ns = time.monotonic(), system_clock()
    owner, data = owner_of(config), config.node.data_directory
    if not (data / STORES[0]).is_dir():
        raise BackupRefused(f"{data} holds no data of a node")
    with _new_directory(destination, data) as directory:
        copy = _Copy(directory, tell)
        # 1.
        stores = {name: copy.store(data / name, name) for name in STORES if (data / name / "log").is_dir()}
        # 2.
        copy.attachments(data / ATTACHMENTS)
        # 3.
        if keys_of is not None:
            copy.keys(config, keys_of)
        # 4.
        manifest = Manifest(
            format=FORMAT,
            node=owner.node,
            identity=owner.identity,
            network_id=owner.network_id,
            p2petd=VERSION,
            began_ns=began_ns,
            ended_ns=system_clock(),
            with_keys=keys_of is not None,
            stores=stores,
            files=tuple(copy.files.values()),
        )
        copy.sync()
        write_durably(directory / NAME, manifest.encode())
    return Made(manifest, destination, time.monotonic() - began, tuple(copy.left_out))


@contextmanager
def _new_directory(destination: Path, data: Path) -> Iterator[Path]:
    """A private directory beside the destination that takes its name at the end, and is gone after a failure."""
    destination = destination.absolute()
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise BackupRefused(f"{destination} is there already; name a directory that is new or empty")
    if destination.resolve().is_relative_to(data.resolve()):
        raise BackupRefused(f"{destination} lies in the data directory itself; choose another disk")
    if not destination.parent.is_dir():
        raise BackupRefused(f"{destination.parent} is no directory; create it first")
    partial = destination.with_name(destination.name + PARTIAL)
    try:
        partial.mkdir(mode=0o700, exist_ok=True)
        with (partial / LOCK).open("wb") as lock:
            _take(lock, partial)
            # What an earlier attempt has left.
            for left in partial.iterdir():
                if left.name != LOCK:
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
            try:
                yield partial
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
            (partial / LOCK).unlink()
            sync_directory(partial)
            partial.rename(destination)
            sync_directory(destination.parent)
    except OSError as error:
        raise BackupRefused(f"the backup cannot be made: {error.filename or partial}: {error.strerror}") from error


def _take(lock: BinaryIO, partial: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BackupRefused(f"another backup is being written to {partial}; wait for it") from None


class _Copy:
    """Copies into a directory that nobody else uses, and remembers what is in it."""

    def __init__(self, directory: Path, tell: Tell) -> None:
        self._directory = directory
        self._tell = tell
        self.files: dict[str, StoredFile] = {}
        self.left_out: list[str] = []

    def store(self, source: Path, name: str) -> StoredLog:
        for _ in range(TAKES_MAX):
            try:
                return self._store(source, name)
            except (_Trimmed, FileNotFoundError):
                shutil.rmtree(self._directory / name, ignore_errors=True)
                self.files = {path: file for path, file in self.files.items() if not path.startswith(f"{name}/")}
        what = f"the beginning of the log in {source} is gone and no whole snapshot covers it"
        raise BackupRefused(f"{what}, or it is being trimmed; try again")

    def _store(self, source: Path, name: str) -> StoredLog:
        """Snapshots first: then the log that is copied after them reaches up to them and beyond."""
        snapshots = self._snapshots(source / "snapshots", f"{name}/snapshots")
        copied: list[Copied] = []
        chain_values: dict[int, bytes] = {}
        names = segment_names(source / "log")
        for number, segment in enumerate(names):
            path = f"{name}/log/{segment}"
            with self._new_file(path) as target:
                one = copy_segment(source / "log" / segment, target, snapshots)
            if copied and one.first != copied[-1].end:
                raise BackupRefused(f"the log is damaged: {source / 'log' / segment} does not follow the one before it")
            if one.bad and number + 1 < len(names):
                raise BackupRefused(f"the log is damaged: {source / 'log' / segment} at offset {one.size}: {one.bad}")
            self.files[path] = StoredFile(path, one.size, one.digest.hex())
            chain_values |= {one.first.sequence - 1: one.first.chain_value, **one.chain_values}
            copied.append(one)
        if not copied:
            raise BackupRefused(f"the log is damaged: {source / 'log'} holds no segment")
        self._tell(f"{name}: records {copied[0].first.sequence} to {copied[-1].end.sequence - 1}")
        log = covered(snapshots, chain_values, copied[0].first, copied[-1].end)
        if log is None:
            raise _Trimmed
        return log

    def _snapshots(self, source: Path, name: str) -> Mapping[int, bytes]:
        """The chain values that the whole ones stand for, by record. One that is removed meanwhile is left out."""
        found = {}
        for description in sorted(source.glob("*.snapshot")) if source.is_dir() else ():
            pages = description.with_suffix(".mdb")
            said = read_snapshot(description)
            if said is None or (not pages.exists() and description.exists()):
                self._tell(f"{description} or its pages are damaged, so the backup does without it")
                continue
            sequence, chain_value, digest = said
            if self._file(pages, f"{name}/{pages.name}") != digest:
                self._tell(f"{pages} is damaged, so the backup does without it")
                del self.files[f"{name}/{pages.name}"]
                (self._directory / name / pages.name).unlink()
                continue
            self._file(description, f"{name}/{description.name}")
            found[sequence] = chain_value
        return found

    def attachments(self, source: Path) -> None:
        names = sorted(path.name for path in source.iterdir()) if source.is_dir() else []
        for name in names:
            if name.startswith("."):
                continue
            path = f"{ATTACHMENTS}/{name}"
            digest = self._file(source / name, path)
            if "." not in name and digest.hex() != name:
                self.left_out.append(name)
                del self.files[path]
                (self._directory / path).unlink()

    def keys(self, config: NodeConfig, configuration: Path) -> None:
        identity, client = config.identity, config.client
        files = [configuration, identity.key_file, identity.certificate_file]
        files += [identity.tls_key_file, identity.tls_certificate_file]
        files += [client.token_file, *(user.token_file for user in client.users)]
        if config.notary is not None:
            files += [config.notary.worker_key_file, config.notary.worker_certificate_file]
        if config.oracle is not None:
            files.append(config.oracle.key_file)
        for number, file in enumerate(dict.fromkeys(files)):
            path = f"{KEYS}/{file.name}"
            self._file(file, path if path not in self.files else f"{KEYS}/{number}-{file.name}")

    def sync(self) -> None:
        """The names of all files are durable."""
        for directory, _, _ in os.walk(self._directory, topdown=False):
            sync_directory(Path(directory))

    @contextmanager
    def _new_file(self, path: str) -> Iterator[BinaryIO]:
        target = self._directory / path
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb", buffering=PART_BYTES) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())

    def _file(self, source: Path, path: str) -> bytes:
        """Copy a file that does not change; its SHA-256."""
        with source.open("rb", buffering=0) as stream, self._new_file(path) as target:
            digest, size = copy_stream(stream, target)
        self.files[path] = StoredFile(path, size, digest.hex())
        return digest


def copy_stream(source: BinaryIO, target: BinaryIO | None) -> tuple[bytes, int]:
    """SHA-256 and size of what is left of `source`, written to `target` on the way. Raises OSError."""
    digest, size = sha256(), 0
    while part := source.read(PART_BYTES):
        digest.update(part)
        size += len(part)
        if target is not None:
            target.write(part)
    return digest.digest(), size


def read_snapshot(description: Path) -> tuple[int, bytes, bytes] | None:
    """(record, chain value, SHA-256 of the pages) that a snapshot's description says; None when it says nothing whole.

    A node believes it only with its own digest and under its name, so that a backup must not count on less. Raises
    FileNotFoundError when it is gone meanwhile.
    """
    try:
        text, _, check = description.read_bytes().removesuffix(b"\n").rpartition(b"\n")
        _, sequence, chain_value, _, digest = text.decode().split("\n")
        if check.decode() != sha256(text + b"\n").hexdigest() or description.stem != f"{int(sequence):020}":
            return None
        return int(sequence), bytes.fromhex(chain_value), bytes.fromhex(digest)
    except ValueError:
        return None


def covered(
    snapshots: Mapping[int, bytes], chain_values: Mapping[int, bytes], first: Place, end: Place
) -> StoredLog | None:
    """The description of a log whose beginning is there, or covered by one of its snapshots.

    None when nothing covers what is gone. Raises BackupRefused for a snapshot of another history.
    """
    for sequence, chain_value in snapshots.items():
        if sequence >= end.sequence or chain_values.get(sequence, chain_value) != chain_value:
            raise BackupRefused(f"the snapshot of record {sequence} is not of the log beside it")
    if first.sequence > 1 and not any(sequence >= first.sequence - 1 for sequence in snapshots):
        return None
    if first.sequence == 1 and first.chain_value != CHAIN_START:
        raise BackupRefused("the log is damaged: its first record has another one before it")
    return StoredLog(first.sequence, end.sequence - 1, end.chain_value.hex(), tuple(sorted(snapshots)))
