"""A kit to test contracts, yours included, without any network; tests read like the specification.

    from p2petd.contracts.testkit import energy, ledger, party

    alice, bob = party("alice"), party("bob")

    ledger.transaction().input(energy(10_000, alice)).output(energy(1_000_000, bob)).command(
        EnergyTransfer, alice, bob
    ).fails_with("energy.transfer.quantity_not_conserved")

For a contract that is not installed: `Ledger.of(MY_CONTRACT)`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from typing import ClassVar, Protocol, Self, TypeAlias

from p2petd import native
from p2petd.contracts.contract import Contract, PlainCommand
from p2petd.contracts.energy import EnergyState, EnergyTransfer, lot_id
from p2petd.contracts.payment import PaymentState
from p2petd.contracts.registry import Registry, installed
from p2petd.errors import NodeError
from p2petd.ledger.parameters import ContractParameters
from p2petd.ledger.refs import StateRef
from p2petd.ledger.resolved import LedgerTransaction
from p2petd.ledger.transaction import Draft, LedgerObject, TransactionBuilder
from p2petd.units import MINUTE_NS, MicroPerKwh, NanoMoney, TimeNs, WattHours

UNIT_NS = 15 * MINUTE_NS
NOON_NS = 1_767_268_800 * 10**9
"""2026-01-01 12:00 UTC."""
SALT = bytes(32)


class ContractObject(LedgerObject, Protocol):
    """A state or command that knows its contract."""

    contract: ClassVar[str]


@dataclass(frozen=True, slots=True)
class Party:
    """Somebody with a key."""

    name: str
    signing_key: native.SigningKey

    @property
    def key(self) -> bytes:
        return self.signing_key.public


Signer: TypeAlias = Party | bytes
CommandClass: TypeAlias = type[PlainCommand] | type[EnergyTransfer]


@cache
def party(name: str) -> Party:
    """The same key for the same name, always. Never use it outside tests."""
    return Party(name, native.SigningKey.from_seed(sha256(b"test party " + name.encode()).digest()))


PRODUCER, BANK, NOTARY = party("producer"), party("bank"), party("notary")


def energy(
    quantity_wh: int,
    owner: Party,
    *,
    producer: Party = PRODUCER,
    energy_type: str = "solar",
    meter: str = "meter-1",
    zone: str = "zone-1",
    start_ns: int = NOON_NS,
    units: int = 4,
    asked_micro_per_kwh: int = 100_000,
) -> EnergyState:
    """A state of a well-formed lot of `units` market time units."""
    end_ns = start_ns + units * UNIT_NS
    return EnergyState(
        energy_type=energy_type,
        quantity_wh=WattHours(quantity_wh),
        delivery_start_ns=TimeNs(start_ns),
        delivery_end_ns=TimeNs(end_ns),
        asked_price_micro_per_kwh=MicroPerKwh(asked_micro_per_kwh),
        issuer=producer.key,
        owner=owner.key,
        meter=meter,
        zone=zone,
        lot_id=lot_id(producer.key, meter, start_ns, end_ns),
    )


def money(amount_nano: int, owner: Party, *, issuer: Party = BANK, currency: str = "EUR") -> PaymentState:
    """An amount that the bank owes the owner."""
    return PaymentState(currency, NanoMoney(amount_nano), issuer.key, owner.key)


def default_parameters(registry: Registry) -> ContractParameters:
    """A network that permits the registry's contracts, solar and wind, 15 minutes, and euros of the bank."""
    return ContractParameters(
        energy_types=frozenset({"solar", "wind"}),
        market_time_unit_ns=UNIT_NS,
        negative_prices=False,
        currencies={"EUR": frozenset({BANK.key})},
        contracts={(c.name, c.version): registry.code_hash(c.name, c.version) for c in registry.contracts},
        notaries=(NOTARY.key,),
    )


@dataclass(frozen=True)
class Ledger:
    """Where transactions are tried: contracts and what the network permits to them."""

    registry: Registry
    parameters: ContractParameters

    @classmethod
    def of(cls, *contracts: Contract) -> Self:
        """A ledger with the installed contracts and these."""
        registry = Registry([*installed().contracts, *contracts])
        return cls(registry, default_parameters(registry))

    def under(self, parameters: ContractParameters) -> Self:
        """The same in a network with other parameters."""
        return replace(self, parameters=parameters)

    def transaction(self) -> "Trial":
        """An empty transaction."""
        return Trial(self)


@dataclass(frozen=True)
class Trial:
    """A transaction under test. Every method returns a new one, so that a valid one can be the base of many tests.

    A state or command is an object that knows its contract, or the bytes of its component.
    """

    ledger: Ledger
    inputs: tuple[ContractObject | bytes, ...] = ()
    references: tuple[ContractObject | bytes, ...] = ()
    outputs: tuple[ContractObject | bytes, ...] = ()
    commands: tuple[tuple[ContractObject | CommandClass | bytes, tuple[Signer, ...]], ...] = ()
    claims: tuple[bytes, ...] = ()

    def input(self, *states: ContractObject | bytes) -> "Trial":
        return replace(self, inputs=(*self.inputs, *states))

    def reference(self, *states: ContractObject | bytes) -> "Trial":
        return replace(self, references=(*self.references, *states))

    def output(self, *states: ContractObject | bytes) -> "Trial":
        return replace(self, outputs=(*self.outputs, *states))

    def command(self, command: ContractObject | CommandClass | bytes, *signers: Signer) -> "Trial":
        """A command and whose keys must sign. A class stands for what the transaction implies: a command without
        fields, or the transfer of all outputs of the second signer from the first."""
        return replace(self, commands=(*self.commands, (command, signers)))

    def claim(self, *claims: bytes) -> "Trial":
        return replace(self, claims=(*self.claims, *claims))

    def draft(self) -> Draft:
        """The transaction itself, with an invented creator for each input and reference."""
        builder = TransactionBuilder(NOTARY.key, bytes(32))
        for number, state in enumerate(self.inputs + self.references):
            ref = StateRef(sha256(b"created by %d" % number).digest(), 0)
            add = builder.add_input if number < len(self.inputs) else builder.add_reference
            add(ref, self._component(state))
        for state in self.outputs:
            builder.add_output_component(self._component(state))
        for command, signers in self.commands:
            keys = [signer.key if isinstance(signer, Party) else signer for signer in signers]
            if isinstance(command, bytes):
                builder.add_command_component(command, keys)
            else:
                intent = command if not isinstance(command, type) else _implied(command, keys, self.outputs)
                builder.add_command(intent.contract, intent, keys)
        for claim in self.claims:
            builder.add_claim(claim)
        return builder.build(SALT)

    def resolved(self) -> LedgerTransaction:
        """What its contracts see."""
        return LedgerTransaction.from_draft(self.draft(), self.ledger.parameters)

    def verifies(self) -> LedgerTransaction:
        """Asserts that every contract accepts it."""
        resolved = self.resolved()
        self.ledger.registry.verify(resolved)
        return resolved

    def fails_with(self, code: str) -> NodeError:
        """Asserts that it is refused with this code, twice with the same words, and returns the error."""
        first, second = self._refusal(), self._refusal()
        if first is None or second is None:
            raise AssertionError(f"expected {code}, but the transaction verifies")
        if first.code != code:
            raise AssertionError(f"expected {code}, but it is refused with {first.code}: {first}") from first
        if (second.code, str(second)) != (first.code, str(first)):
            raise AssertionError(f"a contract is not a pure function: first {first}, then {second}") from second
        return first

    def _refusal(self) -> NodeError | None:
        try:
            self.verifies()
        except NodeError as error:
            return error
        return None

    def _component(self, state: ContractObject | bytes) -> bytes:
        if isinstance(state, bytes):
            return state
        version = self.ledger.parameters.newest_version(state.contract) or 1
        scratch = TransactionBuilder(NOTARY.key, bytes(32)).add_output(state.contract, version, state)
        return scratch.build(SALT).outputs[0]


def _implied(
    command: CommandClass, signers: Sequence[bytes], outputs: Iterable[ContractObject | bytes]
) -> ContractObject:
    if issubclass(command, PlainCommand):
        return command()
    old_owner, new_owner = signers
    quantities = [s.quantity_wh for s in outputs if isinstance(s, EnergyState) and s.owner == new_owner]
    return command(old_owner, new_owner, WattHours(sum(quantities)))


ledger = Ledger.of()
"""The installed contracts."""
