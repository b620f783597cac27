"""The rules of the meter contract: beside each, a transaction that keeps it and the smallest one that breaks it."""

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2petd.contracts.energy import issue_claims
from p2petd.contracts.identifiers import LOT_UNITS_MAX, METER_BYTES_MAX
from p2petd.contracts.meter import (
    METER,
    MeterEnd,
    MeterExtend,
    MeterReassign,
    MeterRegister,
    MeterRegistration,
    MeterRule,
    meter_claim,
)
from p2petd.contracts.registry import PlatformRule
from p2petd.contracts.testkit import (
    NOON_NS,
    NOTARY,
    OTHER_NOTARY,
    PRODUCER,
    UNIT_NS,
    Ledger,
    Party,
    Trial,
    Tried,
    ledger,
    party,
)
from p2petd.errors import QuantityOverflow
from p2petd.ledger.resolved import OutputState
from p2petd.units import HOUR_NS, INT64_MAX

REGISTRAR, SUCCESSOR, ALICE = party("registrar"), party("second registrar"), party("alice")
NETWORK = ledger.with_parameters(
    registrars=frozenset({REGISTRAR.key, SUCCESSOR.key}), notaries=(NOTARY.key, OTHER_NOTARY.key)
)
HANDED_OVER = NETWORK.with_parameters(registrars=frozenset({SUCCESSOR.key}))


def at(unit: int) -> int:
    """The start of a market time unit, counted from noon."""
    return NOON_NS + unit * UNIT_NS


WHOLE = MeterRegistration("meter-1", PRODUCER.key, "zone-1", 5_000, ("solar",), NOTARY.key, at(0), at(8), REGISTRAR.key)
EARLIER = replace(WHOLE, valid_until_ns=at(4), followed=True)
LATER = replace(WHOLE, valid_from_ns=at(4), issue_notary=OTHER_NOTARY.key)
BOTH = (REGISTRAR, PRODUCER)


def register(new: MeterRegistration = WHOLE, *signers: Party, on: Ledger = NETWORK) -> Trial:
    return on.transaction().output(new).command(MeterRegister, *(signers or BOTH)).claim(meter_claim(new.meter))


def registered(**changes: object) -> Trial:
    return register(replace(WHOLE, **changes))


def extend(before: MeterRegistration = WHOLE, *signers: Party, on: Ledger = NETWORK, **changes: object) -> Trial:
    after = replace(before, **{"valid_until_ns": at(9), **changes})
    return on.transaction().input(before).output(after).command(MeterExtend, *(signers or (REGISTRAR,)))


def reassign(
    earlier: MeterRegistration = EARLIER,
    later: MeterRegistration = LATER,
    *signers: Party,
    before: MeterRegistration = WHOLE,
    on: Ledger = NETWORK,
) -> Trial:
    trial = on.transaction().input(before).output(earlier, later).command(MeterReassign, *(signers or BOTH))
    return trial.claim(*issue_claims(before.meter, later.valid_from_ns, before.valid_until_ns, UNIT_NS))


def end(*signers: Party, on: Ledger = NETWORK) -> Trial:
    return on.transaction().input(WHOLE).command(MeterEnd, *(signers or (REGISTRAR,)))


def cut(unit: int, until: int = 8, before: MeterRegistration = WHOLE) -> Trial:
    """`before` cut at a unit; the later part ends at another one."""
    earlier = replace(before, valid_until_ns=at(unit), followed=True)
    later = replace(before, valid_from_ns=at(unit), valid_until_ns=at(until), issue_notary=OTHER_NOTARY.key)
    return reassign(earlier, later, before=before)


LONG = replace(WHOLE, valid_until_ns=at(LOT_UNITS_MAX + 2))
MOVED_AWAY = NETWORK.notary_change(replace(WHOLE, issue_notary=OTHER_NOTARY.key), to=OTHER_NOTARY)
FOREIGN_TYPE = register().draft().outputs[0].replace(b"MeterRegistration", b"MeterRegistratioN")
UNKNOWN_COMMAND = b"\x0a\x05meter\x12\x08MeterBuy\x18\x01"

R = MeterRule
CASES: Mapping[MeterRule, tuple[Tried, Tried]] = {
    R.STATE_TYPE_UNKNOWN: (register(), replace(register(), outputs=(FOREIGN_TYPE,))),
    R.COMMAND_COUNT: (register(), register().command(MeterRegister, *BOTH)),
    R.COMMAND_UNKNOWN: (register(), replace(register(), commands=((UNKNOWN_COMMAND, BOTH),))),
    R.NAME_INVALID: (registered(meter="m" * METER_BYTES_MAX), registered(meter="m" * (METER_BYTES_MAX + 1))),
    R.KEYS_INVALID: (register(), registered(producer=PRODUCER.key[:31])),
    R.CAPACITY: (registered(capacity_w=1), registered(capacity_w=0)),
    R.TYPES: (registered(energy_types=("solar", "wind")), registered(energy_types=("wind", "solar"))),
    R.PERIOD: (registered(valid_until_ns=at(1)), registered(valid_until_ns=at(0))),
    R.PERIOD_UNALIGNED: (register(), registered(valid_until_ns=at(8) + 1)),
    R.NOTARY_UNLISTED: (registered(issue_notary=OTHER_NOTARY.key), registered(issue_notary=ALICE.key)),
    R.REGISTRAR_UNLISTED: (register(), register(replace(WHOLE, registrar=ALICE.key), ALICE, PRODUCER)),
    R.REGISTRAR_UNSIGNED: (register(), register(WHOLE, SUCCESSOR, PRODUCER)),
    R.REGISTRAR_CHANGED: (
        extend(WHOLE, SUCCESSOR, on=HANDED_OVER, registrar=SUCCESSOR.key),
        extend(WHOLE, SUCCESSOR, REGISTRAR, registrar=SUCCESSOR.key),
    ),
    R.REGISTER_COUNTS: (register(), register().output(WHOLE)),
    R.REGISTER_NOTARY: (register(), register().notary(OTHER_NOTARY)),
    R.REGISTER_FOLLOWED: (register(), registered(followed=True)),
    R.REGISTER_UNSIGNED: (register(), register(WHOLE, REGISTRAR)),
    R.EXTEND_COUNTS: (extend(), extend().input(replace(WHOLE, meter="meter-2"))),
    R.EXTEND_CHANGED: (extend(), extend(capacity_w=5_001)),
    R.EXTEND_EARLIER: (extend(), extend(valid_until_ns=at(8))),
    R.EXTEND_FOLLOWED: (extend(), extend(EARLIER)),
    R.REASSIGN_COUNTS: (reassign(), replace(reassign(), outputs=(EARLIER,))),
    R.REASSIGN_CHANGED: (reassign(), reassign(later=replace(LATER, zone="zone-2"))),
    R.REASSIGN_PERIOD: (reassign(), reassign(earlier=replace(EARLIER, valid_until_ns=at(3)))),
    R.REASSIGN_FOLLOWED: (reassign(), reassign(earlier=replace(EARLIER, followed=False))),
    R.REASSIGN_TOO_LONG: (
        cut(2, LOT_UNITS_MAX + 2, LONG),
        replace(cut(1, LOT_UNITS_MAX + 2, LONG), claims=()),
    ),
    R.REASSIGN_NOTARY: (reassign(), reassign().notary(OTHER_NOTARY)),
    R.REASSIGN_UNSIGNED: (reassign(), reassign(EARLIER, LATER, REGISTRAR)),
    R.END_COUNTS: (end(), end().input(replace(WHOLE, meter="meter-2"))),
    R.MOVE: (MOVED_AWAY, NETWORK.notary_change(WHOLE, to=OTHER_NOTARY)),
}


def test_every_rule_has_a_case() -> None:
    assert set(CASES) == set(MeterRule)
    assert len({rule.code for rule in MeterRule}) == len(MeterRule)


@pytest.mark.parametrize("rule", CASES, ids=lambda rule: rule.code)
def test_rule(rule: MeterRule) -> None:
    keeping, breaking = CASES[rule]
    keeping.verifies()
    assert rule.sentence in str(breaking.fails_with(rule.code))


def test_c02_a_registration_moves_only_to_the_notary_that_takes_its_issues() -> None:
    CASES[R.MOVE][1].fails_with("meter.move.other_notary")
    MOVED_AWAY.verifies()
    MOVED_AWAY.signed_by(REGISTRAR).fails_with(PlatformRule.MOVE_UNSIGNED.code)


def test_c02_a_name_is_registered_once() -> None:
    assert meter_claim("meter-1") == sha256(b"meter\x00\x07meter-1").digest()
    register().verifies()
    replace(register(), claims=()).fails_with(PlatformRule.CLAIM_MISSING.code)
    register().claim(bytes(32)).fails_with(PlatformRule.CLAIM_NOT_DEMANDED.code)
    assert register(replace(WHOLE, producer=ALICE.key), REGISTRAR, ALICE).claims == register().claims
    for kept in (extend(), end()):
        kept.verifies()
        kept.claim(meter_claim("meter-1")).fails_with(PlatformRule.CLAIM_NOT_DEMANDED.code)


def test_c02_a_reassignment_claims_every_unit_that_leaves() -> None:
    reassign().verifies()
    assert reassign().claims == tuple(issue_claims("meter-1", at(4), at(8), UNIT_NS))
    replace(reassign(), claims=reassign().claims[1:]).fails_with(PlatformRule.CLAIM_MISSING.code)
    replace(reassign(), claims=()).fails_with(PlatformRule.CLAIM_MISSING.code)
    reassign().claim(*issue_claims("meter-1", at(3), at(4), UNIT_NS)).fails_with(PlatformRule.CLAIM_NOT_DEMANDED.code)


def test_c02_a_reassignment_is_of_later_units_only() -> None:
    cut(1).verifies()
    cut(8, 12).verifies()
    assert not cut(8, 12).claims, "no unit leaves when the later registration only begins where this one ends"
    cut(0).fails_with("meter.state.period_empty")
    cut(8).fails_with("meter.state.period_empty")
    cut(9, 12).fails_with("meter.reassign.period_wrong")
    cut(4, 7).fails_with("meter.reassign.period_wrong")


def test_c02_registrations_of_one_meter_never_overlap() -> None:
    cut(4, 12).verifies()
    cut(2, 4, EARLIER).verifies()
    cut(2, 5, EARLIER).fails_with("meter.reassign.followed")
    reassign(later=replace(LATER, followed=True)).fails_with("meter.reassign.followed")
    extend(EARLIER).fails_with("meter.extend.followed")


@given(st.data())
def test_c02_each_unit_has_one_notary_whatever_registrars_do(data: st.DataObject) -> None:
    pieces, notaries = [WHOLE], st.sampled_from([NOTARY.key, OTHER_NOTARY.key])
    ends, flags = st.integers(-1, 12).map(at), st.booleans()
    for _ in range(data.draw(st.integers(1, 6))):
        before = data.draw(st.sampled_from(pieces))
        if data.draw(st.booleans()):
            after = [replace(before, valid_until_ns=data.draw(ends))]
            trial = NETWORK.transaction().input(before).output(*after).command(MeterExtend, REGISTRAR)
        else:
            at_ns, until_ns, notary = data.draw(ends), data.draw(ends), data.draw(notaries)
            after = [
                replace(before, valid_until_ns=at_ns, followed=data.draw(flags)),
                replace(
                    before,
                    valid_from_ns=at_ns,
                    valid_until_ns=until_ns,
                    followed=data.draw(flags),
                    issue_notary=notary,
                ),
            ]
            trial = reassign(*after, before=before)
        here = NOTARY if before.issue_notary == NOTARY.key else OTHER_NOTARY
        if trial.notary(here).refusal() is None:
            pieces.remove(before)
            pieces.extend(after)
        pieces.sort(key=lambda piece: piece.valid_from_ns)
        for left, right in pairwise(pieces):
            assert left.valid_until_ns <= right.valid_from_ns
            assert left.followed
        assert not pieces[-1].followed


def test_c03_only_a_listed_registrar_registers() -> None:
    ledger_without = NETWORK.with_parameters(registrars=frozenset())
    register(on=ledger_without).fails_with("meter.registrar.not_listed")
    registered(energy_types=()).fails_with("meter.state.types_invalid")
    registered(energy_types=("coal",)).fails_with("meter.state.types_invalid")
    registered(energy_types=("solar", "solar")).fails_with("meter.state.types_invalid")


def test_a_registrar_that_left_the_network_is_replaced() -> None:
    end().verifies()
    end(SUCCESSOR).fails_with("meter.registrar.must_sign")
    end(SUCCESSOR, on=HANDED_OVER).verifies()
    end(ALICE, on=HANDED_OVER).fails_with("meter.registrar.must_sign")
    extend(WHOLE, REGISTRAR, on=HANDED_OVER).fails_with("meter.registrar.not_listed")
    taken_over = (replace(EARLIER, registrar=SUCCESSOR.key), replace(LATER, registrar=SUCCESSOR.key))
    reassign(*taken_over, SUCCESSOR, PRODUCER, on=HANDED_OVER).verifies()


def test_a_meter_keeps_what_the_network_permits_no_more() -> None:
    without_solar = NETWORK.with_parameters(energy_types=frozenset({"wind"}))
    extend(on=without_solar).verifies()
    register(on=without_solar).fails_with("meter.state.types_invalid")


def test_c07_capacities_and_periods_at_the_ends_of_64_bits() -> None:
    strong = replace(WHOLE, capacity_w=INT64_MAX)
    register(strong).verifies()
    assert strong.capacity_wh(0, HOUR_NS) == INT64_MAX
    assert strong.capacity_wh(0, 2 * HOUR_NS) == 2 * INT64_MAX
    assert replace(WHOLE, capacity_w=3).capacity_wh(0, HOUR_NS // 2) == 1
    with pytest.raises(QuantityOverflow):
        replace(WHOLE, capacity_w=INT64_MAX + 1).to_payload()


def test_c08_states_without_a_command_and_malformed_payloads() -> None:
    replace(register(), commands=()).fails_with("meter.command.count")
    replace(register(), outputs=(register().draft().outputs[0].replace(b"zone-1", b"zone-\xff"),)).fails_with(
        "transaction.malformed"
    )
    payload = b"\x0a\x05meter\x12\x08MeterEnd\x18\x01\x22\x01x"
    replace(end(), commands=((payload, (REGISTRAR,)),)).fails_with("meter.command.unknown")
    replace(end(), commands=((b"\x0a\x05meter\x12\x08MeterEnd\x18\x02", (REGISTRAR,)),)).fails_with(
        "meter.command.unknown"
    )
    end().command(MeterExtend, REGISTRAR).fails_with("meter.command.count")


def test_who_keeps_a_registration() -> None:
    output = OutputState.decode(register().draft().outputs[0])
    assert METER.owner(output) == PRODUCER.key
    assert METER.participants(output) == {PRODUCER.key, REGISTRAR.key}


def test_a_registration_survives_its_bytes() -> None:
    for registration in (WHOLE, EARLIER, LATER):
        assert MeterRegistration.from_payload(registration.to_payload()) == registration
    assert LATER.covers(at(4), at(8))
    assert not LATER.covers(at(3), at(5))
    assert not LATER.covers(at(7), at(9))
