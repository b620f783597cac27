"""The binding of the pure Rust core, against the vectors and the protobuf library."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from p2pet.ledger.v1 import transaction_pb2 as ledger

from p2petd import native

VECTORS = Path(__file__).parents[3] / "docs" / "vectors"


def read(name: str) -> Any:
    return json.loads((VECTORS / name).read_text())


def groups_of(vector: Any) -> list[list[bytes]]:
    return [[bytes.fromhex(component) for component in group] for group in vector["groups"]]


FINALITY = read("finality.json")
NETWORK = bytes.fromhex(FINALITY["network_id"])
PARAMETERS = bytes.fromhex(FINALITY["parameters_hash"])
NOTARY = bytes.fromhex(FINALITY["notaries"][0]["service_key"])
PROPOSAL = bytes.fromhex(FINALITY["transaction"]["proposal"])
PROOF = bytes.fromhex(FINALITY["transaction"]["finality_proof"])
ID = bytes.fromhex(FINALITY["transaction"]["id"])
GROUPS = groups_of(FINALITY["transaction"])
TRANSACTION = native.encode_transaction(bytes.fromhex(FINALITY["transaction"]["salt"]), GROUPS)


def rules(inputs_max: int = 8) -> native.Rules:
    return native.Rules(NETWORK, [(PARAMETERS, [(NOTARY, 1)], 10_000, inputs_max)])


@pytest.mark.parametrize("vector", read("ids.json")["vectors"], ids=lambda vector: vector["name"])
def test_l07_ids_equal_the_vectors(vector: Any) -> None:
    salt, groups = bytes.fromhex(vector["salt"]), groups_of(vector)
    encoded = native.encode_transaction(salt, groups)
    assert native.transaction_id(salt, groups).hex() == vector["id"]
    assert encoded.hex() == vector["transaction"]
    decoded = native.Transaction.decode(encoded)
    assert (decoded.id.hex(), decoded.salt, decoded.groups) == (vector["id"], salt, groups)


def test_r18_the_canonical_form_is_what_protobuf_serialises() -> None:
    for data, message in [
        (TRANSACTION, ledger.Transaction()),
        (PROPOSAL, ledger.Proposal()),
        (PROOF, ledger.FinalityProof()),
        (native.tear_off(TRANSACTION, [(2, 0)], [6]), ledger.TearOff()),
        (native.input_proof(TRANSACTION, 0, PROOF), ledger.InputProof()),
    ]:
        message.ParseFromString(data)
        assert message.SerializeToString(deterministic=True) == data


@pytest.mark.parametrize("vector", read("tear_offs.json")["vectors"], ids=lambda vector: vector["name"])
def test_l04_tear_offs_equal_the_vectors(vector: Any) -> None:
    of = next(v for v in read("ids.json")["vectors"] if v["name"] == "every group")
    transaction = bytes.fromhex(of["transaction"])
    made = native.tear_off(
        transaction, [(group, index) for group, index in vector["components"]], vector["whole_groups"]
    )
    assert made.hex() == vector["tear_off"]
    revealed = native.verify_tear_off(made, bytes.fromhex(of["id"]))
    assert revealed.id.hex() == of["id"]
    assert revealed.groups == {
        group["group"]: (group["count"], {c["index"]: bytes.fromhex(c["component"]) for c in group["components"]})
        for group in vector["shown"]
    }
    complete = {group["group"] for group in vector["shown"] if group["complete"]}
    assert {group for group in range(-1, 13) if revealed.is_complete(group)} == complete


def test_l10_signatures_equal_the_vectors() -> None:
    vectors = read("signatures.json")
    key = native.SigningKey.from_seed(bytes.fromhex(vectors["seed"]))
    network, digest = bytes.fromhex(vectors["network_id"]), bytes.fromhex(vectors["digest"])
    items = []
    for vector in vectors["vectors"]:
        signature = key.sign(network, vector["purpose"], digest)
        assert signature.hex() == vector["signature"]
        assert key.sign_many(network, vector["purpose"], [digest, digest]) == [signature, signature]
        items.append((key.public, network, vector["purpose"], digest, signature))
    assert native.verify_signatures(items) == [True] * 8
    wrong_purpose = [(*item[:2], item[2] % 9 + 1, *item[3:]) for item in items]
    wrong_length = [(item[0][:31], *item[1:]) for item in items] + [(*item[:4], item[4] + b"\0") for item in items]
    assert not any(native.verify_signatures(wrong_purpose + wrong_length))
    assert native.verify_signatures([]) == []


def test_l20_a_proposal_is_checked() -> None:
    (checked,) = rules().check_proposals([PROPOSAL], True)
    assert isinstance(checked, native.Checked)
    creator = groups_of(FINALITY["creator"])[2]
    assert (checked.id, checked.groups) == (ID, GROUPS)
    assert checked.input_outputs == [creator[2], creator[0]]
    assert checked.reference_outputs == [creator[1]]
    assert sorted(checked.signed_by) == sorted(s.key for s in ledger.Proposal.FromString(PROPOSAL).signatures)


def test_l12_a_refusal_names_code_sentence_and_missing_keys() -> None:
    proposal = ledger.Proposal.FromString(PROPOSAL)
    missing = proposal.signatures.pop().key
    partial = proposal.SerializeToString(deterministic=True)
    refusal, malformed, checked = rules().check_proposals([partial, b"\xff", PROPOSAL], True)
    assert isinstance(refusal, native.Refusal)
    assert (refusal.code, refusal.missing_keys) == ("signature.missing", [missing])
    assert refusal.message
    assert isinstance(malformed, native.Refusal)
    assert (malformed.code, malformed.missing_keys) == ("transaction.malformed", [])
    assert isinstance(checked, native.Checked)
    assert isinstance(rules().check_proposals([partial], False)[0], native.Checked)
    (many,) = rules(inputs_max=2).check_proposals([PROPOSAL], True)
    assert isinstance(many, native.Refusal)
    assert many.code == "transaction.too_many_inputs"


def test_l07_a_final_transaction_is_checked() -> None:
    (checked,) = rules().check_finals([(PROPOSAL, PROOF)])
    assert isinstance(checked, native.Checked)
    assert (checked.id, checked.input_outputs, checked.reference_outputs) == (ID, [], [])
    other = bytes.fromhex(FINALITY["creator"]["finality_proof"])
    (refusal,) = rules().check_finals([(PROPOSAL, other)])
    assert isinstance(refusal, native.Refusal)
    assert refusal.code == "finality.id"


def test_l07_finality_is_verified_offline() -> None:
    assert native.verify_finality(NETWORK, TRANSACTION, PROOF, PARAMETERS, [(NOTARY, 1)]) == ID
    batch = read("batch.json")["batches"][0]
    assert native.finality_summary(PROOF) == (
        ID,
        NOTARY,
        1,
        int(batch["sequence"]),
        int(batch["decided_at_ns"]),
        3,
    )


def test_a_worker_certificate_equals_the_vector() -> None:
    worker = read("batch.json")["worker"]
    service = native.SigningKey.from_seed(bytes.fromhex(worker["service_seed"]))
    certificate = native.certify_worker(
        service,
        bytes.fromhex(read("batch.json")["network_id"]),
        bytes.fromhex(worker["worker_key"]),
        int(worker["not_before_ns"]),
        int(worker["not_after_ns"]),
    )
    assert certificate.hex() == worker["worker_certificate"]


def test_components_are_decoded_strictly() -> None:
    assert native.decode_output(GROUPS[2][0]) == ("energy", 1, NOTARY, "energy.Lot", 1, b"s\0", 0)
    assert native.decode_command(GROUPS[3][0]) == ("energy", "energy.Issue", 1, b"do")


KEY = native.SigningKey.from_seed(bytes(32))
SMALL_ORDER = b"\1" + bytes(31)


@pytest.mark.parametrize(
    ("provoke", "error", "code"),
    [
        (lambda: native.transaction_id(bytes(31), [[]] * 12), native.MalformedError, "transaction.malformed"),
        (lambda: native.encode_transaction(bytes(32), [[]] * 11), native.MalformedError, "transaction.malformed"),
        (lambda: native.Transaction.decode(b"\0"), native.MalformedError, "transaction.malformed"),
        (lambda: native.decode_output(GROUPS[2][0] + b"\x40\1"), native.MalformedError, "transaction.malformed"),
        (lambda: native.decode_command(b"\x0a"), native.MalformedError, "transaction.malformed"),
        (lambda: native.finality_summary(b"\x0a"), native.MalformedError, "transaction.malformed"),
        (lambda: native.verify_tear_off(b"\x0a", ID), native.MalformedError, "transaction.malformed"),
        (lambda: native.Rules(b"", []), native.MalformedError, "transaction.malformed"),
        (lambda: KEY.sign(NETWORK, 2, ID), native.MalformedError, "transaction.malformed"),
        (lambda: native.tear_off(TRANSACTION, [(2, 9)], []), native.ProofError, "proof.index"),
        (lambda: native.input_proof(TRANSACTION, 1, PROOF), native.ProofError, "proof.index"),
        (
            lambda: native.verify_tear_off(native.tear_off(TRANSACTION, [], [6]), bytes(32)),
            native.ProofError,
            "proof.invalid",
        ),
        (
            lambda: native.verify_finality(NETWORK, TRANSACTION, PROOF, bytes(32), [(NOTARY, 1)]),
            native.ProofError,
            "finality.parameters",
        ),
        (
            lambda: native.verify_finality(NETWORK, TRANSACTION, PROOF, PARAMETERS, [(NOTARY, 2)]),
            native.ProofError,
            "finality.notary",
        ),
        (
            lambda: native.verify_finality(bytes(32), TRANSACTION, PROOF, PARAMETERS, [(NOTARY, 1)]),
            native.ProofError,
            "finality.worker",
        ),
        (lambda: native.check_key(SMALL_ORDER), native.KeyFormatError, "signature.key_invalid"),
        (lambda: native.check_key(b""), native.KeyFormatError, "signature.key_invalid"),
        (lambda: native.SigningKey.from_seed(bytes(31)), native.KeyFormatError, "signature.key_invalid"),
        (lambda: native.certify_worker(KEY, NETWORK, bytes(32), 0, 1), native.KeyFormatError, "signature.key_invalid"),
        (lambda: native.change_notary(b"\xff", NOTARY, 0), native.MalformedError, "transaction.malformed"),
        (lambda: native.change_notary(GROUPS[2][0], NOTARY[1:], 0), native.MalformedError, "transaction.malformed"),
        (lambda: native.composite_key(1, []), native.KeyFormatError, "signature.key_invalid"),
        (lambda: native.composite_key(2**16, [(1, KEY.public)]), native.KeyFormatError, "signature.key_invalid"),
        (lambda: native.composite_key(1, [(-1, KEY.public)]), native.KeyFormatError, "signature.key_invalid"),
        (lambda: native.composite_key(1, [(2**16, KEY.public)]), native.KeyFormatError, "signature.key_invalid"),
        (lambda: native.composite_key(1, [(1, SMALL_ORDER)]), native.KeyFormatError, "signature.key_invalid"),
        (lambda: native.key_id(b"\1" * 40), native.KeyFormatError, "signature.key_invalid"),
        (lambda: native.key_id(SMALL_ORDER), native.KeyFormatError, "signature.key_invalid"),
        (lambda: native.key_leaves(b""), native.KeyFormatError, "signature.key_invalid"),
        (lambda: native.key_is_satisfied(b"", []), native.KeyFormatError, "signature.key_invalid"),
        (lambda: native.encode_signers([b""]), native.KeyFormatError, "signature.key_invalid"),
        (lambda: native.decode_signers(b"\0"), native.MalformedError, "transaction.malformed"),
    ],
)
def test_l23_errors_are_typed_and_have_codes(
    provoke: Callable[[], object], error: type[native.NativeError], code: str
) -> None:
    with pytest.raises(error) as caught:
        provoke()
    assert type(caught.value) is error
    assert caught.value.code == code
    assert str(caught.value)


def test_the_seed_never_leaves_the_key() -> None:
    seed = bytes(range(32))
    key = native.SigningKey.from_seed(seed)
    assert seed.hex() not in repr(key)
    assert key.public.hex() in repr(key)
