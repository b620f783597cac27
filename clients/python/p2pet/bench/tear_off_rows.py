"""Row tear-off: what it costs to show a few components of a transaction of 20 and to check what is shown."""

import time
from statistics import median

from p2petd import native
from p2petd.ledger.groups import Group

ROUNDS = 2000
MAKE_US, CHECK_US, BOTH_US = "tear_off_make_us", "tear_off_check_us", "tear_off_us"

COUNTS = (3, 1, 4, 3, 3, 2, 1, 0, 1, 1, 1, 0)
SIZES = (36, 36, 220, 90, 68, 32, 32, 16, 32, 1, 32, 32)
SHOWN = [(int(Group.OUTPUTS), 3)]
SHOWN_WHOLE = [int(Group.NOTARY), int(Group.PARAMETERS), int(Group.TYPE)]
"""As an input proof shows them."""


def tear_off_cost(rounds: int = ROUNDS) -> dict[str, float]:
    """Median microseconds of making one tear-off, of checking it, and of both."""
    groups = [[bytes([n]) * size for n in range(count)] for count, size in zip(COUNTS, SIZES, strict=True)]
    salt = bytes(range(32))
    transaction, expected = native.encode_transaction(salt, groups), native.transaction_id(salt, groups)
    making, checking = [], []
    for _ in range(rounds):
        began = time.perf_counter_ns()
        shown = native.tear_off(transaction, SHOWN, SHOWN_WHOLE)
        made = time.perf_counter_ns()
        native.verify_tear_off(shown, expected)
        checked = time.perf_counter_ns()
        making.append(made - began)
        checking.append(checked - made)
    both = [one + other for one, other in zip(making, checking, strict=True)]
    return {MAKE_US: median(making) / 1000, CHECK_US: median(checking) / 1000, BOTH_US: median(both) / 1000}
