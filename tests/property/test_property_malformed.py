"""Whatever bytes a state, a command or an attachment has, contracts accept or refuse it: they never crash (C08)."""

from collections.abc import Iterator
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from p2petd.contracts.registry import PlatformRule
from p2petd.contracts.testkit import Trial
from p2petd.ledger.groups import Group
from tests.unit.contracts import (
    test_contracts_delivery,
    test_contracts_energy,
    test_contracts_meter,
    test_contracts_oracle,
    test_contracts_payment,
    test_contracts_trade,
)

MODULES = (
    test_contracts_delivery,
    test_contracts_energy,
    test_contracts_meter,
    test_contracts_oracle,
    test_contracts_payment,
    test_contracts_trade,
)


def _trials() -> Iterator[Trial]:
    """What keeps each rule of each contract."""
    for module in MODULES:
        for keeping, _ in module.CASES.values():
            if isinstance(keeping, Trial):
                yield keeping


TRIALS = tuple(_trials())


def changed(data: st.DataObject, content: bytes) -> bytes:
    """The bytes with one to three of them replaced, inserted or gone."""
    result = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(result)))
        what = data.draw(st.sampled_from(["replace", "insert", "cut", "end"]))
        if what == "insert":
            result[place:place] = data.draw(st.binary(min_size=1, max_size=4))
        elif what == "cut":
            del result[place : place + data.draw(st.integers(1, 4))]
        elif what == "end":
            del result[place:]
        elif place < len(result):
            result[place] = data.draw(st.integers(0, 255))
    return bytes(result)


def with_changed_component(data: st.DataObject, trial: Trial) -> Trial:
    draft = trial.draft()
    components = {
        "inputs": draft.input_outputs,
        "references": draft.reference_outputs,
        "outputs": draft.outputs,
        "commands": draft.groups[Group.COMMANDS],
    }
    where = data.draw(st.sampled_from([name for name, listed in components.items() if listed]))
    listed = list(components[where])
    index = data.draw(st.integers(0, len(listed) - 1))
    listed[index] = changed(data, listed[index])
    if where != "commands":
        return replace(trial, **{where: tuple(listed)})
    signers = [signers for _, signers in trial.commands]
    return replace(trial, commands=tuple(zip(listed, signers, strict=True)))


@given(st.sampled_from(TRIALS), st.data())
def test_c08_no_change_of_bytes_crashes_a_contract(trial: Trial, data: st.DataObject) -> None:
    refused = with_changed_component(data, trial).refusal()
    assert refused is None or refused.code != PlatformRule.CRASHED.code


@given(st.sampled_from([trial for trial in TRIALS if any(trial.attachments.values())]), st.data())
def test_c08_no_attachment_crashes_a_contract(trial: Trial, data: st.DataObject) -> None:
    contents = {cited: changed(data, content) for cited, content in trial.attachments.items() if content}
    refused = replace(trial, attachments=contents).refusal()
    assert refused is None or refused.code != PlatformRule.CRASHED.code


@given(st.sampled_from(TRIALS), st.sampled_from(TRIALS))
def test_c08_no_mixture_of_two_transactions_crashes_a_contract(one: Trial, other: Trial) -> None:
    mixed = replace(
        one,
        inputs=one.inputs + other.inputs,
        references=one.references + other.references,
        outputs=one.outputs + other.outputs,
        commands=one.commands + other.commands,
        claims=tuple(dict.fromkeys(one.claims + other.claims)),
        attachments={**one.attachments, **other.attachments},
    )
    refused = mixed.refusal()
    assert refused is None or refused.code != PlatformRule.CRASHED.code
