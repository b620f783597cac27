"""`python -m p2petd.offline.compare`: looks at pages that may be damaged, in a process that may be lost.

LMDB has no checksums, so that reading a damaged page can end the process that does.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2petd import native

EXIT_REFUSED = 1


@dataclass(frozen=True)
class Difference:
    """A row that is not what the log says."""

    table: int
    key: bytes
    why: str


@dataclass(frozen=True)
class Compared:
    """How many rows the log says, how many of the view's differ, lack or are too many, and the first of these."""

    rows: int
    differing: int
    first: tuple[Difference, ...]


class PagesDamaged(Exception):
    """The pages cannot be read; the text says how that showed."""


def head_of(pages: Path) -> int:
    """The last record that a view's pages show. Raises PagesDamaged."""
    return int(_ask([str(pages)])["head"])


def compare(expected: Path, found: Path) -> Compared:
    """Raises PagesDamaged."""
    answer = _ask([str(expected), str(found)])
    first = tuple(Difference(table, bytes.fromhex(key), why) for table, key, why in answer["first"])
    return Compared(answer["rows"], answer["differing"], first)


def compared(answer: tuple[int, int, Sequence[tuple[int, bytes, str]]]) -> Compared:
    """What the extension answers."""
    rows, differing, first = answer
    return Compared(rows, differing, tuple(Difference(*row) for row in first))


def _ask(arguments: list[str]) -> dict[str, Any]:
    run = subprocess.run(
        [sys.executable, "-m", "p2petd.offline.compare", *arguments], capture_output=True, text=True, check=False
    )
    if run.returncode < 0:
        raise PagesDamaged(f"reading them ended a process with signal {-run.returncode}")
    if run.returncode != 0:
        raise PagesDamaged(run.stderr.strip()[-300:] or f"reading them ended with status {run.returncode}")
    answer: dict[str, Any] = json.loads(run.stdout)
    return answer


def main(arguments: Sequence[str]) -> int:
    try:
        if len(arguments) == 1:
            answer: dict[str, Any] = {"head": native.head_of_pages(arguments[0])}
        else:
            rows, differing, first = native.compare_pages(arguments[0], arguments[1])
            answer = {"rows": rows, "differing": differing, "first": [(t, key.hex(), why) for t, key, why in first]}
    except native.NativeError as error:
        print(error, file=sys.stderr)
        return EXIT_REFUSED
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
