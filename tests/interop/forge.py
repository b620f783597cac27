"""The other side of the verifier, for tests: makes honest proofs and dishonest ones, signed with keys that it knows."""

import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from tests.interop import verifier as v
from tests.interop import wire
from tests.interop.certificates import IDENTITY_USE, MAP_ROLE, ROLE
from tests.interop.notary_log import NO_CHAIN, crc32c

NOW_NS = 1_800_000_000 * 1_000_000_000


# Messages and signatures.


def encode(message: Any) -> bytes:
    """The canonical encoding of one of the messages in wire.py."""
    parts = []
    for entry in sorted(fields(message), key=lambda one: one.metadata["number"]):
        number, kind, value = entry.metadata["number"], entry.metadata["kind"], getattr(message, entry.name)
        values = value if entry.metadata["many"] else (value,)
        for one in values:
            if entry.metadata["many"] or not isinstance(kind, str) or one:
                parts.append(_field(number, kind, one))
    return b"".join(parts)


def _field(number: int, kind: str | type, value: Any) -> bytes:
    if kind in (wire.U32, wire.U64, wire.I64, wire.BOOL):
        return varint(number << 3) + varint(int(value) % 2**64)
    chunk = value if kind == wire.BYTES else value.encode() if kind == wire.TEXT else encode(value)
    return varint(number << 3 | 2) + varint(len(chunk)) + chunk


def varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def seed(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def key_of(secret: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def sign(secret: bytes, message: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(secret).sign(message)


def sign_id(secret: bytes, network_id: bytes, id_: bytes, purpose: int = v.TRANSACTION) -> wire.TransactionSignature:
    signature = sign(secret, v.signed_message(purpose, network_id, id_))
    return wire.TransactionSignature(key_of(secret), v.SCHEME, signature)


# Trees.


def prove(entries: Sequence[bytes], known: Iterable[int], prefix: int) -> tuple[bytes, ...]:
    """The siblings with which section 3's R makes the root from the known entries."""
    known = set(known)
    if not entries or (len(entries) == 1 and known):
        return ()
    if not known:
        return (v.tree(entries, prefix),)
    k = v.split(len(entries))
    left = prove(entries[:k], [i for i in known if i < k], prefix)
    return left + prove(entries[k:], [i - k for i in known if i >= k], prefix)


def leaves(salt: bytes, group: int, components: Sequence[bytes]) -> list[bytes]:
    return [v.leaf(group, i, v.nonce(salt, group, i), component) for i, component in enumerate(components)]


def tear_off(salt: bytes, groups: v.Groups, shown: Sequence[tuple[int, int]], whole: Sequence[int]) -> wire.TearOff:
    revealed = []
    for number, components in enumerate(groups):
        indices = [i for i in range(len(components)) if number in whole or (number, i) in shown]
        if not indices and number not in whole:
            continue
        parts = tuple(wire.RevealedComponent(i, v.nonce(salt, number, i), components[i]) for i in indices)
        siblings = prove(leaves(salt, number, components), indices, 0x01)
        revealed.append(wire.RevealedGroup(number, len(components), parts, siblings))
    roots = v.group_roots(salt, groups)
    return wire.TearOff(v.FORMAT, tuple(revealed), prove(roots, [group.group for group in revealed], 0x04))


# A small network with one notary, and one transaction of two signers.


@dataclass(frozen=True)
class Network:
    """Knobs of a network and what follows from them; `replace` turns one and keeps the rest honest."""

    network_id: bytes
    service: bytes
    worker: bytes
    mode: int = v.VERIFYING
    not_before_ns: int = NOW_NS - 1_000
    not_after_ns: int = NOW_NS + 1_000
    decided_at_ns: int = NOW_NS
    scheme: int = v.SCHEME
    certificate_purpose: int = v.WORKER
    certified_by: bytes = b""

    @cached_property
    def notary(self) -> bytes:
        return key_of(self.service)

    def certificate(self) -> wire.WorkerCertificate:
        worker = wire.WorkerCertificate(
            self.notary, key_of(self.worker), self.not_before_ns, self.not_after_ns, self.scheme
        )
        message = v.signed_message(self.certificate_purpose, self.network_id, v.worker_digest(worker), self.scheme)
        return replace(worker, signature=sign(self.certified_by or self.service, message))

    def decide(self, ids: Sequence[bytes], index: int) -> wire.BatchProof:
        batch = [v.batch_leaf(id_) for id_ in ids]
        root = wire.RootMessage(self.notary, self.mode, 77, self.decided_at_ns, len(ids), v.tree(batch, 0x11))
        path = prove(batch, [index], 0x11)
        signature = sign(self.worker, v.root_message(self.network_id, root))
        return wire.BatchProof(
            root=root, index=index, path=path, worker=self.certificate(), scheme=self.scheme, signature=signature
        )


SIGNERS = (seed("one signer"), seed("another signer"))


def signers_component(keys: Iterable[bytes]) -> bytes:
    return b"".join(b"\x00\x20" + key for key in sorted(keys))


def groups_of(notary: bytes, parameters_hash: bytes, window: tuple[int, int] | None = None) -> list[list[bytes]]:
    """A transaction of one output, one command and two signers."""
    groups: list[list[bytes]] = [[] for _ in range(v.GROUPS)]
    groups[v.OUTPUTS] = [encode(wire.OutputState("energy", 1, notary, "energy.State", 1, b"state"))]
    groups[v.COMMANDS] = [encode(wire.Command("energy", "energy.Issue", 1, b"do"))]
    groups[v.SIGNERS] = [signers_component(key_of(secret) for secret in SIGNERS)]
    groups[v.NOTARY] = [notary]
    groups[v.WINDOW] = [struct.pack(">qq", *window)] if window else []
    groups[v.PARAMETERS] = [parameters_hash]
    groups[v.TYPE] = [v.GENERAL]
    return groups


def serialise(salt: bytes, groups: v.Groups) -> bytes:
    return encode(wire.Transaction(v.FORMAT, salt, tuple(wire.ComponentGroup(tuple(group)) for group in groups)))


# Certificates.

START = datetime(2026, 1, 1, tzinfo=UTC)
YEAR = timedelta(days=365)


@dataclass(frozen=True)
class Certificate:
    """Knobs of a certificate that the network root issues; as it stands, the network map's."""

    key: Ed25519PrivateKey | EllipticCurvePrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    name: str = "network map"
    authority: bool = False
    path_length: int | None = None
    uses: tuple[x509.ObjectIdentifier, ...] = (IDENTITY_USE,)
    role: bytes | None = MAP_ROLE
    signs: bool = True
    certifies: bool = False
    start: datetime = START
    end: datetime = START + 10 * YEAR
    unknown: bool = False

    @classmethod
    def of_authority(cls, name: str, path_length: int | None = None) -> "Certificate":
        return cls(name=name, authority=True, path_length=path_length, uses=(), role=None, signs=False, certifies=True)

    def issued_by(self, issuer: "Certificate") -> x509.Certificate:
        builder = x509.CertificateBuilder(
            issuer_name=x509.Name.from_rfc4514_string(f"CN={issuer.name}"),
            subject_name=x509.Name.from_rfc4514_string(f"CN={self.name}"),
            public_key=self.key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=self.start,
            not_valid_after=self.end,
        )
        usage = x509.KeyUsage(self.signs, not self.signs, False, False, False, self.certifies, False, False, False)
        builder = builder.add_extension(x509.BasicConstraints(self.authority, self.path_length), critical=True)
        builder = builder.add_extension(usage, critical=True)
        if self.uses:
            builder = builder.add_extension(x509.ExtendedKeyUsage(self.uses), critical=True)
        if self.role is not None:
            builder = builder.add_extension(x509.UnrecognizedExtension(ROLE, self.role), critical=False)
        if self.unknown:
            extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.25.1"), b"\x05\x00")
            builder = builder.add_extension(extension, critical=True)
        return builder.sign(issuer.key, None if isinstance(issuer.key, Ed25519PrivateKey) else hashes.SHA256())


ROOT = Certificate.of_authority("network root", path_length=1)
MAP = Certificate()
ROOT_CERTIFICATE = ROOT.issued_by(ROOT)
NETWORK_ID = v.network_id_of(ROOT_CERTIFICATE)
PARAMETERS = wire.NetworkParameters(
    version=1,
    network_id=NETWORK_ID,
    valid_from_ns=NOW_NS,
    notaries=(wire.NotaryEntry("notary", key_of(seed("service")), v.VERIFYING),),
    energy_types=("solar", "wind"),
    inputs_max=256,
)


def sign_parameters(
    *certificates: x509.Certificate,
    parameters: wire.NetworkParameters = PARAMETERS,
    key: Ed25519PrivateKey | EllipticCurvePrivateKey = MAP.key,
    purpose: int = v.NETWORK_PARAMETERS,
    scheme: int = v.SCHEME,
) -> wire.SignedNetworkParameters:
    assert isinstance(key, Ed25519PrivateKey)
    serialised = encode(parameters)
    message = v.signed_message(purpose, parameters.network_id, v.sha256(serialised), scheme)
    chain = tuple(certificate.public_bytes(Encoding.DER) for certificate in certificates)
    return wire.SignedNetworkParameters(serialised, scheme, key.sign(message), chain)


# Logs.


SALT = b"salt"


def segment(
    first: int, chain: bytes, payloads: Sequence[bytes], room: int = 256, salt: bytes = SALT
) -> tuple[str, bytes, bytes]:
    """Name and bytes of a segment file, and the chain value after its last record."""
    header = b"p2petlog" + struct.pack(">I", 2) + salt + struct.pack(">Q", first) + chain
    data = bytearray(header + struct.pack(">II", crc32c(header), 0))
    for sequence, payload in enumerate(payloads, first):
        number = struct.pack(">Q", sequence)
        chain = v.sha256(b"\x20", chain, number, payload)
        body = number + chain + payload
        data += struct.pack(">II", len(payload), crc32c(salt + body)) + body
        data += bytes(-len(data) % 8)
    return f"{first:020}.log", bytes(data) + bytes(room), chain


def log_of_two_segments() -> list[tuple[str, bytes]]:
    first, data, chain = segment(1, NO_CHAIN, [b"one", b"", b"the third record"])
    second, more, _ = segment(4, chain, [b"four", b"five"])
    return [(first, data), (second, more)]
