"""Tariff tables: strict, ordered, and looked up by quality."""

import tracemalloc
from collections.abc import Mapping
from dataclasses import replace

import pytest
from p2pet.ledger.v1 import oracle_pb2

from p2petd.contracts.tariff import CACHED_TABLE_BYTES_MAX, ROWS_MAX, TariffRow, TariffRule, TariffTable, cited_tariff
from p2petd.contracts.testkit import NOON_NS, energy, ledger, party
from p2petd.errors import ContractViolation, MalformedTransaction, NodeError, QuantityOverflow, TransactionRefused
from p2petd.units import HOUR_NS, INT64_MAX, TimeNs

ANYWHERE = TariffRow("solar", "", 50_000, 100_000, 20_000, 200_000)
NORTH = replace(ANYWHERE, zone="north", price_max_micro_per_kwh=90_000)
TABLE = TariffTable("day", "EUR", TimeNs(NOON_NS), TimeNs(NOON_NS + HOUR_NS), (ANYWHERE, NORTH))


def many(count: int) -> tuple[TariffRow, ...]:
    return tuple(replace(ANYWHERE, zone=f"{number:05}") for number in range(count))


R = TariffRule
CASES: Mapping[TariffRule, tuple[Mapping[str, object], Mapping[str, object]]] = {
    R.NAMELESS: ({"currency": "CHF"}, {"currency": ""}),
    R.VALIDITY: ({"valid_until_ns": NOON_NS + 1}, {"valid_until_ns": NOON_NS}),
    R.COUNT: ({"rows": many(ROWS_MAX)}, {"rows": many(ROWS_MAX + 1)}),
    R.ORDER: ({"rows": (ANYWHERE, NORTH)}, {"rows": (NORTH, ANYWHERE)}),
    R.TYPE: ({"rows": (ANYWHERE,)}, {"rows": (replace(ANYWHERE, energy_type=""),)}),
    R.BOUNDS: (
        {"rows": (replace(ANYWHERE, price_min_micro_per_kwh=100_000),)},
        {"rows": (replace(ANYWHERE, price_min_micro_per_kwh=100_001),)},
    ),
}


def test_every_rule_has_a_case() -> None:
    assert set(CASES) == set(TariffRule)


@pytest.mark.parametrize("rule", TariffRule, ids=lambda rule: rule.code)
def test_rule(rule: TariffRule) -> None:
    keeping, breaking = CASES[rule]
    assert TariffTable.decode(replace(TABLE, **keeping).encode()) == replace(TABLE, **keeping)
    with pytest.raises(ContractViolation) as refused:
        replace(TABLE, **breaking)
    assert refused.value.code == rule.code
    assert rule.sentence in str(refused.value)


def test_a_row_twice_and_no_rows_are_refused() -> None:
    for rows, rule in (((ANYWHERE, ANYWHERE), R.ORDER), ((), R.COUNT)):
        with pytest.raises(ContractViolation) as refused:
            replace(TABLE, rows=rows)
        assert refused.value.code == rule.code


def test_rows_ascend_by_their_bytes() -> None:
    assert replace(TABLE, rows=(replace(ANYWHERE, zone="\uffff"), replace(ANYWHERE, zone="\U00010000"))).rows


def test_the_row_of_a_zone_outranks_that_for_every_zone() -> None:
    assert TABLE.row("solar", "north") is NORTH
    assert TABLE.row("solar", "south") is ANYWHERE
    assert TABLE.row("wind", "north") is None
    assert replace(TABLE, rows=(NORTH,)).row("solar", "south") is None


def test_a_table_covers_periods_within_its_validity() -> None:
    assert TABLE.covers(NOON_NS, NOON_NS + HOUR_NS)
    assert not TABLE.covers(NOON_NS - 1, NOON_NS + HOUR_NS)
    assert not TABLE.covers(NOON_NS, NOON_NS + HOUR_NS + 1)


def test_a_table_is_decoded_once() -> None:
    assert TariffTable.decode(TABLE.encode()) is TariffTable.decode(bytes(bytearray(TABLE.encode())))
    large = replace(TABLE, rows=many(ROWS_MAX)).encode()
    assert len(large) > CACHED_TABLE_BYTES_MAX
    assert TariffTable.decode(large) is not TariffTable.decode(large)


@pytest.mark.parametrize("content", [b"", b"\xff", b"a price list", TABLE.encode() + b"\x00", TABLE.encode()[:-1]])
def test_c08_content_that_is_no_table_is_refused(content: bytes) -> None:
    with pytest.raises(NodeError) as refused:
        TariffTable.decode(content)
    assert isinstance(refused.value, MalformedTransaction | ContractViolation)


def test_c08_content_that_is_not_canonical_is_refused() -> None:
    with pytest.raises(MalformedTransaction, match="canonical"):
        TariffTable.decode(TABLE.encode() + b"\x0a\x03day")


def test_c07_a_price_that_does_not_fit_is_refused() -> None:
    with pytest.raises(QuantityOverflow):
        replace(TABLE, rows=(replace(ANYWHERE, price_max_micro_per_kwh=INT64_MAX + 1),)).encode()


def test_c18_a_table_of_far_too_many_rows_costs_next_to_nothing() -> None:
    """Whoever cites one attachment of 1 MiB would hold up a notary for a second with each small request."""
    message = oracle_pb2.TariffTable(name="day", currency="EUR", valid_until_ns=1)
    message.rows.extend([oracle_pb2.TariffRow()] * 500_000)
    content = message.SerializeToString(deterministic=True)
    tracemalloc.start()
    try:
        with pytest.raises(ContractViolation, match="500000") as refused:
            TariffTable.decode(content)
        assert tracemalloc.get_traced_memory()[1] < 4 * len(content)
    finally:
        tracemalloc.stop()
    assert refused.value.code == TariffRule.COUNT.code


def test_c18_a_table_is_read_only_where_it_is_cited() -> None:
    trial = ledger.transaction().output(energy(1, party("alice"))).attachment(TABLE.encode())
    (cited,) = trial.attachments
    assert cited_tariff(trial.resolved(), cited) == TABLE
    with pytest.raises(TransactionRefused) as refused:
        cited_tariff(trial.resolved(), bytes(32))
    assert refused.value.code == "transaction.attachment_missing"
    with pytest.raises(TransactionRefused) as refused:
        cited_tariff(replace(trial, attachments={}).cite(cited).resolved(), cited)
    assert refused.value.code == "transaction.attachment_missing"
