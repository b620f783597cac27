"""key=value on the command line as the argument message of a flow.

The message says what a key means: `quantity=1.5kWh` sets `quantity_wh`, `price=0.25/kWh` a field that ends in
`_micro_per_kwh`, `amount=3.50` one in `_nano`, `delivery=2026-07-01T12:00Z/PT1H` both `delivery_start_ns` and
`delivery_end_ns`; a field by its whole name takes its integer. Dots reach into nested messages.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from p2pet.cli.session import UsageError
from p2pet.cli.units import parse_amount, parse_period, parse_price, parse_quantity, parse_time
from p2pet.flows.v1 import arguments_pb2

assert arguments_pb2.DESCRIPTOR is not None  # its import registers the messages of the built-in flows

UNITS: Mapping[str, Callable[[str], int]] = {
    "_wh": parse_quantity,
    "_micro_per_kwh": parse_price,
    "_nano": parse_amount,
    "_ns": parse_time,
}


@dataclass(frozen=True)
class Assignment:
    """One field to set: the path to it, and the text that was typed."""

    path: tuple[str, ...]
    field: FieldDescriptor
    text: str
    human: bool

    @property
    def is_party(self) -> bool:
        """Whether the text may be a party's name."""
        return self.field.type == FieldDescriptor.TYPE_BYTES


def message_type(full_name: str) -> type[Message]:
    """The class of a flow's arguments; raises UsageError when this client has no such message."""
    try:
        descriptor = descriptor_pool.Default().FindMessageTypeByName(full_name)
    except KeyError:
        raise UsageError(f"this client does not know {full_name}; import its package or use a newer p2pet") from None
    return message_factory.GetMessageClass(descriptor)


def parse(kind: type[Message], pairs: Iterable[str]) -> tuple[Assignment, ...]:
    """The fields that `key=value` texts set; raises UsageError for a key that is unknown or set twice."""
    assignments: list[Assignment] = []
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"{pair!r} is not key=value")
        assignments.extend(_assignments(cast(Descriptor, kind.DESCRIPTOR), key, text))
    paths = [assignment.path for assignment in assignments]
    for path in paths:
        if paths.count(path) > 1:
            raise UsageError(f"{'.'.join(path)} is set twice")
    return tuple(assignments)


def build(
    kind: type[Message], assignments: Iterable[Assignment], find_party: Callable[[str], bytes], json_text: str = ""
) -> Message:
    """The message: first what the JSON says, then each assignment; raises UsageError."""
    message = kind()
    if json_text:
        try:
            json_format.Parse(json_text, message)
        except json_format.ParseError as error:
            raise UsageError(f"the JSON is not a {kind.DESCRIPTOR.full_name}: {error}") from None
    for assignment in assignments:
        _assign(message, assignment, find_party)
    return message


def _assignments(descriptor: Descriptor, key: str, text: str) -> list[Assignment]:
    *parents, last = key.split(".")
    path: tuple[str, ...] = ()
    for name in parents:
        field = descriptor.fields_by_name.get(name)
        if field is None or field.message_type is None or field.is_repeated:
            raise _unknown(descriptor, key, name)
        descriptor, path = field.message_type, (*path, name)
    fields = descriptor.fields_by_name
    if last in fields:
        if fields[last].message_type is not None or fields[last].is_repeated:
            raise UsageError(f"{key} is not a single value; reach into it with dots, or use --arguments")
        return [Assignment((*path, last), fields[last], text, human=False)]
    for suffix in UNITS:
        if last + suffix in fields:
            return [Assignment((*path, last + suffix), fields[last + suffix], text, human=True)]
    start, end = f"{last}_start_ns", f"{last}_end_ns"
    if start in fields and end in fields:
        moments = parse_period(text)
        return [
            Assignment((*path, name), fields[name], str(moment), human=False)
            for name, moment in zip((start, end), moments, strict=True)
        ]
    raise _unknown(descriptor, key, last)


def _unknown(descriptor: Descriptor, key: str, name: str) -> UsageError:
    known = ", ".join(field.name for field in descriptor.fields)
    return UsageError(f"{key}: {descriptor.name} has no {name}; it has {known}")


def _assign(message: Message, assignment: Assignment, find_party: Callable[[str], bytes]) -> None:
    target = message
    for name in assignment.path[:-1]:
        target = getattr(target, name)
    value = _value(assignment, find_party)
    try:
        setattr(target, assignment.path[-1], value)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{'.'.join(assignment.path)}: {assignment.text!r} does not fit: {error}") from None


def _value(assignment: Assignment, find_party: Callable[[str], bytes]) -> int | str | bytes | bool:
    field, text = assignment.field, assignment.text
    name = ".".join(assignment.path)
    if assignment.human:
        return next(parse for suffix, parse in UNITS.items() if field.name.endswith(suffix))(text)
    if assignment.is_party:
        return find_party(text)
    if field.type == FieldDescriptor.TYPE_STRING:
        return text
    if field.type == FieldDescriptor.TYPE_BOOL:
        if text not in ("true", "false"):
            raise UsageError(f"{name} is true or false, not {text!r}")
        return text == "true"
    if field.enum_type is not None and text in field.enum_type.values_by_name:
        return int(field.enum_type.values_by_name[text].number)
    try:
        # Only digits: int() alone would take underscores and spaces.
        return int(text) if text.removeprefix("-").isdecimal() else int("")
    except ValueError:
        raise UsageError(f"{name} is a whole number, not {text!r}") from None
