"""Errors of flows and of the vault that they work on."""

from p2petd.errors.base import Category, NodeError


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
