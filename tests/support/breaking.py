"""Exactly one thing of a valid transaction is broken; and what no accepted transaction may do, computed anew."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from hypothesis import strategies as st
from p2pet.ledger.v1 import energy_pb2, payment_pb2

from p2petd.contracts.testkit import BANK, Trial, party, raw_command, raw_state
from p2petd.ledger.resolved import Command, LedgerTransaction, OutputState
from p2petd.units import INT64_MAX

DAVE = party("dave")
UNKNOWN_FIELD = b"\xa2\x7d\x01x"
"""Field 2004 of wire type 2: no message of ours has it."""


@dataclass(frozen=True)
class Break:
    """One way to break a transaction: where, how, and the broken one."""

    what: str
    broken: Trial


def state_fields(trial: Trial, sides: tuple[str, ...] = ("inputs", "outputs")) -> Iterator[Break]:
    """A number one up or down, another key, another text, an item less, in one field of one state."""
    for side in sides:
        for index, state in enumerate(getattr(trial, side)):
            for what, changed in changed_states(state):
                yield Break(f"{side} {index}: {what}", _with(trial, side, index, changed))


def state_numbers(trial: Trial) -> Iterator[Break]:
    return (one for one in state_fields(trial) if one.what.endswith((" + 1", " - 1")))


def command_fields(trial: Trial) -> Iterator[Break]:
    for index, (command, signers) in enumerate(trial.commands):
        if not isinstance(command, type | bytes):
            for what, changed in changed_states(command):
                yield Break(f"command {index}: {what}", _with(trial, "commands", index, (changed, signers)))


def dropped(trial: Trial, parts: tuple[str, ...]) -> Iterator[Break]:
    """One state, command or claim less."""
    for part in parts:
        items = getattr(trial, part)
        for index in range(len(items)):
            yield Break(f"{part} {index} dropped", replace(trial, **{part: (*items[:index], *items[index + 1 :])}))


def doubled(trial: Trial, parts: tuple[str, ...]) -> Iterator[Break]:
    for part in parts:
        items = getattr(trial, part)
        for index, item in enumerate(items):
            yield Break(f"{part} {index} doubled", replace(trial, **{part: (*items, item)}))


def signers(trial: Trial) -> Iterator[Break]:
    """One signer of one command less."""
    for index, (command, names) in enumerate(trial.commands):
        for gone in range(len(names)):
            left = (*names[:gone], *names[gone + 1 :])
            yield Break(f"command {index}: signer {gone} dropped", _with(trial, "commands", index, (command, left)))


def foreign_bytes(trial: Trial) -> Iterator[Break]:
    """A state or command of another type, schema version or encoding."""
    draft = trial.draft()
    for side, components in (("inputs", draft.input_outputs), ("outputs", draft.outputs)):
        for index, component in enumerate(components):
            for what, changed in _foreign_states(OutputState.decode(component)):
                yield Break(f"{side} {index}: {what}", _with(trial, side, index, changed))
    for index, (component, (_, names)) in enumerate(zip(draft.groups[3], trial.commands, strict=True)):
        for what, changed in _foreign_commands(Command.decode(component)):
            yield Break(f"command {index}: {what}", _with(trial, "commands", index, (changed, names)))


def empty_payloads(trial: Trial) -> Iterator[Break]:
    """All fields of one state at their defaults."""
    draft = trial.draft()
    for side, components in (("inputs", draft.input_outputs), ("outputs", draft.outputs)):
        for index, component in enumerate(components):
            state = OutputState.decode(component)
            yield Break(f"{side} {index} empty", _with(trial, side, index, raw_state(state.contract, state.type_name)))


def changed_states(state: Any) -> Iterator[tuple[str, Any]]:
    """One field of a state changed: what, and the other state."""
    for field in fields(state) if is_dataclass(state) else ():
        value = getattr(state, field.name)
        for how, other in _others(value):
            yield f"{field.name} {how}", replace(state, **{field.name: other})


def flipped_byte(draw: Callable[[st.SearchStrategy[Any]], Any], trial: Trial) -> Break:
    """One bit of the payload of one state."""
    draft = trial.draft()
    where = [("inputs", n, c) for n, c in enumerate(draft.input_outputs)]
    where += [("outputs", n, c) for n, c in enumerate(draft.outputs)]
    side, index, component = draw(st.sampled_from(where))
    state = OutputState.decode(component)
    position, bit = draw(st.integers(0, len(state.payload) - 1)), draw(st.integers(0, 7))
    payload = bytearray(state.payload)
    payload[position] ^= 1 << bit
    changed = raw_state(state.contract, state.type_name, bytes(payload))
    return Break(f"{side} {index}: bit {bit} of byte {position}", _with(trial, side, index, changed))


def claims(trial: Trial) -> Iterator[Break]:
    yield Break("a claim added", trial.claim(bytes(32)))
    yield from dropped(trial, ("claims",))


def attachments(trial: Trial) -> Iterator[Break]:
    """An attachment that is not cited, is not here, or is another."""
    for attachment, content in trial.attachments.items():
        others = {key: value for key, value in trial.attachments.items() if key != attachment}
        bare = replace(trial, attachments=others)
        yield Break("an attachment dropped", bare)
        yield Break("an attachment that is not here", bare.cite(attachment))
        yield Break("another attachment", bare.attachment((content or b"") + b"\x00"))


def windows(trial: Trial) -> Iterator[Break]:
    """No window, or one that begins a nanosecond before or ends a day after."""
    if trial.bounds is not None:
        from_ns, until_ns = trial.bounds
        yield Break("no window", replace(trial, bounds=None))
        if until_ns != INT64_MAX:
            yield Break("a window that ends late", trial.window(from_ns, until_ns + 86_400 * 10**9))
        if from_ns > 0:
            yield Break("a window that begins early", trial.window(from_ns - 1, until_ns))


def _with(trial: Trial, part: str, index: int, item: object) -> Trial:
    items = list(getattr(trial, part))
    items[index] = item
    return replace(trial, **{part: tuple(items)})


def _others(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, bool):
        yield "turned", not value
    elif isinstance(value, int):
        yield "+ 1", value + 1
        yield "- 1", value - 1
    elif isinstance(value, str):
        yield "of another name", value + "x"
    elif isinstance(value, bytes):
        yield "of another key", DAVE.key if value != DAVE.key else BANK.key
        yield "cut short", value[:-1]
    elif isinstance(value, tuple) and value:
        yield "without its last", value[:-1]


def _foreign_states(state: OutputState) -> Iterator[tuple[str, bytes]]:
    def made(type_name: str = state.type_name, payload: bytes = state.payload, version: int = 1) -> bytes:
        return raw_state(state.contract, type_name, payload, schema_version=version, notary=party("notary"))

    yield "of another type", made(type_name=state.type_name + "s")
    yield "of another schema version", made(version=2)
    yield "a field appended", made(payload=state.payload + UNKNOWN_FIELD)
    yield "bytes cut off", made(payload=state.payload[:-1])
    yield "the first field twice", made(payload=state.payload + state.payload)


def _foreign_commands(command: Command) -> Iterator[tuple[str, bytes]]:
    yield "of another type", raw_command(command.contract, command.type_name + "s", command.payload)
    yield (
        "of another schema version",
        raw_command(command.contract, command.type_name, command.payload, schema_version=2),
    )
    yield "a field appended", raw_command(command.contract, command.type_name, command.payload + UNKNOWN_FIELD)


def assert_sound(transaction: LedgerTransaction) -> None:
    """What holds for every accepted transaction, from the bytes and without any contract: nothing comes into being but
    by Issue, nothing ends but by Retire, Expire, Deliver or Redeem, nobody loses a state without being asked, and a
    trade gives both sides exactly what it states."""
    named = {command.type_name for command, _ in transaction.commands}
    asked = frozenset(transaction.moved_by).union(*(signers for _, signers in transaction.commands))
    inputs, outputs = [state for _, state in transaction.inputs], list(transaction.outputs)
    for state in inputs:
        owner = _owner(state)
        assert owner is None or owner in asked, "a state was taken from somebody who was not asked"
    for amounts, made_by, ended_by in (
        (_energy, "EnergyIssue", {"EnergyRetire", "EnergyExpire", "EnergyDeliver"}),
        (_money, "PaymentIssue", {"PaymentRedeem"}),
    ):
        before, after = _sums(amounts, inputs), _sums(amounts, outputs)
        assert after <= before or (made_by in named and not before), f"something came into being: {after - before}"
        assert before <= after or named & ended_by, f"something ended: {before - after}"
        assert min((*before.values(), *after.values()), default=1) > 0
    for command, _ in transaction.commands:
        if command.type_name == "EnergyTrade":
            _assert_exchange(energy_pb2.EnergyTrade.FromString(command.payload), inputs, outputs)


def _assert_exchange(trade: Any, inputs: list[OutputState], outputs: list[OutputState]) -> None:
    """Delivery against payment (C09)."""
    assert trade.amount_nano == trade.quantity_wh * trade.price_micro_per_kwh
    for amounts, of, gain in ((_energy, trade.buyer, trade.quantity_wh), (_money, trade.seller, trade.amount_nano)):
        gained = 0
        for sign, states in ((-1, inputs), (1, outputs)):
            gained += sign * sum(
                amount for state in states if _owner(state) == of for _, amount in [amounts(state)] if amount
            )
        assert gained == gain


def _sums(amounts: Callable[[OutputState], tuple[object, int]], states: list[OutputState]) -> Counter[object]:
    sums: Counter[object] = Counter()
    for state in states:
        kind, amount = amounts(state)
        if kind is not None:
            sums[kind] += amount
    return sums


def _energy(state: OutputState) -> tuple[object, int]:
    if (state.contract, state.type_name) != ("energy", "EnergyState"):
        return None, 0
    message = energy_pb2.EnergyState.FromString(state.payload)
    quantity_wh = message.quantity_wh
    message.ClearField("quantity_wh")
    message.ClearField("owner")
    return message.SerializeToString(deterministic=True), quantity_wh


def _money(state: OutputState) -> tuple[object, int]:
    if state.contract != "payment":
        return None, 0
    message = payment_pb2.PaymentState.FromString(state.payload)
    return (message.currency, message.issuer), message.amount_nano


def _owner(state: OutputState) -> bytes | None:
    if state.contract == "payment":
        return payment_pb2.PaymentState.FromString(state.payload).owner
    if (state.contract, state.type_name) == ("energy", "EnergyState"):
        return energy_pb2.EnergyState.FromString(state.payload).owner
    return None
