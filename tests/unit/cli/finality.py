"""A final transaction of a bootstrapped network, made from its offline keys as docs/protocol.md says."""

import hashlib
import struct
import time
from pathlib import Path

from p2pet.ledger.v1 import payment_pb2, transaction_pb2
from p2pet.vault.v1 import vault_pb2

from p2petd.identity.certificates import load_root, network_id
from p2petd.identity.keys import load_ledger_key, load_signing_key
from p2petd.native import encode_transaction, transaction_id
from p2petd.network.parameters import verify_parameters

# Inside the lifetime of a worker that was certified today.
DECIDED_NS = time.time_ns() + 60 * 10**9


def issue(network: Path) -> tuple[bytes, list[list[bytes]]]:
    """Salt and groups of a payment.issue by the community."""
    issuer = load_signing_key(network / "community" / "identity.key").public
    root = load_root(network / "network" / "root.crt")
    signed = verify_parameters((network / "network" / "parameters" / "1.params").read_bytes(), root)
    notary = signed.parameters.notaries[0].service_key
    state = payment_pb2.PaymentState(currency="EUR", amount_nano=5 * 10**9, issuer=issuer, owner=issuer)
    output = transaction_pb2.OutputState(
        contract="payment",
        contract_version=1,
        notary=notary,
        type_name="PaymentState",
        schema_version=1,
        payload=state.SerializeToString(),
    )
    command = transaction_pb2.Command(
        contract="payment",
        type_name="PaymentIssue",
        schema_version=1,
        payload=payment_pb2.PaymentIssue(reference=b"\x05" * 32).SerializeToString(),
    )
    window = struct.pack(">qq", DECIDED_NS - 10**9, DECIDED_NS + 10**9)
    signers = struct.pack(">H", 32) + issuer
    groups: list[list[bytes]] = [[] for _ in range(12)]
    groups[2], groups[3], groups[4] = [output.SerializeToString()], [command.SerializeToString()], [signers]
    groups[6], groups[7], groups[8], groups[9] = [notary], [window], [signed.hash], [b"\x01"]
    return b"\x07" * 32, groups


def finality_proof(network: Path, identifier: bytes, decided_at_ns: int = DECIDED_NS) -> transaction_pb2.FinalityProof:
    """A batch of one, signed by the notary's worker."""
    certificate = transaction_pb2.WorkerCertificate.FromString((network / "notary" / "worker.certificate").read_bytes())
    worker = load_ledger_key(network / "notary" / "worker.key")
    leaf = hashlib.sha256(b"\x10" + identifier).digest()
    root = transaction_pb2.RootMessage(
        notary=certificate.service_key, mode=1, sequence=1, decided_at_ns=decided_at_ns, count=1, root=leaf
    )
    message = (
        b"p2pet/1\0\x02\x01"
        + network_id(load_root(network / "network" / "root.crt"))
        + root.notary
        + struct.pack(">BQqI", root.mode, root.sequence, root.decided_at_ns, root.count)
        + root.root
    )
    batch = transaction_pb2.BatchProof(
        root=root, index=0, path=[], worker=certificate, scheme=1, signature=worker.sign(message)
    )
    return transaction_pb2.FinalityProof(transaction_id=identifier, batch=batch)


def signature(network: Path, node: str, identifier: bytes) -> transaction_pb2.TransactionSignature:
    """The node's signature of a transaction id."""
    key = load_signing_key(network / node / "identity.key")
    network_key = network_id(load_root(network / "network" / "root.crt"))
    return transaction_pb2.TransactionSignature(
        key=key.public, scheme=1, signature=key.sign(network_key, 1, identifier)
    )


def export(network: Path) -> vault_pb2.GetFinalityProofResponse:
    """What `tx export` writes for the issue."""
    salt, groups = issue(network)
    identifier = transaction_id(salt, groups)
    proposal = transaction_pb2.Proposal(
        transaction=encode_transaction(salt, groups), signatures=[signature(network, "community", identifier)]
    )
    return vault_pb2.GetFinalityProofResponse(
        finality_proof=finality_proof(network, identifier).SerializeToString(),
        signed_transaction=proposal.SerializeToString(),
        signed_parameters=(network / "network" / "parameters" / "1.params").read_bytes(),
    )
