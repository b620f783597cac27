"""Transactions under test: built, tried, and told in words."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, Self, TypeAlias

from p2pet.ledger.v1 import transaction_pb2

from p2petd import native
from p2petd.contracts.contract import Contract, PlainCommand
from p2petd.contracts.energy import EnergyState, EnergyTransfer
from p2petd.contracts.oracle import FORECAST, READING, TARIFF
from p2petd.contracts.registry import Registry, installed
from p2petd.contracts.testkit.objects import DAY_NS, UNIT_NS, ContractObject
from p2petd.contracts.testkit.parties import (
    BANK,
    MARKET,
    METERING,
    NOTARY,
    OTHER_NOTARY,
    TARIFFS,
    Party,
    Signer,
    signing_name,
)
from p2petd.contracts.testkit.words import (
    listed,
    parameters_in_words,
    signers_in_words,
    state_in_words,
    value_in_words,
    window_in_words,
)
from p2petd.errors import NodeError
from p2petd.ledger.codec import encode_canonical, encode_signers
from p2petd.ledger.groups import Group, TransactionType
from p2petd.ledger.parameters import ContractParameters
from p2petd.ledger.refs import StateRef
from p2petd.ledger.resolved import LedgerTransaction, OutputState, no_attachments
from p2petd.ledger.transaction import Draft, TransactionBuilder
from p2petd.units import NO_LOWER_BOUND, NO_UPPER_BOUND, TimeNs, WattHours

SALT = bytes(32)
PARAMETERS_HASH = bytes(32)

CommandClass: TypeAlias = type[PlainCommand] | type[EnergyTransfer]
State: TypeAlias = ContractObject | bytes


def default_parameters(registry: Registry) -> ContractParameters:
    """A network that permits the registry's contracts, solar and wind, 15 minutes, and euros of the bank.

    It has oracles and a market, and readings may take a day; meters are not registered (`registrars` is empty).
    """
    return ContractParameters(
        energy_types=frozenset({"solar", "wind"}),
        market_time_unit_ns=UNIT_NS,
        negative_prices=False,
        currencies={"EUR": frozenset({BANK.key})},
        contracts={(c.name, c.version): registry.code_hash(c.name, c.version) for c in registry.contracts},
        notaries=(NOTARY.key, OTHER_NOTARY.key),
        oracles={METERING.key: frozenset({READING, FORECAST}), TARIFFS.key: frozenset({TARIFF})},
        markets={MARKET.key: NOTARY.key},
        reading_deadline_ns=DAY_NS,
    )


@dataclass(frozen=True)
class Ledger:
    """Where transactions are tried: contracts and what the network permits to them."""

    registry: Registry
    parameters: ContractParameters

    @classmethod
    def of(cls, *contracts: Contract) -> Self:
        """A ledger with these contracts and the installed ones; of the same name and version, these.

        Given here, a contract of your own runs in the test's process, where a debugger reaches it; installed, it runs
        in its own.
        """
        given = {(contract.name, contract.version) for contract in contracts}
        others = [one for one in installed().contracts if (one.name, one.version) not in given]
        registry = Registry([*others, *contracts])
        return cls(registry, default_parameters(registry))

    def under(self, parameters: ContractParameters) -> Self:
        """The same in a network with other parameters."""
        return replace(self, parameters=parameters)

    def with_parameters(self, **changes: Any) -> Self:
        """The same in a network that differs in these fields of `ContractParameters`."""
        return self.under(replace(self.parameters, **changes))

    def transaction(self) -> "Trial":
        """An empty transaction."""
        return Trial(self)

    def notary_change(self, *states: State, to: Party) -> "NotaryChange":
        """A transaction that moves these states to another notary, signed by their owners."""
        return NotaryChange(self, states, to)

    def parts(self) -> list[str]:
        """In words, where the network differs from the kit's."""
        return listed("network", parameters_in_words(self.parameters, default_parameters(self.registry)))

    def component(self, state: State, notary: bytes) -> bytes:
        """The `OutputState` of a state; bytes are one already."""
        if isinstance(state, bytes):
            return state
        version = self.parameters.newest_version(state.contract) or 1
        scratch = TransactionBuilder(notary, PARAMETERS_HASH).add_output(state.contract, version, state)
        return scratch.build(SALT).outputs[0]


class Tried(ABC):
    """A transaction that contracts accept or refuse; what the kit's two kinds have in common."""

    ledger: Ledger

    @abstractmethod
    def resolved(self) -> LedgerTransaction:
        """What its contracts see."""

    @abstractmethod
    def parts(self) -> list[str]:
        """Its parts in words, and what is unusual about its network."""

    def in_words(self) -> str:
        """Its parts, a line each."""
        return "\n".join(f"  {part}" for part in self.parts())

    def refusal(self) -> NodeError | None:
        """Why it is refused, or None when every contract accepts it."""
        try:
            self.ledger.registry.verify(self.resolved())
        except NodeError as error:
            return error
        return None

    def verifies(self) -> LedgerTransaction:
        """Asserts that every contract accepts it."""
        refused = self.refusal()
        if refused is not None:
            raise AssertionError(
                f"expected it to verify, but it is refused with {refused.code}: {refused}\n{self.in_words()}"
            ) from refused
        return self.resolved()

    def fails_with(self, code: str) -> NodeError:
        """Asserts that it is refused with this code, twice with the same words, and returns the error."""
        first, second = self.refusal(), self.refusal()
        if first is None or second is None:
            raise AssertionError(f"expected {code}, but the transaction verifies\n{self.in_words()}")
        if first.code != code:
            raise AssertionError(
                f"expected {code}, but it is refused with {first.code}: {first}\n{self.in_words()}"
            ) from first
        if (second.code, str(second)) != (first.code, str(first)):
            raise AssertionError(f"a contract is not a pure function: first {first}, then {second}") from second
        return first


@dataclass(frozen=True)
class Trial(Tried):
    """A transaction under test. Every method returns a new one, so that a valid one can be the base of many tests.

    A state or command is an object that knows its contract, or the bytes of its component. The transaction has an id,
    and its inputs have invented creators; nobody signs it, because contracts read who must sign, not signatures.
    """

    ledger: Ledger
    inputs: tuple[State, ...] = ()
    references: tuple[State, ...] = ()
    outputs: tuple[State, ...] = ()
    commands: tuple[tuple[ContractObject | CommandClass | bytes, tuple[Signer, ...]], ...] = ()
    claims: tuple[bytes, ...] = ()
    attachments: Mapping[bytes, bytes | None] = field(default_factory=dict)
    bounds: tuple[int, int] | None = None
    guard: Party = NOTARY

    def input(self, *states: State) -> "Trial":
        return replace(self, inputs=(*self.inputs, *states))

    def reference(self, *states: State) -> "Trial":
        return replace(self, references=(*self.references, *states))

    def output(self, *states: State) -> "Trial":
        return replace(self, outputs=(*self.outputs, *states))

    def command(self, command: ContractObject | CommandClass | bytes, *signers: Signer) -> "Trial":
        """A command and whose keys must sign. A class stands for what the transaction implies: a command without
        fields, or the transfer of all outputs of the second signer from the first."""
        return replace(self, commands=(*self.commands, (command, signers)))

    def claim(self, *claims: bytes) -> "Trial":
        return replace(self, claims=(*self.claims, *claims))

    def claim_all(self) -> "Trial":
        """Makes the claims that its contracts demand, and no others. Raises what they raise when they refuse it."""
        return replace(self, claims=tuple(self.ledger.registry.claims(replace(self, claims=()).resolved())))

    def attachment(self, *contents: bytes) -> "Trial":
        """Cites attachments that contracts can read."""
        return replace(self, attachments={**self.attachments, **{sha256(c).digest(): c for c in contents}})

    def cite(self, *hashes: bytes) -> "Trial":
        """Cites attachments by their SHA-256 alone; they are not here."""
        return replace(self, attachments={**self.attachments, **dict.fromkeys(hashes)})

    def window(self, from_ns: int = NO_LOWER_BOUND, until_ns: int = NO_UPPER_BOUND) -> "Trial":
        """When the notary may decide: from_ns ≤ time < until_ns."""
        return replace(self, bounds=(from_ns, until_ns))

    def notary(self, notary: Party) -> "Trial":
        """Who guards the states; the kit's NOTARY unless said."""
        return replace(self, guard=notary)

    def draft(self) -> Draft:
        """The transaction itself, with an invented creator for each input and reference."""
        builder = TransactionBuilder(self.guard.key, PARAMETERS_HASH)
        for number, state in enumerate(self.inputs + self.references):
            add = builder.add_input if number < len(self.inputs) else builder.add_reference
            add(state_ref(number), self.ledger.component(state, self.guard.key))
        for state in self.outputs:
            builder.add_output_component(self.ledger.component(state, self.guard.key))
        for command, signers in self.commands:
            keys = [signing_name(signer) for signer in signers]
            if isinstance(command, bytes):
                builder.add_command_component(command, keys)
            else:
                intent = command if not isinstance(command, type) else _implied(command, keys, self.outputs)
                builder.add_command(intent.contract, intent, keys)
        for claim in self.claims:
            builder.add_claim(claim)
        for attachment in self.attachments:
            builder.add_attachment(attachment)
        if self.bounds is not None:
            builder.window(*(TimeNs(bound) for bound in self.bounds))
        return builder.build(SALT)

    def resolved(self) -> LedgerTransaction:
        """What its contracts see."""
        return LedgerTransaction.from_draft(self.draft(), self.ledger.parameters, self._read)

    def parts(self) -> list[str]:
        said = listed("in", map(state_in_words, self.inputs))
        said += listed("reference", map(state_in_words, self.references))
        said += listed("out", map(state_in_words, self.outputs))
        said += listed("command", (f"{state_in_words(c)} signed by {signers_in_words(s)}" for c, s in self.commands))
        said += listed("claim", map(value_in_words, self.claims))
        said += listed("attachment", map(value_in_words, self.attachments))
        said += ["window " + window_in_words(*self.bounds)] if self.bounds is not None else []
        said += [f"notary {self.guard.name}"] if self.guard is not NOTARY else []
        return said + self.ledger.parts()

    def _read(self, attachment: bytes) -> bytes:
        content = self.attachments.get(attachment)
        return no_attachments(attachment) if content is None else content


@dataclass(frozen=True)
class NotaryChange(Tried):
    """A notary change under test: states move from the notary `guard` to another, with the signatures of their owners.

    `changed` replaces outputs by their index, `signers` the owners, for tests of what is refused.
    """

    ledger: Ledger
    states: tuple[State, ...]
    to: Party
    guard: Party = NOTARY
    signers: tuple[Signer, ...] | None = None
    changed: Mapping[int, State] = field(default_factory=dict)

    def signed_by(self, *signers: Signer) -> "NotaryChange":
        """Whose keys must sign, instead of the owners'."""
        return replace(self, signers=signers)

    def output(self, index: int, state: State) -> "NotaryChange":
        """Puts another state in the place of what input `index` should become."""
        return replace(self, changed={**self.changed, index: state})

    def resolved(self) -> LedgerTransaction:
        """What its contracts see."""
        before = [self.ledger.component(state, self.guard.key) for state in self.states]
        after = [_moved(before[n], self.to.key) for n in range(len(before))]
        for index, state in self.changed.items():
            after[index] = self.ledger.component(state, self.to.key)
        groups: list[tuple[bytes, ...]] = [()] * len(Group)
        groups[Group.INPUTS] = tuple(state_ref(number).encode() for number in range(len(before)))
        groups[Group.OUTPUTS] = tuple(after)
        groups[Group.SIGNERS] = (encode_signers(self._signing(before)),)
        groups[Group.NOTARY] = (self.guard.key,)
        groups[Group.PARAMETERS] = (PARAMETERS_HASH,)
        groups[Group.TYPE] = (bytes([TransactionType.NOTARY_CHANGE]),)
        transaction_id = native.transaction_id(SALT, groups)
        return LedgerTransaction.from_parts(transaction_id, groups, before, (), self.ledger.parameters)

    def parts(self) -> list[str]:
        said = listed("move", map(state_in_words, self.states))
        said += [f"to {self.to.name}"]
        said += [f"out {index} {state_in_words(state)}" for index, state in self.changed.items()]
        said += ["signed by " + ("the owners" if self.signers is None else signers_in_words(self.signers))]
        return said + self.ledger.parts()

    def _signing(self, before: Sequence[bytes]) -> list[bytes]:
        if self.signers is not None:
            return [signing_name(signer) for signer in self.signers]
        owners = (self.ledger.registry.parties(OutputState.decode(component))[0] for component in before)
        return [signing_name(owner) for owner in owners if owner]


def state_ref(number: int) -> StateRef:
    """The state that the kit gives the n-th of inputs and then references: output 0 of an invented transaction."""
    return StateRef(sha256(b"created by %d" % number).digest(), 0)


def _moved(component: bytes, notary: bytes) -> bytes:
    state = OutputState.decode(component)
    return encode_canonical(
        transaction_pb2.OutputState,
        contract=state.contract,
        contract_version=state.contract_version,
        notary=notary,
        type_name=state.type_name,
        schema_version=state.schema_version,
        payload=state.payload,
        encumbered_by=state.encumbered_by,
    )


def _implied(command: CommandClass, signers: Sequence[bytes], outputs: Iterable[State]) -> ContractObject:
    if issubclass(command, PlainCommand):
        return command()
    old_owner, new_owner = signers
    quantities = [s.quantity_wh for s in outputs if isinstance(s, EnergyState) and s.owner == new_owner]
    return command(old_owner, new_owner, WattHours(sum(quantities)))
