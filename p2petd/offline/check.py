"""`p2petd backup --check`: whether a backup is what was written, without the node whose it is."""

from pathlib import Path

from p2petd.errors import BackupRefused
from p2petd.offline.backup import copy_stream, covered, read_snapshot
from p2petd.offline.manifest import NAME, Manifest, StoredLog, read_manifest
from p2petd.offline.segments import Place, copy_segment


def check_backup(backup: Path) -> Manifest:
    """What a whole backup holds. Raises BackupRefused naming the file that is not as it was written.

    1. The manifest has its own digest.
    2. Every file that it names is there with its size and digest, and no other one is.
    3. Every record of every log has its checksum and is chained to the one before; snapshots are of these logs.
    """
    # 1.
    manifest = read_manifest(backup)
    # 2.
    for file in manifest.files:
        path = backup / file.path
        try:
            with path.open("rb", buffering=0) as stream:
                digest, size = copy_stream(stream, None)
        except OSError as error:
            raise BackupRefused(f"the backup is damaged: {path} cannot be read: {error.strerror}") from error
        if size != file.size or digest.hex() != file.sha256:
            raise BackupRefused(f"the backup is damaged: {path} is not as it was written")
    known = {file.path for file in manifest.files} | {NAME}
    for path in sorted(backup.rglob("*")):
        if not path.is_dir() and str(path.relative_to(backup)) not in known:
            raise BackupRefused(f"{path} is no part of the backup; move it elsewhere")
    # 3.
    for name, log in manifest.stores.items():
        if _check_log(backup, name, manifest) != log:
            raise BackupRefused(f"the backup is damaged: {backup / name} holds another log than {NAME} says")
    return manifest


def _check_log(backup: Path, name: str, manifest: Manifest) -> StoredLog:
    names = {file.path for file in manifest.files}
    snapshots: dict[int, bytes] = {}
    for description in sorted(path for path in names if path.startswith(f"{name}/snapshots/")):
        said = read_snapshot(backup / description) if description.endswith(".snapshot") else None
        if said is not None:
            snapshots[said[0]] = said[1]
    chain_values: dict[int, bytes] = {}
    first: Place | None = None
    end: Place | None = None
    for segment in sorted(path for path in names if path.startswith(f"{name}/log/")):
        one = copy_segment(backup / segment, None, snapshots)
        if one.bad or (end is not None and one.first != end):
            why = one.bad or "the segment before it does not lead here"
            raise BackupRefused(f"the backup is damaged: {backup / segment} at offset {one.size}: {why}")
        chain_values |= {one.first.sequence - 1: one.first.chain_value, **one.chain_values}
        first, end = first or one.first, one.end
    if first is None or end is None:
        raise BackupRefused(f"the backup is damaged: it holds no log of {name}")
    log = covered(snapshots, chain_values, first, end)
    if log is None:
        raise BackupRefused(f"the backup is damaged: no snapshot covers what is gone before the log of {name}")
    return log
