"""The binding of composite keys, locks and the checks of transactions whose states the caller knows."""

import json
from pathlib import Path
from typing import Any

import pytest

from p2petd import native

VECTORS = Path(__file__).parents[3] / "docs" / "vectors"


def read(name: str) -> Any:
    return json.loads((VECTORS / name).read_text())


KEYS, UNIQUENESS = read("keys.json"), read("uniqueness.json")
NETWORK = bytes.fromhex(UNIQUENESS["network_id"])
PARAMETERS = bytes.fromhex(UNIQUENESS["parameters_hash"])
NOTARIES = [(bytes.fromhex(one["service_key"]), one["mode"]) for one in UNIQUENESS["notaries"]]
SIGNERS = [native.SigningKey.from_seed(bytes.fromhex(seed)) for seed in KEYS["seeds"]]
PUBLIC = [signer.public for signer in SIGNERS]


def rules() -> native.Rules:
    return native.Rules(NETWORK, [(PARAMETERS, NOTARIES, 10_000, 8)])


def named(name: str) -> bytes:
    return bytes.fromhex(next(key["encoding"] for key in KEYS["keys"] if key["name"] == name))


def test_l13_keys_are_built_as_the_vectors_are() -> None:
    a, b, c, d = PUBLIC[:4]
    inner = native.composite_key(1, [(1, c), (1, b)])
    outer = native.composite_key(2, [(1, inner), (1, a)])
    assert outer == named("one and either of two")
    assert native.composite_key(7, [(5, outer), (2, d)]) == named("three deep")
    assert native.composite_key(5, [(2, c), (4, a), (3, b)]) == named("weights")
    assert native.key_id(outer) == native.sha256(b"\5" + outer)
    assert native.key_leaves(outer) == sorted((a, b, c))
    assert (native.key_id(a), native.key_leaves(a)) == (a, [a])


def test_l13_each_signature_counts_once() -> None:
    two = native.composite_key(2, [(1, key) for key in PUBLIC[:3]])
    assert not native.key_is_satisfied(two, [PUBLIC[0], PUBLIC[0]])
    assert not native.key_is_satisfied(two, [PUBLIC[0], PUBLIC[5], two])
    assert native.key_is_satisfied(two, [PUBLIC[2], PUBLIC[0]])
    inner = native.composite_key(1, [(1, PUBLIC[0]), (1, PUBLIC[1])])
    for children in ([(1, PUBLIC[0]), (1, PUBLIC[0])], [(1, PUBLIC[0]), (1, inner)]):
        with pytest.raises(native.KeyFormatError):
            native.composite_key(2, children)


def test_l13_signers_in_both_directions() -> None:
    composite = named("one and either of two")
    component = native.encode_signers([composite, PUBLIC[3], PUBLIC[0], composite])
    assert component.hex() == KEYS["signers"]["component"]
    pairs = zip(KEYS["signers"]["ids"], KEYS["signers"]["keys"], strict=True)
    assert native.decode_signers(component) == [(bytes.fromhex(id_), bytes.fromhex(key)) for id_, key in pairs]


def test_n13_an_output_under_another_notary() -> None:
    output = bytes.fromhex(UNIQUENESS["creator"]["groups"][2][0])
    moved = native.change_notary(output, PUBLIC[0], 3)
    before, after = native.decode_output(output), native.decode_output(moved)
    assert after == (*before[:2], PUBLIC[0], *before[3:6], 3)
    assert native.change_notary(moved, before[2], 0) == output


def test_l24_a_transaction_under_a_uniqueness_only_notary_is_checked_with_its_states() -> None:
    creator, transaction = UNIQUENESS["creator"], UNIQUENESS["transaction"]
    read_, consumed = (bytes.fromhex(output) for output in creator["groups"][2])
    proposal = bytes.fromhex(transaction["proposal"])
    (checked,) = rules().check_resolved([(proposal, [consumed], [read_])], True)
    assert isinstance(checked, native.Checked)
    assert (checked.id.hex(), checked.input_outputs) == (transaction["id"], [consumed])
    assert checked.reference_outputs == [read_]
    (final,) = rules().check_finals([(proposal, bytes.fromhex(transaction["finality_proof"]))])
    assert isinstance(final, native.Checked)
    refused = {
        "proof.missing": rules().check_resolved([(proposal, [], [read_])], True),
        "transaction.notary_mode": rules().check_proposals([proposal], True),
        "proof.other_notary": rules().check_resolved(
            [(proposal, [native.change_notary(consumed, PUBLIC[0], 0)], [read_])], True
        ),
        "transaction.encumbered_alone": rules().check_resolved(
            [(proposal, [native.change_notary(consumed, NOTARIES[2][0], 1)], [read_])], True
        ),
    }
    for code, (refusal,) in refused.items():
        assert isinstance(refusal, native.Refusal)
        assert refusal.code == code


def test_l24_a_uniqueness_proposal_equals_the_vector() -> None:
    creator, transaction = UNIQUENESS["creator"], UNIQUENESS["transaction"]
    owner = native.SigningKey.from_seed(bytes.fromhex(UNIQUENESS["owner_seed"]))
    salt, id_ = bytes.fromhex(creator["salt"]), bytes.fromhex(transaction["id"])
    groups = [[bytes.fromhex(component) for component in group] for group in creator["groups"]]
    assert groups[11] == [native.lock_of(owner.public, salt, index) for index in range(2)]
    serialised = native.encode_transaction(salt, groups)
    proof = bytes.fromhex(creator["finality_proof"])
    proofs = [native.lock_proof(serialised, index, proof) for index in (1, 0)]
    assert [one.hex() for one in proofs] == UNIQUENESS["lock_proofs"]
    unlock = owner.unlock(NETWORK, salt, 1, id_)
    consumer = native.encode_transaction(
        bytes.fromhex(transaction["salt"]),
        [[bytes.fromhex(component) for component in group] for group in transaction["groups"]],
    )
    made = native.uniqueness_proposal(consumer, proofs, [unlock])
    assert made.hex() == UNIQUENESS["uniqueness_proposal"]
    assert native.verify_signatures([(groups[11][1], NETWORK, 9, id_, unlock)]) == [True]
    assert native.verify_signatures([(groups[11][0], NETWORK, 9, id_, unlock)]) == [False]
