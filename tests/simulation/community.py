"""Who takes part in a simulated network, with keys that follow from the seed, and without certificates or files."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType

from p2petd import native
from p2petd.contracts.registry import installed
from p2petd.identity.certificates import Role
from p2petd.ledger.parameters import ContractParameters
from p2petd.network.network_map import NetworkMap
from p2petd.network.node_info import PLATFORM_VERSION, NodeInfo
from p2petd.network.parameters import (
    ContractVersion,
    Currency,
    NetworkParameters,
    Notary,
    NotaryMode,
    SignedParameters,
)
from p2petd.units import HOUR_NS, MINUTE_NS, TimeNs

CURRENCY = "EUR"
ENERGY = ("solar", "wind")
UNIT_NS = 15 * MINUTE_NS
# The time at which every simulation begins, and the first delivery period: far enough ahead.
BEGIN_NS = 1_767_225_600_000_000_000
FIRST_PERIOD_NS = BEGIN_NS + 1000 * HOUR_NS
INPUTS_MAX = 16

_Secret = Callable[[str], bytes]


@dataclass(frozen=True)
class Member:
    """A node of the network, and what it needs to be one."""

    name: str
    key: native.SigningKey
    info: NodeInfo
    # Of a notary.
    mode: NotaryMode | None
    worker: native.SigningKey
    worker_certificate: bytes


@dataclass(frozen=True)
class Community:
    """What all nodes know. It has the shape of `p2petd.node.Membership` where histories ask for one."""

    network_id: bytes
    members: tuple[Member, ...]
    parameters: NetworkParameters
    parameters_hash: bytes
    network_map: NetworkMap
    rules: native.Rules
    contract_parameters: dict[bytes, ContractParameters]

    def member(self, name: str) -> Member:
        return next(member for member in self.members if member.name == name)

    @property
    def parties(self) -> tuple[str, ...]:
        return tuple(member.name for member in self.members if member.mode is None)

    @property
    def notaries(self) -> tuple[str, ...]:
        return tuple(member.name for member in self.members if member.mode is not None)


def found(seed: int, homes: int, notaries: tuple[NotaryMode, ...]) -> Community:
    """The community `community`, which issues money, `home-1` and so on, and the notaries `notary-1` and so on."""

    def secret(label: str) -> bytes:
        return sha256(f"{seed} {label}".encode()).digest()

    network = secret("network")
    members = [_member(secret, network, f"notary-{n}", mode) for n, mode in enumerate(notaries, 1)]
    parties = ("community", *(f"home-{n}" for n in range(1, homes + 1)))
    members += [_member(secret, network, name, None) for name in parties]
    community = next(member for member in members if member.name == "community")
    contracts = installed().contracts
    parameters = NetworkParameters(
        version=1,
        network_id=network,
        valid_from_ns=BEGIN_NS - 100 * HOUR_NS,
        notaries=tuple(
            Notary(member.name, member.info.notary_service_key, member.mode)
            for member in members
            if member.mode is not None
        ),
        contracts=tuple(
            ContractVersion(name, version, installed().code_hash(name, version))
            for name, version in sorted((contract.name, contract.version) for contract in contracts)
        ),
        energy_types=ENERGY,
        market_time_unit_ns=UNIT_NS,
        transaction_bytes_max=262_144,
        inputs_max=INPUTS_MAX,
        negative_prices=False,
        currencies=(Currency(CURRENCY, community.info.identity),),
        attachment_bytes_max=1 << 20,
    )
    infos = tuple(sorted((member.info for member in members), key=lambda info: info.name))
    hashed = parameters.hash
    return Community(
        network_id=network,
        members=tuple(members),
        parameters=parameters,
        parameters_hash=hashed,
        network_map=NetworkMap(
            network_id=network,
            nodes=infos,
            parameters=MappingProxyType({hashed: SignedParameters(parameters, hashed, b"")}),
            expired=(),
            _by_identity=MappingProxyType({info.identity: info for info in infos}),
            _by_fingerprint=MappingProxyType({info.fingerprint: info for info in infos}),
        ),
        rules=native.Rules(network, [parameters.rules_entry()]),
        contract_parameters={hashed: parameters.contract_parameters()},
    )


def _member(secret: _Secret, network: bytes, name: str, mode: NotaryMode | None) -> Member:
    key, service, worker = (
        native.SigningKey.from_seed(secret(f"{name} {what}")) for what in ("key", "service", "worker")
    )
    until = TimeNs(BEGIN_NS + 20_000 * HOUR_NS)
    certificate = native.certify_worker(service, network, worker.public, BEGIN_NS - 100 * HOUR_NS, until)
    info = NodeInfo(
        name=f"CN={name},O=simulation",
        identity=key.public,
        addresses=(name,),
        roles=frozenset({Role.PARTY if mode is None else Role.NOTARY}),
        platform_version=PLATFORM_VERSION,
        serial=1,
        notary_service_key=b"" if mode is None else service.public,
    )
    return Member(name, key, info, mode, worker, certificate)
