"""A transaction under test in words, for failures and for the documents."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import Field, fields, is_dataclass

from p2petd.contracts.testkit.objects import DAY_NS, NOON_NS, UNIT_NS, energy, money
from p2petd.contracts.testkit.parties import PRODUCER, Signer, name_of, signing_name
from p2petd.errors import NodeError
from p2petd.ledger.parameters import ContractParameters
from p2petd.ledger.resolved import Command, OutputState
from p2petd.units import NO_LOWER_BOUND, NO_UPPER_BOUND

_DEFAULTS: dict[type, object] = {type(made): made for made in (energy(1, PRODUCER), money(1, PRODUCER))}
_ALWAYS = frozenset({"quantity_wh", "amount_nano", "owner"})
_SHOWN_MAX, _PARTS_MAX, _ITEMS_MAX = 60, 6, 3


def state_in_words(item: object) -> str:
    """A state or command; fields that the kit's own would have as well are left out, keys are names."""
    if isinstance(item, bytes):
        return _component_in_words(item)
    if isinstance(item, type):
        return item.__name__
    if not is_dataclass(item):
        return type(item).__name__
    usual = _DEFAULTS.get(type(item))
    shown = [
        f"{field.name}={value_in_words(getattr(item, field.name))}"
        for field in fields(item)
        if _is_worth_a_word(field, getattr(item, field.name), usual)
    ]
    return f"{type(item).__name__}({', '.join(shown)})"


def _is_worth_a_word(one: Field[object], value: object, usual: object | None) -> bool:
    if one.name in _ALWAYS:
        return True
    return value != one.default if usual is None else value != getattr(usual, one.name)


def value_in_words(value: object) -> str:
    """Keys are names, instants within days of the kit's noon are counted from it in quarters and nanoseconds."""
    if isinstance(value, bytes):
        return name_of(value) if value else "none"
    if isinstance(value, tuple):
        shown = [value_in_words(one) for one in value[:_ITEMS_MAX]]
        more = len(value) - _ITEMS_MAX
        return f"[{', '.join(shown if more <= 0 else [*shown, f'… and {more:_} more'])}]"
    if isinstance(value, frozenset):
        return f"{{{', '.join(sorted(value_in_words(one) for one in value))}}}"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{value_in_words(k)}: {value_in_words(v)}' for k, v in value.items())}}}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:_}" if abs(value - NOON_NS) > 3 * DAY_NS else _instant_in_words(value)
    if is_dataclass(value):
        return state_in_words(value)
    text = repr(value)
    return text if len(text) <= _SHOWN_MAX else f"{text[: _SHOWN_MAX - 1]}… ({len(text) - 2} characters)"


def _instant_in_words(instant_ns: int) -> str:
    quarters, rest_ns = divmod(instant_ns - NOON_NS, UNIT_NS)
    if quarters < 0 and rest_ns:
        quarters, rest_ns = quarters + 1, rest_ns - UNIT_NS
    plural = "" if abs(quarters) == 1 else "s"
    said = "noon" if not quarters else f"noon {'+' if quarters > 0 else '-'} {abs(quarters)} quarter{plural}"
    return said if not rest_ns else f"{said} {'+' if rest_ns > 0 else '-'} {abs(rest_ns):_} ns"


def signers_in_words(signers: tuple[Signer, ...]) -> str:
    return " and ".join(name_of(_identity(signer)) for signer in signers) or "nobody"


def window_in_words(from_ns: int, until_ns: int) -> str:
    since = "" if from_ns == NO_LOWER_BOUND else f"from {value_in_words(from_ns)} "
    return since + ("without an end" if until_ns == NO_UPPER_BOUND else f"until {value_in_words(until_ns)}")


def listed(title: str, items: Iterable[str]) -> list[str]:
    """One part for each item; of many, the first few and how many more."""
    said = [f"{title} {item}" for item in items]
    more = len(said) - _PARTS_MAX
    return said if more <= 0 else [*said[:_PARTS_MAX], f"{title} … and {more} more"]


def parameters_in_words(parameters: ContractParameters, usual: ContractParameters) -> Iterator[str]:
    """The fields in which a network differs from the usual one."""
    for one in fields(parameters):
        value = getattr(parameters, one.name)
        if value != getattr(usual, one.name):
            yield f"{one.name}={value_in_words(value)}"


def _identity(signer: Signer) -> bytes:
    return signing_name(signer) if isinstance(signer, bytes) else signer.key


def _component_in_words(component: bytes) -> str:
    for decode in (OutputState.decode, Command.decode):
        try:
            decoded = decode(component)
        except NodeError:
            continue
        return f"{decoded.contract}.{decoded.type_name} version {decoded.schema_version}, {len(decoded.payload)} bytes"
    return f"{len(component)} bytes that do not decode"
