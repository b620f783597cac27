"""Whatever an oracle is told, in any order: no value is lost, a repeat changes nothing, a refusal changes nothing."""

from hypothesis import given
from hypothesis import strategies as st
from p2pet.oracle.v1.oracle_pb2 import UnitReading

from p2petd.errors import NodeError
from p2petd.oracle.book import Book
from p2petd.oracle.telling import Taken, take_reading
from p2petd.units import MINUTE_NS

UNIT_NS = 15 * MINUTE_NS
NOW_NS = 100 * UNIT_NS

TOLD = st.tuples(st.integers(0, 3), st.integers(-1, 4), st.integers(0, 4))


class NoStore:
    """A log in which nothing stands yet."""

    def get(self, table: int, key: bytes) -> bytes | None:
        return None

    def scan(
        self, table: int, start: bytes, end: bytes | None, limit: int, *, reverse: bool = False
    ) -> list[tuple[bytes, bytes]]:
        return []


@given(st.lists(TOLD, max_size=40))
def test_c12_every_value_is_kept_and_every_repeat_and_refusal_changes_nothing(told: list[tuple[int, int, int]]) -> None:
    book = Book(NoStore())
    accepted: dict[int, list[int]] = {}
    for unit, energy_wh, revision in told:
        values = accepted.setdefault(unit, [])
        reading = UnitReading(meter="m", start_ns=unit * UNIT_NS, energy_wh=energy_wh, revision=revision)
        before = book.reading("m", unit * UNIT_NS)
        try:
            taken = take_reading(book, reading, UNIT_NS, NOW_NS)
        except NodeError:
            assert energy_wh < 0 or revision
            assert book.reading("m", unit * UNIT_NS) == before
            continue
        if taken is Taken.REPEATED:
            assert energy_wh in values
            assert book.reading("m", unit * UNIT_NS) == before
            continue
        assert (taken is Taken.ADDED) == (not values)
        assert revision in (0, len(values) + 1)
        values.append(energy_wh)
        row = book.reading("m", unit * UNIT_NS)
        assert row is not None
        assert [*row.earlier_wh, row.energy_wh] == values
        assert row.revision == len(values)
        assert take_reading(book, reading, UNIT_NS, NOW_NS) is Taken.REPEATED


@given(st.lists(TOLD, max_size=20), st.integers(0, 20))
def test_c12_what_a_feed_says_again_from_any_point_changes_nothing(told: list[tuple[int, int, int]], at: int) -> None:
    # A feed that counts may be read again from any line: after a crash, or when its file was copied.
    counts: dict[int, int] = {}
    lines = []
    for unit, energy_wh, _ in told:
        counts[unit] = counts.get(unit, 0) + 1
        lines.append(
            UnitReading(meter="m", start_ns=unit * UNIT_NS, energy_wh=max(0, energy_wh), revision=counts[unit])
        )
    book = Book(NoStore())
    for line in lines:
        take_reading(book, line, UNIT_NS, NOW_NS)
    rows = [book.reading("m", unit * UNIT_NS) for unit in range(4)]
    assert all(take_reading(book, line, UNIT_NS, NOW_NS) is Taken.REPEATED for line in lines[at:])
    assert [book.reading("m", unit * UNIT_NS) for unit in range(4)] == rows
