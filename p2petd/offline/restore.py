"""`p2petd restore`: puts a backup in the place of a node's data directory, whole or not at all."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from p2petd.config import NodeConfig
from p2petd.errors import BackupRefused
from p2petd.observe.clock import system_clock
from p2petd.offline.backup import KEYS, LOCK, STORES, Owner, Tell, copy_stream, owner_of
from p2petd.offline.check import check_backup
from p2petd.offline.manifest import Manifest, StoredFile, in_words
from p2petd.store.files import RESTORING, sync_directory
from p2petd.store.standing import accept_loss, mark_restored
from p2petd.units import SECOND_NS

# What signs by its log alone: a copy of it is held until its operator has decided.
SIGNING_STORES = ("notary", "oracle")
REPLACED = ".replaced-"


@dataclass(frozen=True)
class Restored:
    """`replaced` is where the old data directory is now; `held` names what signs nothing until the loss is accepted."""

    manifest: Manifest
    directory: Path
    age_seconds: int
    replaced: Path | None
    held: tuple[str, ...]


def restore_backup(config: NodeConfig, backup: Path, tell: Tell, *, replace: bool, loss_accepted: bool) -> Restored:
    """The backup is this node's data directory, durably. After a failure or a crash repeat it: nothing was lost.

    1. The node does not run, and the backup is its own.
    2. The backup is whole, and the data directory is empty, or `replace` is given.
    3. Everything is copied into a directory beside the data directory, compared with the manifest on the way, synced.
    4. The old data directory is moved aside, never removed, and the new one gets its name.

    Raises BackupRefused, CertificateError; the data directory is then what it was.
    """
    data = config.node.data_directory.absolute()
    # 1.
    owner = owner_of(config)
    with _stopped(data):
        # 2.
        manifest = check_backup(backup)
        _check_owner(backup, manifest, owner)
        _check_place(data, backup, replace=replace)
        try:
            # 3.
            unfinished = data.with_name(data.name + RESTORING)
            shutil.rmtree(unfinished, ignore_errors=True)
            _copy(backup, manifest, unfinished)
            held = _mark(unfinished, manifest, loss_accepted=loss_accepted)
            _sync(unfinished)
            # 4.
            replaced = _move_aside(data)
            unfinished.rename(data)
            sync_directory(data.parent)
        except OSError as error:
            raise BackupRefused(f"the backup is not restored: {error.filename}: {error.strerror}") from error
    tell(f"{data} holds the backup of {in_words(manifest.began_ns)}")
    return Restored(manifest, data, (system_clock() - manifest.began_ns) // SECOND_NS, replaced, held)


def accept_losses(config: NodeConfig) -> tuple[str, ...]:
    """The operator has decided that the logs that are here go on; which of them were held. Raises BackupRefused."""
    data = config.node.data_directory.absolute()
    with _stopped(data):
        try:
            return tuple(name for name in SIGNING_STORES if accept_loss(data / name))
        except OSError as error:
            raise BackupRefused(f"{error.filename} cannot be written: {error.strerror}") from error


@contextmanager
def _stopped(data: Path) -> Iterator[None]:
    """Nobody uses or starts to use the stores that are in the directory. Raises BackupRefused when somebody does."""
    with ExitStack() as stack:
        for name in STORES:
            path = data / name / "log" / LOCK
            if path.exists():
                lock = stack.enter_context(path.open("rb"))
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise BackupRefused(f"{data} is in use: stop the node first") from None
        yield


def _check_owner(backup: Path, manifest: Manifest, owner: Owner) -> None:
    if manifest.network_id != owner.network_id:
        raise BackupRefused(f"{backup} is of another network")
    if manifest.identity != owner.identity:
        raise BackupRefused(f"{backup} is of another node: {manifest.node}, with the identity {manifest.identity}")


def _check_place(data: Path, backup: Path, *, replace: bool) -> None:
    if data.is_mount():
        raise BackupRefused(f"{data} is a mount point and cannot be moved aside: let data_directory be one within it")
    if data.resolve() == backup.resolve() or backup.resolve().is_relative_to(data.resolve()):
        raise BackupRefused(f"{backup} lies in the data directory; move it elsewhere first")
    if not data.parent.is_dir():
        raise BackupRefused(f"{data.parent} is no directory; create it first")
    if data.exists() and (not data.is_dir() or any(data.iterdir())) and not replace:
        raise BackupRefused(f"{data} holds something; with --replace it is moved aside and kept")


def _copy(backup: Path, manifest: Manifest, target: Path) -> None:
    target.mkdir(mode=0o700)
    for file in manifest.files:
        if not file.path.startswith(f"{KEYS}/"):
            _copy_file(backup / file.path, target / file.path, file)


def _copy_file(source: Path, target: Path, file: StoredFile) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with source.open("rb", buffering=0) as stream, os.fdopen(descriptor, "wb") as copy:
        digest, _ = copy_stream(stream, copy)
        copy.flush()
        os.fsync(copy.fileno())
    if digest.hex() != file.sha256:
        raise BackupRefused(f"the backup is damaged: {source} has changed while it was read")


def _mark(target: Path, manifest: Manifest, *, loss_accepted: bool) -> tuple[str, ...]:
    """Notary and oracle know that they run on a backup. Those that sign nothing before their operator has decided."""
    signing = tuple(name for name in SIGNING_STORES if name in manifest.stores)
    for name in signing:
        mark_restored(target / name, in_words(manifest.began_ns))
        if loss_accepted:
            accept_loss(target / name)
    return () if loss_accepted else signing


def _sync(directory: Path) -> None:
    for one, _, _ in os.walk(directory, topdown=False):
        sync_directory(Path(one))


def _move_aside(data: Path) -> Path | None:
    """Where the old directory is kept; an empty one needs no keeping."""
    if not data.exists():
        return None
    if not any(data.iterdir()):
        data.rmdir()
        return None
    stamp = datetime.fromtimestamp(system_clock() // SECOND_NS, UTC).strftime("%Y%m%dT%H%M%SZ")
    aside, number = data.with_name(f"{data.name}{REPLACED}{stamp}"), 1
    while aside.exists():
        aside, number = data.with_name(f"{data.name}{REPLACED}{stamp}-{number}"), number + 1
    data.rename(aside)
    sync_directory(data.parent)
    return aside
