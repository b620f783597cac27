"""References, windows, building, signing and relaying transactions."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from p2pet.ledger.v1 import transaction_pb2

from p2petd import native
from p2petd.contracts.energy import EnergyIssue, issue_claims
from p2petd.contracts.registry import verify
from p2petd.contracts.testkit import NOTARY, PRODUCER, SALT, UNIT_NS, Party, Trial, energy, ledger, money, party
from p2petd.errors import MalformedTransaction, NodeError, TransactionRefused
from p2petd.ledger.groups import SIGNATURES_MAX, Group
from p2petd.ledger.proposal import PURPOSE_TRANSACTION, Proposal, Signature, check_signatures
from p2petd.ledger.refs import StateRef
from p2petd.ledger.resolved import Command, LedgerTransaction, OutputState
from p2petd.ledger.transaction import Draft, FinalTransaction, TransactionBuilder
from p2petd.ledger.window import TimeWindow
from p2petd.units import INT64_MAX, NO_LOWER_BOUND, NO_UPPER_BOUND

ALICE, BOB = party("alice"), party("bob")
NETWORK = bytes(range(32))
PARAMETERS = bytes(32)
REF = StateRef(b"\x01" * 32, 0)
LOT = energy(10, PRODUCER, lot_wh=10)
RULES = native.Rules(NETWORK, [(PARAMETERS, [(NOTARY.key, 1)], 100_000, 64)])


def issue() -> Trial:
    claims = issue_claims(LOT.meter, LOT.delivery_start_ns, LOT.delivery_end_ns, UNIT_NS)
    return ledger.transaction().output(LOT).command(EnergyIssue, PRODUCER, ALICE).claim(*claims)


def sign(draft: Draft, by: Party, network: bytes = NETWORK, purpose: int = PURPOSE_TRANSACTION) -> Signature:
    return Signature(by.key, by.signing_key.sign(network, purpose, draft.id))


def builder() -> TransactionBuilder:
    return TransactionBuilder(NOTARY.key, PARAMETERS)


def refused_with(code: str, act: Callable[[], object]) -> NodeError:
    with pytest.raises(NodeError) as caught:
        act()
    assert caught.value.code == code
    return caught.value


def test_references_sort_as_their_bytes_do() -> None:
    refs = [StateRef(bytes([first]) * 32, index) for first in (2, 1) for index in (256, 1)]
    assert sorted(refs) == sorted(refs, key=StateRef.encode)
    assert [StateRef.decode(ref.encode()) for ref in refs] == refs


def test_references_that_are_refused() -> None:
    for act in (
        lambda: StateRef.decode(bytes(35)),
        lambda: StateRef(bytes(31), 0),
        lambda: StateRef(bytes(32), -1),
        lambda: StateRef(bytes(32), 2**32),
    ):
        refused_with("transaction.malformed", act)


def test_l20_windows() -> None:
    window = TimeWindow(10, 20)
    assert TimeWindow.decode(window.encode()) == window
    assert [window.contains(t) for t in (9, 10, 19, 20)] == [False, True, True, False]
    assert TimeWindow().contains(INT64_MAX)
    for bounds in ((10, 10), (11, 10), (NO_UPPER_BOUND, NO_UPPER_BOUND), (NO_LOWER_BOUND - 1, 0)):
        refused_with("transaction.window_empty", lambda bounds=bounds: TimeWindow(*bounds))
    refused_with("transaction.malformed", lambda: TimeWindow.decode(bytes(15)))


def test_l20_the_builder_refuses_early() -> None:
    spent = builder().add_input(REF, b"state")
    read = builder().add_reference(REF, b"state")
    refused_with("transaction.duplicate_input", lambda: spent.add_input(REF, b"state"))
    refused_with("transaction.input_is_reference", lambda: spent.add_reference(REF, b"state"))
    refused_with("transaction.duplicate_input", lambda: read.add_reference(REF, b"state"))
    refused_with("transaction.input_is_reference", lambda: read.add_input(REF, b"state"))
    assert spent.build(SALT).inputs == (REF,)
    assert spent.build(SALT).references == ()
    refused_with("transaction.empty", lambda: builder().build(SALT))
    refused_with("transaction.window_empty", lambda: builder().window(1, 1))
    refused_with("transaction.malformed", lambda: spent.build(bytes(31)))
    refused_with("transaction.malformed", lambda: TransactionBuilder(bytes(31), PARAMETERS))
    refused_with("transaction.malformed", lambda: TransactionBuilder(NOTARY.key, bytes(33)))
    refused_with("transaction.malformed", lambda: spent.add_claim(bytes(31)))
    refused_with("transaction.malformed", lambda: spent.add_command("energy", EnergyIssue(), [b"short"]))
    claimed = builder().add_claim(bytes(32))
    refused_with("transaction.duplicate_claim", lambda: claimed.add_claim(bytes(32)))


def test_l23_at_most_4096_components_in_a_group() -> None:
    full = builder()
    for _ in range(4096):
        full.add_output_component(b"state")
    assert len(full.build(SALT).outputs) == 4096
    full.add_output_component(b"state")
    refused_with("transaction.malformed", lambda: full.build(SALT))


def test_a_draft_holds_what_was_added() -> None:
    draft = (
        builder()
        .add_input(REF, b"consumed")
        .add_reference(StateRef(bytes(32), 7), b"read")
        .add_output("payment", 1, money(5, BOB))
        .add_command("energy", EnergyIssue(), [BOB.key, ALICE.key, BOB.key])
        .add_claim(b"c" * 32)
        .window(1, 2)
        .build(SALT)
    )
    assert [len(group) for group in draft.groups] == [1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0]
    assert draft.groups[Group.TYPE] == (b"\x01",)
    assert draft.input_outputs == (b"consumed",)
    assert draft.reference_outputs == (b"read",)
    assert draft.required_signers == tuple(sorted((ALICE.key, BOB.key)))
    assert draft.id == native.transaction_id(SALT, draft.groups)
    assert draft.output_ref(0) == StateRef(draft.id, 0)
    assert Draft.decode(draft.transaction, draft.input_outputs, draft.reference_outputs) == draft
    refused_with("transaction.malformed", lambda: Draft.decode(draft.transaction + b"\x00"))


def test_l02_the_salt_changes_the_id() -> None:
    build = builder().add_output("payment", 1, money(5, BOB)).build
    assert build(SALT).id != build(b"\x01" * 32).id


def test_l03_unknown_fields_survive_relay_with_the_same_id_and_are_refused() -> None:
    known = issue().draft().outputs[0]
    unknown_in_component = known + b"\xfa\x01\x03new"
    payload = transaction_pb2.OutputState.FromString(known)
    payload.payload += b"\xfa\x01\x03new"
    unknown_in_payload = payload.SerializeToString(deterministic=True)
    for component in (unknown_in_component, unknown_in_payload):
        trial = replace(issue(), outputs=(component,))
        draft = trial.draft()
        relayed = Draft.decode(Proposal.decode(draft.proposal().encode()).transaction)
        assert (relayed.id, relayed.transaction) == (draft.id, draft.transaction)
        assert relayed.outputs == (component,)
        trial.fails_with("transaction.malformed")


@pytest.mark.parametrize("decode", [OutputState.decode, Command.decode])
def test_l03_components_that_are_not_canonical_are_refused(decode: Callable[[bytes], object]) -> None:
    draft = issue().draft()
    component = draft.outputs[0] if decode == OutputState.decode else draft.groups[Group.COMMANDS][0]
    assert decode(component)
    for changed in (component + b"\x00", component + component, component[:-1], component + b"\xf8\x01\x01"):
        refused_with("transaction.malformed", lambda changed=changed: decode(changed))


def test_large_outputs_are_decoded_without_the_cache() -> None:
    lot = energy(10, PRODUCER, meter="m" * 200, zone="z" * 2000, lot_wh=10)
    large = replace(issue(), outputs=(lot,)).draft().outputs[0]
    assert OutputState.decode(large).raw == large


def test_l12_the_error_names_exactly_the_missing_keys() -> None:
    draft = issue().draft()
    by_alice, by_producer = sign(draft, ALICE), sign(draft, PRODUCER)
    error = refused_with("signature.missing", lambda: draft.signed([by_alice]))
    assert isinstance(error, TransactionRefused)
    assert error.missing_keys == (PRODUCER.key,)
    error = refused_with("signature.missing", lambda: draft.signed([]))
    assert isinstance(error, TransactionRefused)
    assert error.missing_keys == draft.required_signers
    assert draft.signed([by_alice, by_producer]).id == draft.id


def test_l12_a_signature_that_nobody_asked_for_is_refused() -> None:
    draft = issue().draft()
    asked = [sign(draft, ALICE), sign(draft, PRODUCER)]
    error = refused_with("signature.unexpected", lambda: draft.signed([*asked, sign(draft, BOB)]))
    assert BOB.key.hex() in str(error)
    refused_with("signature.unexpected", lambda: draft.signed([*asked, asked[0]]))


def test_l10_signatures_that_do_not_verify_are_named() -> None:
    draft = issue().draft()
    good = sign(draft, ALICE)
    check_signatures(NETWORK, draft.id, [good, sign(draft, PRODUCER)])
    for bad in (
        sign(draft, BOB, network=bytes(32)),
        sign(draft, BOB, purpose=3),
        replace(sign(draft, ALICE), key=BOB.key),
        replace(sign(draft, BOB), scheme=2),
        replace(sign(draft, BOB), signature=bytes(64)),
    ):
        error = refused_with("signature.invalid", lambda bad=bad: check_signatures(NETWORK, draft.id, [good, bad]))
        assert isinstance(error, TransactionRefused)
        assert error.missing_keys == (BOB.key,)


def test_proposals_keep_everything() -> None:
    draft = issue().draft()
    proposal = draft.signed([sign(draft, ALICE), sign(draft, PRODUCER)]).proposal([b"proof"])
    assert Proposal.decode(proposal.encode()) == proposal
    refused_with("transaction.malformed", lambda: Proposal.decode(proposal.encode() + b"\xf8\x01\x01"))


def test_l23_at_most_1024_signatures_on_a_proposal() -> None:
    one = Signature(ALICE.key, bytes(64))
    full = Proposal(b"transaction", (one,) * SIGNATURES_MAX)
    assert Proposal.decode(full.encode()) == full
    refused_with("transaction.malformed", lambda: Proposal.decode(Proposal(b"t", (one,) * 1025).encode()))


def test_a_final_transaction_has_the_proof_of_its_own_id() -> None:
    draft = issue().draft()
    signed = draft.signed([sign(draft, ALICE), sign(draft, PRODUCER)])
    batch = transaction_pb2.BatchProof(
        root=transaction_pb2.RootMessage(
            notary=NOTARY.key, mode=1, sequence=1, decided_at_ns=1, count=1, root=native.sha256(b"\x10" + draft.id)
        ),
        worker=transaction_pb2.WorkerCertificate(
            service_key=NOTARY.key, worker_key=BOB.key, not_after_ns=9, scheme=1, signature=bytes(64)
        ),
        scheme=1,
        signature=bytes(64),
    )
    proof = transaction_pb2.FinalityProof(transaction_id=draft.id, batch=batch).SerializeToString(deterministic=True)
    final = signed.final(proof)
    assert final.id == draft.id
    assert FinalTransaction.decode(signed.proposal().encode(), proof).draft == replace(draft, input_outputs=())
    other = transaction_pb2.FinalityProof(transaction_id=bytes(32), batch=batch).SerializeToString(deterministic=True)
    refused_with("finality.id", lambda: signed.final(other))
    refused_with("transaction.malformed", lambda: signed.final(b"\xff"))


def test_a_checked_proposal_is_resolved_as_its_draft_is() -> None:
    trial = issue()
    draft = trial.draft()
    proposal = draft.signed([sign(draft, ALICE), sign(draft, PRODUCER)]).proposal()
    (checked,) = RULES.check_proposals([proposal.encode()], True)
    assert isinstance(checked, native.Checked)
    resolved = LedgerTransaction.from_checked(checked, ledger.parameters)
    drafted = trial.resolved()
    assert [tuple(group) for group in resolved.groups] == [tuple(group) for group in drafted.groups]
    assert resolved == replace(drafted, groups=resolved.groups, reader=resolved.reader)
    assert resolved.commands[0][1] == {ALICE.key, PRODUCER.key}
    assert resolved.window is None
    verify(resolved)


def test_l12_the_platform_refuses_with_the_same_codes() -> None:
    draft = issue().draft()
    proposals = [draft.proposal([sign(draft, ALICE)]), draft.proposal([sign(draft, ALICE), sign(draft, BOB)])]
    codes = []
    for answer in RULES.check_proposals([proposal.encode() for proposal in proposals], True):
        assert isinstance(answer, native.Refusal)
        codes.append(answer.code)
    assert codes == ["signature.missing", "signature.unexpected"]


def test_unresolved_transactions_are_refused() -> None:
    draft = replace(issue().draft(), groups=(((b"\x01" * 36),), *issue().draft().groups[1:]))
    refused_with("transaction.malformed", lambda: LedgerTransaction.from_draft(draft, ledger.parameters))
    groups = issue().draft().groups
    unsigned = replace(issue().draft(), groups=(*groups[:4], (), *groups[5:]))
    with pytest.raises(MalformedTransaction, match="1 commands"):
        LedgerTransaction.from_draft(unsigned, ledger.parameters)
