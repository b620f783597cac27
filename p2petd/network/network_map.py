"""The network map: every node and every version of the parameters that this node knows, all verified."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

from cryptography import x509

from p2petd.errors import NetworkError, UnknownParty
from p2petd.identity.certificates import Role, network_id
from p2petd.network.node_info import SIGNED_INFO_BYTES_MAX, NodeInfo, expires_at_ns, verify_node_info
from p2petd.network.parameters import (
    SIGNED_PARAMETERS_BYTES_MAX,
    NetworkParameters,
    NotaryMode,
    SignedParameters,
    verify_parameters,
)
from p2petd.units import HOUR_NS

FILES_MAX = 100_000
# A transaction that was built just before new parameters came into force can still be notarised for so long.
PARAMETERS_GRACE_NS = 24 * HOUR_NS


@dataclass(frozen=True)
class NetworkMap:
    """Verified nodes and parameters. `expired` names the files whose node must renew its certificate."""

    network_id: bytes
    nodes: tuple[NodeInfo, ...]
    parameters: Mapping[bytes, SignedParameters]
    expired: tuple[str, ...]
    _by_identity: Mapping[bytes, NodeInfo]
    _by_fingerprint: Mapping[str, NodeInfo]

    @staticmethod
    def load(nodes_directory: Path, parameters_directory: Path, root: x509.Certificate, now_ns: int) -> "NetworkMap":
        """Reads `*.info` and `*.params`; raises NetworkError naming the file that is unsigned, damaged or mismatched.

        A node whose certificate ended is left out and its file named in `expired`: it must not stop all others.
        Of several infos of one identity the highest serial counts.
        """
        parameters = dict(_load_parameters(parameters_directory, root))
        nodes: dict[bytes, NodeInfo] = {}
        expired: list[str] = []
        for path in _files(nodes_directory, "*.info"):
            encoded = _read(path, SIGNED_INFO_BYTES_MAX)
            with _naming(path):
                if expires_at_ns(encoded) <= now_ns:
                    expired.append(path.name)
                    continue
                info = verify_node_info(encoded, root, now_ns)
            known = nodes.get(info.identity)
            if known is None or info.serial > known.serial:
                nodes[info.identity] = info
        _check_names(nodes.values())
        _check_services(nodes.values())
        check_succession([signed.parameters for signed in parameters.values()])
        ordered = tuple(sorted(nodes.values(), key=lambda info: info.name))
        return NetworkMap(
            network_id=network_id(root),
            nodes=ordered,
            parameters=MappingProxyType(parameters),
            expired=tuple(expired),
            _by_identity=MappingProxyType(nodes),
            _by_fingerprint=MappingProxyType({info.fingerprint: info for info in ordered}),
        )

    def current_parameters(self, now_ns: int) -> NetworkParameters:
        """The newest version in force at that moment; raises NetworkError when there is none."""
        in_force = [s.parameters for s in self.parameters.values() if s.parameters.valid_from_ns <= now_ns]
        if not in_force:
            raise NetworkError("no version of the network parameters is in force yet; check the clock")
        return max(in_force, key=lambda parameters: parameters.version)

    def is_in_force(self, parameters_hash: bytes, now_ns: int) -> bool:
        """Whether transactions may cite that version: it is the newest in force, or was until a short while ago."""
        cited = self.parameters.get(parameters_hash)
        if cited is None or cited.parameters.valid_from_ns > now_ns:
            return False
        successors = [s.parameters for s in self.parameters.values() if s.parameters.version > cited.parameters.version]
        return all(p.valid_from_ns + PARAMETERS_GRACE_NS > now_ns for p in successors)

    def by_identity(self, identity: bytes) -> NodeInfo:
        """The node with this identity key; raises UnknownParty."""
        try:
            return self._by_identity[identity]
        except KeyError:
            raise UnknownParty(f"no node of the network has the identity key {identity.hex()}") from None

    def by_fingerprint(self, node_fingerprint: str) -> NodeInfo:
        """The node with this fingerprint; raises UnknownParty."""
        try:
            return self._by_fingerprint[node_fingerprint]
        except KeyError:
            raise UnknownParty(f"no node of the network has the fingerprint {node_fingerprint}") from None

    def by_name(self, name: str) -> NodeInfo:
        """The node with this X.500 name, else the only one with this CN; raises UnknownParty."""
        for info in self.nodes:
            if info.name == name:
                return info
        found = [info for info in self.nodes if info.common_name == name]
        if not found:
            raise UnknownParty(f"no node of the network is called {name!r}")
        if len(found) > 1:
            raise UnknownParty(
                f"{len(found)} nodes are called {name!r}; give the whole X.500 name, such as {found[0].name}"
            )
        return found[0]

    def with_role(self, role: Role) -> tuple[NodeInfo, ...]:
        """The nodes that hold the role, by name."""
        return tuple(info for info in self.nodes if role in info.roles)

    def notary_workers(self, service_key: bytes) -> tuple[NodeInfo, ...]:
        """The nodes that work for this notary service; raises UnknownParty when there is none."""
        found = tuple(info for info in self.nodes if info.notary_service_key == service_key)
        if not found:
            raise UnknownParty(f"no node of the network works for the notary service {service_key.hex()}")
        return found

    def oracle_node(self, oracle_key: bytes) -> NodeInfo:
        """The node that signs with this oracle's key; raises UnknownParty when there is none."""
        for info in self.nodes:
            if info.oracle_key == oracle_key:
                return info
        raise UnknownParty(f"no node of the network signs facts with the oracle's key {oracle_key.hex()}")


def _files(directory: Path, pattern: str) -> list[Path]:
    if not directory.is_dir():
        raise NetworkError(f"{directory} is not a directory; copy it from the network's operator")
    found = sorted(directory.glob(pattern))
    if len(found) > FILES_MAX:
        raise NetworkError(f"{directory} holds more than {FILES_MAX} files")
    return found


def _read(path: Path, bytes_max: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(bytes_max + 1)
    except OSError as error:
        raise NetworkError(f"{path} cannot be read: {error.strerror}") from error


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """A NetworkError inside names the file."""
    try:
        yield
    except NetworkError as error:
        raise NetworkError(f"{path}: {error}") from error


def _load_parameters(directory: Path, root: x509.Certificate) -> Iterable[tuple[bytes, SignedParameters]]:
    versions: dict[int, bytes] = {}
    for path in _files(directory, "*.params"):
        encoded = _read(path, SIGNED_PARAMETERS_BYTES_MAX)
        with _naming(path):
            signed = verify_parameters(encoded, root)
        version = signed.parameters.version
        if versions.setdefault(version, signed.hash) != signed.hash:
            raise NetworkError(
                f"{path}: version {version} of the network parameters was signed twice with other content"
            )
        yield signed.hash, signed
    if not versions:
        raise NetworkError(f"{directory} holds no signed network parameters; copy them from the network's operator")


def _check_services(nodes: Iterable[NodeInfo]) -> None:
    """Until a node info carries the worker's certificate, one node works for a notary service: nobody can slip in."""
    workers: dict[bytes, NodeInfo] = {}
    for info in nodes:
        service = info.notary_service_key
        if service and workers.setdefault(service, info).identity != info.identity:
            raise NetworkError(
                f"{info.name} and {workers[service].name} both say that they are the same notary service"
            )


def check_succession(versions: Iterable[NetworkParameters]) -> None:
    """A later version comes into force later, and changes nothing on which claims, locks and proofs rest.

    1. The market time unit stays; 2. the first notary stays, because it alone takes the claims of meters and readings;
    3. meters are registered from the first version on or never: else a unit could be issued
    at two notaries; 4. a notary keeps its mode in all versions that list it.
    """
    ordered = sorted(versions, key=lambda parameters: parameters.version)
    modes: dict[bytes, NotaryMode] = {}
    for version in ordered:
        for notary in version.notaries:
            if modes.setdefault(notary.service_key, notary.mode) is not notary.mode:
                raise NetworkError(f"version {version.version} of the network parameters changes the mode of a notary")
    for earlier, later in pairwise(ordered):
        changed = ""
        if later.valid_from_ns <= earlier.valid_from_ns:
            raise NetworkError(f"version {later.version} of the network parameters is in force before its predecessor")
        if later.market_time_unit_ns != earlier.market_time_unit_ns:
            changed = "the market time unit"
        elif earlier.notaries[0].service_key != later.notaries[0].service_key:
            changed = "the first notary, which takes the claims of meters and readings"
        elif bool(later.registrars) != bool(earlier.registrars):
            changed = "whether meters are registered"
        if changed:
            raise NetworkError(f"version {later.version} of the network parameters changes {changed}")


def _check_names(nodes: Iterable[NodeInfo]) -> None:
    names: dict[str, NodeInfo] = {}
    for info in nodes:
        if names.setdefault(info.name, info).identity != info.identity:
            raise NetworkError(f"two nodes with different identity keys are called {info.name}")
