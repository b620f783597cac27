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


class FlowKilled(FlowError):
    """Crosses to the counterparties like any business refusal."""

    code = "flow.killed"
    meaning = "An operator has ended the flow before it was done."
    fix = "Start it again if it is still wanted; what it had signed is followed on its own: `p2pet-cli tx in-flight`."


class FlowNotParked(NodeError):
    code = "flow.not_parked"
    category = Category.PRECONDITION
    meaning = "Only a parked flow can be retried or dropped, only an ended one removed; this one is in another state."
    fix = "Look at it with `p2pet-cli flow show`; `p2pet-cli flow kill` ends a running one."


class NodeDraining(NodeError):
    code = "node.draining"
    category = Category.UNAVAILABLE
    meaning = "The node accepts no new flows, because its operator lets it finish what is under way and stop."
    fix = "Start the flow again when the node is back, or end the drain with `p2pet-cli node drain --undo`."


class CounterpartyBacklogged(NodeError):
    code = "flow.counterparty_backlogged"
    category = Category.UNAVAILABLE
    meaning = "As many messages wait for the counterparty as this node keeps for one peer, so no flow with it is begun."
    fix = "Start the flow again when the counterparty has been back: `p2pet-cli node peers` shows what waits for it."


class RecoveryIncomplete(NodeError):
    code = "vault.recovery_incomplete"
    category = Category.UNAVAILABLE
    meaning = "Some of the parties or notaries that hold parts of a lost vault did not answer."
    fix = "Run `p2pet-cli vault recover` again when they are reachable; what has come is kept, and nothing comes twice."


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
