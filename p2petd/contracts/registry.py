"""Which contract is which code, and running all contracts of a transaction."""

import importlib.metadata
import struct
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from hashlib import sha256
from itertools import chain, islice
from types import TracebackType

from p2petd.contracts.contract import Contract
from p2petd.contracts.energy import ENERGY
from p2petd.contracts.isolation.host import isolate
from p2petd.contracts.isolation.sources import source_of
from p2petd.contracts.meter import METER
from p2petd.contracts.oracle import ORACLE
from p2petd.contracts.payment import PAYMENT
from p2petd.contracts.rules import Rule, short, violated
from p2petd.errors import ConfigError, ContractViolation, NodeError, UnknownContract
from p2petd.ledger.codec import u16_prefixed
from p2petd.ledger.groups import COMPONENTS_MAX, TransactionType
from p2petd.ledger.parameters import ContractParameters
from p2petd.ledger.resolved import LedgerTransaction, OutputState

ENTRY_POINTS = "p2petd.contracts"
OWN_CONTRACTS = (ENERGY, PAYMENT, METER, ORACLE)


class PlatformRule(Rule):
    """What holds for the contracts of every transaction."""

    CODE_DIFFERS = (
        "contract.code_differs",
        "The code of an installed contract has the hash that the network parameters state.",
    )
    VERSIONS_MIXED = ("contract.versions_mixed", "All outputs of one contract name one version of it.")
    VERSION_OLDER = ("contract.version_older", "A contract never runs in an older version than its inputs name.")
    CLAIM_MISSING = ("contract.claim_missing", "The transaction makes every claim that its contracts demand.")
    CLAIM_NOT_DEMANDED = (
        "contract.claim_not_demanded",
        "The transaction makes no claim that none of its contracts demands.",
    )
    CRASHED = ("contract.crashed", "A contract answers every transaction.")
    MOVE_CHANGES = ("contract.move_changes", "A notary change changes nothing of a state but its notary.")
    MOVE_UNOWNED = ("contract.move_unowned", "Only a state that its contract gives an owner moves to another notary.")
    MOVE_UNSIGNED = ("contract.move_unsigned", "The owner of every state signs its move to another notary.")
    MOVE_OTHERS_SIGN = (
        "contract.move_others_sign",
        "Nobody but the owners of the states has to sign their move to another notary.",
    )


class Registry:
    """The installed contracts with the hashes of their code. Raises ConfigError when one is installed twice."""

    def __init__(self, contracts: Iterable[Contract]) -> None:
        self._installed: dict[tuple[str, int], tuple[Contract, bytes]] = {}
        for contract in contracts:
            key = (contract.name, contract.version)
            if key in self._installed:
                raise ConfigError(f"contract {contract.name} version {contract.version} is installed twice")
            self._installed[key] = (contract, _hash_of_sources(contract.modules))

    @property
    def contracts(self) -> tuple[Contract, ...]:
        return tuple(contract for contract, _ in self._installed.values())

    def code_hash(self, name: str, version: int) -> bytes:
        """32 bytes: SHA-256 of, for each of its modules by name, u16 length ‖ name ‖ u32 length ‖ source.

        Raises UnknownContract.
        """
        return self._entry(name, version)[1]

    def verify(self, transaction: LedgerTransaction) -> None:
        """Returns when every contract of the transaction accepts it.

        1. each contract that an input, an output or a command names runs in one version (`_version`);
        2. the network parameters permit that version, and it is installed: else UnknownContract;
        3. its code is the one that the parameters pin: else ContractViolation contract.code_differs;
        4. all its rules hold: else ContractViolation with the rule's code, or another of our typed errors;
        5. the transaction's claims are exactly those that its contracts demand.

        A notary change runs no contract's rules; `_verify_move` says what is asked of it.
        """
        with _REFUSING_CRASHES:
            if transaction.kind is TransactionType.NOTARY_CHANGE:
                self._verify_move(transaction)
            else:
                self._verify_general(transaction)

    def claims(self, transaction: LedgerTransaction) -> tuple[bytes, ...]:
        """The claims that the contracts of a transaction demand, for who builds it. Raises as `verify` does, but for 5.

        At most as many as a group holds, and one more.
        """
        with _REFUSING_CRASHES:
            contracts = self._accepting(transaction)
            return tuple(islice(_demanded(contracts, transaction), COMPONENTS_MAX + 1))

    def _verify_general(self, transaction: LedgerTransaction) -> None:
        contracts = self._accepting(transaction)
        # A contract could demand without end; one more than there are decides.
        _check_claims(transaction, list(islice(_demanded(contracts, transaction), len(transaction.claims) + 1)))

    def _accepting(self, transaction: LedgerTransaction) -> list[Contract]:
        """The contracts of the transaction, whose rules all hold."""
        contracts = []
        for name, version in _versions(transaction):
            pinned = transaction.parameters.contracts.get((name, version))
            if pinned is None:
                raise UnknownContract(f"the network parameters do not permit contract {name!r} version {version}")
            contract, code_hash = self._entry(name, version)
            if code_hash != pinned:
                violated(PlatformRule.CODE_DIFFERS, f"{name} version {version}: {code_hash.hex()}, not {pinned.hex()}")
            contracts.append(contract)
        for contract in contracts:
            contract.verify(transaction)
        return contracts

    def _verify_move(self, transaction: LedgerTransaction) -> None:
        """Returns when the owners of all states let them move.

        1. output i is input i under another notary, the same for all, and nothing else is in the transaction;
        2. the cited parameters permit a version of each state's contract that is not older than the state's, the newest
           such version is installed here;
        3. that contract gives the state an owner, who signs;
        4. and lets it move to that notary;
        5. nobody else has to sign.
        The code's hash is not compared: the parameters may be old ones, and what their contracts were may have been
        mended since; else states could not leave a notary that has left the network.
        """
        new_notary = _moves_to(transaction)
        owners: set[bytes] = set()
        for ref, state in transaction.inputs:
            contract = self._mover(state, transaction.parameters)
            owner = contract.owner(state)
            if not owner:
                violated(PlatformRule.MOVE_UNOWNED, f"{state.type_name} of contract {state.contract}, {ref}")
            if owner not in transaction.moved_by:
                violated(PlatformRule.MOVE_UNSIGNED, f"{short(owner)}, who owns {ref}, is not among the signers")
            contract.may_move(state, new_notary)
            owners.add(owner)
        for key in sorted(transaction.moved_by - owners):
            violated(PlatformRule.MOVE_OTHERS_SIGN, f"{short(key)} owns none of the states")

    def may_move(self, state: OutputState, new_notary: bytes, parameters: ContractParameters) -> None:
        """Raises ContractViolation when a state's contract holds it where it is, UnknownContract as `verify`."""
        with _REFUSING_CRASHES:
            self._mover(state, parameters).may_move(state, new_notary)

    def _mover(self, state: OutputState, parameters: ContractParameters) -> Contract:
        version = _newest(state.contract, parameters)
        if version < state.contract_version:
            violated(PlatformRule.VERSION_OLDER, f"{state.contract} {version} for an input of {state.contract_version}")
        return self._entry(state.contract, version)[0]

    def parties(self, state: OutputState) -> tuple[bytes, frozenset[bytes]]:
        """The key id of who holds a state, empty for nobody, and its participants, as its contract names them.

        Raises UnknownContract, ContractViolation, or another of our typed errors.
        """
        contract, _ = self._entry(state.contract, state.contract_version)
        with _REFUSING_CRASHES:
            return contract.owner(state), contract.participants(state)

    def _entry(self, name: str, version: int) -> tuple[Contract, bytes]:
        entry = self._installed.get((name, version))
        if entry is None:
            raise UnknownContract(f"contract {name!r} version {version} is not installed here")
        return entry


@cache
def installed() -> Registry:
    """The contracts of this package and those that other packages register as entry points, isolated."""
    plugins = importlib.metadata.entry_points(group=ENTRY_POINTS)
    return Registry([*OWN_CONTRACTS, *(isolate(plugin) for plugin in plugins)])


def code_hash(name: str, version: int) -> bytes:
    """`Registry.code_hash` of the installed contracts."""
    return installed().code_hash(name, version)


def verify(transaction: LedgerTransaction) -> None:
    """`Registry.verify` with the installed contracts."""
    installed().verify(transaction)


class _RefusingCrashes:
    """Foreign code: a contract that crashes refuses. A class, because a generator would cost each verdict more."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception) and not isinstance(error, NodeError):
            raise ContractViolation(
                PlatformRule.CRASHED.code, f"{PlatformRule.CRASHED.sentence} Seen: {type(error).__name__}."
            ) from error


_REFUSING_CRASHES = _RefusingCrashes()


def _versions(transaction: LedgerTransaction) -> Iterable[tuple[str, int]]:
    """Each contract that the transaction names, by name, with the version that decides.

    That is the version of its outputs, else the newest permitted one, and never one older than its inputs'.
    """
    versions: dict[str, int] = {}
    for state in transaction.outputs:
        version = versions.setdefault(state.contract, state.contract_version)
        if version != state.contract_version:
            violated(PlatformRule.VERSIONS_MIXED, f"{state.contract} {version} and {state.contract_version}")
    for command, _ in transaction.commands:
        if command.contract not in versions:
            versions[command.contract] = _newest(command.contract, transaction.parameters)
    for _, state in transaction.inputs:
        if state.contract not in versions:
            versions[state.contract] = _newest(state.contract, transaction.parameters)
        if versions[state.contract] < state.contract_version:
            violated(
                PlatformRule.VERSION_OLDER,
                f"{state.contract} {versions[state.contract]} for an input of {state.contract_version}",
            )
    return sorted(versions.items())


def _moves_to(transaction: LedgerTransaction) -> bytes:
    """The notary that all states move to; the platform has checked how encumbrances follow to their new indices."""
    beside = sum(map(len, (transaction.commands, transaction.references, transaction.claims, transaction.attachments)))
    if beside or not transaction.inputs or len(transaction.inputs) != len(transaction.outputs):
        violated(
            PlatformRule.MOVE_CHANGES,
            f"{len(transaction.inputs)} inputs, {len(transaction.outputs)} outputs, {beside} components of "
            "other groups",
        )
    new_notary = transaction.outputs[0].notary
    if new_notary == transaction.notary:
        violated(PlatformRule.MOVE_CHANGES, f"{short(new_notary)} guards the states already")
    for (ref, before), after in zip(transaction.inputs, transaction.outputs, strict=True):
        # Both are canonical: what is equal field by field is equal byte by byte.
        if after != replace(before, notary=new_notary, encumbered_by=after.encumbered_by, raw=after.raw):
            violated(PlatformRule.MOVE_CHANGES, f"{ref} is not what it was")
    return new_notary


def _newest(contract: str, parameters: ContractParameters) -> int:
    version = parameters.newest_version(contract)
    if version is None:
        raise UnknownContract(f"the network parameters do not permit any version of contract {contract!r}")
    return version


def _demanded(contracts: Iterable[Contract], transaction: LedgerTransaction) -> Iterable[bytes]:
    return chain.from_iterable(contract.claims(transaction) for contract in contracts)


def _check_claims(transaction: LedgerTransaction, demanded: list[bytes]) -> None:
    if not demanded and not transaction.claims:
        return
    made, wanted = Counter(transaction.claims), Counter(demanded)
    for claim in (wanted - made).elements():
        violated(PlatformRule.CLAIM_MISSING, f"{short(claim)} is demanded")
    for claim in (made - wanted).elements():
        violated(PlatformRule.CLAIM_NOT_DEMANDED, f"{short(claim)} is made")


def _hash_of_sources(modules: Iterable[str]) -> bytes:
    digest = sha256()
    for name in sorted(modules):
        source = source_of(name)
        digest.update(u16_prefixed(name) + struct.pack(">I", len(source)) + source)
    return digest.digest()
