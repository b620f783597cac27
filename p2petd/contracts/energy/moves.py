"""Transfer, split and merge: energy changes hands or shape, and nothing else about it changes (C04 to C06, C15)."""

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from p2petd.contracts.contract import Part
from p2petd.contracts.energy.commands import EnergyCommand, EnergyTransfer
from p2petd.contracts.energy.rules import EnergyRule
from p2petd.contracts.energy.states import EnergyObject, EnergyState, Lot
from p2petd.contracts.rules import Rule, short, violated
from p2petd.units import checked_sum

EnergyPart: TypeAlias = Part[EnergyState, EnergyCommand]
AnyPart: TypeAlias = Part[EnergyObject, EnergyCommand]


def verify_transfer(transfer: EnergyTransfer, part: EnergyPart, signers: frozenset[bytes]) -> None:
    """1. the command; 2. the owners; 3. no field changes and each lot is conserved; 4. the quantity; 5. both sign."""
    old, new = transfer.old_owner, transfer.new_owner
    if transfer.quantity_wh <= 0:
        violated(EnergyRule.TRANSFER_QUANTITY, f"{transfer.quantity_wh} Wh")
    if old == new:
        violated(EnergyRule.TRANSFER_SAME_OWNER, short(old))
    refuse_other_owners(part, old, new, EnergyRule.TRANSFER_INPUT, EnergyRule.TRANSFER_OUTPUT)
    conserve(part, EnergyRule.TRANSFER_CHANGED, EnergyRule.TRANSFER_NOT_CONSERVED)
    moved = received(part, new)
    if moved != transfer.quantity_wh:
        violated(EnergyRule.TRANSFER_NOT_AS_STATED, f"{transfer.quantity_wh} Wh stated, {moved} Wh moved")
    must_sign(old, signers, EnergyRule.TRANSFER_OLD_UNSIGNED)
    must_sign(new, signers, EnergyRule.TRANSFER_NEW_UNSIGNED)


def verify_split(part: EnergyPart, signers: frozenset[bytes]) -> None:
    """1. one into several; 2. of the same owner; 3. and the same lot, conserved; 4. the owner signs."""
    if len(part.inputs) != 1 or len(part.outputs) < 2:
        violated(EnergyRule.SPLIT_COUNT, f"{len(part.inputs)} inputs and {len(part.outputs)} outputs")
    owner = part.inputs[0].owner
    refuse_other_owners(part, owner, owner, EnergyRule.SPLIT_OWNER, EnergyRule.SPLIT_OWNER)
    conserve(part, EnergyRule.SPLIT_CHANGED, EnergyRule.SPLIT_NOT_CONSERVED)
    must_sign(owner, signers, EnergyRule.SPLIT_UNSIGNED)


def verify_merge(part: EnergyPart, signers: frozenset[bytes]) -> None:
    """1. several into one; 2. of the same owner; 3. and the same lot; 4. conserved; 5. the owner signs."""
    if len(part.inputs) < 2 or len(part.outputs) != 1:
        violated(EnergyRule.MERGE_COUNT, f"{len(part.inputs)} inputs and {len(part.outputs)} outputs")
    merged = part.outputs[0]
    refuse_other_owners(part, merged.owner, merged.owner, EnergyRule.MERGE_OWNER, EnergyRule.MERGE_OWNER)
    for state in part.inputs:
        if state.lot != merged.lot:
            violated(EnergyRule.MERGE_LOTS, f"{_named(state.lot)} into {_named(merged.lot)}")
    conserve(part, EnergyRule.MERGE_LOTS, EnergyRule.MERGE_NOT_CONSERVED)
    must_sign(merged.owner, signers, EnergyRule.MERGE_UNSIGNED)


def refuse_other_owners(part: EnergyPart, old: bytes, new: bytes, input_rule: Rule, output_rule: Rule) -> None:
    """Every input is of `old`, every output of `old` or `new`."""
    for state in part.inputs:
        if state.owner != old:
            violated(input_rule, f"an input of {short(state.owner)}")
    for state in part.outputs:
        if state.owner != new and state.owner != old:
            violated(output_rule, f"an output of {short(state.owner)}")


def conserve(part: EnergyPart, changed: Rule, not_conserved: Rule) -> None:
    """Outputs are of the lots of the inputs, and of each lot as much goes out as goes in. Raises QuantityOverflow."""
    taken, given = sums_by_lot(part.inputs), sums_by_lot(part.outputs)
    if taken == given:
        return
    for lot in given:
        if lot not in taken:
            violated(changed, f"an output of {_named(lot)}, of which there is no input")
    _name_difference(taken, given, not_conserved)


def received(part: EnergyPart, owner: bytes) -> int:
    """Σ Wh of the outputs of an owner; raises QuantityOverflow."""
    return checked_sum([state.quantity_wh for state in part.outputs if state.owner == owner], "the outputs")


def must_sign(key: bytes, signers: frozenset[bytes], rule: Rule) -> None:
    if key not in signers:
        violated(rule, f"{short(key)} is not among the signers")


def sums_by_lot(states: Iterable[EnergyState]) -> dict[Lot, int]:
    """Σ Wh of each lot; raises QuantityOverflow."""
    sums: dict[Lot, int] = {}
    for state in states:
        lot = state.lot
        sums[lot] = sums.get(lot, 0) + state.quantity_wh
    for total in sums.values():
        checked_sum((total,), "quantities of a lot")
    return sums


def _name_difference(taken: Mapping[Lot, int], given: Mapping[Lot, int], rule: Rule) -> None:
    for lot, quantity_wh in taken.items():
        if given.get(lot, 0) != quantity_wh:
            violated(rule, f"{quantity_wh} Wh of {_named(lot)} in, {given.get(lot, 0)} Wh out")


def _named(lot: Lot) -> str:
    energy_type, start_ns, end_ns, price, issuer, meter, zone, identity = lot
    return (
        f"{energy_type} of lot {short(identity)} (issuer {short(issuer)}, meter {meter!r}, zone {zone!r}, "
        f"[{start_ns}, {end_ns}) ns, asked {price})"
    )
