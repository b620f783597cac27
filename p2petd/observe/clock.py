"""The one place that reads the wall clock."""

import time
from collections.abc import Callable

from p2petd.units import TimeNs

Clock = Callable[[], TimeNs]


def system_clock() -> TimeNs:
    """UTC nanoseconds since 1970."""
    return TimeNs(time.time_ns())
