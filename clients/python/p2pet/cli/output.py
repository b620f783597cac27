"""How commands answer: a table for people, JSON with stable keys for programs."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

# JSON-ready values; recursive aliases are not worth their price here.
Plain = Any


def plain(message: Message) -> dict[str, Plain]:
    """A message with the names of its fields: bytes in hexadecimal, enums by name, 64-bit integers as numbers.

    Every field is there, also at its default, so that programs need not ask; of a oneof only the one that is set.
    """
    result: dict[str, Plain] = {}
    for field in cast(Descriptor, message.DESCRIPTOR).fields:
        if field.containing_oneof is not None and not message.HasField(field.name):
            continue
        value = getattr(message, field.name)
        if isinstance(value, Mapping):
            result[field.name] = dict(sorted(value.items()))
        elif isinstance(value, str | bytes | bool | int | Message):
            result[field.name] = _plain_value(field, value)
        else:
            result[field.name] = [_plain_value(field, one) for one in value]
    return result


def _plain_value(field: FieldDescriptor, value: Plain) -> Plain:
    if isinstance(value, Message):
        return plain(value)
    if isinstance(value, bytes):
        return value.hex()
    if field.enum_type is not None:
        return enum_name(field.enum_type, value)
    return value


def enum_name(kind: EnumDescriptor, value: int) -> str:
    """`FLOW_STATUS_RUNNING` as `running`; a number that this version does not know stays one."""
    known = kind.values_by_number.get(value)
    if known is None:
        return str(value)
    prefix = kind.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return str(known.name).removeprefix(prefix).lower()


def print_json(value: Plain) -> None:
    """One JSON document on one line of standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> None:
    """A table, or the sentence `empty`. Columns whose heading starts with > are aligned to the right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        right = column.startswith(">")
        table.add_column(escape(column.removeprefix(">")), justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console = _console()
    if table.row_count:
        console.print(table)
    else:
        console.print(escape(empty))


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """One line for each name and value."""
    table = Table.grid(padding=(0, 2))
    for name, value in fields:
        table.add_row(escape(name), escape(value))
    _console().print(table)


def print_line(text: str) -> None:
    """A line for people."""
    _console().print(escape(text), soft_wrap=True)


def _console() -> Console:
    # A pipe has no width: never fold what another program may read.
    return Console(highlight=False, width=None if sys.stdout.isatty() else 500)


def short(identifier: bytes) -> str:
    """The first 16 digits of a key or id, for tables."""
    return identifier.hex()[:16] if identifier else "-"
