import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from made_network import CONTRACTS, NOW_NS, Made
from p2pet.network.v1 import network_pb2

from p2petd.errors import NetworkError
from p2petd.identity.certificates import encode_certificates, not_after_ns
from p2petd.identity.keys import signing_key
from p2petd.network.parameters import (
    INPUTS_MAX,
    TRANSACTION_BYTES_MAX,
    ContractVersion,
    Currency,
    NetworkParameters,
    Notary,
    NotaryMode,
    sign_parameters,
    verify_parameters,
)


def signed(network: Made, parameters: NetworkParameters) -> bytes:
    return sign_parameters(parameters, network.map_key(), encode_certificates(network.map_chain()))


def test_parameters_survive_the_wire(network: Made) -> None:
    parameters = network.current()
    assert NetworkParameters.decode(parameters.encode()) == parameters
    assert parameters.hash == hashlib.sha256(parameters.encode()).digest()
    verified = verify_parameters(signed(network, parameters), network.root)
    assert (verified.parameters, verified.hash) == (parameters, parameters.hash)


def test_parameters_give_the_rules_and_contracts_their_part(network: Made) -> None:
    parameters = network.current()
    assert parameters.rules_entry() == (
        parameters.hash,
        [(notary.service_key, 1) for notary in parameters.notaries],
        parameters.transaction_bytes_max,
        parameters.inputs_max,
    )
    contract = parameters.contract_parameters()
    assert contract.contracts == CONTRACTS
    assert contract.currencies == {"EUR": frozenset({network.public("community")})}
    assert contract.market_time_unit_ns == 15 * 60 * 10**9
    assert "solar" in contract.energy_types


def test_a_currency_may_have_several_issuers(network: Made) -> None:
    other = network.public("home-1")
    parameters = network.current()
    both = replace(parameters, currencies=(*parameters.currencies, Currency("EUR", other)))
    assert both.contract_parameters().currencies == {"EUR": frozenset({network.public("community"), other})}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda p: {"version": 0}, "version"),
        (lambda p: {"network_id": b"short"}, "network id"),
        (lambda p: {"valid_from_ns": 0}, "valid_from_ns"),
        (lambda p: {"notaries": ()}, "no notary"),
        (lambda p: {"notaries": (p.notaries[0], p.notaries[0])}, "twice"),
        (lambda p: {"notaries": (p.notaries[0], replace(p.notaries[0], name="other"))}, "one service key"),
        (lambda p: {"notaries": (Notary("n", b"\x00" * 31, NotaryMode.VERIFYING),)}, "not a valid key"),
        (lambda p: {"contracts": (*p.contracts, p.contracts[0])}, "twice"),
        (lambda p: {"contracts": (ContractVersion("energy", 1, b"short"),)}, "code hash"),
        (lambda p: {"contracts": (ContractVersion("", 1, b"x" * 32),)}, "1 to 100 characters"),
        (lambda p: {"contracts": (ContractVersion("energy", 0, b"x" * 32),)}, "version of contract"),
        (lambda p: {"energy_types": ("solar", "solar")}, "twice"),
        (lambda p: {"energy_types": ("x" * 101,)}, "1 to 100 characters"),
        (lambda p: {"market_time_unit_ns": 0}, "market_time_unit_ns"),
        (lambda p: {"transaction_bytes_max": 0}, "transaction_bytes_max"),
        (lambda p: {"transaction_bytes_max": TRANSACTION_BYTES_MAX + 1}, "transaction_bytes_max"),
        (lambda p: {"inputs_max": INPUTS_MAX + 1}, "inputs_max"),
        (lambda p: {"currencies": (*p.currencies, *p.currencies)}, "twice"),
        (lambda p: {"currencies": (Currency("EUR", b""),)}, "not a valid key"),
    ],
)
def test_parameters_out_of_range_are_refused(
    network: Made, change: Callable[[NetworkParameters], dict[str, Any]], why: str
) -> None:
    parameters = network.current()
    with pytest.raises(NetworkError, match=why):
        replace(parameters, **change(parameters))


def test_limits_are_accepted_at_their_maximum(network: Made) -> None:
    parameters = replace(network.current(), transaction_bytes_max=TRANSACTION_BYTES_MAX, inputs_max=INPUTS_MAX)
    assert verify_parameters(signed(network, parameters), network.root).parameters == parameters


@pytest.mark.parametrize("tail", [b"\x9a\x06\x01x", b"\x08\x01", b"\x50\x00", b"\xff"])
def test_parameters_that_are_not_canonical_are_refused(network: Made, tail: bytes) -> None:
    with pytest.raises(NetworkError, match=r"not canonical|do not decode"):
        NetworkParameters.decode(network.current().encode() + tail)


def test_an_unknown_notary_mode_is_refused(network: Made) -> None:
    message = network_pb2.NetworkParameters.FromString(network.current().encode())
    message.notaries[0].mode = 3
    with pytest.raises(NetworkError, match="unknown mode"):
        NetworkParameters.decode(message.SerializeToString())


def tampered(network: Made, change: Callable[[network_pb2.SignedNetworkParameters], None]) -> bytes:
    message = network_pb2.SignedNetworkParameters.FromString(signed(network, network.current()))
    change(message)
    return message.SerializeToString()


def refused(network: Made, encoded: bytes, why: str) -> None:
    with pytest.raises(NetworkError, match=why):
        verify_parameters(encoded, network.root)


def test_parameters_with_another_content_or_signature_are_refused(network: Made) -> None:
    other = replace(network.current(), negative_prices=True).encode()

    def content(message: network_pb2.SignedNetworkParameters) -> None:
        message.parameters = other

    def signature(message: network_pb2.SignedNetworkParameters) -> None:
        message.signature = bytes([message.signature[0] ^ 1]) + message.signature[1:]

    def scheme(message: network_pb2.SignedNetworkParameters) -> None:
        message.scheme = 2

    for change in (content, signature, scheme):
        refused(network, tampered(network, change), "does not verify")
    refused(network, b"\xff", "do not decode")


def test_parameters_signed_by_anyone_but_the_map_are_refused(network: Made) -> None:
    node = network.identity("notary")
    refused(network, sign_parameters(network.current(), node.signing_key, node.certificates), "root itself certified")
    own = signing_key(Ed25519PrivateKey.generate())
    chain = encode_certificates(network.map_chain())
    refused(network, sign_parameters(network.current(), own, chain), "does not verify")
    refused(network, sign_parameters(network.current(), own, ()), "not certified")


def test_parameters_of_another_network_are_refused(network: Made) -> None:
    parameters = replace(network.current(), network_id=b"\x07" * 32)
    refused(network, signed(network, parameters), "another network")


def test_old_parameters_outlive_the_map_certificate(network: Made) -> None:
    end = not_after_ns(network.map_chain()[0])
    last = replace(network.current(), valid_from_ns=end - 1)
    assert verify_parameters(signed(network, last), network.root).parameters.valid_from_ns > NOW_NS
    refused(network, signed(network, replace(last, valid_from_ns=end)), "expired")
