import socket
import struct
from hashlib import sha256
from pathlib import Path

import pytest
from made_network import CONTRACTS, NOW_NS, Made
from p2pet.ledger.v1 import transaction_pb2

from p2petd.config import check_config
from p2petd.errors import NetworkError
from p2petd.identity.certificates import Role
from p2petd.identity.keys import load_signing_key, load_token
from p2petd.identity.tls import load_tls
from p2petd.native import verify_signatures
from p2petd.network.bootstrap import HOMES_MAX, NetworkPlan, bootstrap
from p2petd.network.bootstrap_files import free_listeners
from p2petd.network.parameters import ORACLE_FACTS

PRIVATE = {"identity.key", "tls.key", "client.token", "worker.key", "oracle.key"}


def test_every_node_can_start_from_its_directory(network: Made) -> None:
    for node in network.made.nodes:
        config = check_config(node.directory)
        assert config.node.name == node.name
        identity = network.identity(node.directory.name)
        assert identity.public == node.identity
        assert identity.name == node.name
        assert identity.network_id == network.made.network_id
        load_tls(
            config.identity.tls_key_file,
            config.identity.tls_certificate_file,
            config.network.tls_trust,
            network.root,
            identity.public,
            NOW_NS,
        )
        assert len(load_token(config.client.token_file)) == 64
        assert config.node.data_directory.is_dir()
        assert config.client.is_loopback
        assert (config.peer.listen, config.client.listen) == (node.listeners.peer, node.listeners.client)
        assert network.load().by_identity(node.identity).addresses == (node.listeners.peer,)


def test_roles_and_names(network: Made) -> None:
    names = [node.directory.name for node in network.made.nodes]
    assert names == ["notary", "notary-2", "community", "oracle", "home-1", "home-2", "home-3"]
    roles = [{Role.NOTARY}] * 2 + [{Role.PARTY}, {Role.ORACLE}] + [{Role.PARTY}] * 3
    assert [node.roles for node in network.made.nodes] == roles
    assert network.current().hash == network.made.parameters_hash
    assert [c.issuer for c in network.current().currencies] == [network.public("community")]


def test_private_files_are_private(network: Made) -> None:
    private = [p for p in network.directory.rglob("*") if p.name in PRIVATE or p.parent.name == "offline"]
    assert {p.stat().st_mode & 0o777 for p in private if p.suffix != ".crt"} == {0o600}
    assert (network.directory / "network" / "offline").stat().st_mode & 0o777 == 0o700
    secrets = {p.read_bytes() for p in private}
    assert len(secrets) == len(private)
    for public in (network.directory / "network").rglob("*"):
        if public.is_file() and public.parent.name != "offline":
            assert b"PRIVATE KEY" not in public.read_bytes()


def test_only_a_notary_holds_a_worker_key_certified_by_its_service(network: Made) -> None:
    services = {n.name: n.service_key for n in network.current().notaries}
    for name in ("notary", "notary-2"):
        config = check_config(network.directory / name).notary
        assert config is not None
        certificate = transaction_pb2.WorkerCertificate.FromString(config.worker_certificate_file.read_bytes())
        worker = load_signing_key(config.worker_key_file)
        assert (certificate.service_key, certificate.worker_key) == (services[name], worker.public)
        assert certificate.not_before_ns < NOW_NS < certificate.not_after_ns
        lifetime = struct.pack(">qq", certificate.not_before_ns, certificate.not_after_ns)
        digest = sha256(services[name] + worker.public + lifetime).digest()
        item = (services[name], network.made.network_id, 4, digest, certificate.signature)
        assert verify_signatures([item]) == [True]
        assert (
            load_signing_key(network.directory / "network" / "offline" / f"{name}-service.key").public == services[name]
        )
    assert check_config(network.directory / "home-1").notary is None
    assert not (network.directory / "home-1" / "worker.key").exists()


def test_only_an_oracle_holds_an_oracles_key_which_the_parameters_list(network: Made) -> None:
    (listed,) = network.current().oracles
    config = check_config(network.directory / "oracle").oracle
    assert config is not None
    assert load_signing_key(config.key_file).public == listed.key
    assert network.load().oracle_node(listed.key).identity == network.public("oracle")
    assert listed.facts == ORACLE_FACTS
    assert listed.key != network.public("oracle")
    assert check_config(network.directory / "home-1").oracle is None
    assert not (network.directory / "home-1" / "oracle.key").exists()


def test_a_directory_in_use_is_refused_and_left_alone(network: Made) -> None:
    before = {p: p.read_bytes() for p in network.directory.rglob("*") if p.is_file()}
    with pytest.raises(NetworkError, match="not empty"):
        bootstrap(NetworkPlan(network.directory, 1, "EUR", CONTRACTS), NOW_NS)
    assert {p: p.read_bytes() for p in network.directory.rglob("*") if p.is_file()} == before


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    plan = NetworkPlan(tmp_path / "net", 1, "EUR", {("energy", 1): b"not a hash"})
    with pytest.raises(NetworkError, match="code hash"):
        bootstrap(plan, NOW_NS)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_directory_is_used(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    bootstrap(NetworkPlan(tmp_path / "net", 0, "EUR", CONTRACTS), NOW_NS)
    assert sorted(p.name for p in (tmp_path / "net").iterdir()) == ["community", "network", "notary", "oracle"]


@pytest.mark.parametrize(
    ("homes", "notaries", "currency"),
    [(-1, 1, "EUR"), (HOMES_MAX + 1, 1, "EUR"), (1, 0, "EUR"), (1, 17, "EUR"), (1, 1, "eur"), (1, 1, "E")],
)
def test_a_plan_out_of_range_is_refused(tmp_path: Path, homes: int, notaries: int, currency: str) -> None:
    with pytest.raises(NetworkError):
        NetworkPlan(tmp_path, homes, currency, CONTRACTS, notaries=notaries)


def test_free_ports_are_distinct_and_can_be_bound() -> None:
    listeners = free_listeners("127.0.0.1", 0, 20)
    ports = {int(address.rpartition(":")[2]) for one in listeners for address in (one.peer, one.client)}
    assert len(ports) == 40
    for port in ports:
        with socket.create_server(("127.0.0.1", port)):
            pass


def test_ports_from_a_base_must_fit() -> None:
    assert free_listeners("127.0.0.1", 65_532, 2)[1].client == "127.0.0.1:65535"
    with pytest.raises(NetworkError, match="do not fit"):
        free_listeners("127.0.0.1", 65_533, 2)


def test_free_ports_are_none_that_an_outgoing_connection_gets() -> None:
    """Else one of these could take the port of a node while that is stopped, and the node could not start again."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()[0])
    listeners = free_listeners("127.0.0.1", 0, 20)
    ports = [int(address.rsplit(":", 1)[1]) for one in listeners for address in (one.peer, one.client)]
    assert len(set(ports)) == 40
    assert max(ports) < first
