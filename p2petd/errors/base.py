"""What an error is: a stable code, a category that fixes its gRPC status, a meaning, a fix."""

import enum
from typing import ClassVar


class Category(enum.Enum):
    """What a caller can do about it; the value is the name of the gRPC status."""

    INVALID = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    CONFLICT = "ABORTED"
    PRECONDITION = "FAILED_PRECONDITION"
    DENIED = "PERMISSION_DENIED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    EXHAUSTED = "RESOURCE_EXHAUSTED"
    UNAVAILABLE = "UNAVAILABLE"
    DATA_LOSS = "DATA_LOSS"
    INTERNAL = "INTERNAL"


# A sentence, not a document: gRPC carries it in headers of 8 KiB.
MESSAGE_MAX = 500


def spoken(text: str, limit: int = MESSAGE_MAX) -> str:
    """The text on one line and without control characters, which a peer could forge log lines with; cut at `limit`."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in cut)


class NodeError(Exception):
    """Base of all our errors. Subclasses set code, category, meaning and fix."""

    code: str = "internal"
    category: ClassVar[Category] = Category.INTERNAL
    meaning: ClassVar[str] = "Something failed that should not have."
    fix: ClassVar[str] = "Report it with the error id from the log."

    message_max: ClassVar[int] = MESSAGE_MAX

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = spoken(message, self.message_max)

    def __str__(self) -> str:
        return self.message


class InternalError(NodeError):
    """An unknown failure, told to the outside by an id only."""

    code = "internal"
