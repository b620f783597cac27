from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from p2petd.identity.certificates import load_certificates
from p2petd.identity.keys import load_ledger_key, load_signing_key
from p2petd.identity.node_identity import NodeIdentity, load_identity
from p2petd.native import SigningKey
from p2petd.network.bootstrap import MadeNetwork
from p2petd.network.network_map import NetworkMap
from p2petd.network.parameters import NetworkParameters, verify_parameters

NOW_NS = 1_782_907_200 * 10**9
CONTRACTS = {("energy", 1): b"\x01" * 32, ("payment", 1): b"\x02" * 32}


@dataclass(frozen=True)
class Made:
    """A bootstrapped network with its offline keys."""

    made: MadeNetwork
    directory: Path
    root: x509.Certificate

    @property
    def nodes(self) -> Path:
        return self.directory / "network" / "nodes"

    @property
    def parameters(self) -> Path:
        return self.directory / "network" / "parameters"

    def load(self, now_ns: int = NOW_NS) -> NetworkMap:
        return NetworkMap.load(self.nodes, self.parameters, self.root, now_ns)

    def current(self) -> NetworkParameters:
        return verify_parameters((self.parameters / "1.params").read_bytes(), self.root).parameters

    def map_key(self) -> SigningKey:
        return load_signing_key(self.directory / "network" / "offline" / "map.key")

    def map_chain(self) -> tuple[x509.Certificate, ...]:
        return load_certificates(self.directory / "network" / "offline" / "map.crt")

    def identity(self, name: str) -> NodeIdentity:
        node = self.directory / name
        return load_identity(node / "identity.key", node / "identity.crt", self.root, NOW_NS)

    def public(self, name: str) -> bytes:
        return load_ledger_key(self.directory / name / "identity.key").public_key().public_bytes_raw()
