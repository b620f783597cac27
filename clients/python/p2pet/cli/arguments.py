"""key=value on the command line as the argument message of a flow.

The message says what a key means: `quantity=1.5kWh` sets `quantity_wh`, `price=0.25/kWh` a field that ends in
`_micro_per_kwh`, `amount=3.50` one in `_nano`, `capacity=10kW` one in `_w`, `delivery=2026-07-01T12:00Z/PT1H` both
`delivery_start_ns` and `delivery_end_ns`; a field by its whole name takes its integer. Dots reach into nested messages,
commas separate the values of a repeated field.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import cast

from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from p2pet.cli.parties import Parties
from p2pet.cli.session import UsageError
from p2pet.cli.units import parse_amount, parse_period, parse_power, parse_price, parse_quantity, parse_time
from p2pet.flows.v1 import arguments_pb2

assert arguments_pb2.DESCRIPTOR is not None  # its import registers the messages of the built-in flows

MESSAGES = "p2pet.messages"
UNITS: Mapping[str, Callable[[str], int]] = {
    "_wh": parse_quantity,
    "_w": parse_power,
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
    def is_key(self) -> bool:
        """Whether the text may be the name of a party or a notary, or is hexadecimal."""
        return self.field.type == FieldDescriptor.TYPE_BYTES

    @property
    def is_notary(self) -> bool:
        """Whether it names a notary service, not a party."""
        return self.is_key and self.field.name.endswith("notary")


def message_type(full_name: str) -> type[Message]:
    """The class of a flow's arguments; raises UsageError when this client has no such message.

    Packages with flows of their own register the modules of their messages as entry points of the group p2pet.messages.
    """
    pool = descriptor_pool.Default()
    try:
        descriptor = pool.FindMessageTypeByName(full_name)
    except KeyError:
        for plugin in entry_points(group=MESSAGES):
            plugin.load()
        try:
            descriptor = pool.FindMessageTypeByName(full_name)
        except KeyError:
            text = f"this client does not know {full_name}; install the flow's package, or a newer p2pet"
            raise UsageError(text) from None
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


def build(kind: type[Message], assignments: Iterable[Assignment], parties: Parties, json_text: str = "") -> Message:
    """The message: first what the JSON says, then each assignment; raises UsageError."""
    message = kind()
    if json_text:
        try:
            json_format.Parse(json_text, message)
        except json_format.ParseError as error:
            raise UsageError(f"the JSON is not a {kind.DESCRIPTOR.full_name}: {error}") from None
    for assignment in assignments:
        _assign(message, assignment, parties)
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
        if fields[last].message_type is not None:
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


def _assign(message: Message, assignment: Assignment, parties: Parties) -> None:
    target = message
    for name in assignment.path[:-1]:
        target = getattr(target, name)
    name, repeated = assignment.path[-1], assignment.field.is_repeated
    texts = assignment.text.split(",") if repeated else [assignment.text]
    values = [_value(assignment, text, parties) for text in texts]
    try:
        if repeated:
            getattr(target, name).extend(values)
        else:
            setattr(target, name, values[0])
    except (ValueError, TypeError) as error:
        raise UsageError(f"{'.'.join(assignment.path)}: {assignment.text!r} does not fit: {error}") from None


def _value(assignment: Assignment, text: str, parties: Parties) -> int | str | bytes | bool:
    field = assignment.field
    name = ".".join(assignment.path)
    if assignment.human:
        return next(parse for suffix, parse in UNITS.items() if field.name.endswith(suffix))(text)
    if assignment.is_key:
        return state_reference(text) or (parties.find_notary(text) if assignment.is_notary else parties.find(text))
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


def state_reference(text: str) -> bytes:
    """The 36 bytes of a transaction's id and an output's index, as `vault list --json` and tables write it; or none."""
    match = re.fullmatch(r"([0-9a-fA-F]{64})(?::([0-9]{1,4})|([0-9a-fA-F]{8}))", text)
    if not match:
        return b""
    return bytes.fromhex(match[1]) + (bytes.fromhex(match[3]) if match[3] else int(match[2]).to_bytes(4))
