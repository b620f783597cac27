"""The binding of output locks and of what a uniqueness-only notary is shown."""

from pathlib import Path

import pytest

from p2petd import native
from tests.unit.native.test_native_notary import open_notary

NETWORK, SALT, CONSUMER = bytes([1]) * 32, bytes([2]) * 32, bytes([3]) * 32
UNLOCK = 9
OWNER = native.SigningKey.from_seed(bytes([4]) * 32)


def opens(lock: bytes, signature: bytes, consumer: bytes = CONSUMER) -> bool:
    return native.verify_signatures([(lock, NETWORK, UNLOCK, consumer, signature)]) == [True]


def test_r19_a_lock_is_opened_by_its_owner_for_one_output_and_one_consumer() -> None:
    lock = native.lock_of(OWNER.public, SALT, 5)
    signature = OWNER.unlock(NETWORK, SALT, 5, CONSUMER)
    assert opens(lock, signature)
    assert not opens(lock, signature, bytes(32))
    assert not opens(lock, OWNER.sign(NETWORK, UNLOCK, CONSUMER))
    assert not opens(lock, OWNER.unlock(NETWORK, SALT, 6, CONSUMER))
    assert not opens(lock, OWNER.unlock(NETWORK, bytes(32), 5, CONSUMER))
    other = native.SigningKey.from_seed(bytes([5]) * 32)
    assert not opens(lock, other.unlock(NETWORK, SALT, 5, CONSUMER))


@pytest.mark.parametrize("owner", [b"", bytes(31), bytes(32)])
def test_an_owner_that_is_no_key_has_no_lock(owner: bytes) -> None:
    with pytest.raises(native.KeyFormatError):
        native.lock_of(owner, SALT, 0)


def test_lengths_and_bytes_that_are_none_are_refused() -> None:
    for refused in (
        lambda: native.lock_of(OWNER.public, bytes(31), 0),
        lambda: OWNER.unlock(bytes(31), SALT, 0, CONSUMER),
        lambda: OWNER.unlock(NETWORK, SALT, 0, bytes(31)),
        lambda: native.uniqueness_proposal(b"junk", [], []),
        lambda: native.lock_proof(b"junk", 0, b""),
    ):
        with pytest.raises(native.MalformedError):
            refused()


def test_who_spent_takes_a_state_or_a_claim(tmp_path: Path) -> None:
    notary = open_notary(tmp_path, 1)
    assert notary.who_spent(bytes(36)) is None
    assert notary.who_spent(bytes(32)) is None
    for length in (0, 31, 33, 35, 37):
        with pytest.raises(native.MalformedError):
            notary.who_spent(bytes(length))
