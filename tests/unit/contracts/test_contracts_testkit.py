"""The kit that tries transactions: what it builds, what it says when a test fails."""

from dataclasses import replace

import pytest

from p2petd.contracts.contract import Contract
from p2petd.contracts.energy import EnergyIssue, EnergyMerge, EnergyRetire, EnergySplit, EnergyTransfer
from p2petd.contracts.payment import PaymentPay
from p2petd.contracts.rules import Rule, violated
from p2petd.contracts.testkit import (
    BANK,
    METERING,
    NOON_NS,
    NOTARY,
    OTHER_NOTARY,
    PRODUCER,
    TARIFFS,
    UNIT_NS,
    Ledger,
    attest,
    composite,
    energy,
    forecast,
    ledger,
    metered,
    money,
    notice,
    party,
    raw_command,
    raw_state,
    reading,
    registration,
    tariff,
)
from p2petd.errors import TransactionRefused
from p2petd.ledger.resolved import LedgerTransaction
from p2petd.units import NO_UPPER_BOUND

ALICE, BOB, CAROL = party("alice"), party("bob"), party("carol")
SPLIT = ledger.transaction().input(energy(3, ALICE)).output(energy(1, ALICE), energy(2, ALICE))
SPLIT = SPLIT.command(EnergySplit, ALICE)


class MoodyRule(Rule):
    MOODY = ("moody.moody", "It says the same every time.")


def said_by(trial, code: str) -> str:
    with pytest.raises(AssertionError) as failure:
        trial.fails_with(code)
    return str(failure.value)


def test_a_failure_tells_the_transaction() -> None:
    said = said_by(SPLIT, "energy.split.counts")
    assert said.splitlines() == [
        "expected energy.split.counts, but the transaction verifies",
        "  in EnergyState(quantity_wh=3, owner=alice)",
        "  out EnergyState(quantity_wh=1, owner=alice)",
        "  out EnergyState(quantity_wh=2, owner=alice)",
        "  command EnergySplit signed by alice",
    ]
    assert "is refused with energy.split.owner_must_sign" in said_by(
        replace(SPLIT, commands=((EnergySplit, ()),)), "energy.split.counts"
    )


def test_a_failure_tells_what_is_unusual() -> None:
    trial = ledger.with_parameters(self_trades=True).transaction().notary(OTHER_NOTARY)
    trial = trial.input(energy(3, ALICE, zone="north", start_ns=NOON_NS - UNIT_NS)).output(b"\xff")
    trial = trial.window(NOON_NS + 1, NOON_NS + 8 * UNIT_NS).cite(bytes(32)).claim(b"c" * 32)
    trial = trial.command(raw_command("energy", "Strange"), ALICE, BOB).reference(raw_state("energy", "Odd", b"12"))
    said = trial.parts()
    assert any("zone='north'" in part and "delivery_start_ns=noon - 1 quarter," in part for part in said)
    assert "out 1 bytes that do not decode" in said
    assert "reference energy.Odd version 1, 2 bytes" in said
    assert "command energy.Strange version 1, 0 bytes signed by alice and bob" in said
    assert "window from noon + 1 ns until noon + 8 quarters" in said
    assert "notary other notary" in said
    assert "network self_trades=True" in said
    assert len([part for part in said if part.startswith(("claim", "attachment"))]) == 2


def test_a_long_list_is_cut() -> None:
    said = ledger.transaction().input(*(energy(n, ALICE) for n in range(1, 100))).parts()
    assert len(said) == 7
    assert said[-1] == "in … and 93 more"


def test_verifies_says_why_not() -> None:
    with pytest.raises(AssertionError, match=r"refused with energy\.split\.owner_must_sign"):
        replace(SPLIT, commands=((EnergySplit, (BOB,)),)).verifies()


def test_a_contract_that_answers_differently_is_caught() -> None:
    seen: list[str] = []

    def moody(transaction: LedgerTransaction) -> None:
        seen.append("once more")
        violated(MoodyRule.MOODY, f"{len(seen)} of them")

    contract = Contract("moody", 1, moody, ("p2petd.contracts.rules",), (MoodyRule,))
    trial = Ledger.of(contract).transaction().output(raw_state("moody", "Mood"))
    with pytest.raises(AssertionError, match="not a pure function"):
        trial.fails_with("moody.moody")


def test_every_step_gives_a_new_trial() -> None:
    base = ledger.transaction()
    base.input(energy(1, ALICE)).output(energy(1, BOB)).claim(bytes(32)).window(1, 2).attachment(b"a").notary(BANK)
    assert base == ledger.transaction()


def test_a_command_class_stands_for_what_the_transaction_implies() -> None:
    trial = ledger.transaction().input(energy(10, ALICE)).output(energy(7, BOB), energy(3, ALICE))
    resolved = trial.command(EnergyTransfer, ALICE, BOB).verifies()
    explicit = trial.command(EnergyTransfer(ALICE.key, BOB.key, 7), ALICE, BOB).verifies()
    assert resolved.commands == explicit.commands


def test_the_window_the_notary_and_attachments_are_the_transactions() -> None:
    resolved = SPLIT.window(until_ns=9).notary(OTHER_NOTARY).attachment(b"one", b"two").cite(bytes(32)).verifies()
    assert resolved.window is not None
    assert resolved.window.until_ns == 9 < NO_UPPER_BOUND
    assert resolved.notary == OTHER_NOTARY.key == resolved.outputs[0].notary
    assert resolved.inputs[0][1].notary == OTHER_NOTARY.key
    assert [resolved.attachment(cited) for cited in resolved.attachments[:2]] == [b"one", b"two"]
    for absent in (bytes(32), b"x" * 32):
        with pytest.raises(TransactionRefused) as refused:
            resolved.attachment(absent)
        assert refused.value.code == "transaction.attachment_missing"


def test_c02_claims_are_those_that_contracts_demand() -> None:
    issue = ledger.transaction().output(energy(10_000, PRODUCER, units=3)).command(EnergyIssue, PRODUCER)
    assert len(issue.claim_all().verifies().claims) == 3
    assert issue.claim(bytes(32)).claim_all().claims == issue.claim_all().claims


def test_l13_a_composite_key_owns_and_signs() -> None:
    household = composite(2, ALICE, BOB, CAROL)
    ours = energy(3, household)
    merged = ledger.transaction().input(ours, ours).output(energy(6, household))
    merged.command(EnergyMerge, household).verifies()
    merged.command(EnergyMerge, ALICE, BOB).fails_with("energy.merge.owner_must_sign")
    assert "owner=(2 of alice + bob + carol)" in merged.in_words()


def test_l13_a_composite_key_has_weights_and_nests() -> None:
    heavy = composite(3, (2, ALICE), BOB, composite(1, CAROL, BANK))
    assert len(heavy.key) == 32
    assert heavy.key != heavy.signs_as
    ledger.transaction().input(money(1, heavy)).output(money(1, BOB)).command(PaymentPay, heavy).verifies()
    assert composite(3, (2, ALICE), BOB, composite(1, CAROL, BANK)) == heavy


def test_n13_a_composite_owner_moves_its_states() -> None:
    household = composite(2, ALICE, BOB)
    change = ledger.notary_change(energy(3, household), money(1, CAROL), to=OTHER_NOTARY)
    assert change.verifies().moved_by == {household.key, CAROL.key}
    change.signed_by(ALICE, BOB, CAROL).fails_with("contract.move_unsigned")


def test_n13_a_notary_change_in_words() -> None:
    change = ledger.notary_change(energy(3, ALICE), to=OTHER_NOTARY).signed_by(BOB).output(0, energy(4, ALICE))
    assert change.parts() == [
        "move EnergyState(quantity_wh=3, owner=alice)",
        "to other notary",
        "out 0 EnergyState(quantity_wh=4, owner=alice)",
        "signed by bob",
    ]


def test_c03_where_meters_are_registered_an_issue_refers_to_the_registration() -> None:
    issue = metered.transaction().output(energy(1, PRODUCER, lot_wh=1)).command(EnergyIssue, PRODUCER)
    issue.reference(registration()).claim_all().verifies()
    issue.fails_with("energy.issue.meter_not_registered")


def test_the_kits_facts_are_well_formed() -> None:
    table = tariff()
    facts = attest(METERING, reading(5), forecast(6)), attest(TARIFFS, notice(table))
    split = SPLIT.attachment(table.encode())
    split.command(facts[0], METERING).command(facts[1], TARIFFS).verifies()
    split.command(attest(TARIFFS, reading(5)), TARIFFS).fails_with("oracle.attestation.fact_not_permitted")


def test_raw_components_are_what_objects_make() -> None:
    lot = energy(3, ALICE)
    assert raw_state("energy", "EnergyState", lot.to_payload()) == ledger.component(lot, NOTARY.key)
    used = ledger.transaction().input(raw_state("energy", "EnergyState", lot.to_payload()))
    used.command(raw_command("energy", "EnergyRetire"), ALICE).verifies()
    assert (
        used.command(EnergyRetire, ALICE).draft().groups[3]
        == used.command(raw_command("energy", "EnergyRetire"), ALICE).draft().groups[3]
    )
