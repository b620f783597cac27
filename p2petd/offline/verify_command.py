"""The command `p2petd verify`: its arguments, and what it says."""

import argparse
import json
import os
import sys
import time
from pathlib import Path

from p2petd.config import load_config
from p2petd.errors import ConfigError, DataDirectoryError, VerifyFailed
from p2petd.offline.verify import verify

TELL_SECONDS = 0.25


def add_verify(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("verify", help="check that a stopped node's data is what its logs and signatures say")
    # What stands before the command counts too.
    parser.add_argument("--config", type=Path, metavar="node.toml", default=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, metavar="DIR", help="replay the logs there, not in the data directory")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run_verify(arguments: argparse.Namespace) -> int:
    """Prints what was found. Raises VerifyFailed for any finding, DataDirectoryError, and as a start does."""
    os.umask(0o077)
    if arguments.config is None:
        raise ConfigError("name the node: --config node.toml")
    scratch: Path | None = arguments.scratch
    if scratch is not None and not scratch.is_dir():
        raise DataDirectoryError(f"{scratch} is no directory; make it, where there is room for the views")
    teller = Teller()
    try:
        verification = verify(load_config(arguments.config), scratch, teller)
    finally:
        teller.clear()
    print(json.dumps(verification.as_json(), indent=1) if arguments.json else "\n".join(verification.lines()))
    if verification.count:
        first = next(part for part in verification.parts if part.count)
        raise VerifyFailed(f"{verification.count} findings; the first: {first.name}: {first.findings[0]}")
    return 0


class Teller:
    """One line of a terminal that says how far it is; nothing where standard error is none."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._next = 0.0
        self._dirty = False

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if not self._shown or now < self._next:
            return
        self._next = now + TELL_SECONDS
        self._dirty = True
        much = f"{100 * done // total} %" if total else f"{done}"
        print(f"\r\x1b[K{what}: {much}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._dirty:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
