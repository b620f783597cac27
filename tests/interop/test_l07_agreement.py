"""The Rust core and the independent verifier give the same answer, for honest and for corrupted bytes alike."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2petd import native
from tests.interop import ed25519, forge, wire
from tests.interop import test_l07_corrupted_parts as parts
from tests.interop import test_l07_corrupted_proofs as proofs
from tests.interop import verifier as v
from tests.interop.corruption import Case
from tests.interop.forge import encode
from tests.interop.test_l07_vectors import TEAR_OFFS, network
from tests.interop.wire import Refused, decode

TEAR_OFF_ID = bytes.fromhex(TEAR_OFFS["id"])
HONEST_TEAR_OFFS = [bytes.fromhex(vector["tear_off"]) for vector in TEAR_OFFS["vectors"]]
PROPOSAL, FINAL = proofs.final()
NOTARIES = sorted(network().notaries)
RULES = native.Rules(network().network_id, [(network().parameters_hash, NOTARIES, 2**20, 256)])
EXAMPLES = settings(max_examples=400)


def accepted(act: Callable[[], object]) -> bool:
    try:
        act()
    except (Refused, native.MalformedError, native.ProofError, native.KeyFormatError):
        return False
    return True


def ours_accepts_tear_off(data: bytes) -> None:
    id_, _ = v.read_tear_off(decode(wire.TearOff, data))
    wire.require(id_ == TEAR_OFF_ID, "id")


def core_accepts_finality(proposal: wire.Proposal, proof: bytes) -> None:
    id_ = network().network_id
    native.verify_finality(id_, proposal.transaction, proof, network().parameters_hash, NOTARIES)


@st.composite
def damaged(draw: st.DrawFn, sources: list[bytes]) -> bytes:
    """One of the sources with a few bytes flipped, removed, repeated or put in."""
    data = bytearray(draw(st.sampled_from(sources)))
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(data) - 1))
        size = draw(st.sampled_from([1, 2, 34]))
        match draw(st.sampled_from(["flip", "remove", "repeat", "put"])):
            case "flip":
                data[place] ^= draw(st.integers(1, 255))
            case "remove" if len(data) > size:
                del data[place : place + size]
            case "repeat":
                data[place:place] = data[place : place + size]
            case _:
                data[place:place] = draw(st.binary(min_size=1, max_size=2))
        if not data:
            return b""
    return bytes(data)


@pytest.mark.parametrize("case", parts.TEAR_OFF_CASES, ids=lambda case: str(case[0]))
def test_l04_the_core_refuses_each_corrupted_tear_off(case: Case) -> None:
    with pytest.raises((native.MalformedError, native.ProofError)):
        native.verify_tear_off(encode(case[2]()), TEAR_OFF_ID)


@pytest.mark.parametrize("case", parts.TRANSACTION_CASES, ids=lambda case: str(case[0]))
def test_l23_the_core_refuses_each_corrupted_transaction(case: Case) -> None:
    for transaction, good in ((parts.ISSUE, True), (case[2](), False)):
        proposal = encode(wire.Proposal(encode(transaction)))
        answer = RULES.check_proposals([proposal], require_all_signatures=False)[0]
        assert isinstance(answer, native.Checked) is good


@pytest.mark.parametrize("case", proofs.FINALITY_CASES, ids=lambda case: str(case[0]))
def test_l07_the_core_refuses_each_corrupted_finality(case: Case) -> None:
    for (proposal, proof), good in ((proofs.final(), True), (case[2](), False)):
        answer = RULES.check_finals([(encode(proposal), encode(proof))])[0]
        assert isinstance(answer, native.Checked) is good


@pytest.mark.parametrize("case", proofs.INPUT_PROOF_CASES, ids=lambda case: str(case[0]))
def test_l24_the_core_refuses_each_corrupted_input_proof(case: Case) -> None:
    for (ref, proof), good in ((proofs.proven(), True), (case[2](), False)):
        groups = forge.groups_of(proofs.HONEST.notary, network().parameters_hash)
        groups[v.INPUTS] = [ref]
        envelope = forge.serialise(bytes(32), groups)
        id_, _ = v.read_transaction(envelope)
        signatures = tuple(forge.sign_id(secret, network().network_id, id_) for secret in forge.SIGNERS)
        proposal = encode(wire.Proposal(envelope, signatures, (encode(proof),)))
        answer = RULES.check_proposals([proposal], require_all_signatures=True)[0]
        assert isinstance(answer, native.Checked) is good


def replies(directory: Path, requests: list[wire.NotarisationRequest]) -> list[wire.NotarisationReply]:
    """What a new notary answers to each request, were it asked that one alone."""
    worker = native.SigningKey.from_seed(proofs.WORKER)
    certificate = encode(proofs.HONEST.certificate())
    answers = []
    for number, request in enumerate(requests):
        notary = native.Notary.open(
            str(directory / str(number)), RULES, network().network_id, v.VERIFYING, worker, certificate
        )
        checked = notary.check([(proofs.CALLER, encode(request))])
        answers += [decode(wire.NotarisationReply, reply) for reply in notary.decide(checked, {}, forge.NOW_NS)]
        notary.close()
    return answers


def plain_request(
    purpose: int = v.REQUEST, network_id: bytes = proofs.HONEST.network_id, digest: bytes = b"", **changes: Any
) -> wire.NotarisationRequest:
    """For a transaction without inputs; what is given is another than it should be."""
    envelope = forge.serialise(bytes(32), forge.groups_of(proofs.HONEST.notary, network().parameters_hash))
    id_, _ = v.read_transaction(envelope)
    signatures = tuple(forge.sign_id(secret, network().network_id, id_) for secret in forge.SIGNERS)
    message = v.signed_message(purpose, network_id, digest or v.request_digest([], id_))
    proposal = encode(wire.Proposal(envelope, signatures, ()))
    honest = replace(
        proofs.ASKED, proposal=proposal, caller=proofs.CALLER, signature=forge.sign(proofs.CALLER_SEED, message)
    )
    return replace(honest, **changes)


def test_l07_the_core_refuses_each_corrupted_request(tmp_path: Path) -> None:
    corrupted = [
        plain_request(purpose=v.TRANSACTION),
        plain_request(network_id=proofs.OTHER),
        plain_request(digest=proofs.OTHER),
        plain_request(scheme=2),
        plain_request(caller=proofs.OTHER),
        plain_request(signature=b""),
    ]
    good, *bad = replies(tmp_path, [plain_request(), *corrupted])
    assert not good.error
    proof = decode(wire.FinalityProof, good.finality_proof)
    v.check_final(network(), decode(wire.Proposal, plain_request().proposal), proof)
    for reply in bad:
        assert (bool(reply.error), reply.finality_proof) == (True, b"")


def test_l07_r07_no_corrupted_request_is_decided_by_a_log_that_lacks_its_creators(tmp_path: Path) -> None:
    """The proofs of the vectors are by this very notary, in a log that it has lost."""
    for number, (_, _, corrupt) in enumerate([*proofs.REQUEST_CASES, ("none", "", lambda: proofs.ASKED)]):
        try:
            (reply,) = replies(tmp_path / str(number), [corrupt()])
        except native.StoreError as error:
            assert error.code == "notary.rolled_back"  # noqa: PT017 - either of two answers is right
        else:
            assert (bool(reply.error), reply.finality_proof) == (True, b"")


# The core takes 64-byte signatures; scheme and length are checked where a message is decoded.
TO_THE_CORE = [case for case in parts.SIGNATURE_CASES if case[0] not in ("another scheme", "signature of 63 bytes")]


@pytest.mark.parametrize("case", TO_THE_CORE, ids=lambda case: str(case[0]))
def test_l11_the_core_refuses_each_corrupted_signature(case: Case) -> None:
    good, bad = parts.GOOD, case[2]()
    items = [(one.key, network().network_id, v.TRANSACTION, parts.OTHER, one.signature) for one in (good, bad)]
    assert native.verify_signatures(items) == [True, False]


@EXAMPLES
@given(damaged(HONEST_TEAR_OFFS))
def test_l04_same_answer_for_damaged_tear_offs(data: bytes) -> None:
    ours = accepted(lambda: ours_accepts_tear_off(data))
    assert accepted(lambda: native.verify_tear_off(data, TEAR_OFF_ID)) is ours


@EXAMPLES
@given(damaged([encode(FINAL)]))
def test_l07_same_answer_for_damaged_finality_proofs(data: bytes) -> None:
    ours = accepted(lambda: v.check_final(network(), PROPOSAL, decode(wire.FinalityProof, data)))
    assert accepted(lambda: core_accepts_finality(PROPOSAL, data)) is ours


@EXAMPLES
@given(damaged([PROPOSAL.transaction]))
def test_l02_same_id_or_refusal_for_damaged_transactions(data: bytes) -> None:
    ours = accepted(lambda: v.read_transaction(data))
    assert accepted(lambda: native.Transaction.decode(data)) is ours
    if ours:
        assert native.Transaction.decode(data).id == v.read_transaction(data)[0]


@EXAMPLES
@given(
    st.one_of(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32).map(forge.key_of)), st.booleans()
)
def test_l11_same_answer_for_keys(key: bytes, twist: bool) -> None:
    if twist and ed25519.decompress(key):
        key = parts.with_torsion(key)
    assert accepted(lambda: native.check_key(key)) is ed25519.acceptable_key(key)
