"""Who asks the notary too much: an estimate of the wait, and when to come again."""

from collections.abc import Hashable

from p2petd.units import SECOND_NS

RETRY_MIN_NS = SECOND_NS // 20
RETRY_MAX_NS = 60 * SECOND_NS
# A caller waits so many times as long as its requests have taken in vain.
DEBT_FACTOR = 100
# Of the average rate, this part is the newest batch.
NEWEST = 0.2


class Rate:
    """How many items are decided in a second, on average over the last batches."""

    def __init__(self) -> None:
        self._count = 0.0
        self._seconds = 0.0

    def decided(self, count: int, seconds: float) -> None:
        """A batch of `count` took so long."""
        known = 1.0 - NEWEST if self._seconds else 0.0
        self._count = known * self._count + (1.0 - known) * count
        self._seconds = known * self._seconds + (1.0 - known) * max(seconds, 1e-9)

    def wait_ns(self, count: int) -> int:
        """How long `count` items take; 0 before the first batch."""
        return round(count * self._seconds / self._count * SECOND_NS) if self._count else 0


class Appointments:
    """When who was turned away shall come again: each caller's requests one after the other, as fast as is decided.

    So all that were turned away do not come back at once, to be turned away again; and a caller that never waits puts
    off nobody but itself.
    """

    def __init__(self) -> None:
        # The last appointment of each caller: as many as there are parties in the network, at most.
        self._last_ns: dict[Hashable, int] = {}

    def after_ns(self, caller: Hashable, now_ns: int, wait_ns: int, each_ns: int) -> int:
        """How long to wait: at least `wait_ns`, and `each_ns` more than what the caller was told last, in bounds."""
        next_ns = max(self._last_ns.get(caller, 0), now_ns + wait_ns) + each_ns
        told_ns = retry_after_ns(next_ns - now_ns)
        self._last_ns[caller] = min(next_ns, now_ns + RETRY_MAX_NS)
        return told_ns


class Debts:
    """Until when a caller is turned away whose requests took too long: many times as long as they took.

    So whoever sends requests that exceed a contract's budget takes a small part of the notary's time, however many.
    """

    def __init__(self) -> None:
        self._until_ns: dict[Hashable, int] = {}

    def add(self, caller: Hashable, now_ns: int, took_ns: int) -> None:
        """The caller's request took so long, in vain."""
        self._until_ns[caller] = max(self._until_ns.get(caller, 0), now_ns) + DEBT_FACTOR * took_ns

    def left_ns(self, caller: Hashable, now_ns: int) -> int:
        """How long the caller is still turned away; 0 when it is not."""
        left_ns = self._until_ns.get(caller, 0) - now_ns
        if left_ns <= 0:
            self._until_ns.pop(caller, None)
        return max(left_ns, 0)


def retry_after_ns(wait_ns: int) -> int:
    """The estimate within the bounds of what anybody is told, or keeps to."""
    return min(max(wait_ns, RETRY_MIN_NS), RETRY_MAX_NS)
