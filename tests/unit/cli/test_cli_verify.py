"""`tx verify`: a proof that holds, and each way in which it does not."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_runner import Run
from finality import DECIDED_NS, export, finality_proof, issue, signature
from p2pet.cli.units import format_time
from p2pet.cli.verify import STEPS, verify
from p2pet.ledger.v1 import transaction_pb2
from p2pet.network.v1 import network_pb2
from p2pet.vault.v1 import vault_pb2

from p2petd.native import encode_transaction, transaction_id
from p2petd.network.bootstrap import NetworkPlan, bootstrap

Export = vault_pb2.GetFinalityProofResponse


def written(directory: Path, content: Export) -> str:
    path = directory / "exported.proof"
    path.write_bytes(content.SerializeToString())
    return str(path)


def test_a_final_transaction_verifies(network: Path, tmp_path: Path, cli: Run) -> None:
    ended = cli("--node", str(network / "home-1"), "tx", "verify", written(tmp_path, export(network)))
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert [line.split()[:2] for line in lines[:7]] == [[f"{n}.", "ok"] for n in range(1, 8)]
    assert f"is final: notary decided it at {format_time(DECIDED_NS)}" in lines[7]


def test_json_says_the_same(network: Path, tmp_path: Path, cli: Run) -> None:
    root = str(network / "network" / "root.crt")
    ended = cli("tx", "verify", "--json", "--root", root, written(tmp_path, export(network)))
    answer = json.loads(ended.out)
    assert ended.code == 0
    assert answer["valid"] is True
    assert answer["transaction_id"] == transaction_id(*issue(network)).hex()
    assert (answer["notary"], answer["sequence"], answer["decided_at_ns"]) == ("notary", 1, DECIDED_NS)
    assert answer["steps"] == list(STEPS)


def _parameters(network: Path, content: Export) -> None:
    message = network_pb2.SignedNetworkParameters.FromString(content.signed_parameters)
    message.signature = bytes(64)
    content.signed_parameters = message.SerializeToString()


def _proof(content: Export, change: Callable[[transaction_pb2.FinalityProof], None]) -> None:
    proof = transaction_pb2.FinalityProof.FromString(content.finality_proof)
    change(proof)
    content.finality_proof = proof.SerializeToString()


def _proposal(content: Export, change: Callable[[transaction_pb2.Proposal], None]) -> None:
    proposal = transaction_pb2.Proposal.FromString(content.signed_transaction)
    change(proposal)
    content.signed_transaction = proposal.SerializeToString()


def _other_id(network: Path, content: Export) -> None:
    content.finality_proof = finality_proof(network, b"\x01" * 32).SerializeToString()


def _other_salt(network: Path, content: Export) -> None:
    _, groups = issue(network)
    other = encode_transaction(b"\x08" * 32, groups)
    _proposal(content, lambda p: setattr(p, "transaction", other))


def _other_parameters(network: Path, content: Export) -> None:
    """A transaction, properly signed and notarised, that cites parameters which nobody signed."""
    salt, groups = issue(network)
    groups[8] = [b"\x09" * 32]
    _replace(network, content, salt, groups)


def _garbage(network: Path, content: Export) -> None:
    content.signed_transaction = b"\xff\xff"


def _other_notary(network: Path, content: Export) -> None:
    stranger = signature(network, "home-1", bytes(32)).key
    _proof(content, lambda p: setattr(p.batch.root, "notary", stranger))


def _other_mode(network: Path, content: Export) -> None:
    _proof(content, lambda p: setattr(p.batch.root, "mode", 2))


def _worker_lifetime(network: Path, content: Export) -> None:
    _proof(content, lambda p: setattr(p.batch.worker, "not_after_ns", p.batch.worker.not_after_ns + 1))


def _other_index(network: Path, content: Export) -> None:
    _proof(content, lambda p: setattr(p.batch, "index", 1))


def _batch_signature(network: Path, content: Export) -> None:
    _proof(content, lambda p: setattr(p.batch, "signature", bytes(64)))


def _outside_window(network: Path, content: Export) -> None:
    identifier = transaction_id(*issue(network))
    content.finality_proof = finality_proof(network, identifier, DECIDED_NS + 10**9).SerializeToString()


def _unsigned(network: Path, content: Export) -> None:
    _proposal(content, lambda p: p.ClearField("signatures"))


def _wrong_signature(network: Path, content: Export) -> None:
    _proposal(content, lambda p: setattr(p.signatures[0], "signature", bytes(64)))


def _stranger_signed(network: Path, content: Export) -> None:
    extra = signature(network, "home-1", transaction_id(*issue(network)))
    _proposal(content, lambda p: p.signatures.append(extra))


def _signed_twice(network: Path, content: Export) -> None:
    _proposal(content, lambda p: p.signatures.append(p.signatures[0]))


def _malformed_signers(network: Path, content: Export) -> None:
    salt, groups = issue(network)
    groups[4] = [b"\x00"]
    _replace(network, content, salt, groups)


def _replace(network: Path, content: Export, salt: bytes, groups: list[list[bytes]]) -> None:
    identifier = transaction_id(salt, groups)
    proposal = transaction_pb2.Proposal(
        transaction=encode_transaction(salt, groups), signatures=[signature(network, "community", identifier)]
    )
    content.signed_transaction = proposal.SerializeToString()
    content.finality_proof = finality_proof(network, identifier).SerializeToString()


@pytest.mark.parametrize(
    ("step", "tamper"),
    [
        (1, _parameters),
        (2, _other_id),
        (2, _other_salt),
        (2, _other_parameters),
        (2, _garbage),
        (3, _other_notary),
        (3, _other_mode),
        (4, _worker_lifetime),
        (5, _other_index),
        (5, _batch_signature),
        (6, _outside_window),
        (7, _unsigned),
        (7, _wrong_signature),
        (7, _stranger_signed),
        (7, _signed_twice),
        (2, _malformed_signers),
    ],
)
def test_a_tampered_export_fails_at_its_step(
    network: Path, tmp_path: Path, cli: Run, step: int, tamper: Callable[[Path, Export], None]
) -> None:
    content = export(network)
    tamper(network, content)
    ended = cli("--node", str(network / "home-1"), "tx", "verify", written(tmp_path, content))
    assert ended.code == 1
    lines = ended.out.splitlines()
    expected = ["ok"] * (step - 1) + ["FAILED"] + ["-"] * (7 - step)
    assert [line.split()[1] for line in lines[:7]] == expected
    assert lines[7] == f"The transaction is NOT proven: step {step} failed."


def test_a_transaction_of_another_network_fails_at_step_1(network: Path, tmp_path: Path) -> None:
    other = bootstrap(NetworkPlan(tmp_path / "other", 0, "EUR", {}), DECIDED_NS).directory
    result = verify(export(network), other / "network" / "root.crt")
    assert (result.is_valid, result.failed) == (False, 1)
    assert "another network" in result.reason


@pytest.mark.parametrize("content", [b"", b"\xff", b"\x0a\x01x"])
def test_a_file_that_is_no_export_is_said_to_be_none(network: Path, tmp_path: Path, cli: Run, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    ended = cli("--node", str(network / "home-1"), "tx", "verify", str(tmp_path / "file"))
    assert ended.code == 1
    assert "is not a file that `p2pet-cli tx export` wrote" in ended.err


def test_a_root_that_is_no_root_is_refused(network: Path, tmp_path: Path, cli: Run) -> None:
    root = str(network / "network" / "tls-trust.crt")
    ended = cli("tx", "verify", "--root", root, written(tmp_path, export(network)))
    assert ended.code == 1
    assert "[identity.certificate]" in ended.err


def test_without_node_or_root_the_usage_is_said(network: Path, tmp_path: Path, cli: Run) -> None:
    ended = cli("tx", "verify", written(tmp_path, export(network)))
    assert ended.code == 2
    assert "Give --node" in ended.err
