from fractions import Fraction

import pytest
from p2pet.cli.parties import Parties
from p2pet.cli.session import UsageError
from p2pet.cli.states import describe_state, plain_output, power_w
from p2pet.cli.units import format_power, mean_power_w, parse_power
from p2pet.ledger.v1 import energy_pb2, meter_pb2, transaction_pb2

NOON_NS, HOUR_NS = 1_782_907_200 * 10**9, 3600 * 10**9
ALICE, MARKET = b"\x0a" * 32, b"\x0c" * 32
PARTIES = Parties({"CN=alice,O=x": ALICE, "CN=market,O=x": MARKET})
PERIOD = {"delivery_start_ns": NOON_NS, "delivery_end_ns": NOON_NS + HOUR_NS // 4}


def output(contract: str, type_name: str, payload: bytes) -> transaction_pb2.OutputState:
    return transaction_pb2.OutputState(contract=contract, type_name=type_name, payload=payload)


def energy(quantity_wh: int) -> transaction_pb2.OutputState:
    state = energy_pb2.EnergyState(energy_type="solar", quantity_wh=quantity_wh, owner=ALICE, **PERIOD)
    return output("energy", "EnergyState", state.SerializeToString())


@pytest.mark.parametrize(("text", "watts"), [("4.5kW", 4500), ("300W", 300), ("300 W", 300), ("2MW", 2_000_000)])
def test_powers(text: str, watts: int) -> None:
    assert parse_power(text) == watts


@pytest.mark.parametrize("text", ["", "4.5", "kW", "4,5kW", "0.0001kW", "4.5kWh", "1 kw"])
def test_powers_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        parse_power(text)


def test_c01_energy_as_power_is_exact_and_shown_to_the_milliwatt() -> None:
    assert mean_power_w(500, NOON_NS, NOON_NS + HOUR_NS // 4) == 2000
    assert format_power(2000) == "2 kW"
    assert format_power(Fraction(1000, 3)) == "0.333333 kW"
    assert format_power(Fraction(-1000, 3)) == "-0.333333 kW"


def test_c01_energy_is_shown_in_kwh_and_in_kw() -> None:
    lot = energy(500)
    assert describe_state(lot, PARTIES)[0].startswith("0.5 kWh solar, 2026-07-01T12:00:00Z to 12:15:00Z")
    assert describe_state(lot, PARTIES, "kw") == (
        "2 kW solar, 2026-07-01T12:00:00Z to 12:15:00Z, 0.00 /kWh",
        "alice",
    )
    shown = plain_output(lot.SerializeToString())
    assert shown is not None
    assert shown["power_w"] == 2000
    third = plain_output(energy_without_a_whole_power().SerializeToString())
    assert third is not None
    assert third["power_w"] == "4000/3"


def energy_without_a_whole_power() -> transaction_pb2.OutputState:
    state = energy_pb2.EnergyState(
        quantity_wh=1, delivery_start_ns=NOON_NS, delivery_end_ns=NOON_NS + HOUR_NS * 3 // 4000
    )
    return output("energy", "EnergyState", state.SerializeToString())


def test_c12_a_delivery_says_what_was_delivered_of_what() -> None:
    state = energy_pb2.EnergyDelivery(
        energy_type="solar",
        contracted_wh=500,
        delivered_wh=600,
        imbalance_wh=100,
        imbalance_nano=6_000_000,
        currency="EUR",
        owner=ALICE,
        **PERIOD,
    )
    what, owner = describe_state(output("energy", "EnergyDelivery", state.SerializeToString()), PARTIES)
    assert "0.6 kWh solar delivered of 0.5 kWh" in what
    assert "imbalance +0.1 kWh = 0.006 EUR" in what
    assert owner == "alice"


def test_c03_c12_registrations_allocations_and_unknown_states_are_readable() -> None:
    registration = meter_pb2.MeterRegistration(
        meter="m-1", producer=ALICE, zone="z", capacity_w=4500, energy_types=["solar", "wind"], valid_until_ns=HOUR_NS
    )
    what, owner = describe_state(output("meter", "MeterRegistration", registration.SerializeToString()), PARTIES)
    assert (what, owner) == ("meter m-1 in z, 4.5 kW solar, wind, - to 1970-01-01T01:00:00Z", "alice")
    allocation = energy_pb2.EnergyAllocation(meter="m-1", metered_wh=700, market=MARKET, **PERIOD)
    what, owner = describe_state(output("energy", "EnergyAllocation", allocation.SerializeToString()), PARTIES)
    assert what.startswith("0.7 kWh of meter m-1")
    assert owner == "market"
    assert describe_state(output("other", "Thing", b"\xff\xff"), PARTIES) == ("other Thing, 2 bytes", "-")


def test_states_without_energy_or_with_an_empty_period_have_no_power() -> None:
    assert power_w(output("other", "Thing", b"")) is None
    assert power_w(output("energy", "EnergyState", energy_pb2.EnergyState(quantity_wh=1).SerializeToString())) is None
