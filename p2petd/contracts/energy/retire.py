"""Retire and Expire: energy ends, by its owner alone (C11, C13)."""

from p2petd.contracts.energy.deliver import verify_begins
from p2petd.contracts.energy.moves import AnyPart, EnergyPart, must_sign, sums_by_lot
from p2petd.contracts.energy.states import EnergyDelivery, EnergyState
from p2petd.contracts.rules import Rule, short, violated
from p2petd.ledger.resolved import LedgerTransaction


class RetireRule(Rule):
    COUNTS = ("energy.retire.counts", "Retire consumes one or more energy states or deliveries.")
    OWNERS = ("energy.retire.several_owners", "All that is retired has one owner, who gets the change.")
    CHANGED = ("energy.retire.fields_changed", "The change of a retirement is of the lots that are retired.")
    NOTHING = ("energy.retire.nothing_retired", "Of each lot strictly less comes back than goes in.")
    UNSIGNED = ("energy.retire.owner_must_sign", "The owner signs a retirement.")


class ExpireRule(Rule):
    COUNTS = ("energy.expire.counts", "Expire consumes one or more energy states and creates none.")
    WINDOW = (
        "energy.expire.before_deadline",
        "An expiry has a time window that begins at the reading deadline or later, which is the end of the delivery "
        "period and what the network adds.",
    )
    UNSIGNED = ("energy.expire.owner_must_sign", "The owner of every state that expires signs.")


def verify_retire(part: AnyPart, signers: frozenset[bytes]) -> None:
    """1. something goes in, of one owner, who signs; 2. less of each lot comes back, to that owner.

    Raises QuantityOverflow.
    """
    taken = [state for state in part.inputs if isinstance(state, EnergyState | EnergyDelivery)]
    change = [state for state in part.outputs if isinstance(state, EnergyState)]
    if not taken or len(taken) != len(part.inputs) or len(change) != len(part.outputs):
        violated(RetireRule.COUNTS, f"{len(part.inputs)} inputs and {len(part.outputs)} outputs")
    owner = taken[0].owner
    for state in (*taken, *change):
        if state.owner != owner:
            violated(RetireRule.OWNERS, f"{short(owner)} and {short(state.owner)}")
    must_sign(owner, signers, RetireRule.UNSIGNED)
    available = sums_by_lot([state for state in taken if isinstance(state, EnergyState)])
    for lot, left_wh in sums_by_lot(change).items():
        if lot not in available:
            violated(RetireRule.CHANGED, f"a change of {left_wh} Wh of a lot of which there is no input")
        if left_wh >= available[lot]:
            violated(RetireRule.NOTHING, f"{available[lot]} Wh of a lot in, {left_wh} Wh out")


def verify_expire(part: EnergyPart, signers: frozenset[bytes], transaction: LedgerTransaction) -> None:
    """1. something goes in, nothing out; 2. after the reading deadline; 3. every owner signs."""
    if not part.inputs or part.outputs:
        violated(ExpireRule.COUNTS, f"{len(part.inputs)} inputs and {len(part.outputs)} outputs")
    deadline_ns = transaction.parameters.reading_deadline_ns
    for state in part.inputs:
        verify_begins(transaction, state.delivery_end_ns + deadline_ns, ExpireRule.WINDOW)
        must_sign(state.owner, signers, ExpireRule.UNSIGNED)
