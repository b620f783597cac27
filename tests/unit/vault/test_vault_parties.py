"""Whose vault keeps a state, what of it can be spent, and how flows find what they refer to."""

import struct
from dataclasses import replace

import pytest
from p2pet.ledger.v1 import energy_pb2, transaction_pb2
from wallet import ME, NOTARY, OTHER, PARAMETERS, SALT, Wallet, record

from p2petd.contracts import energy, meter, payment
from p2petd.contracts.contract import Contract
from p2petd.contracts.energy import EnergyState, EnergyTrade
from p2petd.contracts.meter import MeterEnd, MeterRegister, MeterRegistration
from p2petd.contracts.payment import PaymentIssue, PaymentState
from p2petd.contracts.registry import Registry, installed
from p2petd.ledger.refs import StateRef
from p2petd.ledger.resolved import OutputState
from p2petd.ledger.transaction import Draft, TransactionBuilder
from p2petd.store.changes import Changes, Latest, scan_prefix
from p2petd.store.tables import Table
from p2petd.units import MicroPerKwh, NanoMoney, TimeNs, WattHours
from p2petd.vault.known import allocations_of, known_refs, registrations_of
from p2petd.vault.parties import takes_part

THIRD = b"\x08" * 32
METER = "meter-1"
LOT = EnergyState("solar", WattHours(500), TimeNs(0), TimeNs(900), MicroPerKwh(1), OTHER, ME, METER, "z", b"\x09" * 32)


def registration(producer: bytes, registrar: bytes) -> MeterRegistration:
    return MeterRegistration(METER, producer, "z", 5_000, ("solar",), NOTARY, TimeNs(0), TimeNs(900), registrar)


def register(producer: bytes, registrar: bytes) -> Draft:
    builder = TransactionBuilder(NOTARY, PARAMETERS)
    builder.add_output(meter.NAME, meter.VERSION, registration(producer, registrar))
    return builder.add_command(meter.NAME, MeterRegister(), sorted({producer, registrar})).build(SALT)


def commit(wallet: Wallet, draft: Draft) -> None:
    changes = Changes()
    record(changes, wallet.store, draft)
    wallet.store.commit(changes.record())


def concerned(wallet: Wallet, draft: Draft) -> bool:
    return takes_part(draft.groups, ME, Latest(wallet.store, Changes()))


@pytest.mark.parametrize(("producer", "registrar"), [(ME, OTHER), (OTHER, ME)])
def test_c03_a_registration_is_kept_by_producer_and_registrar(
    wallet: Wallet, producer: bytes, registrar: bytes
) -> None:
    draft = register(producer, registrar)
    assert concerned(wallet, draft)
    commit(wallet, draft)
    assert list(known_refs(wallet.store, registrations_of(METER))) == [StateRef(draft.id, 0)]
    assert not list(known_refs(wallet.store, registrations_of("meter-2")))
    assert not list(scan_prefix(wallet.store, Table.SPENDABLE, b""))


def test_c03_a_registration_of_others_is_nobody_elses(wallet: Wallet) -> None:
    draft = register(OTHER, THIRD)
    assert not concerned(wallet, draft)
    commit(wallet, draft)
    assert not list(scan_prefix(wallet.store, Table.STATE, b""))


def test_c03_an_ended_registration_is_not_found_any_more_even_in_one_batch(wallet: Wallet) -> None:
    made, changes = register(ME, OTHER), Changes()
    builder = TransactionBuilder(NOTARY, PARAMETERS)
    builder.add_input(made.output_ref(0), made.outputs[0])
    ended = builder.add_command(meter.NAME, MeterEnd(), [OTHER]).build(SALT)
    record(changes, wallet.store, made)
    record(changes, wallet.store, ended)
    wallet.store.commit(changes.record())
    assert not list(known_refs(wallet.store, registrations_of(METER)))
    assert len(list(scan_prefix(wallet.store, Table.STATE, b""))) == 1


def test_l22_an_encumbered_state_is_kept_but_not_spendable(wallet: Wallet) -> None:
    builder = TransactionBuilder(NOTARY, PARAMETERS)
    money = PaymentState("EUR", NanoMoney(5), OTHER, ME)
    builder.add_output(payment.NAME, payment.VERSION, money, encumbered_by=2)
    builder.add_output(payment.NAME, payment.VERSION, replace(money, owner=OTHER), encumbered_by=1)
    builder.add_output(payment.NAME, payment.VERSION, replace(money, amount_nano=NanoMoney(7)))
    commit(wallet, builder.add_command(payment.NAME, PaymentIssue(b"\x07" * 32), [OTHER]).build(SALT))
    worth = [value for _, value in scan_prefix(wallet.store, Table.SPENDABLE, b"")]
    assert worth == [struct.pack(">Q32s", 7, NOTARY)]
    assert len(list(scan_prefix(wallet.store, Table.STATE, b""))) == 2


def energy_trade(observers: tuple[bytes, ...]) -> Draft:
    trade = EnergyTrade(
        OTHER, THIRD, WattHours(500), MicroPerKwh(0), NanoMoney(0), "EUR", b"", b"", None, None, observers
    )
    builder = TransactionBuilder(NOTARY, PARAMETERS)
    builder.add_output(energy.NAME, energy.VERSION, replace(LOT, owner=THIRD))
    return builder.add_command(energy.NAME, trade, sorted((OTHER, THIRD))).build(SALT)


def test_c17_a_named_observer_takes_part_and_keeps_no_state(wallet: Wallet) -> None:
    assert not concerned(wallet, energy_trade((b"\x0a" * 32,)))
    observed = energy_trade((ME,))
    assert concerned(wallet, observed)
    commit(wallet, observed)
    assert wallet.store.get(Table.TRANSACTION, observed.id) is not None
    assert not list(scan_prefix(wallet.store, Table.STATE, b""))


def test_c12_an_allocation_is_kept_by_who_holds_a_state_in_it(wallet: Wallet) -> None:
    builder = TransactionBuilder(NOTARY, PARAMETERS).add_output(energy.NAME, energy.VERSION, LOT)
    lot = builder.add_command(energy.NAME, energy.EnergyIssue(), [OTHER]).build(SALT)
    allocated = allocation(lot.output_ref(0))
    assert not concerned(wallet, allocated)
    commit(wallet, lot)
    assert concerned(wallet, allocated)
    commit(wallet, allocated)
    assert list(known_refs(wallet.store, allocations_of(METER, 0, 900))) == [allocated.output_ref(0)]


def allocation(state: StateRef) -> Draft:
    share = energy_pb2.AllocationShare(state=state.encode(), delivered_wh=400)
    payload = energy_pb2.EnergyAllocation(
        meter=METER, delivery_end_ns=900, metered_wh=400, reading_revision=1, market=OTHER, shares=[share]
    ).SerializeToString(deterministic=True)
    output = transaction_pb2.OutputState(
        contract=energy.NAME,
        contract_version=energy.VERSION,
        notary=NOTARY,
        type_name="EnergyAllocation",
        schema_version=1,
        payload=payload,
    ).SerializeToString(deterministic=True)
    builder = TransactionBuilder(NOTARY, PARAMETERS).add_output_component(output)
    return builder.add_command(energy.NAME, energy.EnergyAllocate(), [OTHER]).build(SALT)


def foreign_output() -> bytes:
    return transaction_pb2.OutputState(
        contract="sample", contract_version=1, notary=NOTARY, type_name="Deed", schema_version=1, payload=b"x"
    ).SerializeToString(deterministic=True)


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """A user's contract whose states this node owns, or takes part in, or which crashes."""
    parties = {"owner": b"", "other": b"", "crash": b""}

    def owner(state: OutputState) -> bytes:
        return parties["owner"] if not parties["crash"] else bytes([1 // 0])

    def others(state: OutputState) -> frozenset[bytes]:
        return frozenset({parties["other"]})

    sample = Contract(
        "sample", 1, lambda transaction: None, ("p2petd.contracts.rules",), owner=owner, participants=others
    )
    plus = Registry([*installed().contracts, sample])
    monkeypatch.setattr("p2petd.vault.parties.installed", lambda: plus)
    return parties


@pytest.mark.parametrize(("role", "kept"), [("owner", True), ("other", True), ("neither", False), ("crash", False)])
def test_states_of_users_contracts_are_kept_by_their_hooks(
    wallet: Wallet, foreign: dict[str, bytes], role: str, kept: bool
) -> None:
    foreign[role] = ME
    builder = TransactionBuilder(NOTARY, PARAMETERS).add_output_component(foreign_output())
    draft = builder.add_command(payment.NAME, PaymentIssue(b"\x07" * 32), [OTHER]).build(SALT)
    assert concerned(wallet, draft) is kept
    commit(wallet, draft)
    assert len(list(scan_prefix(wallet.store, Table.STATE, b""))) == int(kept)
    assert not list(scan_prefix(wallet.store, Table.SPENDABLE, b""))
