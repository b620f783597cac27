"""What a contract sees: one transaction with the states that it consumes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from p2petd import native
from p2petd.errors import MalformedTransaction
from p2petd.ledger.codec import CACHED_BYTES_MAX, CACHED_ENTRIES_MAX, decode_signers
from p2petd.ledger.groups import Group
from p2petd.ledger.parameters import ContractParameters
from p2petd.ledger.refs import StateRef
from p2petd.ledger.transaction import Draft
from p2petd.ledger.window import TimeWindow


@dataclass(frozen=True, slots=True)
class OutputState:
    """A decoded component of group 2. `raw` are the bytes that were hashed; `payload` is the contract's to decode."""

    contract: str
    contract_version: int
    notary: bytes
    type_name: str
    schema_version: int
    payload: bytes
    raw: bytes

    @classmethod
    def decode(cls, component: bytes) -> "OutputState":
        """Raises MalformedTransaction unless the component is canonical."""
        return _small_output(component) if len(component) <= CACHED_BYTES_MAX else _output(component)


@dataclass(frozen=True, slots=True)
class Command:
    """A decoded component of group 3. `raw` are the bytes that were hashed."""

    contract: str
    type_name: str
    schema_version: int
    payload: bytes
    raw: bytes

    @classmethod
    def decode(cls, component: bytes) -> Self:
        """Raises MalformedTransaction unless the component is canonical."""
        try:
            return cls(*native.decode_command(component), component)
        except native.MalformedError as error:
            raise MalformedTransaction(str(error)) from error


def _output(component: bytes) -> OutputState:
    try:
        return OutputState(*native.decode_output(component), component)
    except native.MalformedError as error:
        raise MalformedTransaction(str(error)) from error


# A state is decoded as an output and soon again as an input.
@lru_cache(maxsize=CACHED_ENTRIES_MAX)
def _small_output(component: bytes) -> OutputState:
    return _output(component)


@dataclass(frozen=True)
class LedgerTransaction:
    """One resolved transaction. Payloads of states and commands are not decoded yet: each contract decodes its own.

    Each command comes with the keys that must sign for it. That they did is the platform's to check, not a contract's.
    """

    id: bytes
    inputs: tuple[tuple[StateRef, OutputState], ...]
    references: tuple[tuple[StateRef, OutputState], ...]
    outputs: tuple[OutputState, ...]
    commands: tuple[tuple[Command, frozenset[bytes]], ...]
    claims: tuple[bytes, ...]
    window: TimeWindow | None
    notary: bytes
    parameters: ContractParameters

    @classmethod
    def from_checked(cls, checked: native.Checked, parameters: ContractParameters) -> Self:
        """The transaction of a proposal that passed the platform checks; `parameters` are those that it cites.

        Raises MalformedTransaction.
        """
        return cls._resolve(checked.id, checked.groups, checked.input_outputs, checked.reference_outputs, parameters)

    @classmethod
    def from_draft(cls, draft: Draft, parameters: ContractParameters) -> Self:
        """The same for a transaction that this node builds, before anybody signs it. Raises MalformedTransaction."""
        return cls._resolve(draft.id, draft.groups, draft.input_outputs, draft.reference_outputs, parameters)

    @classmethod
    def _resolve(
        cls,
        transaction_id: bytes,
        groups: Sequence[Sequence[bytes]],
        input_outputs: Sequence[bytes],
        reference_outputs: Sequence[bytes],
        parameters: ContractParameters,
    ) -> Self:
        commands, signers = groups[Group.COMMANDS], groups[Group.SIGNERS]
        window = groups[Group.TIME_WINDOW]
        if len(commands) != len(signers):
            raise MalformedTransaction(f"{len(commands)} commands, but {len(signers)} lists of signers")
        return cls(
            id=transaction_id,
            inputs=_states(groups[Group.INPUTS], input_outputs),
            references=_states(groups[Group.REFERENCES], reference_outputs),
            outputs=tuple([OutputState.decode(component) for component in groups[Group.OUTPUTS]]),
            commands=tuple([(Command.decode(c), decode_signers(s)) for c, s in zip(commands, signers, strict=True)]),
            claims=tuple(groups[Group.CLAIMS]),
            window=TimeWindow.decode(window[0]) if window else None,
            notary=groups[Group.NOTARY][0],
            parameters=parameters,
        )


def _states(refs: Sequence[bytes], components: Sequence[bytes]) -> tuple[tuple[StateRef, OutputState], ...]:
    if len(refs) != len(components):
        raise MalformedTransaction(f"{len(refs)} states are referred to, but {len(components)} are known")
    return tuple(
        [(StateRef.decode(ref), OutputState.decode(state)) for ref, state in zip(refs, components, strict=True)]
    )
