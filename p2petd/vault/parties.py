"""Whom a state and a transaction concern, as the contracts say."""

from collections.abc import Sequence

from p2pet.ledger.v1 import energy_pb2
from p2pet.store.v1.store_pb2 import StateRow

from p2petd.contracts import energy
from p2petd.contracts.energy import EnergyTrade
from p2petd.contracts.registry import installed
from p2petd.errors import NodeError
from p2petd.ledger.codec import decode_signer_keys, parse_strict
from p2petd.ledger.groups import Group
from p2petd.ledger.resolved import Command, OutputState
from p2petd.ledger.transaction import leaves_of
from p2petd.store.changes import Reader
from p2petd.store.tables import Table
from p2petd.vault.known import ALLOCATION


def owner_of(state: OutputState) -> bytes:
    """The key id of who holds a state; empty for nobody, and where its contract is not installed or cannot say."""
    return _parties(state)[0]


def concerns(state: OutputState, me: bytes, held: Reader) -> bool:
    """Whether the vault of `me` keeps a state: it is the owner or a participant, or the state allots a reading to one
    of those that it holds. `held` shows the vault as the running batch leaves it."""
    return concerns_party(state, me) or _allots_ours(state, held)


def concerns_party(state: OutputState, me: bytes) -> bool:
    """Whether `me` is the owner or a participant of a state."""
    owner, participants = _parties(state)
    return me == owner or me in participants


def takes_part(groups: Sequence[Sequence[bytes]], me: bytes, held: Reader) -> bool:
    """Whether a transaction is for the vault of `me`: it creates a state that the vault keeps, consumes one that the
    vault holds, or names `me` as an observer of a trade. Raises MalformedTransaction."""
    return (
        any(held.get(Table.STATE, ref) is not None for ref in groups[Group.INPUTS])
        or any(concerns(OutputState.decode(component), me, held) for component in groups[Group.OUTPUTS])
        or any(_observes(Command.decode(component), me) for component in groups[Group.COMMANDS])
    )


def names(groups: Sequence[Sequence[bytes]], party: bytes, held: Reader) -> bool:
    """Whether a final transaction names a party, so that whoever has it may show it to that party: as owner or
    participant of what it creates, as owner of what it consumes, as far as `held` has that, as one who has to sign it,
    or as an observer. Raises MalformedTransaction."""
    return (
        any(party in _concerned(OutputState.decode(component)) for component in groups[Group.OUTPUTS])
        or any(_signs(component, party) for component in groups[Group.SIGNERS])
        or any(_observes(Command.decode(component), party) for component in groups[Group.COMMANDS])
        or any(_owned(ref, party, held) for ref in groups[Group.INPUTS])
    )


def _concerned(state: OutputState) -> frozenset[bytes]:
    owner, participants = _parties(state)
    return participants | {owner}


def _signs(component: bytes, party: bytes) -> bool:
    return any(party == key or party in leaves_of(encoding) for key, encoding in decode_signer_keys(component))


def _owned(ref: bytes, party: bytes, held: Reader) -> bool:
    row = held.get(Table.STATE, ref)
    return row is not None and owner_of(OutputState.decode(StateRow.FromString(row).output)) == party


def _parties(state: OutputState) -> tuple[bytes, frozenset[bytes]]:
    try:
        return installed().parties(state)
    except NodeError:
        # What a contract cannot read concerns nobody here; its transaction is final all the same.
        return b"", frozenset()


def _allots_ours(state: OutputState, held: Reader) -> bool:
    if (state.contract, state.type_name) != ALLOCATION:
        return False
    shares = parse_strict(energy_pb2.EnergyAllocation, state.payload).shares
    return any(held.get(Table.STATE, share.state) is not None for share in shares)


def _observes(command: Command, me: bytes) -> bool:
    if (command.contract, command.type_name) != (energy.NAME, EnergyTrade.type_name):
        return False
    return me in parse_strict(energy_pb2.EnergyTrade, command.payload).observers
