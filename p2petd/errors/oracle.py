"""Errors of an oracle and of those who feed it."""

from p2petd.errors.base import Category, NodeError


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
