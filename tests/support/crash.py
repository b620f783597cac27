"""Where a crash test kills: at every failpoint, or at the two between which all others lie."""

import os

from p2petd import native

# What a restart finds differs before the write and after the sync of a commit; tests/crash/test_kill_in_trade.py shows
# the stages between them, which are the same code for every flow.
ESSENTIAL = frozenset({"log.before_write", "log.after_sync", "notary.after_commit"})


def stages(*prefixes: str) -> list[str]:
    """The failpoints of these prefixes at which a node dies; with P2PET_CRASH=all every one of them."""
    found = [name for name in native.failpoints() if name.startswith(prefixes)]
    return found if os.environ.get("P2PET_CRASH") == "all" else [name for name in found if name in ESSENTIAL]
