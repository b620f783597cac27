"""Every error the node can utter.

An error has a stable code, a category that fixes its gRPC status, a meaning and a fix; its message is one clear
sentence about this occurrence. `docs/errors.md` is generated from this package.
"""

from collections.abc import Iterator

from p2petd.errors.attachments import (
    AttachmentBusy,
    AttachmentDamaged,
    AttachmentDiskFull,
    AttachmentHashDiffers,
    AttachmentNotFound,
    AttachmentTooLarge,
    AttachmentUnavailable,
)
from p2petd.errors.base import (
    MESSAGE_MAX,
    Category,
    InternalError,
    NodeError,
    spoken,
)
from p2petd.errors.flows import (
    CounterpartyBacklogged,
    CounterpartyFailed,
    FlowArgumentsInvalid,
    FlowCodeChanged,
    FlowError,
    FlowKilled,
    FlowNotFound,
    FlowNotParked,
    FlowsExhausted,
    FlowTimeout,
    InsufficientFunds,
    NodeDraining,
    RecoveryIncomplete,
    RegistrationMissing,
    UnknownFlow,
)
from p2petd.errors.histories import (
    HistoryBusy,
    HistoryCyclic,
    HistoryError,
    HistoryForged,
    HistoryForked,
    HistoryMissing,
    HistoryTooLarge,
    HistoryUnavailable,
    LockWrong,
)
from p2petd.errors.ledger import (
    ContractViolation,
    MalformedTransaction,
    ParametersNotInForce,
    QuantityInexact,
    QuantityOverflow,
    TransactionRefused,
    UnknownContract,
)
from p2petd.errors.node import (
    BackupRefused,
    CertificateError,
    ConfigError,
    CopyUnconfirmed,
    DataDirectoryError,
    DiskFull,
    KeyFileError,
    ListenError,
    NetworkError,
    NotPermitted,
    PageTokenInvalid,
    PermissionMissing,
    RequestMalformed,
    RolledBack,
    TransactionNotFound,
    UnknownParty,
    UnknownService,
    VerifyFailed,
)
from p2petd.errors.notary import (
    InvalidRequestSignature,
    InvalidTransaction,
    NotaryConflict,
    NotaryError,
    NotaryOverloaded,
    NotaryTroubled,
    TimeWindowInvalid,
)
from p2petd.errors.oracle import (
    FactDiffers,
    OracleError,
    OracleOverloaded,
    ReadingMeterInvalid,
    ReadingNegative,
    ReadingRevision,
    ReadingStale,
    ReadingTooEarly,
    ReadingUnaligned,
    UnknownFact,
)

__all__ = [
    "MESSAGE_MAX",
    "AttachmentBusy",
    "AttachmentDamaged",
    "AttachmentDiskFull",
    "AttachmentHashDiffers",
    "AttachmentNotFound",
    "AttachmentTooLarge",
    "AttachmentUnavailable",
    "BackupRefused",
    "Category",
    "CertificateError",
    "ConfigError",
    "ContractViolation",
    "CopyUnconfirmed",
    "CounterpartyBacklogged",
    "CounterpartyFailed",
    "DataDirectoryError",
    "DiskFull",
    "FactDiffers",
    "FlowArgumentsInvalid",
    "FlowCodeChanged",
    "FlowError",
    "FlowKilled",
    "FlowNotFound",
    "FlowNotParked",
    "FlowTimeout",
    "FlowsExhausted",
    "HistoryBusy",
    "HistoryCyclic",
    "HistoryError",
    "HistoryForged",
    "HistoryForked",
    "HistoryMissing",
    "HistoryTooLarge",
    "HistoryUnavailable",
    "InsufficientFunds",
    "InternalError",
    "InvalidRequestSignature",
    "InvalidTransaction",
    "KeyFileError",
    "ListenError",
    "LockWrong",
    "MalformedTransaction",
    "NetworkError",
    "NodeDraining",
    "NodeError",
    "NotPermitted",
    "NotaryConflict",
    "NotaryError",
    "NotaryOverloaded",
    "NotaryTroubled",
    "OracleError",
    "OracleOverloaded",
    "PageTokenInvalid",
    "ParametersNotInForce",
    "PermissionMissing",
    "QuantityInexact",
    "QuantityOverflow",
    "ReadingMeterInvalid",
    "ReadingNegative",
    "ReadingRevision",
    "ReadingStale",
    "ReadingTooEarly",
    "ReadingUnaligned",
    "RecoveryIncomplete",
    "RegistrationMissing",
    "RequestMalformed",
    "RolledBack",
    "TimeWindowInvalid",
    "TransactionNotFound",
    "TransactionRefused",
    "UnknownContract",
    "UnknownFact",
    "UnknownFlow",
    "UnknownParty",
    "UnknownService",
    "VerifyFailed",
    "all_errors",
    "error_from_code",
    "spoken",
]


def all_errors() -> Iterator[type[NodeError]]:
    """Every error class, by the modules of this package."""
    yield from (c for c in globals().values() if isinstance(c, type) and issubclass(c, NodeError))


def error_from_code(code: str, message: str) -> NodeError:
    """The error that a journal row or a peer names; an unknown code becomes a FlowError that keeps it."""
    for cls in all_errors():
        if cls.code == code and cls not in (NodeError, TransactionRefused, ContractViolation):
            return cls(message)
    error = FlowError(message)
    error.code = code
    return error
