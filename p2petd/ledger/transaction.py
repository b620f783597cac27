"""Building a transaction and finishing it: the type says what is proven.

`Draft` (an id) → `SignedTransaction` (a signature for each key that must sign) → `FinalTransaction` (a notary's proof).
"""

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

from p2pet.ledger.v1 import transaction_pb2

from p2petd import native
from p2petd.errors import MalformedTransaction, TransactionRefused
from p2petd.ledger.codec import decode_signer_keys, encode_canonical, encode_signers
from p2petd.ledger.groups import DIGEST_BYTES, KEY_BYTES, Group, TransactionType
from p2petd.ledger.proposal import Proposal, Signature
from p2petd.ledger.refs import StateRef
from p2petd.ledger.window import TimeWindow
from p2petd.units import TimeNs

_GENERAL = bytes([TransactionType.GENERAL])


class LedgerObject(Protocol):
    """A state or a command: what it is called and its canonical bytes."""

    type_name: ClassVar[str]
    schema_version: ClassVar[int]

    def to_payload(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Draft:
    """A complete transaction with its id; nothing says yet that anybody agrees.

    `transaction` is the encoded `ledger.v1.Transaction`, `groups` the twelve groups of component bytes.
    `input_outputs` and `reference_outputs` are the `OutputState` components that `inputs` and `references` name, in
    order; both are empty when the transaction came from elsewhere and they are not known.
    `required_signers` are the ids of the distinct keys of group 4, ascending: Ed25519 keys, ids of composite keys.
    """

    id: bytes
    transaction: bytes
    groups: tuple[tuple[bytes, ...], ...]
    inputs: tuple[StateRef, ...]
    references: tuple[StateRef, ...]
    input_outputs: tuple[bytes, ...]
    reference_outputs: tuple[bytes, ...]
    required_signers: tuple[bytes, ...]

    @classmethod
    def decode(
        cls, transaction: bytes, input_outputs: Iterable[bytes] = (), reference_outputs: Iterable[bytes] = ()
    ) -> Self:
        """The draft that these bytes hold, its id computed anew; raises MalformedTransaction."""
        try:
            decoded = native.Transaction.decode(transaction)
        except native.MalformedError as error:
            raise MalformedTransaction(str(error)) from error
        groups = tuple(tuple(group) for group in decoded.groups)
        return cls(
            id=decoded.id,
            transaction=transaction,
            groups=groups,
            inputs=tuple(StateRef.decode(ref) for ref in groups[Group.INPUTS]),
            references=tuple(StateRef.decode(ref) for ref in groups[Group.REFERENCES]),
            input_outputs=tuple(input_outputs),
            reference_outputs=tuple(reference_outputs),
            required_signers=tuple(_signer_keys(groups[Group.SIGNERS])),
        )

    @property
    def outputs(self) -> tuple[bytes, ...]:
        """The `OutputState` components that this transaction creates."""
        return self.groups[Group.OUTPUTS]

    @property
    def signer_keys(self) -> dict[bytes, bytes]:
        """The keys that must sign: id to encoding, ascending by id."""
        return _signer_keys(self.groups[Group.SIGNERS])

    @property
    def may_sign(self) -> frozenset[bytes]:
        """The Ed25519 keys whose signatures count: those that must sign, and the leaves of composite ones."""
        return frozenset().union(*map(leaves_of, self.signer_keys.values()))

    def output_ref(self, index: int) -> StateRef:
        return StateRef(self.id, index)

    def proposal(self, signatures: Iterable[Signature] = (), input_proofs: Iterable[bytes] = ()) -> Proposal:
        return Proposal(self.transaction, tuple(signatures), tuple(input_proofs))

    def signed(self, signatures: Iterable[Signature]) -> "SignedTransaction":
        """Raises TransactionRefused as `SignedTransaction` does."""
        return SignedTransaction(self, tuple(signatures))


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """A draft that every key which must sign it has signed, composite ones by enough of their leaves.

    1. no key signed that nobody asked, and none signed twice: else TransactionRefused signature.unexpected;
    2. no key lacks: else signature.missing, and `missing_keys` holds the ids of exactly those that do.
    That the signatures verify, `check_signatures` or the check of the whole proposal shows.
    """

    draft: Draft
    signatures: tuple[Signature, ...]

    def __post_init__(self) -> None:
        signed = [signature.key for signature in self.signatures]
        permitted = self.draft.may_sign
        unexpected = sorted(key for key, times in Counter(signed).items() if times > 1 or key not in permitted)
        if unexpected:
            raise TransactionRefused(
                "signature.unexpected", f"nobody asked for a (second) signature by {_hex_list(unexpected)}"
            )
        required = self.draft.signer_keys.items()
        missing = tuple(signer for signer, key in required if not native.key_is_satisfied(key, signed))
        if missing:
            raise TransactionRefused(
                "signature.missing", f"the transaction lacks the signatures of {_hex_list(missing)}", missing
            )

    @property
    def id(self) -> bytes:
        return self.draft.id

    def proposal(self, input_proofs: Iterable[bytes] = ()) -> Proposal:
        return self.draft.proposal(self.signatures, input_proofs)

    def final(self, proof: bytes) -> "FinalTransaction":
        """Raises as `FinalTransaction` does."""
        return FinalTransaction(self, proof)


@dataclass(frozen=True, slots=True)
class FinalTransaction:
    """A signed transaction with the `ledger.v1.FinalityProof` of its own id.

    Raises TransactionRefused with code finality.id when the proof is of another id, MalformedTransaction
    when it does not decode. That the proof holds, `native.verify_finality` or `Rules.check_finals` shows.
    """

    signed: SignedTransaction
    proof: bytes

    def __post_init__(self) -> None:
        try:
            proven_id = native.finality_summary(self.proof)[0]
        except native.NativeError as error:
            raise MalformedTransaction(str(error)) from error
        if proven_id != self.signed.id:
            raise TransactionRefused("finality.id", f"the proof is of {proven_id.hex()}, not of {self.signed.id.hex()}")

    @classmethod
    def decode(cls, proposal: bytes, proof: bytes) -> Self:
        """What another node sent; its resolved inputs are unknown. Raises as the three steps that it takes."""
        received = Proposal.decode(proposal)
        return cls(Draft.decode(received.transaction).signed(received.signatures), proof)

    @property
    def draft(self) -> Draft:
        return self.signed.draft

    @property
    def id(self) -> bytes:
        return self.signed.id


class TransactionBuilder:
    """Collects the components of one general transaction for one notary, and refuses early what would be refused.

    The order of calls is the order of components. Methods return the builder.
    """

    def __init__(self, notary: bytes, parameters_hash: bytes) -> None:
        """Raises MalformedTransaction unless both are 32 bytes."""
        if len(notary) != KEY_BYTES or len(parameters_hash) != DIGEST_BYTES:
            raise MalformedTransaction("a notary's key and the hash of network parameters are 32 bytes each")
        self._notary = notary
        self._parameters_hash = parameters_hash
        self._inputs: dict[StateRef, bytes] = {}
        self._references: dict[StateRef, bytes] = {}
        self._outputs: list[bytes] = []
        self._commands: list[bytes] = []
        self._signers: list[bytes] = []
        self._claims: dict[bytes, None] = {}
        self._attachments: dict[bytes, None] = {}
        self._window: TimeWindow | None = None

    @property
    def notary(self) -> bytes:
        """The notary that decides it and guards its outputs."""
        return self._notary

    @property
    def outputs(self) -> tuple[bytes, ...]:
        """The `OutputState` components so far."""
        return tuple(self._outputs)

    def add_input(self, ref: StateRef, output_component: bytes) -> Self:
        """Consume a state. Raises TransactionRefused for one that this transaction already names (L20)."""
        _refuse_twice("transaction.duplicate_input", ref, self._inputs)
        _refuse_twice("transaction.input_is_reference", ref, self._references)
        self._inputs[ref] = output_component
        return self

    def add_reference(self, ref: StateRef, output_component: bytes) -> Self:
        """Read a state without consuming it. Raises TransactionRefused for one that is already named (L20)."""
        _refuse_twice("transaction.duplicate_input", ref, self._references)
        _refuse_twice("transaction.input_is_reference", ref, self._inputs)
        self._references[ref] = output_component
        return self

    def add_output(self, contract: str, version: int, state: LedgerObject, encumbered_by: int = 0) -> Self:
        """Create a state under a contract, guarded by the transaction's notary.

        `encumbered_by` is 1 + the index of the output that must be consumed together with this one.
        """
        component = encode_canonical(
            transaction_pb2.OutputState,
            contract=contract,
            contract_version=version,
            notary=self._notary,
            type_name=state.type_name,
            schema_version=state.schema_version,
            payload=state.to_payload(),
            encumbered_by=encumbered_by,
        )
        return self.add_output_component(component)

    def add_output_component(self, component: bytes) -> Self:
        """Create a state from bytes that stay as they are."""
        self._outputs.append(component)
        return self

    def add_command(self, contract: str, command: LedgerObject, signers: Iterable[bytes]) -> Self:
        """Say what is intended and whose keys must sign. Raises MalformedTransaction for a key of another length."""
        component = encode_canonical(
            transaction_pb2.Command,
            contract=contract,
            type_name=command.type_name,
            schema_version=command.schema_version,
            payload=command.to_payload(),
        )
        return self.add_command_component(component, signers)

    def add_command_component(self, component: bytes, signers: Iterable[bytes]) -> Self:
        """The same from bytes that stay as they are."""
        encoded = encode_signers(signers)
        self._commands.append(component)
        self._signers.append(encoded)
        return self

    def add_claim(self, claim: bytes) -> Self:
        """Use up a 32-byte key at the notary.

        Raises MalformedTransaction for another length, TransactionRefused for a claim that is already made.
        """
        if len(claim) != DIGEST_BYTES:
            raise MalformedTransaction(f"a claim is {DIGEST_BYTES} bytes, not {len(claim)}")
        if claim in self._claims:
            raise TransactionRefused(
                "transaction.duplicate_claim", f"the transaction makes the claim {claim.hex()} twice"
            )
        self._claims[claim] = None
        return self

    def add_attachment(self, attachment: bytes) -> Self:
        """Cite an attachment by its SHA-256, once. Raises MalformedTransaction unless 32 bytes."""
        if len(attachment) != DIGEST_BYTES:
            raise MalformedTransaction(f"an attachment is cited by {DIGEST_BYTES} bytes, not {len(attachment)}")
        self._attachments[attachment] = None
        return self

    def window(self, from_ns: TimeNs, until_ns: TimeNs) -> Self:
        """Bound when the notary may decide. Raises TransactionRefused when the window is empty."""
        self._window = TimeWindow(from_ns, until_ns)
        return self

    def build(self, salt: bytes, lock_owners: Sequence[bytes] = ()) -> Draft:
        """The draft under 32 bytes of the caller's randomness.

        `lock_owners` are the owners of all outputs, in order, when a uniqueness-only notary guards these; each output
        gets its owner's lock. Raises TransactionRefused when there are neither inputs nor outputs, MalformedTransaction
        for another length of salt, too many components in a group, or an owner whose key has no lock.
        """
        groups = self._groups(locks_of(lock_owners, len(self._outputs), salt))
        return build_draft(salt, groups, self._inputs, self._references)

    def _groups(self, locks: tuple[bytes, ...]) -> tuple[tuple[bytes, ...], ...]:
        window = () if self._window is None else (self._window.encode(),)
        return (
            tuple(ref.encode() for ref in self._inputs),
            tuple(ref.encode() for ref in self._references),
            tuple(self._outputs),
            tuple(self._commands),
            tuple(self._signers),
            tuple(self._attachments),
            (self._notary,),
            window,
            (self._parameters_hash,),
            (_GENERAL,),
            tuple(self._claims),
            locks,
        )


def build_draft(
    salt: bytes,
    groups: tuple[tuple[bytes, ...], ...],
    inputs: Mapping[StateRef, bytes],
    references: Mapping[StateRef, bytes],
) -> Draft:
    """The draft of complete groups, with the states that it consumes and reads, in order.

    Raises TransactionRefused when there are neither inputs nor outputs, MalformedTransaction for a salt that is not 32
    bytes or too many components in a group.
    """
    if not inputs and not groups[Group.OUTPUTS]:
        raise TransactionRefused("transaction.empty", "a transaction has an input or an output")
    try:
        transaction_id = native.transaction_id(salt, groups)
        transaction = native.encode_transaction(salt, groups)
    except native.MalformedError as error:
        raise MalformedTransaction(str(error)) from error
    return Draft(
        id=transaction_id,
        transaction=transaction,
        groups=groups,
        inputs=tuple(inputs),
        references=tuple(references),
        input_outputs=tuple(inputs.values()),
        reference_outputs=tuple(references.values()),
        required_signers=tuple(_signer_keys(groups[Group.SIGNERS])),
    )


def locks_of(owners: Sequence[bytes], outputs: int, salt: bytes) -> tuple[bytes, ...]:
    """The locks of all outputs for their owners, in order; none without owners.

    Raises MalformedTransaction for another number of owners, and for an owner or salt that has no lock.
    """
    if owners and len(owners) != outputs:
        raise MalformedTransaction(f"{outputs} outputs have {len(owners)} owners")
    try:
        return tuple(native.lock_of(owner, salt, index) for index, owner in enumerate(owners))
    except native.NativeError as error:
        raise MalformedTransaction(str(error)) from error


def _refuse_twice(code: str, ref: StateRef, named: Container[StateRef]) -> None:
    if ref in named:
        raise TransactionRefused(code, f"the transaction names the state {ref} twice")


def _signer_keys(components: Iterable[bytes]) -> dict[bytes, bytes]:
    return dict(sorted(pair for component in components for pair in decode_signer_keys(component)))


def leaves_of(key: bytes) -> frozenset[bytes]:
    """The Ed25519 keys whose signatures count for a key; raises MalformedTransaction for one that does not decode."""
    if len(key) == KEY_BYTES:
        return frozenset((key,))
    try:
        return frozenset(native.key_leaves(key))
    except native.KeyFormatError as error:
        raise MalformedTransaction(str(error)) from error


def _hex_list(keys: Iterable[bytes]) -> str:
    return ", ".join(key.hex() for key in keys)
