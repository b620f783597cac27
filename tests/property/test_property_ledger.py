"""The id commits to every component, and bytes are kept."""

from contextlib import suppress

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from p2petd import native
from p2petd.errors import MalformedTransaction
from p2petd.ledger.codec import decode_signers, encode_signers
from p2petd.ledger.proposal import Proposal, Signature
from p2petd.ledger.refs import StateRef
from p2petd.ledger.resolved import Command, OutputState
from p2petd.ledger.transaction import Draft, TransactionBuilder

DIGEST = st.binary(min_size=32, max_size=32)
REF = st.builds(StateRef, DIGEST, st.integers(0, 2**32 - 1))


@st.composite
def drafts(draw: st.DrawFn) -> Draft:
    builder = TransactionBuilder(draw(DIGEST), draw(DIGEST))
    for ref in draw(st.lists(REF, max_size=4, unique=True)):
        builder.add_input(ref, b"state")
    for component in draw(st.lists(st.binary(max_size=40), min_size=1, max_size=4)):
        builder.add_output_component(component)
    for component, signers in draw(
        st.lists(st.tuples(st.binary(max_size=40), st.sets(DIGEST, max_size=3)), max_size=3)
    ):
        builder.add_command_component(component, signers)
    for claim in draw(st.lists(DIGEST, max_size=3, unique=True)):
        builder.add_claim(claim)
    return builder.build(draw(DIGEST))


@given(drafts())
def test_l03_a_relayed_transaction_is_the_same(draft: Draft) -> None:
    relayed = Draft.decode(draft.transaction)
    assert relayed.groups == draft.groups
    assert (relayed.id, relayed.inputs, relayed.required_signers) == (draft.id, draft.inputs, draft.required_signers)


@given(drafts(), st.data())
def test_l01_one_changed_byte_or_another_place_changes_the_id(draft: Draft, data: st.DataObject) -> None:
    groups = [list(group) for group in draft.groups]
    salt = native.Transaction.decode(draft.transaction).salt
    source = data.draw(st.sampled_from([number for number, group in enumerate(groups) if group]))
    index = data.draw(st.integers(0, len(groups[source]) - 1))
    component = groups[source].pop(index)
    if data.draw(st.booleans()) and component:
        place = data.draw(st.integers(0, len(component) - 1))
        flipped = component[place] ^ data.draw(st.integers(1, 255))
        groups[source].insert(index, component[:place] + bytes([flipped]) + component[place + 1 :])
    else:
        target = data.draw(st.integers(0, 11))
        groups[target].insert(data.draw(st.integers(0, len(groups[target]))), component)
        assume(tuple(tuple(group) for group in groups) != draft.groups)
    assert native.transaction_id(salt, groups) != draft.id


@given(st.binary(max_size=200))
def test_l23_hostile_bytes_raise_our_errors_only(data: bytes) -> None:
    for decode in (Draft.decode, Proposal.decode, OutputState.decode, Command.decode, StateRef.decode, decode_signers):
        with suppress(MalformedTransaction):
            decode(data)


@given(st.sets(DIGEST, max_size=40))
def test_signers_are_kept(keys: set[bytes]) -> None:
    assert decode_signers(encode_signers(keys)) == keys


PUBLIC = tuple(native.SigningKey.from_seed(bytes([number]) * 32).public for number in range(12))


@given(st.data(), st.sets(st.sampled_from(PUBLIC)))
def test_l13_enough_weight_satisfies(data: st.DataObject, signed: set[bytes]) -> None:
    leaves = data.draw(st.lists(st.sampled_from(PUBLIC), min_size=1, unique=True))
    weights = [data.draw(st.integers(1, 2**16 - 1)) for _ in leaves]
    threshold = data.draw(st.integers(1, min(sum(weights), 2**16 - 1)))
    key = native.composite_key(threshold, list(zip(weights, leaves, strict=True)))
    reached = sum(weight for weight, leaf in zip(weights, leaves, strict=True) if leaf in signed)
    assert native.key_is_satisfied(key, [*signed, *signed]) is (reached >= threshold)
    assert native.key_leaves(key) == sorted(leaves)
    assert decode_signers(encode_signers([key, *leaves])) == {native.key_id(key), *leaves}


@given(st.binary(max_size=99), st.lists(st.builds(Signature, st.binary(), st.binary(), st.integers(0, 9)), max_size=3))
def test_proposals_are_kept(transaction: bytes, signatures: list[Signature]) -> None:
    proposal = Proposal(transaction, tuple(signatures), (b"", b"proof"))
    assert Proposal.decode(proposal.encode()) == proposal
    with pytest.raises(MalformedTransaction):
        Proposal.decode(proposal.encode() + b"\xf8\x01\x01")
