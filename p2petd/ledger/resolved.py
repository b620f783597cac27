"""What a contract sees: one transaction with the states that it consumes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self, TypeAlias

from p2petd import native
from p2petd.errors import MalformedTransaction, TransactionRefused
from p2petd.ledger.codec import CACHED_BYTES_MAX, CACHED_ENTRIES_MAX, decode_signers
from p2petd.ledger.groups import Group, TransactionType
from p2petd.ledger.parameters import ContractParameters
from p2petd.ledger.refs import StateRef
from p2petd.ledger.transaction import Draft
from p2petd.ledger.window import TimeWindow

AttachmentReader: TypeAlias = Callable[[bytes], bytes]
"""The content of an attachment by its SHA-256. Raises TransactionRefused transaction.attachment_missing for one that is
not here, transaction.attachment_too_large for one that is larger than contracts may read."""


def no_attachments(attachment: bytes) -> bytes:
    """A reader where nothing is kept."""
    raise TransactionRefused("transaction.attachment_missing", f"the attachment {attachment.hex()} is not here")


@dataclass(frozen=True, slots=True)
class OutputState:
    """A decoded component of group 2. `raw` are the bytes that were hashed; `payload` is the contract's to decode.

    `encumbered_by` is 1 + the index of the output of the same transaction that must be consumed with this one, or 0.
    """

    contract: str
    contract_version: int
    notary: bytes
    type_name: str
    schema_version: int
    payload: bytes
    encumbered_by: int
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

    Each command comes with who must sign for it: Ed25519 keys and the ids of composite keys, 32 bytes each. That they
    did is the platform's to check, not a contract's. A notary change has no commands; who must sign it stands in
    `moved_by`. `attachments` are the SHA-256 of what the transaction cites, and `attachment` reads one of them.
    """

    id: bytes
    kind: TransactionType
    inputs: tuple[tuple[StateRef, OutputState], ...]
    references: tuple[tuple[StateRef, OutputState], ...]
    outputs: tuple[OutputState, ...]
    commands: tuple[tuple[Command, frozenset[bytes]], ...]
    claims: tuple[bytes, ...]
    window: TimeWindow | None
    notary: bytes
    parameters: ContractParameters
    attachments: tuple[bytes, ...] = ()
    moved_by: frozenset[bytes] = frozenset()
    reader: AttachmentReader = no_attachments
    groups: Sequence[Sequence[bytes]] = ()

    def attachment(self, attachment: bytes) -> bytes:
        """The content of an attachment that this transaction cites. Raises TransactionRefused as its reader does."""
        if attachment not in self.attachments:
            raise TransactionRefused(
                "transaction.attachment_missing", f"the transaction does not cite the attachment {attachment.hex()}"
            )
        return self.reader(attachment)

    @classmethod
    def from_checked(
        cls, checked: native.Checked, parameters: ContractParameters, reader: AttachmentReader = no_attachments
    ) -> Self:
        """The transaction of a proposal that passed the platform checks; `parameters` are those that it cites.

        Raises MalformedTransaction.
        """
        states = checked.input_outputs, checked.reference_outputs
        return cls.from_parts(checked.id, checked.groups, *states, parameters, reader)

    @classmethod
    def from_draft(
        cls, draft: Draft, parameters: ContractParameters, reader: AttachmentReader = no_attachments
    ) -> Self:
        """The same for a transaction that this node builds, before anybody signs it. Raises MalformedTransaction."""
        return cls.from_parts(draft.id, draft.groups, draft.input_outputs, draft.reference_outputs, parameters, reader)

    @classmethod
    def from_parts(
        cls,
        transaction_id: bytes,
        groups: Sequence[Sequence[bytes]],
        input_outputs: Sequence[bytes],
        reference_outputs: Sequence[bytes],
        parameters: ContractParameters,
        reader: AttachmentReader = no_attachments,
    ) -> Self:
        """The same from the twelve groups and the `OutputState` components that inputs and references name, in order.

        Raises MalformedTransaction.
        """
        commands, signers = groups[Group.COMMANDS], groups[Group.SIGNERS]
        window = groups[Group.TIME_WINDOW]
        kind = transaction_type(groups)
        moves = kind is TransactionType.NOTARY_CHANGE
        if len(signers) != (1 if moves else len(commands)):
            raise MalformedTransaction(f"{len(commands)} commands, but {len(signers)} lists of signers")
        named = [] if moves else zip(commands, signers, strict=True)
        return cls(
            id=transaction_id,
            kind=kind,
            inputs=_states(groups[Group.INPUTS], input_outputs),
            references=_states(groups[Group.REFERENCES], reference_outputs),
            outputs=tuple([OutputState.decode(component) for component in groups[Group.OUTPUTS]]),
            commands=tuple([(Command.decode(c), decode_signers(s)) for c, s in named]),
            claims=tuple(groups[Group.CLAIMS]),
            window=TimeWindow.decode(window[0]) if window else None,
            notary=groups[Group.NOTARY][0],
            parameters=parameters,
            attachments=tuple(groups[Group.ATTACHMENTS]),
            moved_by=decode_signers(signers[0]) if moves else frozenset(),
            reader=reader,
            groups=groups,
        )


def transaction_type(groups: Sequence[Sequence[bytes]]) -> TransactionType:
    """What group 9 says; raises MalformedTransaction for anything but one known type."""
    try:
        (one,) = groups[Group.TYPE]
        return TransactionType(int.from_bytes(one) if len(one) == 1 else 0)
    except ValueError:
        raise MalformedTransaction("a transaction has one type of one byte, 1 or 2") from None


def _states(refs: Sequence[bytes], components: Sequence[bytes]) -> tuple[tuple[StateRef, OutputState], ...]:
    if len(refs) != len(components):
        raise MalformedTransaction(f"{len(refs)} states are referred to, but {len(components)} are known")
    return tuple(
        [(StateRef.decode(ref), OutputState.decode(state)) for ref, state in zip(refs, components, strict=True)]
    )
