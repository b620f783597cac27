"""Whether a notary or an oracle may go on with its log: a copy must not decide again what the original has decided.

A party that runs on an older copy is shown so by its peers' tokens, and what it consumes twice the notary refuses. A
notary has nobody above it: on an older copy it would let a state be consumed a second time. So the directory of its log
holds a file that says where the log was written: inode and birth of the log's directory, which no copy has, whatever
made it. It says its own, too, and is a new file for each start: so an older copy shows that is written back over its
own original, with `cp` or `tar`, into the same directories. In a copy the notary proves what it has decided and decides
nothing else, until its operator says that this is the newest log there is, or that what the copy lacks may be lost
(`p2petd restore --accept-loss`).
"""

import json
import os
from pathlib import Path

from p2petd import native
from p2petd.errors import DataDirectoryError, RolledBack
from p2petd.store.files import replace_durably, sync_directory

NAME = "standing"
LOG = "log"
FILE_BYTES_MAX = 4096
ADVICE = (
    "if it is the newest log there is, `p2petd restore --config node.toml --accept-loss` says so; "
    "else restore the newest backup, since what was decided after this one could be decided a second time"
)


def take_standing(directory: Path, what: str) -> str | None:
    """Why the log in `directory`, of a notary or an oracle (`what`), must not be gone on with; None when it may be.

    The log is open, so that nobody else looks. One that says nothing yet is the original from now on. Raises RolledBack
    for a log that was found to be older than what its service has signed, DataDirectoryError.
    """
    try:
        said = _read(directory)
        if said is None or said.get("home") == _home(directory, directory / NAME):
            _stay(directory)
            return None
    except OSError as error:
        raise DataDirectoryError(f"{directory / NAME} cannot be used: {error.strerror}") from error
    if "rolled_back" in said:
        raise RolledBack(str(said["rolled_back"]))
    if "restored" in said:
        return f"this {what} runs on a backup of {said['restored']} and signs nothing new: {ADVICE}"
    return f"this {what} runs on a copy of its data directory and signs nothing new: {ADVICE}"


def mark_rolled_back(directory: Path, why: str) -> None:
    """From now on no start goes on with this log. Raises OSError."""
    _write(directory, {"rolled_back": why})


def mark_restored(directory: Path, backup_of: str) -> None:
    """The log in `directory` comes out of the backup of that moment. Raises OSError."""
    _write(directory, {"restored": backup_of})


def accept_loss(directory: Path) -> bool:
    """The operator has decided that this log goes on; False when nothing kept it from that. Raises OSError."""
    said = _read(directory)
    if said is None or said.get("home") == _home(directory, directory / NAME):
        return False
    _stay(directory)
    return True


def _stay(directory: Path) -> None:
    """A new file says so, which knows itself: what has its content later and is another one is a copy."""
    unfinished = directory / (NAME + ".new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(json.dumps({"home": _home(directory, unfinished)}).encode())
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.rename(directory / NAME)
    sync_directory(directory)


def _home(directory: Path, file: Path) -> list[int]:
    return [*native.file_identity(str(directory / LOG)), *native.file_identity(str(file))]


def _read(directory: Path) -> dict[str, object] | None:
    """What the file says; a file that says nothing readable says that the log is not at home."""
    try:
        with (directory / NAME).open("rb") as stream:
            said = json.loads(stream.read(FILE_BYTES_MAX))
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _write(directory: Path, said: dict[str, object]) -> None:
    replace_durably(directory / NAME, json.dumps(said).encode())
