"""Composite keys in drafts, signed transactions and components of signers."""

import pytest

from p2petd import native
from p2petd.contracts.testkit import NOTARY, SALT, party
from p2petd.errors import MalformedTransaction, TransactionRefused
from p2petd.ledger.codec import decode_signer_keys, decode_signers, encode_signers
from p2petd.ledger.proposal import PURPOSE_TRANSACTION, Signature
from p2petd.ledger.transaction import Draft, TransactionBuilder, leaves_of

NETWORK, PARAMETERS = bytes(range(32)), bytes(32)
ALICE, BOB, CAROL, DAVE = (party(name) for name in ("alice", "bob", "carol", "dave"))
BOARD = native.composite_key(3, [(2, ALICE.key), (1, BOB.key), (1, CAROL.key)])
RULES = native.Rules(NETWORK, [(PARAMETERS, [(NOTARY.key, 1)], 100_000, 64)])


def draft(*signers: bytes) -> Draft:
    output = native.change_notary(b"\x1a\x20" + bytes(32), NOTARY.key, 0)
    builder = TransactionBuilder(NOTARY.key, PARAMETERS).add_output_component(output)
    return builder.add_command_component(b"", signers).build(SALT)


def signatures(of: Draft, *names: str) -> list[Signature]:
    signers = [party(name) for name in names]
    return [Signature(one.key, one.signing_key.sign(NETWORK, PURPOSE_TRANSACTION, of.id)) for one in signers]


def test_l13_signers_are_ids_and_encodings() -> None:
    component = encode_signers([BOARD, DAVE.key, BOARD])
    assert decode_signers(component) == {native.key_id(BOARD), DAVE.key}
    assert set(decode_signer_keys(component)) == {(native.key_id(BOARD), BOARD), (DAVE.key, DAVE.key)}
    assert encode_signers([DAVE.key, BOARD]) == component
    for flawed in (component[:-1], component + b"\x00", component.replace(BOARD[:5], BOARD[:3] + b"\x09\x03")):
        with pytest.raises(MalformedTransaction):
            decode_signers(flawed)
    with pytest.raises(MalformedTransaction):
        encode_signers([BOARD + b"\x00"])


def test_l13_large_lists_of_signers_are_decoded_without_the_cache() -> None:
    keys = [native.composite_key(1, [(1, party(f"party {n}").key)]) for n in range(40)]
    assert decode_signers(encode_signers(keys)) == set(map(native.key_id, keys))


def test_l13_a_draft_knows_who_must_and_who_may_sign() -> None:
    one = draft(BOARD, DAVE.key, ALICE.key)
    assert one.required_signers == tuple(sorted((native.key_id(BOARD), DAVE.key, ALICE.key)))
    assert one.signer_keys == {native.key_id(BOARD): BOARD, DAVE.key: DAVE.key, ALICE.key: ALICE.key}
    assert list(one.signer_keys) == list(one.required_signers)
    assert one.may_sign == {ALICE.key, BOB.key, CAROL.key, DAVE.key}
    assert Draft.decode(one.transaction).required_signers == one.required_signers
    assert draft().may_sign == frozenset()
    assert leaves_of(BOARD) == {ALICE.key, BOB.key, CAROL.key}
    with pytest.raises(MalformedTransaction):
        leaves_of(BOARD[:-1])


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (("alice", "bob", "dave"), ""),
        (("carol", "dave", "alice", "bob"), ""),
        (("bob", "carol", "dave"), "signature.missing"),
        (("alice", "bob"), "signature.missing"),
        (("alice", "bob", "dave", "bob"), "signature.unexpected"),
        (("alice", "bob", "dave", "mallory"), "signature.unexpected"),
    ],
)
def test_l13_node_and_platform_agree_on_who_has_signed(names: tuple[str, ...], code: str) -> None:
    one = draft(BOARD, DAVE.key)
    given = signatures(one, *names)
    (answer,) = RULES.check_proposals([one.proposal(given).encode()], True)
    if not code:
        assert isinstance(answer, native.Checked)
        assert one.signed(given).id == one.id
        return
    assert isinstance(answer, native.Refusal)
    with pytest.raises(TransactionRefused) as caught:
        one.signed(given)
    assert caught.value.code == answer.code == code
    assert list(caught.value.missing_keys) == answer.missing_keys


def test_l12_the_refusal_says_how_much_weight_lacks() -> None:
    one = draft(BOARD, DAVE.key)
    (answer,) = RULES.check_proposals([one.proposal(signatures(one, "bob", "dave")).encode()], True)
    assert isinstance(answer, native.Refusal)
    assert answer.missing_keys == [native.key_id(BOARD)]
    assert "lacks weight 2 of 3" in answer.message
