"""Finality proofs, parameters, input proofs and requests that the independent verifier must refuse."""

import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.interop import forge, wire
from tests.interop import verifier as v
from tests.interop.corruption import Case, cases, refused, swapped
from tests.interop.forge import NOW_NS, SIGNERS, encode, seed, sign_id
from tests.interop.test_l07_vectors import BATCHES, FINALITY, SIGNATURES, network, raw
from tests.interop.wire import decode

OTHER = seed("something else")

# Batches and the finality of one transaction, notarised by the vectors' own notary.

SERVICE, WORKER = raw([BATCHES["worker"][name] for name in ("service_seed", "worker_seed")])
HONEST = forge.Network(network().network_id, SERVICE, WORKER)
OTHER_SERVICE = replace(HONEST, service=seed("another service"))
ENVELOPE = forge.serialise(OTHER, forge.groups_of(HONEST.notary, network().parameters_hash, (NOW_NS, NOW_NS + 1)))
ID, _ = v.read_transaction(ENVELOPE)
BATCH_IDS = (seed("a"), ID, seed("b"), seed("c"), seed("d"))


def final(notary: forge.Network = HONEST, **changes: Any) -> tuple[wire.Proposal, wire.FinalityProof]:
    """The transaction with its proof; `changes` are to the batch proof."""
    signatures = tuple(sign_id(secret, network().network_id, ID) for secret in SIGNERS)
    batch = replace(notary.decide(BATCH_IDS, 1), **changes)
    return wire.Proposal(ENVELOPE, signatures), wire.FinalityProof(transaction_id=ID, batch=batch)


def root(**changes: Any) -> tuple[wire.Proposal, wire.FinalityProof]:
    return final(root=replace(HONEST.decide(BATCH_IDS, 1).root, **changes))


def resigned(**changes: Any) -> tuple[wire.Proposal, wire.FinalityProof]:
    """As `root`, with the worker's own signature over the changed root."""
    changed = replace(HONEST.decide(BATCH_IDS, 1).root, **changes)
    return final(root=changed, signature=forge.sign(HONEST.worker, v.root_message(HONEST.network_id, changed)))


def signed_by(*signatures: wire.TransactionSignature) -> tuple[wire.Proposal, wire.FinalityProof]:
    return replace(final()[0], signatures=signatures), final()[1]


def of(envelope: bytes) -> tuple[wire.Proposal, wire.FinalityProof]:
    """Another transaction, signed and notarised in full."""
    id_, _ = v.read_transaction(envelope)
    signatures = tuple(sign_id(secret, network().network_id, id_) for secret in SIGNERS)
    return wire.Proposal(envelope, signatures), wire.FinalityProof(transaction_id=id_, batch=HONEST.decide([id_], 0))


def inner_node_as_id() -> tuple[wire.Proposal, wire.FinalityProof]:
    node = v.tree([v.batch_leaf(one) for one in BATCH_IDS[:2]], 0x11)
    proof = wire.FinalityProof(transaction_id=node, batch=final(index=0, path=final()[1].batch.path[1:])[1].batch)
    return final()[0], proof


def leaf_as_node_of_another_tree() -> tuple[wire.Proposal, wire.FinalityProof]:
    """A batch whose root is made with the prefix of the transaction's trees."""
    leaves = [v.batch_leaf(one) for one in BATCH_IDS]
    made = resigned(root=v.tree(leaves, 0x01))
    return made[0], replace(made[1], batch=replace(made[1].batch, path=forge.prove(leaves, [1], 0x01)))


MINE = [sign_id(secret, network().network_id, ID) for secret in SIGNERS]
STRANGER = sign_id(seed("stranger"), network().network_id, ID)
PATH = final()[1].batch.path
GROUPS_OF = forge.groups_of

FINALITY_CASES: list[Case] = [
    ("index + 1", "path", lambda: final(index=2, path=PATH)),
    ("index - 1", "path", lambda: final(index=0)),
    ("index = count", "index", lambda: final(index=5)),
    ("count + 1, same path", "signature", lambda: root(count=6)),
    ("count - 1", "proof", lambda: root(count=4)),
    ("count of 0", "index", lambda: root(count=0)),
    ("sequence changed", "signature", lambda: root(sequence=78)),
    ("decision time changed", "window", lambda: resigned(decided_at_ns=NOW_NS + 1)),
    ("decision time changed, not signed", "signature", lambda: root(decided_at_ns=NOW_NS + 2)),
    ("root changed", "path", lambda: root(root=OTHER)),
    ("swapped path", "path", lambda: final(path=swapped(PATH))),
    ("extra sibling", "proof", lambda: final(path=(*PATH, OTHER))),
    ("missing sibling", "proof", lambda: final(path=PATH[:-1])),
    ("inner node as id", "id", inner_node_as_id),
    ("node of another tree", "path", leaf_as_node_of_another_tree),
    ("another id", "id", lambda: (final()[0], replace(final()[1], transaction_id=OTHER))),
    ("another notary", "notary", lambda: final(OTHER_SERVICE)),
    ("another notary's name only", "notary", lambda: root(notary=OTHER_SERVICE.notary)),
    ("another mode", "mode", lambda: final(replace(HONEST, mode=2))),
    ("mode 0", "mode", lambda: root(mode=0)),
    ("another network", "signature", lambda: final(replace(HONEST, network_id=OTHER))),
    ("another scheme", "scheme", lambda: final(replace(HONEST, scheme=2))),
    (
        "root signed by the service key",
        "signature",
        lambda: final(replace(HONEST, worker=HONEST.service), worker=HONEST.certificate()),
    ),
    ("certificate of another notary", "worker", lambda: final(worker=OTHER_SERVICE.certificate())),
    ("certificate of another purpose", "signature", lambda: final(replace(HONEST, certificate_purpose=v.NODE_INFO))),
    ("certificate signed by another key", "signature", lambda: final(replace(HONEST, certified_by=HONEST.worker))),
    ("decided before the certificate", "worker", lambda: final(replace(HONEST, not_before_ns=NOW_NS + 1))),
    ("decided at its end", "worker", lambda: final(replace(HONEST, not_after_ns=NOW_NS))),
    ("decided before the window", "window", lambda: final(replace(HONEST, decided_at_ns=NOW_NS - 1))),
    ("decided at the window's end", "window", lambda: final(replace(HONEST, decided_at_ns=NOW_NS + 1))),
    ("other parameters", "parameters", lambda: of(forge.serialise(OTHER, GROUPS_OF(HONEST.notary, OTHER)))),
    ("missing signature", "signers", lambda: signed_by(MINE[0])),
    ("no signature", "signers", lambda: signed_by()),
    ("a signature twice", "signers", lambda: signed_by(*MINE, MINE[0])),
    ("signature by an unasked key", "signers", lambda: signed_by(*MINE, STRANGER)),
    ("stranger instead of a signer", "signers", lambda: signed_by(MINE[0], STRANGER)),
    (
        "one's signature under another's key",
        "signature",
        lambda: signed_by(MINE[0], replace(MINE[1], signature=MINE[0].signature)),
    ),
    (
        "signature of another purpose",
        "signature",
        lambda: signed_by(MINE[0], sign_id(SIGNERS[1], network().network_id, ID, v.REQUEST)),
    ),
    ("signature for another network", "signature", lambda: signed_by(MINE[0], sign_id(SIGNERS[1], OTHER, ID))),
    (
        "transaction changed",
        "id",
        lambda: (
            replace(final()[0], transaction=of(forge.serialise(OTHER, GROUPS_OF(HONEST.notary, OTHER)))[0].transaction),
            final()[1],
        ),
    ),
]


def check_final(proposal: wire.Proposal, proof: wire.FinalityProof) -> None:
    v.check_final(network(), decode(wire.Proposal, encode(proposal)), decode(wire.FinalityProof, encode(proof)))


@cases(FINALITY_CASES)
def test_l07_finality_refused(check: str, corrupt: Callable[[], tuple[wire.Proposal, wire.FinalityProof]]) -> None:
    refused(check, lambda: check_final(*corrupt()))


def test_l07_finality_of_the_uncorrupted() -> None:
    check_final(*final())
    check_final(*of(forge.serialise(OTHER, GROUPS_OF(HONEST.notary, network().parameters_hash))))
    check_final(
        *of(forge.serialise(OTHER, GROUPS_OF(HONEST.notary, network().parameters_hash, (v.I64_MIN, v.I64_MAX))))
    )


# Parameters, signed below a root that was made for these tests.

ROOT, MAP, ROOT_CERTIFICATE, PARAMETERS = forge.ROOT, forge.MAP, forge.ROOT_CERTIFICATE, forge.PARAMETERS
GOOD_MAP = MAP.issued_by(ROOT)
signed = forge.sign_parameters


def below(*authorities: forge.Certificate) -> wire.SignedNetworkParameters:
    """Parameters signed by a map whose certificate comes from the last of the authorities, each from the one before."""
    chain, issuer = [], ROOT
    for certificate in (*authorities, MAP):
        chain.append(certificate.issued_by(issuer))
        issuer = certificate
    return signed(*reversed(chain))


def map_with(**changes: Any) -> wire.SignedNetworkParameters:
    return signed(replace(MAP, **changes).issued_by(ROOT))


MIDDLE = forge.Certificate.of_authority("an authority")
PARTY = replace(MAP, name="a party", role=b"\x0c\x05party")
IMPOSTOR = replace(ROOT, key=Ed25519PrivateKey.generate())
BEFORE = forge.START + forge.YEAR / 2
EC_KEY = ec.generate_private_key(ec.SECP256R1())

PARAMETERS_CASES: list[Case] = [
    ("another network", "network", lambda: signed(GOOD_MAP, parameters=replace(PARAMETERS, network_id=OTHER))),
    (
        "changed after signing",
        "signature",
        lambda: replace(signed(GOOD_MAP), parameters=encode(replace(PARAMETERS, version=2))),
    ),
    ("another purpose", "signature", lambda: signed(GOOD_MAP, purpose=v.NODE_INFO)),
    ("another scheme", "scheme", lambda: signed(GOOD_MAP, scheme=2)),
    ("signed by the root's key", "signature", lambda: signed(GOOD_MAP, key=ROOT.key)),
    ("unknown field", "canonical", lambda: replace(signed(GOOD_MAP), parameters=encode(PARAMETERS) + b"\xf8\x07\x01")),
    ("no certificate", "certificates", lambda: signed()),
    ("no certificate but rubbish", "certificates", lambda: replace(signed(), certificates=(b"rubbish",))),
    ("another root of the same name", "certificates", lambda: signed(MAP.issued_by(IMPOSTOR))),
    ("the root among the certificates", "certificates", lambda: signed(GOOD_MAP, ROOT_CERTIFICATE)),
    ("a party's certificate", "certificates", lambda: signed(PARTY.issued_by(ROOT), key=PARTY.key)),
    ("a certificate from a party", "certificates", lambda: below(PARTY)),
    ("an authority that may not certify", "certificates", lambda: below(replace(MIDDLE, certifies=False))),
    ("an authority too many", "certificates", lambda: below(MIDDLE, replace(MIDDLE, name="another"))),
    ("an expired authority", "certificates", lambda: below(replace(MIDDLE, end=BEFORE))),
    ("no role", "certificates", lambda: map_with(role=None)),
    ("role of another type", "certificates", lambda: map_with(role=b"\x13\x03map")),
    ("no use", "certificates", lambda: map_with(uses=())),
    ("use for TLS", "certificates", lambda: map_with(uses=(ExtendedKeyUsageOID.SERVER_AUTH,))),
    ("key may not sign", "certificates", lambda: map_with(signs=False)),
    ("the map as an authority", "certificates", lambda: map_with(authority=True)),
    ("expired", "certificates", lambda: map_with(end=BEFORE)),
    ("not valid yet", "certificates", lambda: map_with(start=forge.START + 5 * forge.YEAR)),
    ("unknown critical extension", "certificates", lambda: map_with(unknown=True)),
    ("key of another kind", "certificates", lambda: map_with(key=EC_KEY)),
]


@cases(PARAMETERS_CASES)
def test_l07_parameters_refused(check: str, corrupt: Callable[[], wire.SignedNetworkParameters]) -> None:
    refused(check, lambda: v.check_parameters(ROOT_CERTIFICATE, encode(corrupt())))


def test_l07_parameters_of_the_uncorrupted() -> None:
    for honest in (signed(GOOD_MAP), below(MIDDLE)):
        network_id, hash_, notaries = (
            getattr(v.check_parameters(ROOT_CERTIFICATE, encode(honest)), name)
            for name in ("network_id", "parameters_hash", "notaries")
        )
        assert (network_id, hash_) == (forge.NETWORK_ID, v.sha256(encode(PARAMETERS)))
        assert notaries == {(PARAMETERS.notaries[0].service_key, v.VERIFYING)}


# Input proofs: the vectors' creator, whose output 2 is the first input, and creators made here.

CREATOR = raw(FINALITY["creator"]["groups"])
CREATOR_SALT = bytes.fromhex(FINALITY["creator"]["salt"])
PROVEN_GROUPS = (v.NOTARY, v.PARAMETERS, v.TYPE)
KNOWN = {network().parameters_hash: network().notaries}


def proven(
    groups: v.Groups = CREATOR, notary: forge.Network = HONEST, whole: tuple[int, ...] = PROVEN_GROUPS, index: int = 2
) -> tuple[bytes, wire.InputProof]:
    """A reference to output 2 and a proof of output `index`."""
    id_ = v.transaction_id(CREATOR_SALT, groups)
    tear_off = forge.tear_off(CREATOR_SALT, groups, [(v.OUTPUTS, index)], whole)
    return id_ + b"\0\0\0\2", wire.InputProof(creator=tear_off, batch=notary.decide((OTHER, id_), 1))


def creator_with(number: int, *components: bytes, **options: Any) -> tuple[bytes, wire.InputProof]:
    groups = list(CREATOR)
    groups[number] = list(components)
    return proven(groups, **options)


def batch_with(**changes: Any) -> tuple[bytes, wire.InputProof]:
    ref, proof = proven()
    return ref, replace(proof, batch=replace(proof.batch, **changes))


def one_notary_of_two() -> tuple[bytes, wire.InputProof]:
    """The creator has two notaries, of which the proof shows the one that signed."""
    groups = [list(group) for group in CREATOR]
    groups[v.NOTARY] = [HONEST.notary, OTHER_SERVICE.notary]
    ref, proof = proven(groups, whole=(v.PARAMETERS, v.TYPE))
    shown = [(v.OUTPUTS, 2), (v.NOTARY, 0)]
    return ref, replace(proof, creator=forge.tear_off(CREATOR_SALT, groups, shown, (v.PARAMETERS, v.TYPE)))


def laundered() -> tuple[bytes, wire.InputProof]:
    """A notary that does not verify moved the state here."""
    groups = list(CREATOR)
    groups[v.TYPE], groups[v.NOTARY] = [v.NOTARY_CHANGE], [OTHER_SERVICE.notary]
    return proven(groups, notary=replace(OTHER_SERVICE, mode=v.UNIQUENESS_ONLY))


def output_of(notary: bytes) -> bytes:
    return encode(replace(decode(wire.OutputState, CREATOR[v.OUTPUTS][2]), notary=notary))


INPUT_PROOF_CASES: list[Case] = [
    ("another output", "hidden", lambda: proven(index=1)),
    ("another transaction", "id", lambda: (OTHER + b"\0\0\0\2", proven()[1])),
    ("index beyond the outputs", "hidden", lambda: (proven()[0][:32] + b"\xff" * 4, proven()[1])),
    ("notary hidden", "hidden", lambda: proven(whole=(v.PARAMETERS, v.TYPE))),
    ("parameters hidden", "hidden", lambda: proven(whole=(v.NOTARY, v.TYPE))),
    ("type hidden", "hidden", lambda: proven(whole=(v.NOTARY, v.PARAMETERS))),
    ("one notary of two", "hidden", one_notary_of_two),
    ("no notary", "hidden", lambda: creator_with(v.NOTARY)),
    ("two notaries", "hidden", lambda: creator_with(v.NOTARY, HONEST.notary, OTHER_SERVICE.notary)),
    ("signed by another notary", "notary", lambda: proven(notary=OTHER_SERVICE)),
    (
        "by a notary that is not listed",
        "mode",
        lambda: creator_with(v.NOTARY, OTHER_SERVICE.notary, notary=OTHER_SERVICE),
    ),
    ("by a notary that is not verifying", "mode", lambda: proven(notary=replace(HONEST, mode=2))),
    ("unknown parameters", "parameters", lambda: creator_with(v.PARAMETERS, OTHER)),
    ("laundered by a notary change", "mode", laundered),
    ("unknown type", "type", lambda: creator_with(v.TYPE, b"\x03")),
    ("output of another notary", "notary", lambda: creator_with(v.OUTPUTS, *CREATOR[v.OUTPUTS][:2], output_of(OTHER))),
    ("output that is not canonical", "canonical", lambda: creator_with(v.OUTPUTS, *CREATOR[v.OUTPUTS][:2], b"\xff")),
    ("worker not certified", "worker", lambda: proven(notary=replace(HONEST, not_after_ns=NOW_NS))),
    ("another network", "signature", lambda: proven(notary=replace(HONEST, network_id=OTHER))),
    ("another place in the batch", "path", lambda: batch_with(index=0)),
    ("batch signature of another scheme", "scheme", lambda: batch_with(scheme=2)),
]


@cases(INPUT_PROOF_CASES)
def test_l24_input_proof_refused(check: str, corrupt: Callable[[], tuple[bytes, wire.InputProof]]) -> None:
    ref, proof = corrupt()
    refused(check, lambda: v.check_input_proof(HONEST.network_id, KNOWN, ref, HONEST.notary, encode(proof)))


def test_l24_input_proof_for_another_consumer_refused() -> None:
    ref, proof = proven()
    v.check_input_proof(HONEST.network_id, KNOWN, ref, HONEST.notary, encode(proof))
    refused("notary", lambda: v.check_input_proof(HONEST.network_id, KNOWN, ref, OTHER, encode(proof)))
    refused(
        "canonical", lambda: v.check_input_proof(HONEST.network_id, KNOWN, ref, HONEST.notary, encode(proof) + b"\0")
    )


# Requests: the vectors' own.

CALLER_SEED, CALLER = raw([SIGNATURES["seed"], SIGNATURES["key"]])
ASKED = decode(wire.NotarisationRequest, bytes.fromhex(FINALITY["request"]["notarisation_request"]))
PROPOSAL = decode(wire.Proposal, ASKED.proposal)
ASKED_ID, ASKED_GROUPS = v.read_transaction(PROPOSAL.transaction)
ASKED_INPUTS = ASKED_GROUPS[v.INPUTS]


def proposal(**changes: Any) -> wire.NotarisationRequest:
    return replace(ASKED, proposal=encode(replace(PROPOSAL, **changes)))


def asked(digest: bytes, purpose: int = v.REQUEST, network_id: bytes = HONEST.network_id) -> wire.NotarisationRequest:
    return replace(ASKED, signature=forge.sign(CALLER_SEED, v.signed_message(purpose, network_id, digest)))


def digest_of(refs: Sequence[bytes], count: int, id_: bytes = ASKED_ID) -> bytes:
    return v.sha256(struct.pack(">I", count), *refs, id_)


DIGEST = v.request_digest(ASKED_INPUTS, ASKED_ID)
PROOFS = PROPOSAL.input_proofs

REQUEST_CASES: list[Case] = [
    ("inputs in the transaction's order", "signature", lambda: asked(digest_of(ASKED_INPUTS, 2))),
    ("count of inputs", "signature", lambda: asked(digest_of(sorted(ASKED_INPUTS), 3))),
    (
        "references too",
        "signature",
        lambda: asked(v.request_digest([*ASKED_INPUTS, *ASKED_GROUPS[v.REFERENCES]], ASKED_ID)),
    ),
    ("another id", "signature", lambda: asked(v.request_digest(ASKED_INPUTS, OTHER))),
    ("another purpose", "signature", lambda: asked(DIGEST, purpose=v.TRANSACTION)),
    ("another network", "signature", lambda: asked(DIGEST, network_id=OTHER)),
    ("another scheme", "scheme", lambda: replace(ASKED, scheme=2)),
    ("another caller", "caller", lambda: replace(ASKED, caller=OTHER)),
    ("no signature", "signature", lambda: replace(ASKED, signature=b"")),
    ("missing transaction signature", "signers", lambda: proposal(signatures=PROPOSAL.signatures[:1])),
    ("missing proof", "proofs", lambda: proposal(input_proofs=PROOFS[:2])),
    ("a proof too many", "proofs", lambda: proposal(input_proofs=(*PROOFS, PROOFS[0]))),
    ("proofs in another order", "hidden", lambda: proposal(input_proofs=swapped(PROOFS))),
    ("empty proof", "canonical", lambda: proposal(input_proofs=(b"", *PROOFS[1:]))),
]


@cases(REQUEST_CASES)
def test_l07_request_refused(check: str, corrupt: Callable[[], wire.NotarisationRequest]) -> None:
    refused(check, lambda: v.check_request(HONEST.network_id, KNOWN, CALLER, encode(corrupt())))


def test_l07_request_of_the_uncorrupted() -> None:
    assert asked(DIGEST) == ASKED
    v.check_request(HONEST.network_id, KNOWN, CALLER, encode(ASKED))
