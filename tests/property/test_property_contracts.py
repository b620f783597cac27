"""No sequence of valid steps breaks conservation, and whatever one thing of a valid transaction is broken, the answer
is a typed refusal that says what was seen, or a transaction that is sound by other means than the contracts'."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2petd.contracts.energy import EnergyMerge, EnergySplit, EnergyState, EnergyTransfer
from p2petd.contracts.payment import PaymentPay
from p2petd.contracts.registry import installed
from p2petd.contracts.testkit import OTHER_NOTARY, Party, Trial, Tried, energy, ledger, metered, money, party
from p2petd.errors import ContractViolation, MalformedTransaction, NodeError, QuantityOverflow, TransactionRefused
from p2petd.ledger.resolved import OutputState
from p2petd.units import INT64_MAX
from tests.support import breaking
from tests.support.breaking import Break, assert_sound
from tests.support.valid_transactions import ALICE, BOB, CONSERVING, GENERAL, PARTIES, notary_changes, parts_of

TYPED = (ContractViolation, MalformedTransaction, QuantityOverflow, TransactionRefused)
STATES = ("inputs", "outputs")
EVERY = pytest.mark.parametrize("kind", GENERAL)
PERMISSIVE = metered.with_parameters(negative_prices=True)
BUDGET = settings(max_examples=10)


def refusal_of(broken: Tried, what: str = "") -> NodeError | None:
    """The refusal, typed and with what was seen; or None for a transaction that is sound all the same."""
    refused, again = broken.refusal(), broken.refusal()
    if refused is None:
        assert_sound(broken.resolved())
        return None
    assert isinstance(refused, TYPED), f"{what}: {type(refused).__name__}"
    assert refused.code not in ("contract.crashed", "internal"), f"{what}: {refused}"
    if isinstance(refused, ContractViolation):
        assert " Seen: " in str(refused), what
    assert str(again) == str(refused), "the same transaction, other words"
    return refused


def refuse_all(breaks: Iterable[Break]) -> None:
    for one in breaks:
        assert refusal_of(one.broken, one.what) is not None, f"accepted, with {one.what}\n{one.broken.in_words()}"


def judge_all(breaks: Iterable[Break]) -> None:
    for one in breaks:
        refusal_of(one.broken, one.what)


@EVERY
@BUDGET
@given(st.data())
def test_c08_valid_transactions_of_every_command_verify_and_are_sound(kind: str, data: st.DataObject) -> None:
    assert_sound(data.draw(GENERAL[kind]).verifies())


@EVERY
@BUDGET
@given(st.data())
def test_c05_a_dropped_signer_is_always_missed(kind: str, data: st.DataObject) -> None:
    refuse_all(breaking.signers(data.draw(GENERAL[kind])))


@EVERY
@BUDGET
@given(st.data())
def test_c08_states_and_commands_of_other_types_or_encodings_are_refused(kind: str, data: st.DataObject) -> None:
    refuse_all(breaking.foreign_bytes(data.draw(GENERAL[kind])))


@EVERY
@BUDGET
@given(st.data())
def test_c08_a_dropped_or_doubled_command_is_refused(kind: str, data: st.DataObject) -> None:
    trial = data.draw(GENERAL[kind])
    refuse_all(breaking.dropped(trial, ("commands",)))
    refuse_all(breaking.doubled(trial, ("commands",)))


@EVERY
@BUDGET
@given(st.data())
def test_c02_claims_are_neither_dropped_nor_added(kind: str, data: st.DataObject) -> None:
    refuse_all(breaking.claims(data.draw(GENERAL[kind])))


@EVERY
@BUDGET
@given(st.data())
def test_c11_a_window_that_is_demanded_cannot_be_widened(kind: str, data: st.DataObject) -> None:
    refuse_all(breaking.windows(data.draw(GENERAL[kind])))


@EVERY
@BUDGET
@given(st.data())
def test_c18_a_cited_attachment_is_here_and_the_one_that_is_cited(kind: str, data: st.DataObject) -> None:
    refuse_all(breaking.attachments(data.draw(GENERAL[kind])))


@EVERY
@BUDGET
@given(st.data())
def test_c04_no_change_of_one_field_or_state_creates_or_takes_anything(kind: str, data: st.DataObject) -> None:
    trial = data.draw(GENERAL[kind])
    judge_all(breaking.state_fields(trial, (*STATES, "references")))
    judge_all(breaking.command_fields(trial))
    judge_all(breaking.dropped(trial, (*STATES, "references")))
    judge_all(breaking.doubled(trial, STATES))
    judge_all(breaking.empty_payloads(trial))


@pytest.mark.parametrize("kind", CONSERVING)
@BUDGET
@given(st.data())
def test_c04_a_number_that_is_one_off_is_refused(kind: str, data: st.DataObject) -> None:
    trial = data.draw(GENERAL[kind])
    # What a producer once asked does not matter any more to what is delivered.
    numbers = (one for one in breaking.state_numbers(trial) if "deliver" not in kind or "asked_price" not in one.what)
    refuse_all(numbers)
    refuse_all(breaking.dropped(trial, STATES))
    refuse_all(breaking.doubled(trial, STATES))


@EVERY
@given(st.data())
def test_c08_a_flipped_bit_never_crashes_a_contract(kind: str, data: st.DataObject) -> None:
    one = breaking.flipped_byte(data.draw, data.draw(GENERAL[kind]))
    refusal_of(one.broken, one.what)


@EVERY
@BUDGET
@given(st.data(), st.sampled_from([0, -1, -INT64_MAX - 1, INT64_MAX]))
def test_c07_no_quantity_is_zero_negative_or_overflows(kind: str, data: st.DataObject, number: int) -> None:
    trial = data.draw(GENERAL[kind])
    for side in STATES:
        for index, state in enumerate(getattr(trial, side)):
            for name in ("quantity_wh", "amount_nano", "contracted_wh", "metered_wh"):
                if hasattr(state, name):
                    changed = list(getattr(trial, side))
                    changed[index] = replace(state, **{name: number})
                    refused = refusal_of(replace(trial, **{side: tuple(changed)}), f"{side} {index} {name} {number}")
                    assert number > 0 or name == "metered_wh" or refused is not None


@settings(max_examples=300)
@given(st.sampled_from(sorted(GENERAL)), st.sampled_from(sorted(GENERAL)), st.data())
def test_c08_two_transactions_in_one_are_sound_or_refused(one: str, other: str, data: st.DataObject) -> None:
    """Both together, the states of one under the commands of the other, and more inputs or outputs than there were."""
    first, second = data.draw(GENERAL[one]), data.draw(GENERAL[other])
    base = replace(second, ledger=PERMISSIVE, references=first.references + second.references)
    both = {side: getattr(first, side) + getattr(second, side) for side in STATES}
    together = replace(
        base,
        **both,
        commands=first.commands + second.commands,
        claims=tuple(dict.fromkeys(first.claims + second.claims)),
        attachments={**first.attachments, **second.attachments},
        bounds=first.bounds or second.bounds,
    )
    crossed = replace(base, inputs=first.inputs, outputs=first.outputs)
    for mixed in (together, crossed, replace(base, inputs=both["inputs"]), replace(base, outputs=both["outputs"])):
        refusal_of(mixed, f"{one} with {other}")


@given(GENERAL["trade"])
def test_c09_neither_leg_of_a_trade_goes_alone(trial: Trial) -> None:
    for contract in ("energy", "payment"):
        legs = {side: tuple(s for s in getattr(trial, side) if s.contract != contract) for side in STATES}
        commands = tuple(c for c in trial.commands if contract == "energy" or c[0] is not PaymentPay)
        alone = replace(trial, **legs, commands=commands)
        if alone != trial:
            assert refusal_of(alone) is not None


@given(notary_changes(), st.data())
def test_n13_a_notary_change_is_its_owners_and_changes_nothing_else(change: Tried, data: st.DataObject) -> None:
    assert_sound(change.verifies())
    owners = [party_of(OutputState.decode(state.raw)) for _, state in change.resolved().inputs]
    least = sorted(set(owners), key=lambda owner: owner.key)
    gone = data.draw(st.sampled_from(least))
    assert refusal_of(change.signed_by(*(owner for owner in least if owner is not gone))) is not None
    assert refusal_of(change.signed_by(*least, party("dave"))) is not None
    index = data.draw(st.integers(0, len(owners) - 1))
    for what, other in breaking.changed_states(change.states[index]):
        refused = refusal_of(change.output(index, other), what)
        assert refused is not None
        assert refused.code in ("contract.move_changes", "units.overflow")


@given(notary_changes())
def test_n13_a_move_there_and_back_gives_the_same_states(change: Tried) -> None:
    there = change.verifies()
    back = metered.notary_change(*(state.raw for state in there.outputs), to=party("notary"))
    moved = replace(back, guard=OTHER_NOTARY).verifies()
    assert [state.raw for state in moved.outputs] == [state.raw for _, state in there.inputs]


def party_of(state: OutputState) -> Party:
    owner = installed().parties(state)[0]
    return next(p for p in PARTIES if p.key == owner)


QUANTITY = st.integers(1, INT64_MAX)


@given(st.data(), QUANTITY)
def test_c06_random_splits_transfers_and_merges_conserve(data: st.DataObject, total_wh: int) -> None:
    held = [energy(total_wh, ALICE)]
    for _ in range(data.draw(st.integers(1, 6))):
        state = held.pop(data.draw(st.integers(0, len(held) - 1)))
        made = data.draw(st.sampled_from([_split, _transfer, _merge]))(data, state, held)
        held.extend(made)
    assert sum(state.quantity_wh for state in held) == total_wh
    assert {state.lot for state in held} == {energy(1, ALICE).lot}


def _owner(state: EnergyState) -> Party:
    return next(p for p in PARTIES if p.key == state.owner)


def _split(data: st.DataObject, state: EnergyState, held: list[EnergyState]) -> list[EnergyState]:
    parts = [replace(state, quantity_wh=quantity) for quantity in parts_of(data.draw, state.quantity_wh)]
    if len(parts) == 1:
        return [state]
    ledger.transaction().input(state).output(*parts).command(EnergySplit, _owner(state)).verifies()
    return parts


def _transfer(data: st.DataObject, state: EnergyState, held: list[EnergyState]) -> list[EnergyState]:
    old = _owner(state)
    new = data.draw(st.sampled_from([p for p in PARTIES if p is not old]))
    kept = data.draw(st.integers(0, state.quantity_wh - 1))
    given_away = replace(state, quantity_wh=state.quantity_wh - kept, owner=new.key)
    made = [given_away, replace(state, quantity_wh=kept)] if kept else [given_away]
    ledger.transaction().input(state).output(*made).command(EnergyTransfer, old, new).verifies()
    return made


def _merge(data: st.DataObject, state: EnergyState, held: list[EnergyState]) -> list[EnergyState]:
    others = [other for other in held if other.owner == state.owner]
    if not others:
        return [state]
    for other in others:
        held.remove(other)
    whole = replace(state, quantity_wh=state.quantity_wh + sum(other.quantity_wh for other in others))
    ledger.transaction().input(state, *others).output(whole).command(EnergyMerge, _owner(state)).verifies()
    return [whole]


@given(st.lists(QUANTITY, max_size=4), st.lists(QUANTITY, max_size=4))
def test_c04_what_is_not_conserved_is_refused(taken: list[int], given_away: list[int]) -> None:
    trial = ledger.transaction().input(*(energy(wh, ALICE) for wh in taken))
    trial = trial.output(*(energy(wh, BOB) for wh in given_away), energy(1, BOB))
    trial = trial.command(EnergyTransfer(ALICE.key, BOB.key, min(sum(given_away) + 1, INT64_MAX)), ALICE, BOB)
    if sum(taken) == sum(given_away) + 1 <= INT64_MAX:
        trial.verifies()
    else:
        assert refusal_of(trial) is not None


@given(st.lists(st.tuples(st.sampled_from(PARTIES), QUANTITY), min_size=1, max_size=4), st.data())
def test_c14_random_payments_conserve(taken: list[tuple[Party, int]], data: st.DataObject) -> None:
    total = sum(amount for _, amount in taken)
    outputs = [money(part, data.draw(st.sampled_from(PARTIES))) for part in parts_of(data.draw, total)]
    if any(state.amount_nano > INT64_MAX for state in outputs):
        return
    trial = ledger.transaction().input(*(money(amount, owner) for owner, amount in taken)).output(*outputs)
    trial = trial.command(PaymentPay, *(owner for owner, _ in taken))
    if total > INT64_MAX:
        trial.fails_with("units.overflow")
        return
    trial.verifies()
    trial.output(money(1, ALICE)).fails_with(
        "payment.pay.amount_not_conserved" if total < INT64_MAX else "units.overflow"
    )
