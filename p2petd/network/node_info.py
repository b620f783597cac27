"""Node infos: where a node listens and what it is, signed by its own identity key."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from google.protobuf.message import DecodeError
from p2pet.network.v1 import network_pb2

from p2petd.errors import CertificateError, NetworkError
from p2petd.identity.certificates import (
    OID_LEDGER_USAGE,
    Role,
    decode_certificates,
    ledger_key,
    network_id,
    not_after_ns,
    roles,
    verify_chain,
)
from p2petd.identity.fingerprint import fingerprint
from p2petd.identity.node_identity import NodeIdentity
from p2petd.native import KeyFormatError, check_key, verify_signatures

PURPOSE_NODE_INFO = 5
SCHEME_ED25519 = 1
PLATFORM_VERSION = 1
SIGNED_INFO_BYTES_MAX = 65_536
ADDRESSES_MAX = 8
_ADDRESS = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):([1-9][0-9]{0,4})")


@dataclass(frozen=True)
class NodeInfo:
    """What the network knows of a node. Keys have 32 bytes; Service and oracle key are empty unless
    it is a notary or an oracle."""

    name: str
    identity: bytes
    addresses: tuple[str, ...]
    roles: frozenset[Role]
    platform_version: int
    serial: int
    notary_service_key: bytes = b""
    oracle_key: bytes = b""

    @property
    def fingerprint(self) -> str:
        """What names the node in TLS."""
        return fingerprint(self.identity)

    @property
    def common_name(self) -> str:
        """The CN of its X.500 name: what people call it."""
        attributes = x509.Name.from_rfc4514_string(self.name).get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        return str(attributes[0].value)

    def encode(self) -> bytes:
        """The canonical `network.v1.NodeInfo`; roles in alphabetical order."""
        message = network_pb2.NodeInfo(
            name=self.name,
            identity=self.identity,
            addresses=self.addresses,
            roles=sorted(self.roles),
            platform_version=self.platform_version,
            serial=self.serial,
            notary_service_key=self.notary_service_key,
            oracle_key=self.oracle_key,
        )
        return message.SerializeToString(deterministic=True)


def check_address(address: str) -> None:
    """Raises NetworkError unless it is `host:port` with port 1 to 65535 (an IPv6 host in brackets)."""
    match = _ADDRESS.fullmatch(address)
    if not match or int(match[1]) > 65535:
        raise NetworkError(f"{address[:300]!r} is not an address such as host.example:7500")


def sign_node_info(info: NodeInfo, identity: NodeIdentity) -> bytes:
    """The `SignedNodeInfo`, signed by the identity key that it names."""
    data = info.encode()
    digest = hashlib.sha256(data).digest()
    message = network_pb2.SignedNodeInfo(
        node_info=data,
        scheme=SCHEME_ED25519,
        signature=identity.signing_key.sign(identity.network_id, PURPOSE_NODE_INFO, digest),
        certificates=identity.certificates,
    )
    return message.SerializeToString(deterministic=True)


def verify_node_info(encoded: bytes, root: x509.Certificate, at_ns: int) -> NodeInfo:
    """The node info inside; raises NetworkError.

    1. The message decodes, the node info in it strictly, with a valid key and addresses.
    2. The certificates lead to the root and are valid at `at_ns`.
    3. Name, identity and roles are those of the leaf certificate; a service key is a notary's only.
    4. The signature, purpose 5, is by the identity key.
    """
    message = _parse(encoded)
    info = _decode(message.node_info)
    try:
        chain = decode_certificates(message.certificates)
        verify_chain(chain, root, at_ns, OID_LEDGER_USAGE)
        certified = (chain[0].subject.rfc4514_string(), ledger_key(chain[0]), roles(chain[0]))
    except CertificateError as error:
        raise NetworkError(f"the node info of {info.name} is not certified: {error}") from error
    if (info.name, info.identity, info.roles) != certified:
        raise NetworkError(f"the node info of {info.name} differs from its certificate in name, identity or roles")
    if info.notary_service_key and Role.NOTARY not in info.roles:
        raise NetworkError(f"the node info of {info.name} names a notary service, but its certificate lacks that role")
    if info.oracle_key and Role.ORACLE not in info.roles:
        raise NetworkError(f"the node info of {info.name} names an oracle's key, but its certificate lacks that role")
    digest = hashlib.sha256(message.node_info).digest()
    item = (info.identity, network_id(root), PURPOSE_NODE_INFO, digest, message.signature)
    if message.scheme != SCHEME_ED25519 or verify_signatures([item]) != [True]:
        raise NetworkError(f"the signature of the node info of {info.name} does not verify")
    return info


def expires_at_ns(encoded: bytes) -> int:
    """When the certificate inside ends; nothing is verified. Raises NetworkError when it does not decode."""
    try:
        return not_after_ns(decode_certificates(_parse(encoded).certificates)[0])
    except CertificateError as error:
        raise NetworkError(f"the certificates of the node info do not decode: {error}") from error


def _parse(encoded: bytes) -> network_pb2.SignedNodeInfo:
    if len(encoded) > SIGNED_INFO_BYTES_MAX:
        raise NetworkError(f"a signed node info has at most {SIGNED_INFO_BYTES_MAX} bytes")
    message = network_pb2.SignedNodeInfo()
    try:
        message.ParseFromString(encoded)
    except DecodeError:
        raise NetworkError("the signed node info does not decode") from None
    return message


def _decode(data: bytes) -> NodeInfo:
    message = network_pb2.NodeInfo()
    try:
        message.ParseFromString(data)
        info = NodeInfo(
            name=message.name,
            identity=message.identity,
            addresses=tuple(message.addresses),
            roles=_roles(message.roles),
            platform_version=message.platform_version,
            serial=message.serial,
            notary_service_key=message.notary_service_key,
            oracle_key=message.oracle_key,
        )
        check_key(info.identity)
        if info.notary_service_key:
            check_key(info.notary_service_key)
        if info.oracle_key:
            check_key(info.oracle_key)
    except DecodeError:
        raise NetworkError("the node info does not decode") from None
    except KeyFormatError as error:
        raise NetworkError(f"the node info of {message.name} holds an invalid key: {error}") from error
    if info.encode() != data:
        raise NetworkError(
            f"the node info of {info.name} is not canonical or holds fields that this version does not know"
        )
    if not 1 <= len(info.addresses) <= ADDRESSES_MAX:
        raise NetworkError(f"the node info of {info.name} should name 1 to {ADDRESSES_MAX} addresses")
    for address in info.addresses:
        check_address(address)
    return info


def _roles(names: Sequence[str]) -> frozenset[Role]:
    try:
        return frozenset(Role(name) for name in names)
    except ValueError:
        raise NetworkError("the node info claims a role that this version does not know") from None
