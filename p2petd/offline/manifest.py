"""backup.json: what a backup holds and whose it is. It is written last, so that without it there is no backup."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from p2petd.errors import BackupRefused
from p2petd.units import SECOND_NS

NAME = "backup.json"
FORMAT = 1
MANIFEST_BYTES_MAX = 1 << 30


@dataclass(frozen=True)
class StoredFile:
    """A file of the backup; `path` is relative and has no parts that lead outside."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class StoredLog:
    """What is there of one log. With `first_sequence` above 1 a snapshot stands for what was before."""

    first_sequence: int
    last_sequence: int
    chain_value: str
    snapshots: tuple[int, ...]


@dataclass(frozen=True)
class Manifest:
    """Everything of one node at one moment between `began_ns` and `ended_ns`; keys are hex."""

    format: int
    node: str
    identity: str
    network_id: str
    p2petd: str
    began_ns: int
    ended_ns: int
    with_keys: bool
    stores: Mapping[str, StoredLog]
    files: tuple[StoredFile, ...]

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(file.size for file in self.files)

    def encode(self) -> bytes:
        """JSON that ends with its own digest."""
        table = asdict(self)
        return json.dumps({**table, "sha256": _digest(table)}, indent=1).encode() + b"\n"


def in_words(at_ns: int) -> str:
    """A moment in UTC, to the second."""
    return datetime.fromtimestamp(at_ns // SECOND_NS, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def read_manifest(backup: Path) -> Manifest:
    """Raises BackupRefused when the directory is no backup, or its manifest is not as it was written."""
    path = backup / NAME
    try:
        with path.open("rb") as stream:
            content = stream.read(MANIFEST_BYTES_MAX)
    except OSError as error:
        raise BackupRefused(f"{backup} is no backup: {path} cannot be read: {error.strerror}") from error
    try:
        table: dict[str, Any] = json.loads(content)
        digest = table.pop("sha256")
        if table["format"] != FORMAT:
            raise BackupRefused(f"{backup} has the format {table['format']}, which this version does not know")
        if digest != _digest(table):
            raise BackupRefused(f"{path} is not as it was written: the backup is damaged")
        return _decode(table)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackupRefused(f"{path} is no manifest of a backup: the backup is damaged") from error


def _decode(table: dict[str, Any]) -> Manifest:
    stores = {
        name: StoredLog(**{**entry, "snapshots": tuple(entry["snapshots"])}) for name, entry in table["stores"].items()
    }
    files = tuple(StoredFile(**entry) for entry in table["files"])
    for file in files:
        path = Path(file.path)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise BackupRefused(f"the backup names the file {file.path!r}, which is outside of it")
    return Manifest(**{**table, "stores": stores, "files": files})


def _digest(table: dict[str, Any]) -> str:
    return sha256(json.dumps(table, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
