"""A transaction on its way between nodes: with some or all of its signatures and a proof for each input."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from p2pet.ledger.v1 import transaction_pb2

from p2petd import native
from p2petd.errors import MalformedTransaction, TransactionRefused
from p2petd.ledger.codec import parse_strict
from p2petd.ledger.groups import SIGNATURES_MAX

ED25519 = 1
PURPOSE_TRANSACTION = 1


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature over a transaction's id by `key`; that it verifies is not said (see `check_signatures`)."""

    key: bytes
    signature: bytes
    scheme: int = ED25519


@dataclass(frozen=True, slots=True)
class Proposal:
    """What `ledger.v1.Proposal` holds: one input proof for each input, then one for each reference, in order."""

    transaction: bytes
    signatures: tuple[Signature, ...] = ()
    input_proofs: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """The canonical `ledger.v1.Proposal`."""
        return transaction_pb2.Proposal(
            transaction=self.transaction,
            signatures=[
                transaction_pb2.TransactionSignature(key=s.key, scheme=s.scheme, signature=s.signature)
                for s in self.signatures
            ],
            input_proofs=self.input_proofs,
        ).SerializeToString(deterministic=True)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises MalformedTransaction unless canonical and within the limit of signatures. Nothing is verified."""
        message = parse_strict(transaction_pb2.Proposal, data)
        if len(message.signatures) > SIGNATURES_MAX:
            raise MalformedTransaction(f"a proposal carries at most {SIGNATURES_MAX} signatures")
        signatures = tuple(Signature(s.key, s.signature, s.scheme) for s in message.signatures)
        return cls(message.transaction, signatures, tuple(message.input_proofs))


def check_signatures(network_id: bytes, transaction_id: bytes, signatures: Iterable[Signature]) -> None:
    """Returns when every signature is a valid one over this transaction's id in this network.

    Raises TransactionRefused with code signature.invalid, whose `missing_keys` are the keys of those that are not.
    """
    listed = tuple(signatures)
    foreign = tuple(s.key for s in listed if s.scheme != ED25519)
    if foreign:
        raise TransactionRefused("signature.invalid", "only Ed25519 (scheme 1) signs transactions", foreign)
    valid = native.verify_signatures(
        [(s.key, network_id, PURPOSE_TRANSACTION, transaction_id, s.signature) for s in listed]
    )
    invalid = tuple(s.key for s, answer in zip(listed, valid, strict=True) if not answer)
    if invalid:
        keys = ", ".join(key.hex() for key in invalid)
        raise TransactionRefused("signature.invalid", f"the signature by {keys} does not verify", invalid)
