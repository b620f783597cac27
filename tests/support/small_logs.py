"""Nodes with small logs, so that a test sees snapshots and trimmed logs; and what happens to their files."""

import re
from pathlib import Path

SEGMENT_BYTES = 65_536
SNAPSHOT_LOG_BYTES = 60_000


def make_small(node: Path, snapshot_log_bytes: int = SNAPSHOT_LOG_BYTES) -> None:
    """Small segments, and a snapshot for about each of them."""
    config = node / "node.toml"
    section = f"segment_bytes = {SEGMENT_BYTES}\nsnapshot_log_bytes = {snapshot_log_bytes}"
    text, count = re.subn(r"^segment_bytes = \d+$", section, config.read_text(), flags=re.MULTILINE)
    assert count == 1
    config.write_text(text)


def lose_machine(store: Path) -> None:
    """The view's mark says that another run of the machine has written it, and did not end it."""
    mark = store / "view" / "mark"
    lines = mark.read_text().splitlines()
    lines[1], lines[2] = "open", "another boot"
    mark.write_text("\n".join(lines) + "\n")


def flip(path: Path, offset: int, bit: int = 2) -> None:
    """One bit of a file, in place; once more and it is as before."""
    with path.open("r+b") as stream:
        stream.seek(offset)
        (byte,) = stream.read(1)
        stream.seek(offset)
        stream.write(bytes([byte ^ 1 << bit]))


def snapshots(store: Path) -> list[int]:
    """The records that the snapshots of a store show, newest first."""
    return sorted((int(file.stem) for file in store.glob("snapshots/*.snapshot")), reverse=True)


def segments(store: Path) -> list[int]:
    """First records of the segments of a log, ascending."""
    return sorted(int(file.stem) for file in store.glob("log/*.log"))
