"""A notary that nobody asked for: it signs whatever it is given, with keys of its own."""

import hashlib
import struct
import time
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from p2pet.ledger.v1.transaction_pb2 import BatchProof, FinalityProof, RootMessage, WorkerCertificate

from p2petd import native
from p2petd.identity.keys import signing_key
from p2petd.ledger.proposal import ED25519
from p2petd.ledger.transaction import Draft
from p2petd.units import HOUR_NS
from tests.support.drafts import Held

PURPOSE_BATCH = 2
VERIFYING, UNIQUENESS_ONLY = 1, 2


@dataclass(frozen=True)
class RogueNotary:
    """Its proofs are right in every byte but the keys behind them."""

    network_id: bytes
    service: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    worker: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def key(self) -> bytes:
        """The service key that its certificates name."""
        return self.service.public_key().public_bytes_raw()

    def certificate(self) -> WorkerCertificate:
        now_ns = time.time_ns()
        worker = self.worker.public_key().public_bytes_raw()
        lifetime = (now_ns - HOUR_NS, now_ns + HOUR_NS)
        service = signing_key(self.service)
        return WorkerCertificate.FromString(native.certify_worker(service, self.network_id, worker, *lifetime))

    def decide(self, draft: Draft, *, claimed: bytes = b"", mode: int = VERIFYING, at_ns: int = 0) -> FinalityProof:
        """A batch of this one transaction. `claimed` is the service that the proof says it is of."""
        certificate = self.certificate()
        notary = claimed or self.key
        certificate.service_key = notary
        leaf = hashlib.sha256(b"\x10" + draft.id).digest()
        decided_at_ns = at_ns or time.time_ns()
        root = RootMessage(notary=notary, mode=mode, sequence=1, decided_at_ns=decided_at_ns, count=1, root=leaf)
        signed = b"p2pet/1\x00" + struct.pack(">BB", PURPOSE_BATCH, ED25519) + self.network_id + notary
        signed += struct.pack(">BQqI", mode, root.sequence, decided_at_ns, root.count) + leaf
        batch = BatchProof(root=root, worker=certificate, scheme=ED25519, signature=self.worker.sign(signed))
        return FinalityProof(transaction_id=draft.id, batch=batch)


def held_by(draft: Draft, finality: FinalityProof, index: int = 0) -> Held:
    """The state that this proof would make spendable."""
    proof = native.input_proof(draft.transaction, index, finality.SerializeToString())
    return Held(draft.output_ref(index), draft.outputs[index], proof)
