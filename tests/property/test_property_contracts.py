"""What no sequence of valid steps can break: conservation; and no single change of a valid trade is accepted."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2petd.contracts.energy import EnergyMerge, EnergySplit, EnergyState, EnergyTrade, EnergyTransfer
from p2petd.contracts.payment import PaymentPay, PaymentState
from p2petd.contracts.testkit import BANK, Party, Trial, energy, ledger, money, party
from p2petd.errors import NodeError
from p2petd.units import INT64_MAX, amount_nano

PARTIES = tuple(party(name) for name in ("alice", "bob", "carol"))
ALICE, BOB, CAROL = PARTIES
QUANTITY = st.integers(1, INT64_MAX)


def parts_of(data: st.DataObject, total: int) -> list[int]:
    """`total` cut at up to four random places, each part above zero."""
    cuts = sorted(data.draw(st.sets(st.integers(1, total - 1), max_size=4))) if total > 1 else []
    return [end - start for start, end in zip([0, *cuts], [*cuts, total], strict=True)]


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
    parts = [replace(state, quantity_wh=quantity) for quantity in parts_of(data, state.quantity_wh)]
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
        with pytest.raises(NodeError):
            trial.verifies()


@given(st.lists(st.tuples(st.sampled_from(PARTIES), QUANTITY), min_size=1, max_size=4), st.data())
def test_c14_random_payments_conserve(taken: list[tuple[Party, int]], data: st.DataObject) -> None:
    total = sum(amount for _, amount in taken)
    outputs = [money(part, data.draw(st.sampled_from(PARTIES))) for part in parts_of(data, total)]
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


@st.composite
def trades(draw: st.DrawFn) -> Trial:
    """A valid trade of Alice, who sells, with Bob: two inputs, four outputs."""
    sold, kept = draw(st.integers(1, 10**9)), draw(st.integers(1, 10**9))
    price, change = draw(st.integers(1, 10**8)), draw(st.integers(1, 10**17))
    amount = amount_nano(sold, price)
    terms = EnergyTrade(ALICE.key, BOB.key, sold, price, amount, "EUR", BANK.key)
    trial = ledger.transaction().input(energy(sold + kept, ALICE), money(amount + change, BOB))
    trial = trial.output(energy(sold, BOB), energy(kept, ALICE), money(amount, ALICE), money(change, BOB))
    return trial.command(terms, ALICE, BOB).command(PaymentPay, BOB)


def changed_field(data: st.DataObject, item: EnergyState | PaymentState | EnergyTrade) -> object:
    """The item with one field that differs."""
    name = data.draw(st.sampled_from([field.name for field in fields(item)]))
    value = getattr(item, name)
    if isinstance(value, int):
        other = data.draw(st.integers(-INT64_MAX, INT64_MAX).filter(lambda n: n != value))
    elif isinstance(value, str):
        other = data.draw(st.text(st.characters(codec="utf-8"), max_size=8).filter(lambda text: text != value))
    else:
        other = data.draw(
            st.sampled_from([p.key for p in PARTIES if p.key != value])
            | st.binary(max_size=33).filter(lambda b: b != value)
        )
    return replace(item, **{name: other})


@given(trades(), st.data())
def test_c09_any_single_change_of_a_valid_trade_is_refused(trial: Trial, data: st.DataObject) -> None:
    trial.verifies()
    where = data.draw(st.sampled_from(["inputs", "outputs", "commands"]))
    if where == "commands":
        (terms, signers), payment = trial.commands
        assert isinstance(terms, EnergyTrade)
        changed = replace(trial, commands=((changed_field(data, terms), signers), payment))
    else:
        states = list(getattr(trial, where))
        index = data.draw(st.integers(0, len(states) - 1))
        states[index] = changed_field(data, states[index])
        changed = replace(trial, **{where: tuple(states)})
    with pytest.raises(NodeError):
        changed.verifies()


@given(trades(), st.data())
def test_c09_a_trade_without_one_of_its_parts_is_refused(trial: Trial, data: st.DataObject) -> None:
    where = data.draw(st.sampled_from(["inputs", "outputs", "commands"]))
    parts = getattr(trial, where)
    gone = data.draw(st.integers(0, len(parts) - 1))
    with pytest.raises(NodeError):
        replace(trial, **{where: (*parts[:gone], *parts[gone + 1 :])}).verifies()


@given(trades(), st.sampled_from([(0, 0), (0, 1), (1, 0)]))
def test_c09_a_trade_without_one_signer_is_refused(trial: Trial, gone: tuple[int, int]) -> None:
    command, signer = gone
    commands = list(trial.commands)
    intent, signers = commands[command]
    commands[command] = (intent, (*signers[:signer], *signers[signer + 1 :]))
    with pytest.raises(NodeError):
        replace(trial, commands=tuple(commands)).verifies()
