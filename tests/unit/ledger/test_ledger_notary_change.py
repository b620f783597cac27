"""Moving states to another notary."""

from collections.abc import Callable
from pathlib import Path

import pytest
from p2pet.notary.v1 import notary_pb2

from p2petd import native
from p2petd.contracts.testkit import NOTARY, SALT, Party, money, party
from p2petd.errors import NodeError
from p2petd.ledger.groups import Group, TransactionType
from p2petd.ledger.notary_change import notary_change
from p2petd.ledger.proposal import PURPOSE_TRANSACTION, Signature
from p2petd.ledger.refs import StateRef
from p2petd.ledger.resolved import OutputState, transaction_type
from p2petd.ledger.transaction import Draft, TransactionBuilder
from p2petd.ledger.window import TimeWindow

ALICE, BOB, NEW, UNSEEING = (party(name) for name in ("alice", "bob", "new notary", "uniqueness-only notary"))
NETWORK, PARAMETERS = bytes(range(32)), bytes(32)
NOTARIES = [(NOTARY.key, 1), (NEW.key, 1), (UNSEEING.key, 2)]
RULES = native.Rules(NETWORK, [(PARAMETERS, NOTARIES, 100_000, 64)])
WORKER = native.SigningKey.from_seed(bytes(31) + b"\x01")


def creator() -> Draft:
    """Three states, of which the first two are encumbered by each other."""
    builder = TransactionBuilder(NOTARY.key, PARAMETERS)
    for encumbered_by in (2, 1, 0):
        builder.add_output("payment", 1, money(5, ALICE), encumbered_by)
    return builder.build(SALT)


CREATOR = creator()


def states(*indices: int) -> list[tuple[StateRef, bytes]]:
    return [(CREATOR.output_ref(index), CREATOR.outputs[index]) for index in indices]


def change(*indices: int, to: Party = NEW, lock_owners: tuple[bytes, ...] = ()) -> Draft:
    return notary_change(
        states(*indices),
        to.key,
        parameters_hash=PARAMETERS,
        signers=[ALICE.key],
        salt=SALT,
        window=TimeWindow(1, 2),
        lock_owners=lock_owners,
    )


def refused_with(code: str, act: Callable[[], object]) -> None:
    with pytest.raises(NodeError) as caught:
        act()
    assert caught.value.code == code


def test_n13_states_move_as_they_are() -> None:
    draft = change(2, 1, 0)
    assert transaction_type(draft.groups) is TransactionType.NOTARY_CHANGE
    assert draft.groups[Group.NOTARY] == (NOTARY.key,)
    assert [len(group) for group in draft.groups] == [3, 0, 3, 0, 1, 0, 1, 1, 1, 1, 0, 0]
    assert draft.required_signers == (ALICE.key,)
    moved = [OutputState.decode(output) for output in draft.outputs]
    assert [one.encumbered_by for one in moved] == [0, 3, 2]
    assert {one.notary for one in moved} == {NEW.key}
    assert {one.payload for one in moved} == {money(5, ALICE).to_payload()}
    assert draft.input_outputs == (CREATOR.outputs[2], CREATOR.outputs[1], CREATOR.outputs[0])
    assert Draft.decode(draft.transaction, draft.input_outputs) == draft


def test_n13_what_would_be_refused_is_not_built() -> None:
    refused_with("transaction.encumbered_alone", lambda: change(0))
    refused_with("transaction.encumbered_alone", lambda: change(1, 2))
    refused_with("transaction.empty", lambda: change())
    refused_with("transaction.duplicate_input", lambda: change(2, 2))
    refused_with("transaction.notary_change_invalid", lambda: change(2, to=NOTARY))
    refused_with("transaction.malformed", lambda: change(2, to=UNSEEING, lock_owners=(ALICE.key,) * 2))
    refused_with("transaction.malformed", lambda: change(2, to=UNSEEING, lock_owners=(bytes(32),)))
    foreign = native.change_notary(CREATOR.outputs[2], BOB.key, 0)
    mixed = [*states(2), (StateRef(bytes(32), 0), foreign)]
    for listed, new, code in (
        (mixed, NEW.key, "proof.other_notary"),
        (states(2), NEW.key[1:], "transaction.malformed"),
        ([(StateRef(bytes(32), 0), b"\xff")], NEW.key, "transaction.malformed"),
    ):
        refused_with(
            code,
            lambda listed=listed, new=new: notary_change(
                listed, new, parameters_hash=PARAMETERS, signers=[ALICE.key], salt=SALT
            ),
        )


def test_n13_a_uniqueness_only_notary_gets_locks() -> None:
    draft = change(2, 0, 1, to=UNSEEING, lock_owners=(ALICE.key, BOB.key, ALICE.key))
    expected = [(ALICE, 0), (BOB, 1), (ALICE, 2)]
    assert draft.groups[Group.OUTPUT_LOCKS] == tuple(native.lock_of(one.key, SALT, index) for one, index in expected)


def test_l24_a_general_transaction_gets_locks_too() -> None:
    builder = TransactionBuilder(UNSEEING.key, PARAMETERS).add_output("payment", 1, money(5, ALICE))
    draft = builder.build(SALT, [ALICE.key])
    assert draft.groups[Group.OUTPUT_LOCKS] == (native.lock_of(ALICE.key, SALT, 0),)
    (answer,) = RULES.check_resolved([(draft.proposal().encode(), [], [])], True)
    assert isinstance(answer, native.Checked)
    (answer,) = RULES.check_resolved([(builder.build(SALT).proposal().encode(), [], [])], True)
    assert isinstance(answer, native.Refusal)
    assert answer.code == "transaction.locks_invalid"
    refused_with("transaction.malformed", lambda: builder.build(SALT, [ALICE.key, BOB.key]))


def finality(of: Draft, directory: str) -> bytes:
    """The proof of a notary that decides this transaction alone."""
    service = NOTARY.signing_key
    certificate = native.certify_worker(service, NETWORK, WORKER.public, 0, 2**62)
    notary = native.Notary.open(directory, RULES, NETWORK, 1, WORKER, certificate)
    digest = native.sha256(bytes(4) + of.id)
    request = notary_pb2.NotarisationRequest(
        proposal=of.proposal().encode(),
        caller=ALICE.key,
        scheme=1,
        signature=ALICE.signing_key.sign(NETWORK, 3, digest),
    )
    batch = notary.check([(ALICE.key, request.SerializeToString(deterministic=True))])
    (reply,) = notary.decide(batch, {}, 5)
    notary.close()
    return notary_pb2.NotarisationReply.FromString(reply).finality_proof


def test_n13_the_platform_accepts_what_is_built(tmp_path: Path) -> None:
    proof = finality(CREATOR, str(tmp_path))
    draft = change(2, 1, 0)
    signature = Signature(ALICE.key, ALICE.signing_key.sign(NETWORK, PURPOSE_TRANSACTION, draft.id))
    proofs = [native.input_proof(CREATOR.transaction, index, proof) for index in (2, 1, 0)]
    (checked,) = RULES.check_proposals([draft.signed([signature]).proposal(proofs).encode()], True)
    assert isinstance(checked, native.Checked), checked
    assert tuple(checked.input_outputs) == draft.input_outputs
