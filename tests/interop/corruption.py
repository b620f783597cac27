"""How a test says what must be refused, and by which check."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.interop.wire import Refused

# A name, the check that must notice, and what makes the corrupted thing.
Case = tuple[str, str, Callable[..., Any]]


def cases(table: Sequence[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("check", "corrupt"), [pytest.param(c, f, id=name) for name, c, f in table])


def refused(check: str, act: Callable[[], object]) -> None:
    with pytest.raises(Refused) as caught:
        act()
    assert caught.value.check == check, str(caught.value)


def part_of(sequence: Sequence[Any], place: int, /, **changes: Any) -> tuple[Any, ...]:
    changed = list(sequence)
    changed[place] = replace(changed[place], **changes)
    return tuple(changed)


def swapped(sequence: Sequence[Any], a: int = 0, b: int = 1) -> tuple[Any, ...]:
    changed = list(sequence)
    changed[a], changed[b] = changed[b], changed[a]
    return tuple(changed)
