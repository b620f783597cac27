"""Every error the node can utter.

An error has a stable code, a category that fixes its gRPC status, a meaning and a fix; its message is one clear
sentence about this occurrence. `docs/errors.md` is generated from this module.
"""

import enum
from collections.abc import Iterator
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


class ConfigError(NodeError):
    code = "config.invalid"
    # It names every key or file that is wrong, and never crosses a wire.
    message_max = 10_000
    category = Category.INVALID
    meaning = "The configuration file has a key or value that the node does not accept."
    fix = "Correct the named key; `p2petd config show --defaults` prints all keys with their meaning."


class KeyFileError(NodeError):
    code = "identity.key_file"
    category = Category.PRECONDITION
    meaning = "A key or token file is missing, unreadable, malformed, or can be read by other users."
    fix = "Restore the file from a backup, or run chmod 600 on it."


class CertificateError(NodeError):
    code = "identity.certificate"
    category = Category.PRECONDITION
    meaning = "A certificate is missing, expired, of the wrong authority, or does not belong to its key."
    fix = "Install the certificate that the network issued for this node."


class NetworkError(NodeError):
    code = "network.invalid"
    category = Category.PRECONDITION
    meaning = "Signed network parameters or node infos are missing, malformed or not signed by the network."
    fix = "Copy the files of the network directory again from the network's operator."


class ListenError(NodeError):
    code = "node.listen"
    category = Category.UNAVAILABLE
    meaning = "A listener's address is in use or not an address of this host."
    fix = "Stop the other process or choose another port in node.toml."


class DataDirectoryError(NodeError):
    code = "store.directory"
    category = Category.DATA_LOSS
    meaning = "The data directory is in use by another process, damaged, or of another node."
    fix = "See the message; never delete a log segment. Restore a backup if the log is damaged."


class RolledBack(NodeError):
    code = "store.rolled_back"
    category = Category.DATA_LOSS
    meaning = "A peer has received messages that this node's data directory does not know: it is an older copy."
    fix = "Restore the newest data directory; do not run this one."


class MalformedTransaction(NodeError):
    code = "transaction.malformed"
    category = Category.INVALID
    meaning = "Bytes that should be a transaction or a component of one do not decode strictly."
    fix = "Build transactions with the library of this protocol version."


class TransactionRefused(NodeError):
    """A platform check, proof or signature check failed; `code` names which one."""

    code = "transaction.refused"
    category = Category.INVALID
    meaning = "A platform check, an input proof or a signature of the transaction failed; the code says which."
    fix = "See docs/protocol.md for the check that the code names."

    def __init__(self, code: str, message: str, missing_keys: tuple[bytes, ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.missing_keys = missing_keys


class ParametersNotInForce(NodeError):
    code = "transaction.parameters_not_in_force"
    category = Category.PRECONDITION
    meaning = "The transaction cites network parameters that are not in force yet, or no longer."
    fix = "Install the current network parameters, restart the node and start the flow again."


class ContractViolation(NodeError):
    """A rule of a contract is broken; `code` is the rule's, such as energy.transfer.quantity_not_conserved."""

    code = "contract.violation"
    category = Category.INVALID
    meaning = "A contract refuses the transaction; the code is the rule that is broken."
    fix = "See docs/contracts.md for the rule."

    def __init__(self, rule_code: str, message: str) -> None:
        super().__init__(message)
        self.code = rule_code


class UnknownContract(NodeError):
    code = "contract.unknown"
    category = Category.INVALID
    meaning = "The transaction names a contract, version or type that this node or the network does not permit."
    fix = "Use a contract version that the network parameters list and that this node has installed."


class QuantityOverflow(NodeError):
    code = "units.overflow"
    category = Category.INVALID
    meaning = "An amount or a sum of amounts is outside 0 to 2^63 - 1."
    fix = "Use smaller amounts."


class QuantityInexact(NodeError):
    code = "units.inexact"
    category = Category.INVALID
    meaning = "A power over a period is no whole number of Wh."
    fix = "State the energy in Wh, or another power; nothing is rounded."


class UnknownFlow(NodeError):
    code = "flow.unknown"
    category = Category.NOT_FOUND
    meaning = "No flow of this name and version is installed on the node that should run it."
    fix = "List the flows with `p2pet-cli flow types`."


class FlowArgumentsInvalid(NodeError):
    code = "flow.arguments"
    category = Category.INVALID
    meaning = "The arguments of a flow are malformed, incomplete or out of range."
    fix = "See `p2pet-cli flow types` for the argument message."


class FlowNotFound(NodeError):
    code = "flow.not_found"
    category = Category.NOT_FOUND
    meaning = "No flow with this id is known."
    fix = "List the flows with `p2pet-cli flow list`."


class FlowError(NodeError):
    """A business refusal that crosses to the waiting peer with its message."""

    code = "flow.refused"
    category = Category.PRECONDITION
    meaning = "A flow of this node or of the counterparty refused."
    fix = "Read the message; nothing was changed on the ledger."


class FlowTimeout(NodeError):
    code = "flow.timeout"
    category = Category.UNAVAILABLE
    meaning = "The other side of a session did not answer before the deadline of the step."
    fix = "Start the flow again when the counterparty is reachable; nothing was changed on the ledger."


class FlowsExhausted(NodeError):
    code = "flow.too_many"
    category = Category.EXHAUSTED
    meaning = "The node already runs as many flows as it permits itself."
    fix = "Wait for flows to end and start again; the client id makes the repeat safe."


class CounterpartyFailed(NodeError):
    code = "flow.counterparty_failed"
    category = Category.UNAVAILABLE
    meaning = "The other side of a session failed or ended early without a business reason."
    fix = "Ask the counterparty's operator; its log holds the cause."


class FlowCodeChanged(NodeError):
    code = "flow.code_changed"
    category = Category.PRECONDITION
    meaning = "The journal of a running flow does not match the code of that flow."
    fix = "Install the version of the flow that wrote the journal and restart the node, which goes on with it."


class InsufficientFunds(NodeError):
    code = "vault.insufficient"
    category = Category.PRECONDITION
    meaning = "The vault holds less unreserved energy or money than the flow needs; the message names the shortfall."
    fix = "Issue, buy or receive more, or wait until other flows release what they reserved."


class RegistrationMissing(NodeError):
    code = "vault.registration_missing"
    category = Category.PRECONDITION
    meaning = "The vault holds no registration of the meter that permits what was asked; the message says why not."
    fix = "Have a registrar register the meter, extend the registration, or ask for less: `p2pet-cli meter list`."


class UnknownParty(NodeError):
    code = "network.unknown_party"
    category = Category.NOT_FOUND
    meaning = "A key or name that no node info of the network map has."
    fix = "Check the key against `p2pet-cli node peers`."


class TransactionNotFound(NodeError):
    code = "vault.transaction_not_found"
    category = Category.NOT_FOUND
    meaning = "The vault holds no transaction with this id."
    fix = "List the transactions with `p2pet-cli tx list`."


class PageTokenInvalid(NodeError):
    code = "request.page"
    category = Category.INVALID
    meaning = "A page token or page size is not one that the node gives or accepts."
    fix = "Start again without a token; page sizes are 1 to 1000."


class AttachmentTooLarge(NodeError):
    code = "attachment.too_large"
    category = Category.INVALID
    meaning = "An attachment is larger than the network permits, or than contracts may read."
    fix = "Split it; the network parameters' attachment_bytes_max is the limit."


class AttachmentNotFound(NodeError):
    code = "attachment.not_found"
    category = Category.NOT_FOUND
    meaning = "The node that was asked holds no attachment with this hash."
    fix = "Upload it, or fetch it from a node that holds it."


class AttachmentHashDiffers(NodeError):
    code = "attachment.hash_differs"
    category = Category.DATA_LOSS
    meaning = "A peer sent other content than the hash names. Nothing of it was kept."
    fix = "Fetch it from another node, and tell the operator of that one."


class AttachmentDamaged(NodeError):
    code = "attachment.damaged"
    category = Category.DATA_LOSS
    meaning = "A file of the attachments' directory does not have the hash that is its name. It is not used."
    fix = "Upload or fetch the attachment again, which replaces the file; check the disk."


class AttachmentDiskFull(NodeError):
    code = "attachment.disk_full"
    category = Category.EXHAUSTED
    meaning = "The disk, the limit of this node for all attachments, or a peer's daily share of it, is exhausted."
    fix = "Make room on the disk or raise [attachments] directory_bytes_max; nothing half is left."


class AttachmentUnavailable(NodeError):
    code = "attachment.unavailable"
    category = Category.UNAVAILABLE
    meaning = "The node that should give an attachment does not answer, answers too slowly, or not as it must."
    fix = "Try again when it is connected, or fetch the attachment from another node."


class AttachmentBusy(NodeError):
    code = "attachment.busy"
    category = Category.EXHAUSTED
    meaning = "The peer asks for more parts of attachments at once than a node serves."
    fix = "The node asks again by itself."


class RequestMalformed(NodeError):
    code = "request.malformed"
    category = Category.INVALID
    meaning = "The bytes of a call are not the message that its method takes."
    fix = "Use a client that was generated from the protos of this version."


class NotPermitted(NodeError):
    code = "client.unauthenticated"
    category = Category.UNAUTHENTICATED
    meaning = "The client presented no token, or a wrong one."
    fix = "Give the token file that node.toml names."


class PermissionMissing(NodeError):
    code = "client.permission"
    category = Category.DENIED
    meaning = "The client's token is of a user who may not call this service."
    fix = "Add the permission to the user's [[client.users]] in node.toml, or use another token."


class NotaryError(NodeError):
    """Base of what a notary answers instead of a proof."""

    code = "notary.refused"
    category = Category.PRECONDITION
    meaning = "The notary did not notarise the transaction."
    fix = "Read the code."


class InvalidTransaction(NotaryError):
    code = "notary.invalid_transaction"
    category = Category.INVALID
    meaning = "The notary found a platform check, proof, signature or contract rule broken; the cause names it."
    fix = "Correct the transaction; nothing was consumed."

    def __init__(self, message: str, cause: str = "", missing_keys: tuple[bytes, ...] = ()) -> None:
        super().__init__(message)
        self.cause = cause
        self.missing_keys = missing_keys


class InvalidRequestSignature(NotaryError):
    code = "notary.invalid_request_signature"
    category = Category.DENIED
    meaning = "The request is not signed by the peer that sent it, over these inputs and this id."
    fix = "Sign the request with the identity key of the node that sends it."


class NotaryConflict(NotaryError):
    code = "notary.conflict"
    category = Category.CONFLICT
    meaning = "An input, reference or claim was consumed by another transaction."
    fix = "Build a new transaction from unconsumed states."


class TimeWindowInvalid(NotaryError):
    code = "notary.time_window_invalid"
    category = Category.PRECONDITION
    meaning = "The notary's clock is outside the transaction's time window."
    fix = "Send it inside its window, or build a new one; check the clocks."


class NotaryTroubled(NotaryError):
    code = "notary.internal"
    category = Category.UNAVAILABLE
    meaning = "The notary cannot decide at present; its own log says why."
    fix = "The node asks again by itself; tell the notary's operator."


class OracleError(NodeError):
    """Base of what an oracle answers instead of taking or vouching for a fact."""

    code = "oracle.refused"
    category = Category.INVALID
    meaning = "The oracle does not sign what it was asked to sign."
    fix = "Show the oracle its own attestation, and nothing else of the transaction."


class UnknownFact(OracleError):
    code = "oracle.unknown_fact"
    category = Category.NOT_FOUND
    meaning = "The oracle has not been told the fact that it is asked for, or not all of it."
    fix = "Wait until the meter's readings, the forecast or the tariff have come in, or ask another oracle."


class FactDiffers(OracleError):
    code = "oracle.fact_differs"
    category = Category.PRECONDITION
    meaning = "An attestation states something else than the oracle knows, such as a value that was corrected since."
    fix = "Ask the oracle for its facts again and build the transaction anew."


class ReadingMeterInvalid(OracleError):
    code = "oracle.meter"
    meaning = "The name of a meter is empty or has more than 255 bytes."
    fix = "Use the name under which the meter is registered."


class ReadingUnaligned(OracleError):
    code = "oracle.unaligned"
    meaning = "A period does not start and end with a market time unit, or it is empty or too long."
    fix = "Give one reading for each market time unit of the network parameters."


class ReadingNegative(OracleError):
    code = "oracle.negative"
    meaning = "A meter cannot have fed in less than nothing."
    fix = "Push what the meter fed in; consumption is not a reading of the ledger."


class ReadingTooEarly(OracleError):
    code = "oracle.too_early"
    category = Category.PRECONDITION
    meaning = "A reading is of a market time unit that has not ended by the oracle's clock."
    fix = "Push it again after the end of its unit; check the clocks."


class ReadingStale(OracleError):
    code = "oracle.stale"
    category = Category.CONFLICT
    meaning = "A reading carries a revision that the oracle knows already with another value."
    fix = "A correction carries the next revision; see `p2pet-cli oracle readings`."


class ReadingRevision(OracleError):
    code = "oracle.revision"
    category = Category.CONFLICT
    meaning = "A reading carries a revision that does not follow the last one, or was corrected too often."
    fix = "Push the revisions that lie between first; see `p2pet-cli oracle readings`."


class OracleOverloaded(OracleError):
    code = "oracle.overloaded"
    category = Category.EXHAUSTED
    meaning = "The oracle is given more than it takes: its queue is full, a push is too large, or tariffs are too many."
    fix = "Nodes ask again by themselves; a feed pushes less at a time, or later."


class UnknownService(NodeError):
    code = "peer.unknown_service"
    category = Category.NOT_FOUND
    meaning = "A peer was asked for a service that it does not offer."
    fix = "Check the roles of that node in the network map."


class NotaryOverloaded(NotaryError):
    code = "notary.overloaded"
    category = Category.EXHAUSTED
    meaning = "The notary's queue is full."
    fix = "The node retries by itself."


class HistoryError(NodeError):
    """Base of why the history of a state under a uniqueness-only notary is not accepted."""

    code = "chain.refused"
    category = Category.INVALID
    meaning = "The history of a state under a uniqueness-only notary does not verify."
    fix = "Accept no states from this party; nothing was changed here."


class HistoryMissing(HistoryError):
    code = "chain.missing"
    category = Category.NOT_FOUND
    meaning = "The party that gives a state does not hand out all transactions behind it."
    fix = "Ask the party to send the transaction again, or refuse its states."


class HistoryForged(HistoryError):
    code = "chain.forged"
    meaning = "A transaction behind a state is no final transaction that its notary and its contracts accept."
    fix = "Read the cause in the message, and refuse the states of this party."


class HistoryForked(HistoryError):
    code = "chain.forked"
    category = Category.CONFLICT
    meaning = "Two verified transactions consume one state: their notary has broken its word."
    fix = "Keep both proofs, which stand in the log of the node, and stop using that notary."


class HistoryCyclic(HistoryError):
    code = "chain.cyclic"
    meaning = "Transactions that a party handed out name each other in a circle, or were not asked for."
    fix = "Refuse the states of this party."


class LockWrong(HistoryError):
    code = "chain.lock_wrong"
    meaning = "An output under a uniqueness-only notary has a lock that its owner could not open."
    fix = "Build transactions with the library of this protocol version; refuse the states of this party."


class HistoryTooLarge(HistoryError):
    code = "chain.too_large"
    category = Category.EXHAUSTED
    meaning = "More transactions stand behind a state than this node fetches at once."
    fix = "Have its issuer take the state back and issue it anew, or use a verifying notary."


class HistoryUnavailable(HistoryError):
    code = "chain.unavailable"
    category = Category.UNAVAILABLE
    meaning = "The party that gives a state does not answer, or too slowly, when it is asked for the history."
    fix = "Try again when it is connected."


class HistoryBusy(NodeError):
    code = "chain.busy"
    category = Category.EXHAUSTED
    meaning = "The peer asks for more histories at once than a node serves."
    fix = "The node asks again by itself."


class InternalError(NodeError):
    """An unknown failure, told to the outside by an id only."""

    code = "internal"


def all_errors() -> Iterator[type[NodeError]]:
    """Every error class, in the order of this module."""
    yield from (c for c in globals().values() if isinstance(c, type) and issubclass(c, NodeError))


def error_from_code(code: str, message: str) -> NodeError:
    """The error that a journal row or a peer names; an unknown code becomes a FlowError that keeps it."""
    for cls in all_errors():
        if cls.code == code and cls not in (NodeError, TransactionRefused, ContractViolation):
            return cls(message)
    error = FlowError(message)
    error.code = code
    return error
