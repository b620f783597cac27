"""What a notary answers instead of a proof."""

from p2petd.errors.base import Category, NodeError


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


class NotaryOverloaded(NotaryError):
    code = "notary.overloaded"
    category = Category.EXHAUSTED
    meaning = "The notary's queue is full, or a request of this caller has exceeded the budget of a contract."
    fix = "The node retries by itself."
