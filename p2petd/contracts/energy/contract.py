"""The energy contract."""

from collections.abc import Iterator

from p2petd.contracts.contract import Contract, own_part, single_command
from p2petd.contracts.energy.moves import EnergyPart, must_sign, verify_merge, verify_split, verify_transfer
from p2petd.contracts.energy.rules import EnergyRule
from p2petd.contracts.energy.states import (
    NAME,
    VERSION,
    EnergyIssue,
    EnergySplit,
    EnergyState,
    EnergyTrade,
    EnergyTransfer,
    decode_command,
    decode_state,
    issue_claims,
    lot_id,
)
from p2petd.contracts.energy.trade import verify_trade
from p2petd.contracts.rules import short, violated
from p2petd.ledger.groups import COMPONENTS_MAX, KEY_BYTES
from p2petd.ledger.parameters import ContractParameters
from p2petd.ledger.resolved import LedgerTransaction

METER_BYTES_MAX = 255
LOT_UNITS_MAX = COMPONENTS_MAX
"""Each market time unit of a lot is a claim, and a group holds no more components."""


def _part(transaction: LedgerTransaction) -> EnergyPart:
    return own_part(transaction, NAME, decode_state, decode_command)


def _verify(transaction: LedgerTransaction) -> None:
    """1. every state and command is known (C08) and positive (C07); 2. one command; 3. the rules of that command."""
    part = _part(transaction)
    for state in part.outputs:
        if len(state.owner) != KEY_BYTES:
            violated(EnergyRule.KEY_INVALID, f"an owner of {len(state.owner)} bytes")
    command = single_command(part, EnergyIssue, EnergyRule.COMMAND_MISSING, EnergyRule.COMMAND_CONFLICTING)
    signers = part.commands[0][1]
    if isinstance(command, EnergyTrade):
        verify_trade(command, part, signers, transaction)
    elif isinstance(command, EnergyTransfer):
        verify_transfer(command, part, signers)
    elif isinstance(command, EnergyIssue):
        if transaction.notary != transaction.parameters.notaries[0]:
            violated(EnergyRule.ISSUE_NOTARY, f"the notary {short(transaction.notary)}")
        _verify_issues(part, transaction.parameters)
    elif isinstance(command, EnergySplit):
        verify_split(part, signers)
    else:
        verify_merge(part, signers)


def _verify_issues(part: EnergyPart, parameters: ContractParameters) -> None:
    """The n-th Issue creates the n-th energy output."""
    if part.inputs:
        violated(EnergyRule.ISSUE_HAS_INPUTS, f"{len(part.inputs)} inputs")
    if len(part.outputs) != len(part.commands):
        violated(EnergyRule.ISSUE_OUTPUTS, f"{len(part.commands)} commands and {len(part.outputs)} outputs")
    for state, (_, signers) in zip(part.outputs, part.commands, strict=True):
        _verify_lot(state, parameters)
        must_sign(state.issuer, signers, EnergyRule.ISSUE_UNSIGNED)
        must_sign(state.owner, signers, EnergyRule.ISSUE_OWNER_UNSIGNED)


def _verify_lot(state: EnergyState, parameters: ContractParameters) -> None:
    start_ns, end_ns, unit_ns = state.delivery_start_ns, state.delivery_end_ns, parameters.market_time_unit_ns
    if state.energy_type not in parameters.energy_types:
        violated(EnergyRule.ISSUE_TYPE, f"{state.energy_type!r}")
    if len(state.issuer) != KEY_BYTES:
        violated(EnergyRule.ISSUE_ISSUER, f"an issuer of {len(state.issuer)} bytes")
    if not 1 <= len(state.meter.encode()) <= METER_BYTES_MAX:
        violated(EnergyRule.ISSUE_METER, f"{len(state.meter.encode())} bytes")
    if start_ns >= end_ns:
        violated(EnergyRule.ISSUE_PERIOD_EMPTY, f"[{start_ns}, {end_ns}) ns")
    if start_ns % unit_ns or end_ns % unit_ns:
        violated(EnergyRule.ISSUE_PERIOD_UNALIGNED, f"[{start_ns}, {end_ns}) ns with a unit of {unit_ns} ns")
    if end_ns - start_ns > LOT_UNITS_MAX * unit_ns:
        violated(EnergyRule.ISSUE_PERIOD_TOO_LONG, f"{(end_ns - start_ns) // unit_ns} units")
    if state.asked_price_micro_per_kwh < 0 and not parameters.negative_prices:
        violated(EnergyRule.ISSUE_PRICE, f"{state.asked_price_micro_per_kwh}")
    if state.lot_id != lot_id(state.issuer, state.meter, start_ns, end_ns):
        violated(EnergyRule.ISSUE_LOT_ID, f"{state.lot_id[:32].hex()}")


def _claims(transaction: LedgerTransaction) -> Iterator[bytes]:
    """What every issued lot demands (C02): one claim for each market time unit that it covers."""
    own_commands = [command.type_name for command, _ in transaction.commands if command.contract == NAME]
    if own_commands[0] != EnergyIssue.type_name:
        return
    unit_ns = transaction.parameters.market_time_unit_ns
    for state in _part(transaction).outputs:
        yield from issue_claims(state.meter, state.delivery_start_ns, state.delivery_end_ns, unit_ns)


ENERGY = Contract(
    name=NAME,
    version=VERSION,
    verify=_verify,
    claims=_claims,
    # The payment contract is part of this one, because a trade reads its states.
    modules=(
        "p2petd.contracts.energy",
        "p2petd.contracts.energy.contract",
        "p2petd.contracts.energy.moves",
        "p2petd.contracts.energy.rules",
        "p2petd.contracts.energy.states",
        "p2petd.contracts.energy.trade",
        "p2petd.contracts.payment",
        "p2petd.contracts.contract",
        "p2petd.contracts.rules",
    ),
    rules=(EnergyRule,),
)
