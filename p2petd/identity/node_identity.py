"""This node's own identity: its ledger key with the certificate that the network issued for it."""

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from p2petd.errors import CertificateError
from p2petd.identity.certificates import (
    OID_LEDGER_USAGE,
    Role,
    encode_certificates,
    ledger_key,
    load_certificates,
    network_id,
    not_after_ns,
    roles,
    verify_chain,
)
from p2petd.identity.fingerprint import fingerprint
from p2petd.identity.keys import load_signing_key
from p2petd.native import SigningKey


@dataclass(frozen=True)
class NodeIdentity:
    """A ledger key that the network root vouches for. `certificates` is DER, leaf first, without the root."""

    signing_key: SigningKey
    name: str
    roles: frozenset[Role]
    network_id: bytes
    certificates: tuple[bytes, ...]
    expires_at_ns: int

    @property
    def public(self) -> bytes:
        """The 32-byte identity key."""
        return self.signing_key.public

    @property
    def fingerprint(self) -> str:
        """What names the node in TLS."""
        return fingerprint(self.public)


def load_identity(key_file: Path, certificate_file: Path, root: x509.Certificate, at_ns: int) -> NodeIdentity:
    """The node's identity; raises KeyFileError or CertificateError.

    1. The key file is readable by its owner only and holds an Ed25519 key.
    2. The certificate chain leads to the root and is valid now.
    3. Its leaf certifies the key and grants at least one role.
    """
    key = load_signing_key(key_file)
    chain = load_certificates(certificate_file)
    verify_chain(chain, root, at_ns, OID_LEDGER_USAGE)
    leaf = chain[0]
    if ledger_key(leaf) != key.public:
        raise CertificateError(f"{certificate_file} does not certify the key in {key_file}")
    return NodeIdentity(
        signing_key=key,
        name=leaf.subject.rfc4514_string(),
        roles=roles(leaf),
        network_id=network_id(root),
        certificates=encode_certificates(chain),
        expires_at_ns=not_after_ns(leaf),
    )
