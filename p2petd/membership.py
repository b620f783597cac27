"""Who a node is and what network it is in, read from the files that its configuration names."""

import logging
from dataclasses import dataclass

from p2petd import native
from p2petd.config import NodeConfig
from p2petd.errors import NetworkError
from p2petd.identity.certificates import load_root
from p2petd.identity.node_identity import NodeIdentity, load_identity
from p2petd.identity.tls import TlsMaterial, load_tls
from p2petd.ledger.parameters import ContractParameters
from p2petd.network.network_map import NetworkMap
from p2petd.observe.clock import system_clock

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Membership:
    """Who this node is and what network it is in; everything verified."""

    identity: NodeIdentity
    tls: TlsMaterial
    network_map: NetworkMap
    rules: native.Rules
    contract_parameters: dict[bytes, ContractParameters]

    @staticmethod
    def load(config: NodeConfig) -> "Membership":
        """Raises KeyFileError, CertificateError or NetworkError naming the file."""
        now_ns = system_clock()
        root = load_root(config.network.root_certificate)
        files = config.identity
        identity = load_identity(files.key_file, files.certificate_file, root, now_ns)
        tls = load_tls(
            files.tls_key_file, files.tls_certificate_file, config.network.tls_trust, root, identity.public, now_ns
        )
        network_map = NetworkMap.load(config.network.nodes_directory, config.network.parameters_directory, root, now_ns)
        if identity.name != config.node.name:
            raise NetworkError(f"node.toml calls this node {config.node.name}, but its certificate {identity.name}")
        for file in network_map.expired:
            log.warning("%s is left out: the certificate of that node has expired", file)
        versions = [signed.parameters for signed in network_map.parameters.values()]
        return Membership(
            identity=identity,
            tls=tls,
            network_map=network_map,
            rules=native.Rules(identity.network_id, [version.rules_entry() for version in versions]),
            contract_parameters={version.hash: version.contract_parameters() for version in versions},
        )
