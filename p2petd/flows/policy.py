"""An operator's own rules: asked before this node signs what another party proposes, besides all that flows check."""

import importlib
from collections.abc import Callable

from p2petd.errors import ConfigError, FlowError
from p2petd.ledger.resolved import LedgerTransaction

# Of (flow, identity of who proposes, transaction): why this node does not sign, in a sentence that the other party is
# told; nothing when it may.
ResponderPolicy = Callable[[str, bytes, LedgerTransaction], str | None]


def load_policy(name: str) -> ResponderPolicy | None:
    """The function that `module:function` names; none for an empty name. Raises ConfigError."""
    if not name:
        return None
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"[flows] policy: {name!r} cannot be loaded: {error}") from error
    if not callable(found):
        raise ConfigError(f"[flows] policy: {name!r} is not a function")
    policy: ResponderPolicy = found
    return policy


def check_policy(policy: ResponderPolicy | None, flow: str, proposer: bytes, transaction: LedgerTransaction) -> None:
    """Raises FlowError with the operator's words when the policy does not permit the transaction.

    What else the policy raises is a bug in it: the flow is parked then, and has signed nothing.
    """
    refusal = policy(flow, proposer, transaction) if policy is not None else None
    if refusal:
        raise FlowError(refusal)
