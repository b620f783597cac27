"""Verifying an exported transaction offline: docs/protocol.md, section 6, step by step.

Needs the p2petd package on this machine, but no node and no connection.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from p2pet.cli.session import CliError
from p2pet.ledger.v1 import transaction_pb2
from p2pet.vault.v1 import vault_pb2

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from p2petd.network.parameters import SignedParameters

STEPS = (
    "the network's root certifies the signed parameters",
    "the id is that of the transaction, and it was made under these parameters",
    "the parameters list the notary that the transaction names",
    "the notary's service certifies the worker",
    "the worker signed the batch that holds the transaction",
    "the decision lies in the transaction's time window",
    "everybody whose signature it needs signed it, and nobody else",
)
EXPORT_BYTES_MAX = 4 * 1024 * 1024
_STEP = re.compile(r"step ([2-6]): (.*)", re.DOTALL)


@dataclass(frozen=True)
class Verification:
    """How far the steps went. `failed` is the number of the step that failed, 0 when all passed."""

    transaction_id: bytes
    notary: str
    sequence: int
    decided_at_ns: int
    failed: int
    reason: str

    @property
    def is_valid(self) -> bool:
        """Whether the transaction is final in the network of the root certificate."""
        return self.failed == 0


class _StepFailed(Exception):
    def __init__(self, step: int, reason: str) -> None:
        super().__init__(reason)
        self.step = step
        self.reason = reason


def read_export(path: Path) -> vault_pb2.GetFinalityProofResponse:
    """The content of a file that `tx export` wrote; raises CliError."""
    try:
        with path.open("rb") as file:
            data = file.read(EXPORT_BYTES_MAX + 1)
    except OSError as error:
        raise CliError(f"{path} cannot be read: {error.strerror}") from error
    export = vault_pb2.GetFinalityProofResponse()
    try:
        if len(data) > EXPORT_BYTES_MAX:
            raise DecodeError
        export.ParseFromString(data)
    except DecodeError:
        raise CliError(f"{path} is not a file that `p2pet-cli tx export` wrote") from None
    if not (export.finality_proof and export.signed_transaction and export.signed_parameters):
        raise CliError(f"{path} is not a file that `p2pet-cli tx export` wrote: a part of it is missing")
    return export


def verify(export: vault_pb2.GetFinalityProofResponse, root_file: Path) -> Verification:
    """Follows the steps of `STEPS`, stops at the first that fails. Raises CliError when the root cannot be read."""
    try:
        from p2petd.errors import CertificateError
        from p2petd.identity.certificates import load_root, network_id
    except ImportError as error:
        raise CliError("verifying needs the p2petd package on this machine; install it with pip") from error
    try:
        root = load_root(root_file)
    except CertificateError as error:
        raise CliError(str(error), error.code) from error
    identifier = network_id(root)
    transaction_id, notary, sequence, decided_at_ns = b"", "", 0, 0
    try:
        parameters = _verify_parameters(export.signed_parameters, root)
        proposal = _proposal(export.signed_transaction)
        transaction_id = _verify_finality(identifier, proposal.transaction, export.finality_proof, parameters)
        notary, sequence, decided_at_ns = _decision(export.finality_proof, parameters)
        _verify_whole(identifier, export, parameters)
    except _StepFailed as failure:
        return Verification(transaction_id, notary, sequence, decided_at_ns, failure.step, failure.reason)
    return Verification(transaction_id, notary, sequence, decided_at_ns, 0, "")


def _proposal(data: bytes) -> transaction_pb2.Proposal:
    proposal = transaction_pb2.Proposal()
    try:
        proposal.ParseFromString(data)
    except DecodeError:
        raise _StepFailed(2, "the transaction does not decode") from None
    return proposal


def _verify_parameters(data: bytes, root: "Certificate") -> "SignedParameters":
    """Step 1."""
    from p2petd.errors import NetworkError
    from p2petd.network.parameters import verify_parameters

    try:
        return verify_parameters(data, root)
    except NetworkError as error:
        raise _StepFailed(1, str(error)) from error


def _verify_finality(network: bytes, transaction: bytes, proof: bytes, signed: "SignedParameters") -> bytes:
    """Steps 2 to 6; the id."""
    from p2petd.native import NativeError, verify_finality

    notaries = [(notary.service_key, int(notary.mode)) for notary in signed.parameters.notaries]
    try:
        return verify_finality(network, transaction, proof, signed.hash, notaries)
    except NativeError as error:
        match = _STEP.fullmatch(str(error))
        # Bytes that do not decode have no id: that is step 2.
        raise _StepFailed(int(match[1]) if match else 2, match[2] if match else str(error)) from error


def _decision(proof: bytes, signed: "SignedParameters") -> tuple[str, int, int]:
    from p2petd.native import finality_summary

    _, service, _, sequence, decided_at_ns, _ = finality_summary(proof)
    names = {notary.service_key: notary.name for notary in signed.parameters.notaries}
    return names[service], sequence, decided_at_ns


def _verify_whole(network: bytes, export: vault_pb2.GetFinalityProofResponse, signed: "SignedParameters") -> None:
    """Step 7, and what makes a transaction well-formed, exactly as every node checks it when it is told of one."""
    from p2petd.native import Refusal, Rules

    rules = Rules(network, [signed.parameters.rules_entry()])
    verdict = rules.check_finals([(export.signed_transaction, export.finality_proof)])[0]
    if isinstance(verdict, Refusal):
        raise _StepFailed(7 if verdict.code.startswith("signature.") else 2, verdict.message)


def describe(result: Verification, line: Callable[[str], None]) -> None:
    """Each step as one line: passed, failed with its reason, or not reached."""
    for number, text in enumerate(STEPS, start=1):
        if result.failed == 0 or number < result.failed:
            line(f"{number}. ok      {text}")
        elif number == result.failed:
            line(f"{number}. FAILED  {text}: {result.reason}")
        else:
            line(f"{number}. -       {text}")
