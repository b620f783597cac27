"""References to states."""

import struct
from dataclasses import dataclass
from typing import Self

from p2petd.errors import MalformedTransaction
from p2petd.ledger.groups import DIGEST_BYTES

STATE_REF_BYTES = 36
INDEX_MAX = 2**32 - 1
_ENCODING = struct.Struct(">32sI")


@dataclass(frozen=True, slots=True, order=True)
class StateRef:
    """Output `index` of the transaction `transaction_id`; sorts as its 36 bytes do.

    Raises MalformedTransaction unless the id is 32 bytes and the index fits into 32 bits.
    """

    transaction_id: bytes
    index: int

    def __post_init__(self) -> None:
        if len(self.transaction_id) != DIGEST_BYTES or not 0 <= self.index <= INDEX_MAX:
            raise MalformedTransaction("a state reference is a 32-byte transaction id and an index below 2^32")

    def encode(self) -> bytes:
        """32-byte id ‖ u32 index."""
        return _ENCODING.pack(self.transaction_id, self.index)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises MalformedTransaction unless data is 36 bytes."""
        if len(data) != STATE_REF_BYTES:
            raise MalformedTransaction(f"a state reference is {STATE_REF_BYTES} bytes, not {len(data)}")
        return cls(*_ENCODING.unpack(data))

    def __str__(self) -> str:
        return f"{self.transaction_id.hex()}:{self.index}"
