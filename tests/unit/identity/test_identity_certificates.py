"""R15: certificates that are expired, early, of the wrong authority, self-signed, wrong in name, role, kind or key."""

import base64
import hashlib
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID

from p2petd.errors import CertificateError
from p2petd.identity import issuing
from p2petd.identity.certificates import (
    CHAIN_MAX,
    OID_LEDGER_USAGE,
    OID_ROLES,
    Role,
    decode_certificates,
    dns_names,
    encode_certificates,
    encode_roles,
    ledger_key,
    load_certificates,
    load_root,
    network_id,
    not_after_ns,
    not_before_ns,
    roles,
    verify_chain,
    verify_issued,
)
from p2petd.identity.fingerprint import fingerprint, fingerprint_of_san, san_name
from p2petd.units import HOUR_NS

NOW_NS = 1_782_907_200 * 10**9
NAME = "CN=Alice,O=Alice,C=DE"


class Network:
    """Authorities and one node, all new."""

    def __init__(self) -> None:
        self.root = issuing.create_root("CN=root", NOW_NS)
        self.identity = issuing.issue_identity_authority(self.root, "CN=identity authority", NOW_NS)
        self.tls = issuing.issue_tls_authority(self.root, "CN=TLS authority", NOW_NS)
        self.key = Ed25519PrivateKey.generate()
        self.public = self.key.public_key().public_bytes_raw()
        self.leaf = issuing.issue_identity_certificate(
            self.identity, NAME, self.key.public_key(), {Role.PARTY, Role.ORACLE}, NOW_NS
        )
        self.tls_key = ec.generate_private_key(ec.SECP256R1())
        self.tls_leaf = issuing.issue_tls_certificate(self.tls, self.public, self.tls_key.public_key(), NOW_NS)
        self.chain = (self.leaf, self.identity.certificate)


@pytest.fixture(scope="module")
def network() -> Network:
    return Network()


def refused(network: Network, *chain: x509.Certificate, at_ns: int = NOW_NS) -> str:
    with pytest.raises(CertificateError) as caught:
        verify_chain(chain, network.root.certificate, at_ns, OID_LEDGER_USAGE)
    return str(caught.value)


def test_an_issued_identity_verifies_and_says_name_key_and_roles(network: Network) -> None:
    verify_chain(network.chain, network.root.certificate, NOW_NS, OID_LEDGER_USAGE)
    assert network.leaf.subject.rfc4514_string() == NAME
    assert ledger_key(network.leaf) == network.public
    assert roles(network.leaf) == {Role.PARTY, Role.ORACLE}
    assert decode_certificates(encode_certificates(network.chain)) == network.chain


def test_the_tls_leaf_names_the_identity_key(network: Network) -> None:
    verify_issued(network.tls_leaf, (network.tls.certificate,), network.root.certificate, NOW_NS)
    expected = base64.b32encode(hashlib.sha256(network.public).digest()).decode().lower().rstrip("=")
    assert dns_names(network.tls_leaf) == (f"{expected}.node.p2pet",)
    usages = network.tls_leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usages) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}


def test_the_map_certificate_is_issued_by_the_root(network: Network) -> None:
    key = Ed25519PrivateKey.generate().public_key()
    certificate = issuing.issue_map_certificate(network.root, "CN=map", key, NOW_NS)
    verify_chain((certificate,), network.root.certificate, NOW_NS, OID_LEDGER_USAGE)
    assert roles(certificate) == {Role.MAP}


def test_the_network_id_is_of_the_root_key_alone(network: Network) -> None:
    info = network.root.key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert network_id(network.root.certificate) == hashlib.sha256(info).digest()


def test_r15_expired_and_not_yet_valid(network: Network) -> None:
    start, end = not_before_ns(network.leaf), not_after_ns(network.leaf)
    assert start == NOW_NS - HOUR_NS
    verify_chain(network.chain, network.root.certificate, start, OID_LEDGER_USAGE)
    verify_chain(network.chain, network.root.certificate, end - 1, OID_LEDGER_USAGE)
    assert "not valid before" in refused(network, *network.chain, at_ns=start - 1)
    assert "expired" in refused(network, *network.chain, at_ns=end)


def test_r15_expired_authority_above_a_valid_leaf(network: Network) -> None:
    end = not_after_ns(network.identity.certificate)
    leaf = issuing.issue_identity_certificate(
        network.identity, NAME, network.key.public_key(), {Role.PARTY}, end - HOUR_NS
    )
    assert not_after_ns(leaf) == end
    assert "expired" in refused(network, leaf, network.identity.certificate, at_ns=end)


def test_r15_another_network_of_the_same_names(network: Network) -> None:
    other = Network()
    assert "was not issued by" in refused(network, *other.chain)
    assert "was not issued by" in refused(network, other.leaf, network.identity.certificate)


def test_r15_self_signed_leaf(network: Network) -> None:
    own = issuing.Authority(network.key, network.leaf)
    forged = issuing.issue_identity_certificate(own, NAME, network.key.public_key(), {Role.NOTARY}, NOW_NS)
    assert "was not issued by" in refused(network, forged)


def test_r15_a_leaf_cannot_issue(network: Network) -> None:
    own = issuing.Authority(network.key, network.leaf)
    below = issuing.issue_identity_certificate(own, "CN=Mallory", network.key.public_key(), {Role.NOTARY}, NOW_NS)
    assert "may not issue" in refused(network, below, *network.chain)


def test_r15_authority_as_leaf(network: Network) -> None:
    assert "is an authority's" in refused(network, network.identity.certificate)


def test_r15_path_length_is_kept(network: Network) -> None:
    first = issuing.issue_identity_authority(network.identity, "CN=own authority", NOW_NS)
    second = issuing.issue_identity_authority(first, "CN=too deep", NOW_NS)
    leaf = issuing.issue_identity_certificate(second, NAME, network.key.public_key(), {Role.PARTY}, NOW_NS)
    chain = (leaf, second.certificate, first.certificate, network.identity.certificate)
    assert "may not issue a certificate at this place" in refused(network, *chain)


def test_r15_ledger_and_tls_authorities_do_not_stand_in_for_each_other(network: Network) -> None:
    by_tls = issuing.issue_identity_certificate(network.tls, NAME, network.key.public_key(), {Role.PARTY}, NOW_NS)
    assert "for this use" in refused(network, by_tls, network.tls.certificate)
    assert "for another use" in refused(network, network.tls_leaf, network.tls.certificate)
    by_identity = issuing.issue_tls_certificate(network.identity, network.public, network.tls_key.public_key(), NOW_NS)
    with pytest.raises(CertificateError, match="no TLS authority"):
        verify_issued(by_identity, (network.tls.certificate,), network.root.certificate, NOW_NS)
    with pytest.raises(CertificateError, match="may not issue certificates for this use"):
        verify_issued(by_identity, (network.identity.certificate,), network.root.certificate, NOW_NS)


def test_r15_chain_too_long_empty_or_with_the_root(network: Network) -> None:
    assert "1 to 4" in refused(network)
    assert "1 to 4" in refused(network, *[network.leaf] * (CHAIN_MAX + 1))
    assert "leaves the root out" in refused(network, *network.chain, network.root.certificate)
    with pytest.raises(CertificateError, match="1 to 4"):
        decode_certificates(encode_certificates([network.leaf] * (CHAIN_MAX + 1)))
    with pytest.raises(CertificateError, match="damaged"):
        decode_certificates([b"\x30\x00"])


def test_r15_unknown_critical_extension(network: Network) -> None:
    builder = issuing._as_ledger_leaf(
        issuing._builder_under(
            network.identity, issuing.x500_name(NAME), network.key.public_key(), NOW_NS, issuing.NODE_LIFETIME
        ),
        {Role.PARTY},
    )
    constraint = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
    leaf = issuing._sign(builder.add_extension(constraint, critical=True), network.identity.key)
    assert "unknown critical extension" in refused(network, leaf, network.identity.certificate)


def test_r15_authority_with_a_key_of_another_kind(network: Network) -> None:
    assert isinstance(network.root.key, ec.EllipticCurvePrivateKey)
    with pytest.raises(CertificateError, match="a ledger key is Ed25519"):
        ledger_key(network.tls_leaf)


@pytest.mark.parametrize("der", [b"", b"\x0c", b"\x0c\x05part", b"\x0c\x05partyx", b"\x04\x05party", b"\x0c\x04king"])
def test_r15_damaged_or_unknown_roles(network: Network, der: bytes) -> None:
    builder = issuing._builder_under(
        network.identity, issuing.x500_name(NAME), network.key.public_key(), NOW_NS, issuing.NODE_LIFETIME
    )
    extension = x509.UnrecognizedExtension(OID_ROLES, der)
    leaf = issuing._sign(builder.add_extension(extension, critical=False), network.identity.key)
    with pytest.raises(CertificateError, match=r"damaged roles|does not know"):
        roles(leaf)


def test_roles_are_granted_or_refused(network: Network) -> None:
    assert encode_roles({Role.PARTY, Role.MARKET}).value == b"\x0c\x0cmarket,party"
    with pytest.raises(CertificateError, match="at least one role"):
        encode_roles(())
    with pytest.raises(CertificateError, match="grants no roles"):
        roles(network.tls_leaf)


def test_certificate_files(network: Network, tmp_path: Path) -> None:
    pem = serialization.Encoding.PEM
    (tmp_path / "chain.crt").write_bytes(b"".join(one.public_bytes(pem) for one in network.chain))
    (tmp_path / "root.crt").write_bytes(network.root.certificate.public_bytes(pem))
    (tmp_path / "sub.crt").write_bytes(network.identity.certificate.public_bytes(pem))
    (tmp_path / "bad.crt").write_bytes(b"nothing")
    assert load_certificates(tmp_path / "chain.crt") == network.chain
    assert load_root(tmp_path / "root.crt") == network.root.certificate
    for name, why in (("bad.crt", "no PEM"), ("absent.crt", "cannot be read")):
        with pytest.raises(CertificateError, match=why):
            load_certificates(tmp_path / name)
    for name, why in (("chain.crt", "exactly one"), ("sub.crt", "was not issued by")):
        with pytest.raises(CertificateError, match=why):
            load_root(tmp_path / name)


def test_x500_names_have_one_spelling() -> None:
    assert issuing.x500_name(NAME).rfc4514_string() == NAME
    for name, why in (
        ("Alice", "not an X.500 name"),
        ("O=Alice", "no CN"),
        ("cn=Alice, O=x", "should be written|not an"),
    ):
        with pytest.raises(CertificateError, match=why):
            issuing.x500_name(name)


def test_fingerprints_and_san_names(network: Network) -> None:
    name = fingerprint(network.public)
    assert len(name) == 52
    assert fingerprint_of_san(san_name(name)) == name
    bad = ("localhost", name, f"x.{name}.node.p2pet", f"{name.upper()}.node.p2pet", f"{name[1:]}.node.p2pet", "")
    for san in bad:
        with pytest.raises(CertificateError, match="is not a node's name"):
            fingerprint_of_san(san)
    with pytest.raises(CertificateError, match="32 bytes"):
        fingerprint(b"short")


def test_the_root_signature_is_ecdsa_with_sha256(network: Network) -> None:
    assert isinstance(network.root.certificate.signature_hash_algorithm, hashes.SHA256)
