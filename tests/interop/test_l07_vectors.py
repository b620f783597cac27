"""The committed vectors, byte for byte, as the independent verifier sees them."""

import ast
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.interop import ed25519, forge, wire
from tests.interop import verifier as v
from tests.interop.notary_log import NO_CHAIN, crc32c, read_certificate_record, read_changes, scan_segment
from tests.interop.wire import Refused, decode

HERE = Path(__file__).parent
VECTORS = HERE.parents[1] / "docs" / "vectors"
STANDARD = {"base64", "collections", "dataclasses", "datetime", "hashlib", "hmac", "struct", "sys", "typing"}


def load(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text("utf-8"))


def raw(value: Any) -> Any:
    """The same shape with hexadecimal text as bytes."""
    return [raw(one) for one in value] if isinstance(value, list) else bytes.fromhex(value)


IDS = {vector["name"]: vector for vector in load("ids")["vectors"]}
TEAR_OFFS, SIGNATURES, BATCHES, FINALITY = (load(name) for name in ("tear_offs", "signatures", "batch", "finality"))


def network(vector: Any = FINALITY) -> v.Network:
    notaries = frozenset((bytes.fromhex(entry["service_key"]), entry["mode"]) for entry in vector["notaries"])
    return v.Network(bytes.fromhex(vector["network_id"]), bytes.fromhex(vector["parameters_hash"]), notaries)


UNSEEING = network(load("uniqueness")).unseeing


def test_l07_verifier_shares_no_code_with_the_node() -> None:
    for module in ("verifier", "keys", "wire", "ed25519", "certificates", "identifiers", "notary_log"):
        for node in ast.walk(ast.parse((HERE / f"{module}.py").read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] in STANDARD | {"cryptography"} or name.startswith("tests.interop"), name


@pytest.mark.parametrize("name", IDS)
def test_l07_ids(name: str) -> None:
    vector = IDS[name]
    salt, groups = bytes.fromhex(vector["salt"]), raw(vector["groups"])
    nonces = [[v.nonce(salt, number, i) for i in range(len(group))] for number, group in enumerate(groups)]
    assert nonces == raw(vector["nonces"])
    assert [forge.leaves(salt, number, group) for number, group in enumerate(groups)] == raw(vector["leaves"])
    assert v.group_roots(salt, groups) == raw(vector["group_roots"])
    assert v.transaction_id(salt, groups).hex() == vector["id"]
    serialised = bytes.fromhex(vector["transaction"])
    id_, read = v.read_transaction(serialised)
    assert (id_.hex(), [list(group) for group in read]) == (vector["id"], groups)
    assert forge.serialise(salt, groups) == serialised
    if name != "empty groups":
        v.check_shape(read, UNSEEING)


@pytest.mark.parametrize("vector", TEAR_OFFS["vectors"], ids=lambda vector: str(vector["name"]))
def test_l07_tear_offs(vector: Any) -> None:
    serialised = bytes.fromhex(vector["tear_off"])
    tear_off = decode(wire.TearOff, serialised)
    assert forge.encode(tear_off) == serialised
    id_, shown = v.read_tear_off(tear_off)
    assert id_.hex() == TEAR_OFFS["id"]
    assert list(shown) == [group["group"] for group in vector["shown"]]
    for group, revealed in zip(vector["shown"], tear_off.groups, strict=True):
        ours = shown[group["group"]]
        assert (ours.count, ours.complete) == (group["count"], group["complete"])
        components = [
            {"index": one.index, "nonce": one.nonce.hex(), "component": one.component.hex()}
            for one in revealed.components
        ]
        assert components == group["components"]
    source = IDS[TEAR_OFFS["transaction"]]
    asked = [(group, index) for group, index in vector["components"]]
    made = forge.tear_off(bytes.fromhex(source["salt"]), raw(source["groups"]), asked, vector["whole_groups"])
    assert made == tear_off


@pytest.mark.parametrize("vector", SIGNATURES["vectors"], ids=lambda vector: f"purpose {vector['purpose']}")
def test_l07_signatures(vector: Any) -> None:
    seed, key, network_id, digest = raw([SIGNATURES[name] for name in ("seed", "key", "network_id", "digest")])
    message = v.signed_message(vector["purpose"], network_id, digest)
    assert message.hex() == vector["message"]
    assert forge.key_of(seed) == key
    assert forge.sign(seed, message).hex() == vector["signature"]
    v.check_signature(key, v.SCHEME, message, bytes.fromhex(vector["signature"]))


def test_l07_signatures_of_every_purpose_are_there() -> None:
    assert [vector["purpose"] for vector in SIGNATURES["vectors"]] == [1, 3, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("number", range(len(load("zip215")["vectors"])))
def test_l11_zip215(number: int) -> None:
    vector = load("zip215")["vectors"][number]
    key, message, signature = raw([vector[name] for name in ("key", "message", "signature")])
    assert ed25519.zip215_valid(key, message, signature) is vector["valid"]
    assert ed25519.valid(key, message, signature) is vector["valid"]


def test_l07_worker_certificate() -> None:
    vector, network_id = BATCHES["worker"], bytes.fromhex(BATCHES["network_id"])
    worker = decode(wire.WorkerCertificate, bytes.fromhex(vector["worker_certificate"]))
    assert forge.encode(worker).hex() == vector["worker_certificate"]
    assert (worker.service_key.hex(), worker.worker_key.hex()) == (vector["service_key"], vector["worker_key"])
    assert [str(worker.not_before_ns), str(worker.not_after_ns)] == [vector["not_before_ns"], vector["not_after_ns"]]
    assert forge.key_of(bytes.fromhex(vector["service_seed"])) == worker.service_key
    assert forge.key_of(bytes.fromhex(vector["worker_seed"])) == worker.worker_key
    digest = v.worker_digest(worker)
    assert digest.hex() == vector["digest"]
    assert v.signed_message(v.WORKER, network_id, digest).hex() == vector["message"]
    assert worker.signature.hex() == vector["signature"]
    v.check_worker(network_id, worker, worker.service_key, worker.not_before_ns)
    v.check_worker(network_id, worker, worker.service_key, worker.not_after_ns - 1)


@pytest.mark.parametrize("vector", BATCHES["batches"], ids=lambda vector: f"{vector['count']} ids")
def test_l07_batches(vector: Any) -> None:
    network_id, ids = bytes.fromhex(BATCHES["network_id"]), raw(vector["ids"])
    leaves = [v.batch_leaf(id_) for id_ in ids]
    assert leaves == raw(vector["leaves"])
    assert v.tree(leaves, 0x11).hex() == vector["root"]
    numbers = (vector["mode"], int(vector["sequence"]), int(vector["decided_at_ns"]), vector["count"])
    root = wire.RootMessage(bytes.fromhex(vector["notary"]), *numbers, bytes.fromhex(vector["root"]))
    assert v.root_message(network_id, root).hex() == vector["message"]
    for index, id_ in enumerate(ids):
        proof = decode(wire.FinalityProof, bytes.fromhex(vector["finality_proofs"][index]))
        assert forge.encode(proof).hex() == vector["finality_proofs"][index]
        assert (proof.transaction_id, proof.batch.root, proof.batch.index) == (id_, root, index)
        assert proof.batch.path == tuple(raw(vector["paths"][index])) == forge.prove(leaves, [index], 0x11)
        assert proof.batch.signature.hex() == vector["signature"]
        v.check_batch(network_id, proof.batch, id_)


def test_l07_finality() -> None:
    assert v.sha256(bytes.fromhex(FINALITY["parameters"])).hex() == FINALITY["parameters_hash"]
    creator, transaction = FINALITY["creator"], FINALITY["transaction"]
    for vector in (creator, transaction):
        groups = raw(vector["groups"])
        assert v.transaction_id(bytes.fromhex(vector["salt"]), groups).hex() == vector["id"]
        v.check_shape(groups)
    proof = decode(wire.FinalityProof, bytes.fromhex(creator["finality_proof"]))
    v.check_batch(network().network_id, proof.batch, bytes.fromhex(creator["id"]))
    proposal = decode(wire.Proposal, bytes.fromhex(transaction["proposal"]))
    assert forge.encode(proposal).hex() == transaction["proposal"]
    assert proposal.transaction == forge.serialise(bytes.fromhex(transaction["salt"]), raw(transaction["groups"]))
    final = decode(wire.FinalityProof, bytes.fromhex(transaction["finality_proof"]))
    id_, groups = v.check_final(network(), proposal, final)
    assert (id_.hex(), [list(group) for group in groups]) == (transaction["id"], raw(transaction["groups"]))


def test_l24_input_proofs() -> None:
    known = {network().parameters_hash: network().notaries}
    groups = raw(FINALITY["transaction"]["groups"])
    refs = [*groups[v.INPUTS], *groups[v.REFERENCES]]
    proofs = raw(FINALITY["transaction"]["input_proofs"])
    assert len(proofs) == 3
    for ref, proof in zip(refs, proofs, strict=True):
        output = v.check_input_proof(network().network_id, known, ref, groups[v.NOTARY][0], proof)
        index = struct.unpack(">I", ref[32:])[0]
        assert forge.encode(output).hex() == FINALITY["creator"]["groups"][v.OUTPUTS][index]


def test_l07_notarisation_request() -> None:
    vector, known = FINALITY["request"], {network().parameters_hash: network().notaries}
    id_, inputs = bytes.fromhex(FINALITY["transaction"]["id"]), raw(FINALITY["transaction"]["groups"][v.INPUTS])
    assert v.request_digest(inputs, id_).hex() == vector["digest"]
    request = decode(wire.NotarisationRequest, bytes.fromhex(vector["notarisation_request"]))
    assert request.signature.hex() == vector["signature"]
    assert request.proposal.hex() == FINALITY["transaction"]["proposal"]
    caller = bytes.fromhex(vector["caller"])
    read, states = v.check_request(network().network_id, known, caller, forge.encode(request))
    assert (read, len(states)) == (id_, 3)


def test_crc32c_of_rfc_3720() -> None:
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"123456789") == 0xE3069283


def test_l07_the_log() -> None:
    vectors = load("log")
    segment, changes = vectors["segment"], vectors["node_record"]
    data = bytes.fromhex(segment["bytes"])
    records = scan_segment(data, int(segment["first_sequence"]), NO_CHAIN)
    assert data[12:16].hex() == segment["salt"]
    assert [record.payload.hex() for record in records] == segment["payloads"]
    assert [record.chain.hex() for record in records] == segment["chain_values"]
    read = read_changes(bytes.fromhex(changes["payload"]))
    assert [(one.table, one.key.hex()) for one in read] == [(one["table"], one["key"]) for one in changes["changes"]]
    certificate = read_certificate_record(bytes.fromhex(vectors["certificate_record"]["payload"]))
    assert certificate is not None
    assert certificate.hex() == vectors["certificate_record"]["worker_certificate"]
    assert decode(wire.WorkerCertificate, certificate).not_before_ns == 0


def test_l07_a_vector_with_one_changed_bit_is_refused() -> None:
    serialised = bytes.fromhex(TEAR_OFFS["vectors"][0]["tear_off"])
    for place in range(len(serialised)):
        changed = bytearray(serialised)
        changed[place] ^= 1 << place % 8
        try:
            id_, _ = v.read_tear_off(decode(wire.TearOff, bytes(changed)))
        except Refused:
            continue
        assert id_.hex() != TEAR_OFFS["id"], place
