"""How much a peer may send: bounded, never less than before, and enough for it to go on."""

import pytest
from p2pet.peer.v1.peer_pb2 import Message

from p2petd.peer.intake import (
    CREDIT_BYTES,
    SEQUENCE_MAX,
    UNCOMMITTED_BYTES_MAX,
    UNCOMMITTED_MAX,
    Intake,
    ProtocolError,
)


def messages(first: int, last: int, size: int = 0) -> list[Message]:
    return [Message(sequence=sequence, session=bytes(size)) for sequence in range(first, last + 1)]


def test_r12_credit_ends_where_uncommitted_messages_reach_their_bound() -> None:
    intake = Intake(durable=10)
    intake.connected(0)
    until = intake.grant()
    assert until == 10 + UNCOMMITTED_MAX
    assert len(intake.accept(messages(11, until))) == UNCOMMITTED_MAX
    assert intake.grant() == until
    assert not intake.is_full
    intake.committed(until)
    assert intake.grant() == until + UNCOMMITTED_MAX


def test_r12_a_message_beyond_the_credit_is_refused_and_changes_nothing() -> None:
    intake = Intake(durable=10)
    until = intake.grant()
    intake.accept(messages(11, 11))
    with pytest.raises(ProtocolError, match=f"{until} is the last that may come"):
        intake.accept(messages(12, until + 1))
    assert intake.accepted == 11
    assert len(intake.accept(messages(12, until))) == until - 11


def test_r12_credit_reckons_with_the_size_of_messages() -> None:
    """After a while of large ones the peer has no more credit than fits; it always has some again."""
    intake = Intake(durable=0)
    size = 50_000
    intake.connected(0)
    intake.grant()
    for sequence in range(1, 200):
        intake.accept(messages(sequence, sequence, size))
        intake.committed(sequence)
    fresh = Intake(durable=199)
    fresh._message_bytes = intake._message_bytes
    room = fresh.grant() - 199
    assert 0 < room * size <= CREDIT_BYTES + size
    for sequence in range(200, 200 + room):
        fresh.accept(messages(sequence, sequence, size))
    assert not fresh.is_full
    fresh.committed(199 + room)
    assert fresh.grant() > 199 + room


def test_r12_messages_that_grow_all_at_once_stop_the_reading() -> None:
    intake = Intake(durable=0)
    intake.grant()
    count = UNCOMMITTED_BYTES_MAX // 900_000 + 1
    for sequence in range(1, count + 1):
        assert not intake.is_full
        intake.accept(messages(sequence, sequence, 900_000))
    assert intake.is_full
    intake.committed(count)
    assert not intake.is_full


def test_r12_credit_of_a_peer_that_we_do_not_know_counts_from_what_it_has_sent() -> None:
    """Its epoch can have begun long before ours, and its first message can have any number."""
    intake = Intake(durable=0)
    intake.connected(50_000)
    assert intake.grant() == 50_000 + UNCOMMITTED_MAX
    assert len(intake.accept(messages(49_000, 49_001))) == 2
    intake.connected(SEQUENCE_MAX)
    assert intake.grant() == 50_000 + UNCOMMITTED_MAX
    stranger = Intake(durable=0)
    stranger.connected(SEQUENCE_MAX)
    assert stranger.grant() == SEQUENCE_MAX


def test_r12_a_new_epoch_keeps_what_was_granted() -> None:
    intake = Intake(durable=1_000)
    until = intake.grant()
    intake.new_epoch()
    intake.connected(3)
    assert intake.grant() == until
    assert len(intake.accept(messages(3, 5))) == 3
    assert intake.durable == 0


def test_r12_withheld_credit_stays_where_it_was_and_is_never_none() -> None:
    """0 would say that there is no limit."""
    intake = Intake(durable=0)
    intake.connected(70)
    assert intake.grant(withheld=True) == 1
    until = intake.grant()
    intake.accept(messages(1, 600))
    intake.committed(600)
    assert intake.grant(withheld=True) == until == 70 + UNCOMMITTED_MAX
    assert intake.grant() == 600 + UNCOMMITTED_MAX
