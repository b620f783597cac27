"""Rules: each a member of an enum, with a stable code and a sentence that says what holds."""

import enum
from typing import NoReturn

from p2petd.errors import ContractViolation

# What was seen comes from whoever built the transaction; a sentence stays a sentence.
SEEN_MAX = 300


class Rule(enum.Enum):
    """Base of the enums of rules. A member's value is (code, sentence); the sentence says what holds."""

    @property
    def code(self) -> str:
        """Stable, such as energy.transfer.quantity_not_conserved."""
        return str(self.value[0])

    @property
    def sentence(self) -> str:
        return str(self.value[1])


def violated(rule: Rule, saw: str) -> NoReturn:
    """Refuses the transaction: raises ContractViolation with the rule's code, its sentence and what was seen."""
    raise ContractViolation(rule.code, f"{rule.sentence} Seen: {saw[:SEEN_MAX]}.")


def short(key: bytes) -> str:
    """The first 8 bytes of a key or id in hexadecimal: enough to find it, short enough to read."""
    return key[:8].hex() if key else "nobody"
