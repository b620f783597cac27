"""How many signatures one caller gets: each is kept for ever, so that one caller must not fill the oracle's disk."""

from collections import Counter

from p2petd.units import HOUR_NS

SIGNATURES_PER_HOUR_MAX = 10_000
CALLERS_MAX = 100_000


class Allowance:
    """So many for each caller in each hour of the clock; a restart begins a new one."""

    def __init__(self, per_hour_max: int = SIGNATURES_PER_HOUR_MAX) -> None:
        self._per_hour_max = per_hour_max
        self._hour = 0
        self._taken = Counter[bytes]()

    def take(self, caller: bytes, now_ns: int) -> int:
        """0 when the caller may have one more, which is counted; else nanoseconds until it may."""
        hour = now_ns // HOUR_NS
        if hour != self._hour or len(self._taken) > CALLERS_MAX:
            self._hour, self._taken = hour, Counter()
        if self._taken[caller] >= self._per_hour_max:
            return (hour + 1) * HOUR_NS - now_ns
        self._taken[caller] += 1
        return 0
