"""The twelve component groups of a transaction (docs/protocol.md, section 2) and their limits."""

import enum

FORMAT = 1
COMPONENTS_MAX = 4096
SIGNATURES_MAX = 1024
DIGEST_BYTES = 32
KEY_BYTES = 32


class Group(enum.IntEnum):
    """A group's number is its position in the transaction."""

    INPUTS = 0
    REFERENCES = 1
    OUTPUTS = 2
    COMMANDS = 3
    SIGNERS = 4
    ATTACHMENTS = 5
    NOTARY = 6
    TIME_WINDOW = 7
    PARAMETERS = 8
    TYPE = 9
    CLAIMS = 10
    OUTPUT_LOCKS = 11


class TransactionType(enum.IntEnum):
    """The one byte of group 9."""

    GENERAL = 1
    NOTARY_CHANGE = 2
