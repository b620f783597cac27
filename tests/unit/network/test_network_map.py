from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from made_network import NOW_NS, Made
from p2pet.network.v1 import network_pb2

from p2petd.errors import NetworkError, UnknownParty
from p2petd.identity.certificates import Role, encode_certificates
from p2petd.identity.issuing import NODE_LIFETIME
from p2petd.network.network_map import PARAMETERS_GRACE_NS
from p2petd.network.node_info import ADDRESSES_MAX, NodeInfo, check_address, sign_node_info, verify_node_info
from p2petd.network.parameters import NetworkParameters, NotaryMode, sign_parameters

TWO_YEARS_NS = int(NODE_LIFETIME.total_seconds()) * 10**9


def info_of(network: Made, name: str) -> NodeInfo:
    return verify_node_info((network.nodes / f"{name}.info").read_bytes(), network.root, NOW_NS)


def publish(network: Made, name: str, info: NodeInfo, file: str | None = None) -> None:
    (network.nodes / f"{file or name}.info").write_bytes(sign_node_info(info, network.identity(name)))


def test_lookups(network: Made) -> None:
    known = network.load()
    home = known.by_name("home-1")
    assert home.name == "CN=home-1,O=community"
    assert known.by_name("CN=home-1,O=community") is home
    assert known.by_identity(network.public("home-1")) is home
    assert known.by_fingerprint(home.fingerprint) is home
    assert {n.common_name for n in known.with_role(Role.NOTARY)} == {"notary", "notary-2"}
    assert [n.common_name for n in known.notary_workers(known.by_name("notary").notary_service_key)] == ["notary"]
    assert known.network_id == network.made.network_id
    assert known.expired == ()


def test_unknown_parties(network: Made) -> None:
    known = network.load()
    for lookup in (
        lambda: known.by_name("nobody"),
        lambda: known.by_identity(b"\x01" * 32),
        lambda: known.by_fingerprint("a" * 52),
        lambda: known.notary_workers(b"\x01" * 32),
    ):
        with pytest.raises(UnknownParty):
            lookup()


def test_the_highest_serial_counts(network: Made) -> None:
    info = info_of(network, "home-1")
    publish(network, "home-1", replace(info, serial=3, addresses=("10.0.0.1:7500",)), file="zz-new")
    publish(network, "home-1", replace(info, serial=2, addresses=("10.0.0.2:7500",)), file="aa-old")
    assert network.load().by_name("home-1").addresses == ("10.0.0.1:7500",)


def test_parameters_in_force_are_the_newest_that_began(network: Made) -> None:
    second = replace(network.current(), version=2, valid_from_ns=NOW_NS + 10)
    signed = sign_parameters(second, network.map_key(), encode_certificates(network.map_chain()))
    (network.parameters / "2.params").write_bytes(signed)
    known = network.load()
    assert len(known.parameters) == 2
    assert known.current_parameters(NOW_NS + 9).version == 1
    assert known.current_parameters(NOW_NS + 10).version == 2
    with pytest.raises(NetworkError, match="in force"):
        known.current_parameters(NOW_NS - 1)


def publish_parameters(network: Made, parameters: NetworkParameters) -> None:
    signed = sign_parameters(parameters, network.map_key(), encode_certificates(network.map_chain()))
    (network.parameters / f"{parameters.version}.params").write_bytes(signed)


def test_superseded_parameters_may_be_cited_for_a_day(network: Made) -> None:
    first = network.current()
    second = replace(first, version=2, valid_from_ns=NOW_NS + 10, negative_prices=True)
    publish_parameters(network, second)
    known = network.load()
    assert known.is_in_force(first.hash, NOW_NS)
    assert not known.is_in_force(second.hash, NOW_NS + 9)
    assert known.is_in_force(second.hash, NOW_NS + 10)
    assert known.is_in_force(first.hash, NOW_NS + 9 + PARAMETERS_GRACE_NS)
    assert not known.is_in_force(first.hash, NOW_NS + 10 + PARAMETERS_GRACE_NS)
    assert not known.is_in_force(bytes(32), NOW_NS)


@pytest.mark.parametrize(
    ("change", "why"),
    [({"valid_from_ns": NOW_NS - 1}, "before its predecessor"), ({"market_time_unit_ns": 1}, "market time unit")],
)
def test_parameters_that_cannot_follow_their_predecessor_are_refused(
    network: Made, change: dict[str, int], why: str
) -> None:
    fields = {"version": 2, "valid_from_ns": NOW_NS + 10, **change}
    publish_parameters(network, replace(network.current(), **fields))
    with pytest.raises(NetworkError, match=why):
        network.load()


def other_order(parameters: NetworkParameters) -> NetworkParameters:
    return replace(parameters, notaries=parameters.notaries[::-1])


def other_mode(parameters: NetworkParameters) -> NetworkParameters:
    first, *others = parameters.notaries
    return replace(parameters, notaries=(first, *(replace(n, mode=NotaryMode.UNIQUENESS_ONLY) for n in others)))


def other_registration(parameters: NetworkParameters) -> NetworkParameters:
    return replace(parameters, registrars=() if parameters.registrars else (parameters.currencies[0].issuer,))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (other_order, "the first notary"),
        (other_mode, "mode of a notary"),
        (other_registration, "whether meters are registered"),
    ],
)
def test_c02_parameters_under_which_a_unit_could_be_issued_twice_are_refused(
    network: Made, change: Callable[[NetworkParameters], NetworkParameters], why: str
) -> None:
    second = replace(network.current(), version=2, valid_from_ns=NOW_NS + 10)
    publish_parameters(network, second)
    assert len(network.load().parameters) == 2
    publish_parameters(network, change(replace(second, version=3, valid_from_ns=NOW_NS + 20)))
    with pytest.raises(NetworkError, match=f"version 3 of the network parameters changes .*{why}"):
        network.load()


def test_two_nodes_that_claim_one_notary_service_are_refused(network: Made) -> None:
    service = info_of(network, "notary").notary_service_key
    publish(network, "notary-2", replace(info_of(network, "notary-2"), notary_service_key=service))
    with pytest.raises(NetworkError, match="same notary service"):
        network.load()


def test_one_version_with_two_contents_is_refused(network: Made) -> None:
    other = replace(network.current(), negative_prices=True)
    signed = sign_parameters(other, network.map_key(), encode_certificates(network.map_chain()))
    (network.parameters / "1b.params").write_bytes(signed)
    with pytest.raises(NetworkError, match="signed twice"):
        network.load()


def test_missing_parameters_or_directories_are_refused(network: Made) -> None:
    (network.parameters / "1.params").unlink()
    with pytest.raises(NetworkError, match="no signed network parameters"):
        network.load()
    network.parameters.rmdir()
    with pytest.raises(NetworkError, match="not a directory"):
        network.load()


def test_r15_an_expired_node_is_left_out_and_named(network: Made) -> None:
    known = network.load(NOW_NS + TWO_YEARS_NS)
    assert set(known.expired) == {
        f"{n}.info" for n in ("community", "home-1", "home-2", "home-3", "notary", "notary-2", "oracle")
    }
    assert known.nodes == ()


def _content(message: network_pb2.SignedNodeInfo) -> None:
    info = network_pb2.NodeInfo.FromString(message.node_info)
    info.addresses[0] = "203.0.113.1:7500"
    message.node_info = info.SerializeToString(deterministic=True)


def _signature(message: network_pb2.SignedNodeInfo) -> None:
    message.signature = message.signature[:-1] + bytes([message.signature[-1] ^ 1])


def _scheme(message: network_pb2.SignedNodeInfo) -> None:
    message.scheme = 0


def _unsigned(message: network_pb2.SignedNodeInfo) -> None:
    message.ClearField("signature")


def _no_certificates(message: network_pb2.SignedNodeInfo) -> None:
    message.ClearField("certificates")


def _trailing(message: network_pb2.SignedNodeInfo) -> None:
    message.node_info += b"\x9a\x06\x01x"


@pytest.mark.parametrize("change", [_content, _signature, _scheme, _unsigned, _no_certificates, _trailing])
def test_r15_a_tampered_node_info_is_refused_by_file(
    network: Made, change: Callable[[network_pb2.SignedNodeInfo], None]
) -> None:
    path = network.nodes / "home-2.info"
    message = network_pb2.SignedNodeInfo.FromString(path.read_bytes())
    change(message)
    path.write_bytes(message.SerializeToString())
    with pytest.raises(NetworkError, match=r"home-2\.info: "):
        network.load()


@pytest.mark.parametrize("content", [b"", b"\xff\xff", b"x" * 70_000])
def test_a_damaged_node_info_is_refused_by_file(network: Made, content: bytes) -> None:
    (network.nodes / "home-2.info").write_bytes(content)
    with pytest.raises(NetworkError, match=r"home-2\.info: "):
        network.load()


@pytest.mark.parametrize(
    "change",
    [
        {"name": "CN=home-2,O=community"},
        {"roles": frozenset({Role.PARTY, Role.NOTARY})},
        {"notary_service_key": bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")},
        {"addresses": ()},
        {"addresses": ("127.0.0.1",)},
        {"addresses": ("127.0.0.1:1",) * (ADDRESSES_MAX + 1)},
    ],
)
def test_r15_a_node_cannot_claim_what_its_certificate_lacks(network: Made, change: dict[str, Any]) -> None:
    info = replace(info_of(network, "home-1"), **change)
    publish(network, "home-1", info)
    with pytest.raises(NetworkError, match=r"home-1\.info: "):
        network.load()


def test_r15_a_node_cannot_speak_for_another(network: Made) -> None:
    stolen = replace(info_of(network, "home-2"), serial=9)
    publish(network, "home-1", stolen, file="stolen")
    with pytest.raises(NetworkError, match=r"stolen\.info: .*differs from its certificate"):
        network.load()


@pytest.mark.parametrize("address", ["127.0.0.1:7500", "node.example:1", "[::1]:65535"])
def test_addresses(address: str) -> None:
    check_address(address)


@pytest.mark.parametrize("address", ["", "host", "host:0", "host:65536", "ho st:1", "::1:80", "host:1x", "host:١"])
def test_malformed_addresses(address: str) -> None:
    with pytest.raises(NetworkError, match="is not an address"):
        check_address(address)
