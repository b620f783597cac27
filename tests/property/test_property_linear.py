"""The oracle of linearizability accepts what a notary can have answered and refuses what it cannot."""

import random
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.support.linear import Accepted, NotLinearizable, Operation, Refused, Request, Unknown, check_linearizable

SUBJECTS = [bytes([n]) * 4 for n in range(12)]


def history_of(seed: int, count: int = 40, clients: int = 4) -> list[Operation]:
    """What clients of a right notary see: batches, repeats, lost answers, and every order that is permitted."""
    chance = random.Random(seed)
    consumed: dict[bytes, Request] = {}
    places: dict[bytes, Accepted] = {}
    history: list[Operation] = []
    time, sequence = 0, 0
    known: list[Request] = []
    while len(history) < count:
        sequence += 1
        batch = []
        for _ in range(chance.randint(1, clients)):
            if known and chance.random() < 0.2:
                batch.append(chance.choice(known))
                continue
            chosen = chance.sample(SUBJECTS, chance.randint(1, 3))
            kinds = [chance.choice("irc") for _ in chosen]
            parts = [frozenset(s for s, k in zip(chosen, kinds, strict=True) if k == kind) for kind in "irc"]
            # Inputs and claims are of different spaces.
            claims = frozenset(b"claim" + one for one in parts[2])
            batch.append(Request(chance.randbytes(32), parts[0], parts[1], claims))
        known += batch
        invoked = [time + chance.randint(0, 3) for _ in batch]
        decided = max(invoked) + 1
        for index, request in enumerate(batch):
            outcome = _decide(request, consumed, places, Accepted(sequence, index))
            returned = decided + chance.randint(1, 5)
            lost = chance.random() < 0.15
            history.append(Operation(request, invoked[index], returned, Unknown() if lost else outcome))
        time = decided if chance.random() < 0.7 else decided + 6
    chance.shuffle(history)
    return history


def _decide(
    request: Request, consumed: dict[bytes, Request], places: dict[bytes, Accepted], place: Accepted
) -> Accepted | Refused:
    if request.id in places:
        return places[request.id]
    touched = request.consumed | request.references
    conflicts = {subject: consumed[subject].hash for subject in touched if subject in consumed}
    if conflicts:
        return Refused(conflicts)
    consumed.update(dict.fromkeys(request.consumed, request))
    places[request.id] = place
    return place


@given(st.integers(0, 2**32))
def test_i1_right_histories_are_linearizable(seed: int) -> None:
    check_linearizable(history_of(seed))


def _some(history: list[Operation], kind: type, number: int) -> int:
    found = [index for index, operation in enumerate(history) if isinstance(operation.outcome, kind)]
    assume(found)
    return found[number % len(found)]


@given(st.integers(0, 2**32), st.integers(0, 1000))
def test_i1_a_state_consumed_twice_is_found(seed: int, number: int) -> None:
    history = history_of(seed)
    victim = history[_some(history, Accepted, number)].request
    assume(victim.consumed)
    thief = replace(victim, id=b"t" * 32)
    end = max(operation.returned for operation in history)
    history.append(Operation(thief, end + 1, end + 2, Accepted(10_000, 0)))
    with pytest.raises(NotLinearizable):
        check_linearizable(history)


@given(st.integers(0, 2**32), st.integers(0, 1000))
def test_i3_another_place_for_a_repeat_is_found(seed: int, number: int) -> None:
    history = history_of(seed)
    again = history[_some(history, Accepted, number)]
    end = max(operation.returned for operation in history)
    history.append(replace(again, invoked=end + 1, returned=end + 2, outcome=Accepted(10_000, 0)))
    with pytest.raises(NotLinearizable):
        check_linearizable(history)


@given(st.integers(0, 2**32), st.integers(0, 1000))
def test_i12_a_refusal_without_a_consumer_is_found(seed: int, number: int) -> None:
    history = history_of(seed)
    index = _some(history, Refused, number)
    outcome = history[index].outcome
    assert isinstance(outcome, Refused)
    false = {subject: bytes(32) for subject in outcome.conflicts}
    history[index] = replace(history[index], outcome=Refused(false))
    with pytest.raises(NotLinearizable):
        check_linearizable(history)


@given(st.integers(0, 2**32), st.integers(0, 1000))
def test_i12_a_refusal_for_what_came_later_is_found(seed: int, number: int) -> None:
    """The answer was there before anybody asked for what it names."""
    history = history_of(seed)
    index = _some(history, Refused, number)
    history[index] = replace(history[index], invoked=-2, returned=-1)
    with pytest.raises(NotLinearizable):
        check_linearizable(history)


@given(st.integers(0, 2**32), st.integers(0, 1000))
def test_i1_places_against_real_time_are_found(seed: int, number: int) -> None:
    """A request that was made after all answers gets an earlier place than all."""
    history = history_of(seed)
    _some(history, Accepted, number)
    end = max(operation.returned for operation in history)
    late = Request(b"l" * 32, claims=frozenset({b"its own"}))
    history.append(Operation(late, end + 1, end + 2, Accepted(0, 0)))
    with pytest.raises(NotLinearizable):
        check_linearizable(history)


@given(st.integers(0, 2**32), st.integers(0, 1000))
def test_i1_a_read_of_what_was_consumed_is_found(seed: int, number: int) -> None:
    history = history_of(seed)
    victim = history[_some(history, Accepted, number)].request
    assume(victim.consumed)
    end = max(operation.returned for operation in history)
    reader = Request(b"r" * 32, references=frozenset(list(victim.consumed)[:1]))
    history.append(Operation(reader, end + 1, end + 2, Accepted(10_000, 0)))
    with pytest.raises(NotLinearizable):
        check_linearizable(history)


def test_i1_an_answer_that_did_not_come_explains_a_refusal() -> None:
    spent, again = Request(b"a" * 32, frozenset({b"s"})), Request(b"b" * 32, frozenset({b"s"}))
    lost, refused = Operation(spent, 1, 2, Unknown()), Operation(again, 5, 6, Refused({b"s": spent.hash}))
    check_linearizable([lost, refused])
    with pytest.raises(NotLinearizable):
        check_linearizable([replace(lost, invoked=7, returned=8), refused])
