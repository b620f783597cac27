"""Composite keys, encumbrances, notary changes and locks: the vectors, and what must be refused of them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from p2petd import native
from tests.interop import forge, keys, wire
from tests.interop import verifier as v
from tests.interop.corruption import Case, cases, refused
from tests.interop.forge import encode, key_of, sign_id
from tests.interop.test_l07_vectors import BATCHES, load, network, raw
from tests.interop.wire import decode

KEYS, STATES, UNIQUENESS = (load(name) for name in ("keys", "states", "uniqueness"))
NETWORK = network(STATES)
KNOWN = {NETWORK.parameters_hash: NETWORK.notaries}
WORKER = bytes.fromhex(BATCHES["worker"]["worker_seed"])
RULES = native.Rules(NETWORK.network_id, [(NETWORK.parameters_hash, sorted(NETWORK.notaries), 2**20, 256)])
TRANSACTIONS = ("encumbered", "change", "spend")


def secret(number: int) -> bytes:
    return v.sha256(bytes([number]))


FIRST, SECOND, UNSEEING = (
    forge.Network(NETWORK.network_id, secret(number), WORKER, mode) for number, mode in ((200, 1), (202, 1), (204, 2))
)


def parts(name: str, vectors: Any = STATES) -> tuple[wire.Proposal, wire.FinalityProof]:
    vector = vectors[name]
    proposal = decode(wire.Proposal, bytes.fromhex(vector["proposal"]))
    return proposal, decode(wire.FinalityProof, bytes.fromhex(vector["finality_proof"]))


def groups_of(name: str) -> list[list[bytes]]:
    return [list(group) for group in raw(STATES[name]["groups"])]


# Composite keys.


def test_l13_vectors_of_composite_keys() -> None:
    for vector in KEYS["keys"]:
        encoding = bytes.fromhex(vector["encoding"])
        node = keys.read_key(encoding)
        assert keys.key_id(encoding).hex() == vector["id"]
        assert sorted(keys.leaves_of(node)) == raw(vector["leaves"]) == native.key_leaves(encoding)
        for case in vector["satisfaction"]:
            signed = raw(case["signed"])
            assert keys.satisfied(node, signed) is case["satisfied"] is native.key_is_satisfied(encoding, signed)
        assert native.key_id(encoding).hex() == vector["id"]


@pytest.mark.parametrize("vector", KEYS["refused"], ids=lambda vector: str(vector["name"]))
def test_l13_refused_keys(vector: Any) -> None:
    encoding = bytes.fromhex(vector["encoding"])
    refused("key", lambda: keys.read_key(encoding))
    with pytest.raises(native.KeyFormatError):
        native.key_id(encoding)


def test_l13_a_component_of_signers() -> None:
    vector = KEYS["signers"]
    groups = groups_of("encumbered")
    groups[v.SIGNERS] = [bytes.fromhex(vector["component"])]
    assert list(v.required_keys(groups)) == raw(vector["ids"])
    pairs = zip(raw(vector["ids"]), raw(vector["keys"]), strict=True)
    assert native.decode_signers(groups[v.SIGNERS][0]) == list(pairs)


@pytest.mark.parametrize("place", range(0, 120, 3))
def test_l13_same_answer_for_damaged_keys(place: int) -> None:
    encoding = bytearray(bytes.fromhex(KEYS["keys"][4]["encoding"]))
    for bit in range(8):
        encoding[place % len(encoding)] ^= 1 << bit
        try:
            keys.read_key(bytes(encoding))
            good = True
        except wire.Refused:
            good = False
        try:
            native.key_leaves(bytes(encoding))
        except native.KeyFormatError:
            assert not good
        else:
            assert good


# Finality.


@pytest.mark.parametrize("name", TRANSACTIONS)
def test_n13_the_vectors_are_final(name: str) -> None:
    proposal, proof = parts(name)
    id_, groups = v.check_final(NETWORK, proposal, proof)
    assert (id_.hex(), [list(group) for group in groups]) == (STATES[name]["id"], groups_of(name))
    request = wire.NotarisationRequest(encode(proposal), key_of(secret(1)), v.SCHEME)
    message = v.signed_message(v.REQUEST, NETWORK.network_id, v.request_digest(groups[v.INPUTS], id_))
    asked = encode(replace(request, signature=forge.sign(secret(1), message)))
    read, states = v.check_request(NETWORK.network_id, KNOWN, request.caller, asked)
    assert (read, len(states)) == (id_, len(groups[v.INPUTS]) + len(groups[v.REFERENCES]))


def test_r19_the_vectors_of_a_uniqueness_only_notary() -> None:
    owner = bytes.fromhex(UNIQUENESS["owner"])
    for vector in UNIQUENESS["locks"]:
        salt, lock, consumer, signature = raw(
            [vector[name] for name in ("salt", "lock", "consumer", "unlock_signature")]
        )
        assert keys.lock_of(owner, salt, vector["index"]) == lock == native.lock_of(owner, salt, vector["index"])
        message = v.signed_message(v.UNLOCK, NETWORK.network_id, consumer)
        assert message.hex() == vector["message"]
        v.check_signature(lock, v.SCHEME, message, signature)
    creator = UNIQUENESS["creator"]
    salt = bytes.fromhex(creator["salt"])
    assert [keys.lock_of(owner, salt, index) for index in range(2)] == raw(creator["groups"][v.LOCKS])
    for name in ("creator", "transaction"):
        v.check_final(NETWORK, *parts(name, UNIQUENESS))
    id_, shown = v.check_uniqueness(NETWORK.network_id, KNOWN, bytes.fromhex(UNIQUENESS["uniqueness_proposal"]))
    assert id_.hex() == UNIQUENESS["transaction"]["id"]
    assert not {v.OUTPUTS, v.COMMANDS, v.SIGNERS} & set(shown)


def notarised(
    groups: v.Groups, signers: tuple[int, ...], notary: forge.Network = FIRST, **changes: Any
) -> tuple[wire.Proposal, wire.FinalityProof]:
    """A transaction of these groups, signed by the keys of these numbers and decided by a notary."""
    envelope = forge.serialise(bytes(32), groups)
    id_, _ = v.read_transaction(envelope)
    signatures = tuple(sign_id(secret(number), NETWORK.network_id, id_) for number in signers)
    batch = replace(notary.decide([secret(0), id_], 1), **changes)
    return wire.Proposal(envelope, signatures), wire.FinalityProof(transaction_id=id_, batch=batch)


def changed(number: int, *components: bytes, name: str = "change") -> list[list[bytes]]:
    groups = groups_of(name)
    groups[number] = list(components)
    return groups


def encumbered(*by: int) -> list[list[bytes]]:
    groups = groups_of("encumbered")
    outputs = [decode(wire.OutputState, output) for output in groups[v.OUTPUTS]]
    groups[v.OUTPUTS] = [encode(replace(one, encumbered_by=n)) for one, n in zip(outputs, by, strict=True)]
    return groups


def under(*notaries: bytes) -> list[list[bytes]]:
    """The notary change, whose outputs name these notaries."""
    groups = groups_of("change")
    outputs = [decode(wire.OutputState, output) for output in groups[v.OUTPUTS]]
    groups[v.OUTPUTS] = [encode(replace(one, notary=key)) for one, key in zip(outputs, notaries, strict=True)]
    return groups


def locked(number: int, *components: bytes) -> list[list[bytes]]:
    groups = [list(group) for group in raw(UNIQUENESS["creator"]["groups"])]
    groups[number] = list(components)
    return groups


CHANGE, CREATED = groups_of("change"), groups_of("encumbered")
COMPOSITE = CHANGE[v.SIGNERS][0]
CLAIM = secret(77)
TAMPERED = COMPOSITE[:6] + b"\x09" + COMPOSITE[7:]

FINALITY_CASES: list[Case] = [
    ("too few leaves", "signers", lambda: notarised(CHANGE, (2, 3))),
    ("only the leaf that must", "signers", lambda: notarised(CHANGE, (1,))),
    ("no leaf", "signers", lambda: notarised(CHANGE, ())),
    ("a leaf twice", "signers", lambda: notarised(CHANGE, (1, 1, 2))),
    ("a stranger besides", "signers", lambda: notarised(CHANGE, (1, 2, 9))),
    ("one key of two", "signers", lambda: notarised(CREATED, (1, 2))),
    ("threshold above the weights", "key", lambda: notarised(changed(v.SIGNERS, TAMPERED), (1, 2))),
    ("composite key cut short", "shape", lambda: notarised(changed(v.SIGNERS, COMPOSITE[:-1]), (1, 2))),
    ("a key above its length", "shape", lambda: notarised(changed(v.SIGNERS, COMPOSITE + b"\x00"), (1, 2))),
    ("decided by the new notary", "notary", lambda: notarised(CHANGE, (1, 2), SECOND)),
    ("decided without verifying", "mode", lambda: notarised(CHANGE, (1, 2), replace(FIRST, mode=2))),
    ("signed by another worker", "signature", lambda: notarised(CHANGE, (1, 2), signature=bytes(64))),
    ("decided before the window", "window", lambda: notarised(CHANGE, (1, 2), decided_before())),
    ("the same as a general transaction", "shape", lambda: notarised(changed(v.TYPE, b"\x01"), (1, 2))),
    ("type 3", "shape", lambda: notarised(changed(v.TYPE, b"\x03"), (1, 2))),
    ("with a command", "shape", lambda: notarised(changed(v.COMMANDS, CREATED[v.COMMANDS][0]), (1, 2))),
    ("with a reference", "shape", lambda: notarised(changed(v.REFERENCES, bytes(36)), (1, 2))),
    ("with an attachment", "shape", lambda: notarised(changed(v.ATTACHMENTS, CLAIM), (1, 2))),
    ("with a claim", "shape", lambda: notarised(changed(v.CLAIMS, CLAIM), (1, 2))),
    ("with a lock", "shape", lambda: notarised(changed(v.LOCKS, CLAIM), (1, 2))),
    ("two lists of signers", "shape", lambda: notarised(changed(v.SIGNERS, COMPOSITE, COMPOSITE), (1, 2))),
    ("no list of signers", "shape", lambda: notarised(changed(v.SIGNERS), ())),
    ("an output less", "shape", lambda: notarised(changed(v.OUTPUTS, CHANGE[v.OUTPUTS][0]), (1, 2))),
    ("to the same notary", "shape", lambda: notarised(under(*[FIRST.notary] * 3), (1, 2))),
    ("to two notaries", "shape", lambda: notarised(under(SECOND.notary, SECOND.notary, CLAIM), (1, 2))),
    ("without locks to a notary that needs them", "shape", lambda: notarised(under(*[UNSEEING.notary] * 3), (1, 2))),
    ("from a uniqueness-only notary", "shape", lambda: notarised(changed(v.NOTARY, UNSEEING.notary), (1, 2), UNSEEING)),
    ("encumbered by itself", "encumbrance", lambda: notarised(encumbered(1, 0, 0), (1, 2, 4))),
    ("encumbered by nothing", "encumbrance", lambda: notarised(encumbered(2, 4, 1), (1, 2, 4))),
    ("encumbered by one that is not", "encumbrance", lambda: notarised(encumbered(2, 0, 0), (1, 2, 4))),
    ("two encumbered by one", "encumbrance", lambda: notarised(encumbered(3, 3, 1), (1, 2, 4))),
    ("a lock too few", "shape", lambda: notarised(locked(v.LOCKS, CLAIM), (1,), UNSEEING)),
    ("a claim at a notary that sees none", "shape", lambda: notarised(locked(v.CLAIMS, CLAIM), (1,), UNSEEING)),
]


def decided_before() -> forge.Network:
    return replace(FIRST, decided_at_ns=FIRST.decided_at_ns - 1)


@cases(FINALITY_CASES)
def test_n13_finality_refused(check: str, corrupt: Callable[[], tuple[wire.Proposal, wire.FinalityProof]]) -> None:
    proposal, proof = corrupt()
    refused(check, lambda: v.check_final(NETWORK, proposal, proof))


@cases(FINALITY_CASES)
def test_l07_the_core_refuses_the_same(
    check: str, corrupt: Callable[[], tuple[wire.Proposal, wire.FinalityProof]]
) -> None:
    proposal, proof = corrupt()
    answer = RULES.check_finals([(encode(proposal), encode(proof))])[0]
    assert isinstance(answer, native.Refusal), check


def test_l07_the_uncorrupted_pass_both() -> None:
    honest = [
        notarised(CHANGE, (1, 2)),
        notarised(CHANGE, (3, 1)),
        notarised(CHANGE, (1, 2, 3)),
        notarised(CREATED, (1, 2, 4)),
        notarised(encumbered(2, 3, 1), (1, 2, 4)),
        notarised(locked(v.CLAIMS), (1,), UNSEEING),
    ]
    for proposal, proof in honest:
        v.check_final(NETWORK, proposal, proof)
        answer = RULES.check_finals([(encode(proposal), encode(proof))])[0]
        assert isinstance(answer, native.Checked), answer


# Proposals: what the states behind the inputs decide.


def proposed(groups: v.Groups, signers: tuple[int, ...], proofs: tuple[str, ...]) -> wire.Proposal:
    return replace(notarised(groups, signers)[0], input_proofs=tuple(bytes.fromhex(proof) for proof in proofs))


def moved_with(place: int, **changes: Any) -> wire.Proposal:
    groups = groups_of("change")
    state = decode(wire.OutputState, groups[v.OUTPUTS][place])
    groups[v.OUTPUTS][place] = encode(replace(state, **changes))
    return proposed(groups, (1, 2), tuple(STATES["change"]["input_proofs"]))


def freed() -> wire.Proposal:
    groups = groups_of("change")
    states = [decode(wire.OutputState, output) for output in groups[v.OUTPUTS]]
    groups[v.OUTPUTS] = [encode(replace(state, encumbered_by=0)) for state in states]
    return proposed(groups, (1, 2), tuple(STATES["change"]["input_proofs"]))


def one_moved() -> wire.Proposal:
    """Output 1 of the creator alone, although it is encumbered."""
    groups = groups_of("change")
    groups[v.INPUTS] = groups[v.INPUTS][1:2]
    state = decode(wire.OutputState, groups[v.OUTPUTS][1])
    groups[v.OUTPUTS] = [encode(replace(state, encumbered_by=0))]
    return proposed(groups, (1, 2), (STATES["change"]["input_proofs"][1],))


def one_spent() -> wire.Proposal:
    groups = groups_of("spend")
    groups[v.INPUTS], groups[v.REFERENCES] = groups[v.INPUTS][:1], []
    return proposed(groups, (5,), (STATES["spend"]["input_proofs"][0],))


def at_the_old_notary() -> wire.Proposal:
    groups = groups_of("spend")
    groups[v.NOTARY] = [FIRST.notary]
    output = decode(wire.OutputState, groups[v.OUTPUTS][0])
    groups[v.OUTPUTS] = [encode(replace(output, notary=FIRST.notary))]
    return proposed(groups, (5,), tuple(STATES["spend"]["input_proofs"]))


PROPOSAL_CASES: list[Case] = [
    ("another payload", "moved", lambda: moved_with(0, payload=b"more")),
    ("another contract", "moved", lambda: moved_with(1, contract="payment")),
    ("another version", "moved", lambda: moved_with(2, contract_version=2)),
    ("another type", "moved", lambda: moved_with(0, type_name="energy.Other")),
    ("freed of its encumbrance", "moved", freed),
    ("moved without its companion", "encumbered alone", one_moved),
    ("consumed without its companion", "encumbered alone", one_spent),
    ("consumed at the old notary", "notary", at_the_old_notary),
]


@cases(PROPOSAL_CASES)
def test_l22_n13_proposals_refused(check: str, corrupt: Callable[[], wire.Proposal]) -> None:
    proposal = corrupt()
    id_, groups = v.read_transaction(proposal.transaction)
    digest = v.request_digest(groups[v.INPUTS], id_)
    signature = forge.sign(secret(1), v.signed_message(v.REQUEST, NETWORK.network_id, digest))
    request = wire.NotarisationRequest(encode(proposal), key_of(secret(1)), v.SCHEME, signature)
    refused(check, lambda: v.check_request(NETWORK.network_id, KNOWN, request.caller, encode(request)))
    answer = RULES.check_proposals([encode(proposal)], require_all_signatures=True)[0]
    assert isinstance(answer, native.Refusal)


# What a uniqueness-only notary is asked.

ASKED = decode(wire.UniquenessProposal, bytes.fromhex(UNIQUENESS["uniqueness_proposal"]))
HERE = (bytes.fromhex(UNIQUENESS["transaction"]["salt"]), raw(UNIQUENESS["transaction"]["groups"]))
OTHER_UNLOCK = bytes.fromhex(UNIQUENESS["locks"][0]["unlock_signature"])
SHOWN = (v.INPUTS, v.REFERENCES, v.NOTARY, v.WINDOW, v.PARAMETERS, v.CLAIMS, v.LOCKS)


def showing(*whole: int, salt: bytes = HERE[0], groups: v.Groups = HERE[1]) -> wire.UniquenessProposal:
    return replace(ASKED, transaction=forge.tear_off(salt, groups, [], whole))


UNIQUENESS_CASES: list[Case] = [
    ("an output shown besides", "hidden", lambda: showing(*SHOWN, v.OUTPUTS)),
    ("locks hidden", "hidden", lambda: showing(*SHOWN[:-1])),
    ("another transaction", "signature", lambda: showing(*SHOWN, salt=CLAIM)),
    ("a proof less", "proofs", lambda: replace(ASKED, input_proofs=ASKED.input_proofs[:1])),
    ("proofs swapped", "hidden", lambda: replace(ASKED, input_proofs=ASKED.input_proofs[::-1])),
    ("no unlock signature", "signers", lambda: replace(ASKED, unlock_signatures=())),
    ("unlocked by the owner's own key", "signature", lambda: replace(ASKED, unlock_signatures=(by_the_owner(),))),
    ("unlocked for another", "signature", lambda: replace(ASKED, unlock_signatures=(OTHER_UNLOCK,))),
]


def by_the_owner() -> bytes:
    id_ = bytes.fromhex(UNIQUENESS["transaction"]["id"])
    return forge.sign(secret(1), v.signed_message(v.UNLOCK, NETWORK.network_id, id_))


@cases(UNIQUENESS_CASES)
def test_l24_uniqueness_proposals_refused(check: str, corrupt: Callable[[], wire.UniquenessProposal]) -> None:
    refused(check, lambda: v.check_uniqueness(NETWORK.network_id, KNOWN, encode(corrupt())))
