"""The meter contract."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TypeAlias

from p2petd.contracts.contract import Contract, Part, own_part
from p2petd.contracts.identifiers import LOT_UNITS_MAX, issue_claims, meter_claim, meter_is_well_formed
from p2petd.contracts.meter.rules import MeterRule
from p2petd.contracts.meter.states import (
    NAME,
    VERSION,
    MeterCommand,
    MeterEnd,
    MeterExtend,
    MeterReassign,
    MeterRegister,
    MeterRegistration,
    decode_command,
    decode_state,
)
from p2petd.contracts.rules import Rule, short, violated
from p2petd.ledger.groups import KEY_BYTES
from p2petd.ledger.parameters import ContractParameters
from p2petd.ledger.resolved import LedgerTransaction, OutputState

MeterPart: TypeAlias = Part[MeterRegistration, MeterCommand]

_COUNTS: Mapping[type[MeterCommand], tuple[int, int, Rule]] = {
    MeterRegister: (0, 1, MeterRule.REGISTER_COUNTS),
    MeterExtend: (1, 1, MeterRule.EXTEND_COUNTS),
    MeterReassign: (1, 2, MeterRule.REASSIGN_COUNTS),
    MeterEnd: (1, 0, MeterRule.END_COUNTS),
}


def _part(transaction: LedgerTransaction) -> MeterPart:
    return own_part(transaction, NAME, decode_state, decode_command)


def _verify(transaction: LedgerTransaction) -> None:
    """1. every state and command is known (C08); 2. one command, with as many states as it takes and makes; 3. the
    validity and the notary of what is created; 4. the registrar; 5. the rules of that command."""
    part = _part(transaction)
    if len(part.commands) != 1:
        violated(MeterRule.COMMAND_COUNT, f"{len(part.commands)} commands")
    command, signers = part.commands[0]
    inputs, outputs, rule = _COUNTS[type(command)]
    if len(part.inputs) != inputs or len(part.outputs) != outputs:
        violated(rule, f"{len(part.inputs)} inputs and {len(part.outputs)} outputs")
    for registration in part.outputs:
        _verify_place(registration, transaction.parameters)
    _verify_registrar(part, signers, transaction.parameters)
    own_rules = _VERIFY.get(type(command))
    if own_rules is not None:
        own_rules(part, signers, transaction)


def _verify_place(registration: MeterRegistration, parameters: ContractParameters) -> None:
    from_ns, until_ns, unit_ns = registration.valid_from_ns, registration.valid_until_ns, parameters.market_time_unit_ns
    if from_ns >= until_ns:
        violated(MeterRule.PERIOD, f"[{from_ns}, {until_ns}) ns")
    if from_ns % unit_ns or until_ns % unit_ns:
        violated(MeterRule.PERIOD_UNALIGNED, f"[{from_ns}, {until_ns}) ns with a unit of {unit_ns} ns")
    if registration.issue_notary not in parameters.notaries:
        violated(MeterRule.NOTARY_UNLISTED, f"the notary {short(registration.issue_notary)}")


def _verify_registrar(part: MeterPart, signers: frozenset[bytes], parameters: ContractParameters) -> None:
    """A registrar that left the network could not sign any more; then one that is listed takes over."""
    listed = parameters.registrars
    for after in part.outputs:
        if after.registrar not in listed:
            violated(MeterRule.REGISTRAR_UNLISTED, short(after.registrar))
        for before in part.inputs:
            if after.registrar != before.registrar and before.registrar in listed:
                violated(MeterRule.REGISTRAR_CHANGED, f"{short(before.registrar)} to {short(after.registrar)}")
    responsible = {state.registrar for state in (*part.inputs, *part.outputs) if state.registrar in listed}
    if not responsible <= signers:
        violated(MeterRule.REGISTRAR_UNSIGNED, f"{short(min(responsible - signers))} is not among the signers")
    if not responsible and listed.isdisjoint(signers):
        violated(MeterRule.REGISTRAR_UNSIGNED, "no listed registrar is among the signers")


def _verify_register(part: MeterPart, signers: frozenset[bytes], transaction: LedgerTransaction) -> None:
    """1. at the first notary; 2. the name; 3. the keys; 4. what the meter can feed in; 5. the producer signs."""
    new, parameters = part.outputs[0], transaction.parameters
    if transaction.notary != parameters.notaries[0]:
        violated(MeterRule.REGISTER_NOTARY, f"the notary {short(transaction.notary)}")
    if not meter_is_well_formed(new.meter):
        violated(MeterRule.NAME_INVALID, f"{len(new.meter.encode())} bytes")
    if len(new.producer) != KEY_BYTES or len(new.registrar) != KEY_BYTES:
        violated(MeterRule.KEYS_INVALID, f"keys of {len(new.producer)} and {len(new.registrar)} bytes")
    if new.capacity_w <= 0:
        violated(MeterRule.CAPACITY, f"{new.capacity_w} W")
    ascending = tuple(sorted(set(new.energy_types)))
    if not ascending or new.energy_types != ascending or not parameters.energy_types.issuperset(ascending):
        violated(MeterRule.TYPES, ", ".join(new.energy_types[:8]) or "none")
    if new.followed:
        violated(MeterRule.REGISTER_FOLLOWED, "followed")
    if new.producer not in signers:
        violated(MeterRule.REGISTER_UNSIGNED, f"{short(new.producer)} is not among the signers")


def _verify_extend(part: MeterPart, signers: frozenset[bytes], transaction: LedgerTransaction) -> None:
    before, after = part.inputs[0], part.outputs[0]
    if before.followed:
        violated(MeterRule.EXTEND_FOLLOWED, f"meter {before.meter!r} at {before.valid_until_ns} ns")
    if after != replace(before, valid_until_ns=after.valid_until_ns, registrar=after.registrar):
        violated(MeterRule.EXTEND_CHANGED, f"a registration of meter {after.meter!r} from one of {before.meter!r}")
    if after.valid_until_ns <= before.valid_until_ns:
        violated(MeterRule.EXTEND_EARLIER, f"from {before.valid_until_ns} to {after.valid_until_ns} ns")


def _verify_reassign(part: MeterPart, signers: frozenset[bytes], transaction: LedgerTransaction) -> None:
    """1. at the notary that takes the issues; 2. only validity and notary differ; 3. the two meet and do not reach
    behind what may follow; 4. not more units than fit; 5. the producer signs.

    Of the registrations of a meter exactly one is not followed, and only that one grows: so they never overlap.
    """
    before, (earlier, later) = part.inputs[0], part.outputs
    cut_ns, end_ns = later.valid_from_ns, before.valid_until_ns
    if transaction.notary != before.issue_notary:
        violated(MeterRule.REASSIGN_NOTARY, f"{short(transaction.notary)}, not {short(before.issue_notary)}")
    kept = replace(
        before, valid_until_ns=earlier.valid_until_ns, registrar=earlier.registrar, followed=earlier.followed
    )
    moved = replace(
        before,
        valid_from_ns=cut_ns,
        valid_until_ns=later.valid_until_ns,
        registrar=later.registrar,
        issue_notary=later.issue_notary,
        followed=later.followed,
    )
    if earlier != kept or later != moved:
        violated(MeterRule.REASSIGN_CHANGED, f"registrations of {earlier.meter!r} and {later.meter!r}")
    if earlier.valid_until_ns != cut_ns or cut_ns > end_ns or later.valid_until_ns < end_ns:
        violated(MeterRule.REASSIGN_PERIOD, f"{_period(before)} into {_period(earlier)} and {_period(later)}")
    overlaps = before.followed and later.valid_until_ns != end_ns
    if not earlier.followed or later.followed != before.followed or overlaps:
        violated(MeterRule.REASSIGN_FOLLOWED, f"{_period(before)} into {_period(earlier)} and {_period(later)}")
    units = (end_ns - cut_ns) // transaction.parameters.market_time_unit_ns
    if units > LOT_UNITS_MAX:
        violated(MeterRule.REASSIGN_TOO_LONG, f"{units} units")
    if before.producer not in signers:
        violated(MeterRule.REASSIGN_UNSIGNED, f"{short(before.producer)} is not among the signers")


def _period(registration: MeterRegistration) -> str:
    followed = ", followed" if registration.followed else ""
    return f"[{registration.valid_from_ns}, {registration.valid_until_ns}{followed})"


_VERIFY: Mapping[type[MeterCommand], Callable[[MeterPart, frozenset[bytes], LedgerTransaction], None]] = {
    MeterRegister: _verify_register,
    MeterExtend: _verify_extend,
    MeterReassign: _verify_reassign,
}
"""For End, its registrar's signature is all."""


def _claims(transaction: LedgerTransaction) -> Iterator[bytes]:
    """What makes a registration the only one (C02): the name, or the units that leave the notary."""
    part = _part(transaction)
    command = part.commands[0][0]
    if isinstance(command, MeterRegister):
        yield meter_claim(part.outputs[0].meter)
    elif isinstance(command, MeterReassign):
        before, cut_ns = part.inputs[0], part.outputs[1].valid_from_ns
        unit_ns = transaction.parameters.market_time_unit_ns
        yield from issue_claims(before.meter, cut_ns, before.valid_until_ns, unit_ns)


def _owner(output: OutputState) -> bytes:
    return decode_state(output).producer


def _participants(output: OutputState) -> frozenset[bytes]:
    registration = decode_state(output)
    return frozenset({registration.producer, registration.registrar})


def _may_move(output: OutputState, new_notary: bytes) -> None:
    issue_notary = decode_state(output).issue_notary
    if new_notary != issue_notary:
        violated(MeterRule.MOVE, f"to {short(new_notary)}, not {short(issue_notary)}")


METER = Contract(
    name=NAME,
    version=VERSION,
    verify=_verify,
    claims=_claims,
    owner=_owner,
    participants=_participants,
    may_move=_may_move,
    modules=(
        "p2petd.contracts.meter",
        "p2petd.contracts.meter.contract",
        "p2petd.contracts.meter.rules",
        "p2petd.contracts.meter.states",
        "p2petd.contracts.identifiers",
        "p2petd.contracts.contract",
        "p2petd.contracts.rules",
    ),
    rules=(MeterRule,),
)
