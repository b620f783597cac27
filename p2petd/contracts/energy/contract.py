"""The energy contract."""

from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn, cast

from p2petd.contracts.contract import Contract, own_part, single_command
from p2petd.contracts.energy.commands import (
    EnergyAllocate,
    EnergyDeliver,
    EnergyIssue,
    EnergyMerge,
    EnergyRetire,
    EnergySplit,
    EnergyTrade,
    EnergyTransfer,
    decode_command,
)
from p2petd.contracts.energy.deliver import (
    AllocateRule,
    DeliverRule,
    allocates_claims,
    delivers_claims,
    verify_allocate,
    verify_deliver,
)
from p2petd.contracts.energy.issue import IssueRule, issues_claims, verify_issues
from p2petd.contracts.energy.moves import AnyPart, EnergyPart, verify_merge, verify_split, verify_transfer
from p2petd.contracts.energy.retire import ExpireRule, RetireRule, verify_expire, verify_retire
from p2petd.contracts.energy.rules import EnergyRule
from p2petd.contracts.energy.states import (
    NAME,
    VERSION,
    EnergyAllocation,
    EnergyDelivery,
    EnergyObject,
    EnergyState,
    decode_object,
)
from p2petd.contracts.energy.trade import TradeRule, verify_trade
from p2petd.contracts.rules import violated
from p2petd.ledger.groups import KEY_BYTES
from p2petd.ledger.resolved import LedgerTransaction, OutputState

_DEMANDS: Mapping[str, Callable[[LedgerTransaction], Iterable[bytes]]] = {
    EnergyIssue.type_name: issues_claims,
    EnergyDeliver.type_name: delivers_claims,
    EnergyAllocate.type_name: allocates_claims,
}


def _part(transaction: LedgerTransaction) -> AnyPart:
    return own_part(transaction, NAME, decode_object, decode_command)


def _verify(transaction: LedgerTransaction) -> None:
    """1. every state and command is known (C08) and positive (C07); 2. one command; 3. the rules of that command."""
    part = _part(transaction)
    command = single_command(part, EnergyIssue, EnergyRule.COMMAND_MISSING, EnergyRule.COMMAND_CONFLICTING)
    signers = part.commands[0][1]
    if isinstance(command, EnergyDeliver):
        verify_deliver(command, part, signers, transaction)
    elif isinstance(command, EnergyAllocate):
        verify_allocate(part, signers, transaction)
    elif isinstance(command, EnergyRetire):
        verify_retire(part, signers)
    else:
        energy = _only_energy(part)
        if isinstance(command, EnergyTrade):
            verify_trade(command, energy, signers, transaction)
        elif isinstance(command, EnergyTransfer):
            verify_transfer(command, energy, signers)
        elif isinstance(command, EnergyIssue):
            verify_issues(energy, transaction)
        elif isinstance(command, EnergySplit):
            verify_split(energy, signers)
        elif isinstance(command, EnergyMerge):
            verify_merge(energy, signers)
        else:
            verify_expire(energy, signers, transaction)


def _only_energy(part: AnyPart) -> EnergyPart:
    """The part, in which nothing is closed."""
    for state in part.inputs:
        if not isinstance(state, EnergyState):
            _refuse_closed(state, part)
    for state in part.outputs:
        if not isinstance(state, EnergyState):
            _refuse_closed(state, part)
        if len(state.owner) != KEY_BYTES:
            violated(EnergyRule.KEY_INVALID, f"an owner of {len(state.owner)} bytes")
    return cast(EnergyPart, part)


def _refuse_closed(state: EnergyObject, part: AnyPart) -> NoReturn:
    violated(EnergyRule.STATE_CLOSED, f"{type(state).__name__} under {type(part.commands[0][0]).__name__}")


def _claims(transaction: LedgerTransaction) -> Iterable[bytes]:
    """What makes an issue (C02) and the use of a reading (C12) unique. Every contract has accepted the transaction."""
    for command, _ in transaction.commands:
        if command.contract == NAME:
            demand = _DEMANDS.get(command.type_name)
            return () if demand is None else demand(transaction)
    return ()


def _owner(output: OutputState) -> bytes:
    """Nobody holds an allocation: it stays where its claims are."""
    state = decode_object(output)
    return b"" if isinstance(state, EnergyAllocation) else state.owner


def _participants(output: OutputState) -> frozenset[bytes]:
    """The issuer of energy does not see later trades of it (C17), but what it owes or gets when it was delivered."""
    state = decode_object(output)
    if isinstance(state, EnergyDelivery):
        return frozenset({state.owner, state.issuer})
    return frozenset({state.market if isinstance(state, EnergyAllocation) else state.owner})


ENERGY = Contract(
    name=NAME,
    version=VERSION,
    verify=_verify,
    claims=_claims,
    owner=_owner,
    participants=_participants,
    # Other contracts are part of this one where it reads what is theirs: the payment of a trade, the registration of a
    # meter, what an oracle attests, a tariff.
    modules=(
        "p2petd.contracts.energy",
        "p2petd.contracts.energy.commands",
        "p2petd.contracts.energy.contract",
        "p2petd.contracts.energy.deliver",
        "p2petd.contracts.energy.issue",
        "p2petd.contracts.energy.moves",
        "p2petd.contracts.energy.retire",
        "p2petd.contracts.energy.rules",
        "p2petd.contracts.energy.states",
        "p2petd.contracts.energy.trade",
        "p2petd.contracts.identifiers",
        "p2petd.contracts.legs",
        "p2petd.contracts.meter",
        "p2petd.contracts.meter.contract",
        "p2petd.contracts.meter.rules",
        "p2petd.contracts.meter.states",
        "p2petd.contracts.oracle",
        "p2petd.contracts.payment",
        "p2petd.contracts.tariff",
        "p2petd.contracts.contract",
        "p2petd.contracts.rules",
    ),
    rules=(EnergyRule, IssueRule, TradeRule, DeliverRule, AllocateRule, RetireRule, ExpireRule),
)
