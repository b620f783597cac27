"""Errors of transactions, contracts and units."""

from p2petd.errors.base import Category, NodeError


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
