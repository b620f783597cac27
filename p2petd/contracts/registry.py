"""Which contract is which code, and running all contracts of a transaction."""

import importlib.metadata
import importlib.util
import struct
from collections import Counter
from collections.abc import Iterable
from functools import cache
from hashlib import sha256
from importlib.abc import FileLoader
from itertools import chain, islice

from p2petd.contracts.contract import Contract
from p2petd.contracts.energy import ENERGY
from p2petd.contracts.payment import PAYMENT
from p2petd.contracts.rules import Rule, short, violated
from p2petd.errors import ConfigError, ContractViolation, NodeError, UnknownContract
from p2petd.ledger.codec import u16_prefixed
from p2petd.ledger.parameters import ContractParameters
from p2petd.ledger.resolved import LedgerTransaction

ENTRY_POINTS = "p2petd.contracts"


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
        """
        contracts = []
        for name, version in _versions(transaction):
            pinned = transaction.parameters.contracts.get((name, version))
            if pinned is None:
                raise UnknownContract(f"the network parameters do not permit contract {name!r} version {version}")
            contract, code_hash = self._entry(name, version)
            if code_hash != pinned:
                violated(PlatformRule.CODE_DIFFERS, f"{name} version {version}: {code_hash.hex()}, not {pinned.hex()}")
            contracts.append(contract)
        try:
            for contract in contracts:
                contract.verify(transaction)
            # A contract could demand without end; one more than there are decides.
            demanded = chain.from_iterable(contract.claims(transaction) for contract in contracts)
            _check_claims(transaction, list(islice(demanded, len(transaction.claims) + 1)))
        except NodeError:
            raise
        except Exception as error:  # Foreign code: a contract that crashes refuses.
            raise ContractViolation(
                PlatformRule.CRASHED.code, f"{PlatformRule.CRASHED.sentence} Seen: {type(error).__name__}."
            ) from error

    def _entry(self, name: str, version: int) -> tuple[Contract, bytes]:
        entry = self._installed.get((name, version))
        if entry is None:
            raise UnknownContract(f"contract {name!r} version {version} is not installed here")
        return entry


@cache
def installed() -> Registry:
    """The contracts of this package and those that other packages register as entry points."""
    plugins = importlib.metadata.entry_points(group=ENTRY_POINTS)
    return Registry([ENERGY, PAYMENT, *(_load(plugin) for plugin in plugins)])


def _load(plugin: importlib.metadata.EntryPoint) -> Contract:
    contract = plugin.load()
    if not isinstance(contract, Contract):
        raise ConfigError(f"the entry point {plugin.name} of {ENTRY_POINTS} is not a Contract")
    return contract


def code_hash(name: str, version: int) -> bytes:
    """`Registry.code_hash` of the installed contracts."""
    return installed().code_hash(name, version)


def verify(transaction: LedgerTransaction) -> None:
    """`Registry.verify` with the installed contracts."""
    installed().verify(transaction)


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


def _newest(contract: str, parameters: ContractParameters) -> int:
    version = parameters.newest_version(contract)
    if version is None:
        raise UnknownContract(f"the network parameters do not permit any version of contract {contract!r}")
    return version


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
        source = _source(name)
        digest.update(u16_prefixed(name) + struct.pack(">I", len(source)) + source)
    return digest.digest()


def _source(module: str) -> bytes:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None or not isinstance(spec.loader, FileLoader):
        raise ConfigError(f"the source of module {module} of a contract is not installed")
    return bytes(spec.loader.get_data(spec.origin))
