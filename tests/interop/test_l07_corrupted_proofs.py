"""Finality proofs, parameters, input proofs and requests that the independent verifier must refuse."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.interop import forge, wire
from tests.interop import verifier as v
from tests.interop.corruption import Case, cases, part_of, refused, swapped
from tests.interop.forge import NOW_NS, SIGNERS, encode, seed, sign_id
from tests.interop.test_l07_vectors import BATCHES, FINALITY, network, raw
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
