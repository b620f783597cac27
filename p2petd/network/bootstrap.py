"""A whole network on one machine, from nothing: keys, certificates, parameters and a directory per node.

    <directory>/network/            root.crt, tls-trust.crt, identity-authority.crt, parameters/*.params, nodes/*.info
    <directory>/network/offline/    the keys that no running node needs: root, authorities, map, notary services
    <directory>/<node>/             node.toml, identity.key/.crt, tls.key/.crt, client.token, data/ (notary: worker.*;
                                    oracle: oracle.key)

A real network is made of the same files; its operator keeps `offline/` on another machine.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2petd.errors import NetworkError
from p2petd.identity.certificates import Role, encode_certificates, network_id
from p2petd.identity.issuing import (
    BACKDATE_NS,
    Authority,
    create_root,
    issue_identity_authority,
    issue_identity_certificate,
    issue_map_certificate,
    issue_tls_authority,
    issue_tls_certificate,
)
from p2petd.identity.keys import (
    create_ledger_key,
    create_tls_key,
    create_token,
    private_pem,
    signing_key,
    write_private,
)
from p2petd.identity.node_identity import NodeIdentity
from p2petd.native import SigningKey, certify_worker
from p2petd.network.bootstrap_files import Listeners, free_listeners, node_toml, spread_listeners
from p2petd.network.node_info import PLATFORM_VERSION, NodeInfo, sign_node_info
from p2petd.network.parameters import (
    ORACLE_FACTS,
    ContractVersion,
    Currency,
    Market,
    NetworkParameters,
    Notary,
    NotaryMode,
    Oracle,
    sign_parameters,
)
from p2petd.units import HOUR_NS, MINUTE_NS

HOMES_MAX = 500
NOTARIES_MAX = 16
ORACLES_MAX = 16
WORKER_LIFETIME_NS = 2 * 365 * 24 * HOUR_NS
ENERGY_TYPES = ("biomass", "grid", "hydro", "solar", "wind")
_CURRENCY = re.compile(r"[A-Z0-9]{2,12}")


@dataclass(frozen=True)
class NetworkPlan:
    """What to make. `contracts` holds the code hash of each permitted (name, version).

    With `base_port` node i listens on base_port + 2i (peers) and + 2i + 1 (clients); 0 takes free ports. With `hosts`,
    one for each node, all of them listen on base_port and base_port + 1.
    """

    directory: Path
    homes: int
    currency: str
    contracts: Mapping[tuple[str, int], bytes]
    notaries: int = 1
    base_port: int = 0
    host: str = "127.0.0.1"
    hosts: tuple[str, ...] = ()
    organisation: str = "community"
    energy_types: tuple[str, ...] = ENERGY_TYPES
    market_time_unit_ns: int = 15 * MINUTE_NS
    transaction_bytes_max: int = 262_144
    inputs_max: int = 256
    negative_prices: bool = False
    # Further notaries that see uniqueness only.
    uniqueness_notaries: int = 0
    # Nodes that vouch for readings, forecasts and tariffs.
    oracles: int = 1
    # Whether the community registers meters; without registrars anybody issues for any meter.
    registered_meters: bool = True
    attachment_bytes_max: int = 64 * 1024 * 1024
    trade_deadline_ns: int = 0
    reading_deadline_ns: int = 24 * HOUR_NS
    issue_attested: bool = False
    self_trades: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.homes <= HOMES_MAX:
            raise NetworkError(f"a network is made with 0 to {HOMES_MAX} homes, not {self.homes}")
        if not 1 <= self.notaries <= NOTARIES_MAX or not 0 <= self.uniqueness_notaries <= NOTARIES_MAX:
            raise NetworkError(f"a network is made with 1 to {NOTARIES_MAX} notaries, not {self.notaries}")
        if not 0 <= self.oracles <= ORACLES_MAX:
            raise NetworkError(f"a network is made with 0 to {ORACLES_MAX} oracles, not {self.oracles}")
        if not _CURRENCY.fullmatch(self.currency):
            raise NetworkError(f"{self.currency!r} is not a currency code; use 2 to 12 capital letters or digits")


@dataclass(frozen=True)
class MadeNode:
    """A node of the new network. `name` is its X.500 name, `directory` holds its node.toml."""

    name: str
    identity: bytes
    roles: frozenset[Role]
    directory: Path
    listeners: Listeners
    notary_service_key: bytes
    oracle_key: bytes


@dataclass(frozen=True)
class MadeNetwork:
    """What `bootstrap` made."""

    directory: Path
    network_id: bytes
    parameters_hash: bytes
    nodes: tuple[MadeNode, ...]


@dataclass(frozen=True)
class _Offline:
    """The keys that stay offline."""

    root: Authority
    identity: Authority
    tls: Authority
    map_key: Ed25519PrivateKey
    map_certificate: x509.Certificate
    network_id: bytes


def bootstrap(plan: NetworkPlan, now_ns: int) -> MadeNetwork:
    """Makes the whole directory, or nothing; raises NetworkError when it exists and is not empty."""
    target = plan.directory.absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise NetworkError(f"{target} exists and is not empty; choose another directory")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Built beside the target and renamed, so that a failure leaves nothing that looks like a network.
        building = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            made = _build(plan, building, target, now_ns)
            building.chmod(0o755)
            os.replace(building, target)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    except OSError as error:
        raise NetworkError(f"{error.filename or target} cannot be written: {error.strerror}") from error
    return made


def _build(plan: NetworkPlan, building: Path, target: Path, now_ns: int) -> MadeNetwork:
    offline = _create_authorities(plan, building / "network", now_ns)
    names = [
        *_notary_names(plan),
        *_uniqueness_names(plan),
        "community",
        *_numbered("oracle", plan.oracles),
        *(f"home-{n}" for n in range(1, plan.homes + 1)),
    ]
    listeners = free_listeners(plan.host, plan.base_port, len(names))
    if plan.hosts:
        listeners = spread_listeners(plan.hosts, plan.base_port)
    services = {
        name: _create_service(building / "network", name) for name in (*_notary_names(plan), *_uniqueness_names(plan))
    }
    nodes = tuple(
        _create_node(plan, offline, building / name, where, services.get(name), now_ns)
        for name, where in zip(names, listeners, strict=True)
    )
    parameters = _parameters(plan, offline, services, nodes, now_ns)
    signed = sign_parameters(parameters, signing_key(offline.map_key), encode_certificates((offline.map_certificate,)))
    parameters_directory = building / "network" / "parameters"
    parameters_directory.mkdir()
    (parameters_directory / f"{parameters.version}.params").write_bytes(signed)
    return MadeNetwork(
        directory=target,
        network_id=offline.network_id,
        parameters_hash=parameters.hash,
        nodes=tuple(replace(node, directory=target / node.directory.name) for node in nodes),
    )


def _numbered(name: str, count: int) -> tuple[str, ...]:
    return tuple(name if n == 1 else f"{name}-{n}" for n in range(1, count + 1))


def _notary_names(plan: NetworkPlan) -> tuple[str, ...]:
    return _numbered("notary", plan.notaries)


def _uniqueness_names(plan: NetworkPlan) -> tuple[str, ...]:
    return _numbered("uniqueness", plan.uniqueness_notaries)


def _x500(plan: NetworkPlan, common_name: str) -> str:
    return f"CN={common_name},O={plan.organisation}"


def _create_authorities(plan: NetworkPlan, directory: Path, now_ns: int) -> _Offline:
    (directory / "nodes").mkdir(parents=True)
    keys = directory / "offline"
    keys.mkdir(mode=0o700)
    root = create_root(_x500(plan, "network root"), now_ns)
    identity = issue_identity_authority(root, _x500(plan, "identity authority"), now_ns)
    tls = issue_tls_authority(root, _x500(plan, "TLS authority"), now_ns)
    for name, authority in (("root", root), ("identity-authority", identity), ("tls-authority", tls)):
        write_private(keys / f"{name}.key", private_pem(authority.key))
    map_key = create_ledger_key(keys / "map.key")
    map_certificate = issue_map_certificate(root, _x500(plan, "network map"), map_key.public_key(), now_ns)
    _write_certificates(directory / "root.crt", root.certificate)
    _write_certificates(directory / "identity-authority.crt", identity.certificate)
    _write_certificates(directory / "tls-trust.crt", tls.certificate)
    _write_certificates(keys / "map.crt", map_certificate)
    return _Offline(root, identity, tls, map_key, map_certificate, network_id(root.certificate))


def _write_certificates(path: Path, *chain: x509.Certificate) -> None:
    path.write_bytes(b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain))


def _create_service(directory: Path, name: str) -> SigningKey:
    return signing_key(create_ledger_key(directory / "offline" / f"{name}-service.key"))


def _create_node(
    plan: NetworkPlan, offline: _Offline, directory: Path, where: Listeners, service: SigningKey | None, now_ns: int
) -> MadeNode:
    directory.mkdir()
    (directory / "data").mkdir(mode=0o700)
    name = _x500(plan, directory.name)
    is_oracle = directory.name in _numbered("oracle", plan.oracles)
    granted = frozenset({Role.ORACLE if is_oracle else Role.PARTY if service is None else Role.NOTARY})
    key = create_ledger_key(directory / "identity.key")
    identity = key.public_key().public_bytes_raw()
    certificate = issue_identity_certificate(offline.identity, name, key.public_key(), granted, now_ns)
    chain = (certificate, offline.identity.certificate)
    _write_certificates(directory / "identity.crt", *chain)
    tls_key = create_tls_key(directory / "tls.key")
    leaf = issue_tls_certificate(offline.tls, identity, tls_key.public_key(), now_ns)
    _write_certificates(directory / "tls.crt", leaf, offline.tls.certificate)
    create_token(directory / "client.token")
    if service is not None:
        _create_worker(directory, offline.network_id, service, now_ns)
    oracle_key = create_ledger_key(directory / "oracle.key").public_key().public_bytes_raw() if is_oracle else b""
    toml = node_toml(name, where, serves_notary=service is not None, is_oracle=is_oracle)
    (directory / "node.toml").write_text(toml, encoding="utf-8")
    info = NodeInfo(
        name=name,
        identity=identity,
        addresses=(where.peer,),
        roles=granted,
        platform_version=PLATFORM_VERSION,
        serial=1,
        notary_service_key=b"" if service is None else service.public,
        oracle_key=oracle_key,
    )
    signer = NodeIdentity(signing_key(key), name, granted, offline.network_id, encode_certificates(chain), 0)
    info_file = directory.parent / "network" / "nodes" / f"{directory.name}.info"
    info_file.write_bytes(sign_node_info(info, signer))
    return MadeNode(name, identity, granted, directory, where, info.notary_service_key, oracle_key)


def _create_worker(directory: Path, network: bytes, service: SigningKey, now_ns: int) -> None:
    worker = signing_key(create_ledger_key(directory / "worker.key"))
    until = now_ns + WORKER_LIFETIME_NS
    certificate = certify_worker(service, network, worker.public, now_ns - BACKDATE_NS, until)
    (directory / "worker.certificate").write_bytes(certificate)


def _parameters(
    plan: NetworkPlan, offline: _Offline, services: Mapping[str, SigningKey], nodes: Sequence[MadeNode], now_ns: int
) -> NetworkParameters:
    """The community issues the currency, registers meters and runs the market."""
    community = next(node.identity for node in nodes if node.directory.name == "community")
    verifying = _notary_names(plan)
    return NetworkParameters(
        version=1,
        network_id=offline.network_id,
        valid_from_ns=now_ns,
        notaries=tuple(
            Notary(name, key.public, NotaryMode.VERIFYING if name in verifying else NotaryMode.UNIQUENESS_ONLY)
            for name, key in services.items()
        ),
        contracts=tuple(ContractVersion(*key, code_hash) for key, code_hash in sorted(plan.contracts.items())),
        energy_types=tuple(sorted(plan.energy_types)),
        market_time_unit_ns=plan.market_time_unit_ns,
        transaction_bytes_max=plan.transaction_bytes_max,
        inputs_max=plan.inputs_max,
        negative_prices=plan.negative_prices,
        currencies=(Currency(plan.currency, community),),
        attachment_bytes_max=plan.attachment_bytes_max,
        oracles=tuple(Oracle(node.directory.name, node.oracle_key, ORACLE_FACTS) for node in nodes if node.oracle_key),
        registrars=(community,) if plan.registered_meters else (),
        markets=(Market("community", community, services[verifying[0]].public),),
        trade_deadline_ns=plan.trade_deadline_ns,
        reading_deadline_ns=plan.reading_deadline_ns,
        issue_attested=plan.issue_attested,
        self_trades=plan.self_trades,
    )
