"""Errors of histories behind states of a uniqueness-only notary."""

from p2petd.errors.base import Category, NodeError


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
    fix = (
        "Ask the party to hand them out; then `p2pet-cli vault recover --from PARTY` takes what it had sent in vain. "
        "Else refuse its states."
    )


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
