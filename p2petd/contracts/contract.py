"""What a contract is, and how it takes its own part of a transaction."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from p2petd.contracts.rules import Rule, violated
from p2petd.ledger.resolved import Command, LedgerTransaction, OutputState

S = TypeVar("S")
C = TypeVar("C")


def _no_claims(transaction: LedgerTransaction) -> Iterable[bytes]:
    return ()


def _nobody(state: OutputState) -> bytes:
    return b""


def _no_others(state: OutputState) -> frozenset[bytes]:
    return frozenset()


def _moves_freely(state: OutputState, new_notary: bytes) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Contract:
    """One version of a contract. Register your own as an entry point of the group p2petd.contracts.

    `verify` returns when every rule holds and raises ContractViolation (see `violated`) otherwise; it is a pure
    function of the transaction: no clock, no I/O, no randomness. `claims` yields the use-once keys that the transaction
    must claim, after `verify` has returned. `owner` is the 32-byte key of who holds a state: it signs when the state
    moves to another notary, and the vaults of the owner and of the other `participants` keep the state; empty for
    nobody. `may_move` raises ContractViolation for a state that must not move to that notary. `modules` are the dotted
    names of the modules that hold the code, helpers included; the network parameters pin the hash of their sources.
    `rules` are the enums of its rules.
    """

    name: str
    version: int
    verify: Callable[[LedgerTransaction], None]
    modules: tuple[str, ...]
    rules: tuple[type[Rule], ...] = ()
    claims: Callable[[LedgerTransaction], Iterable[bytes]] = _no_claims
    owner: Callable[[OutputState], bytes] = _nobody
    participants: Callable[[OutputState], frozenset[bytes]] = _no_others
    may_move: Callable[[OutputState, bytes], None] = _moves_freely


class PlainCommand:
    """Base of commands that say everything by their name; they have no payload."""

    type_name: ClassVar[str]
    schema_version: ClassVar[int] = 1
    contract: ClassVar[str]

    def to_payload(self) -> bytes:
        """No bytes."""
        return b""


@dataclass(frozen=True, slots=True)
class Part(Generic[S, C]):
    """A contract's own states and commands in one transaction, decoded; those of other contracts are left out."""

    inputs: list[S]
    outputs: list[S]
    commands: list[tuple[C, frozenset[bytes]]]


def own_part(
    transaction: LedgerTransaction,
    contract: str,
    decode_state: Callable[[OutputState], S],
    decode_command: Callable[[Command], C],
) -> Part[S, C]:
    """The states and commands of one contract, in the transaction's order. Raises what the decoders raise."""
    return Part(
        [decode_state(state) for _, state in transaction.inputs if state.contract == contract],
        [decode_state(state) for state in transaction.outputs if state.contract == contract],
        [
            (decode_command(command), signers)
            for command, signers in transaction.commands
            if command.contract == contract
        ],
    )


def single_command(part: Part[S, C], repeatable: type[C], missing: Rule, conflicting: Rule) -> C:
    """The one command of a part, or the first of several of the type that may be repeated (C08)."""
    if not part.commands:
        violated(missing, f"{len(part.inputs)} inputs and {len(part.outputs)} outputs without a command")
    first = part.commands[0][0]
    if len(part.commands) > 1 and not all(isinstance(command, repeatable) for command, _ in part.commands):
        violated(conflicting, " and ".join(type(command).__name__ for command, _ in part.commands[:8]))
    return first
