"""The time window of a transaction."""

import struct
from dataclasses import dataclass
from typing import Self

from p2petd.errors import MalformedTransaction, TransactionRefused
from p2petd.units import INT64_MAX, INT64_MIN, NO_LOWER_BOUND, NO_UPPER_BOUND, TimeNs

WINDOW_BYTES = 16
_ENCODING = struct.Struct(">qq")


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """Half-open [from_ns, until_ns) in UTC nanoseconds, not empty; the extremes of int64 stand for no bound.

    Raises TransactionRefused with code transaction.window_empty when from ≥ until.
    """

    from_ns: TimeNs = NO_LOWER_BOUND
    until_ns: TimeNs = NO_UPPER_BOUND

    def __post_init__(self) -> None:
        if not INT64_MIN <= self.from_ns <= self.until_ns <= INT64_MAX or self.from_ns == self.until_ns:
            raise TransactionRefused(
                "transaction.window_empty", f"the time window [{self.from_ns}, {self.until_ns}) holds no instant"
            )

    def contains(self, instant_ns: int) -> bool:
        """Without an upper bound, the last nanosecond lies inside too."""
        return self.from_ns <= instant_ns and (instant_ns < self.until_ns or self.until_ns == NO_UPPER_BOUND)

    def encode(self) -> bytes:
        """i64 from ‖ i64 until."""
        return _ENCODING.pack(self.from_ns, self.until_ns)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises MalformedTransaction unless data is 16 bytes, TransactionRefused when the window is empty."""
        if len(data) != WINDOW_BYTES:
            raise MalformedTransaction(f"a time window is {WINDOW_BYTES} bytes, not {len(data)}")
        return cls(*_ENCODING.unpack(data))
