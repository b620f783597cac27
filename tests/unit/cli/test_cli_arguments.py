import pytest
from google.protobuf.message import Message
from p2pet.cli.arguments import build, message_type, parse
from p2pet.cli.parties import Parties, common_name
from p2pet.cli.session import UsageError
from p2pet.flows.v1 import arguments_pb2, flows_pb2
from p2pet.network.v1 import network_pb2

NOON_NS = 1_782_907_200 * 10**9
ALICE, BOB, OTHER = b"\x0a" * 32, b"\x0b" * 32, b"\x0c" * 32
SERVICE = b"\x0d" * 32
PARTIES = Parties(
    {"CN=alice,O=x": ALICE, "CN=bob,O=x": BOB, "CN=twin,O=x": ALICE, "CN=twin,O=y": OTHER},
    {"CN=notary,O=x": SERVICE},
)


def built(kind: type[Message], *pairs: str, json_text: str = "") -> Message:
    return build(kind, parse(kind, pairs), PARTIES, json_text)


def test_energy_request_in_human_units() -> None:
    message = built(
        arguments_pb2.EnergyRequestArguments,
        "energy_type=solar",
        "quantity=1.5kWh",
        "delivery=2026-07-01T12:00Z/PT1H",
        "asked_price=0.25/kWh",
        "meter=m=1",
    )
    assert message == arguments_pb2.EnergyRequestArguments(
        energy_type="solar",
        quantity_wh=1500,
        delivery_start_ns=NOON_NS,
        delivery_end_ns=NOON_NS + 3600 * 10**9,
        asked_price_micro_per_kwh=250_000,
        meter="m=1",
    )


def test_energy_trade_with_nested_fields_and_a_party_by_name() -> None:
    message = built(
        arguments_pb2.EnergyTradeArguments,
        "seller=bob",
        "energy.energy_type=solar",
        "energy.delivery=2026-07-01T12:00Z/PT1H",
        "quantity_wh=300",
        "price=0.25",
        "currency=EUR",
    )
    assert isinstance(message, arguments_pb2.EnergyTradeArguments)
    assert message.seller == BOB
    assert message.energy.energy_type == "solar"
    assert (message.energy.delivery_start_ns, message.quantity_wh, message.price_micro_per_kwh) == (
        NOON_NS,
        300,
        250_000,
    )


def test_amounts_and_keys() -> None:
    message = built(arguments_pb2.PaymentPayArguments, "amount=3.50", f"recipient={OTHER.hex()}", "currency=EUR")
    assert message == arguments_pb2.PaymentPayArguments(amount_nano=3_500_000_000, recipient=OTHER, currency="EUR")


def test_json_first_then_the_pairs() -> None:
    kind = arguments_pb2.EnergyTransferArguments
    text = '{"energy": {"energyType": "wind"}, "quantityWh": "5"}'
    message = built(kind, "quantity=1kWh", json_text=text)
    assert message == kind(energy=arguments_pb2.EnergySelection(energy_type="wind"), quantity_wh=1000)


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        (("quantity",), "'quantity' is not key=value"),
        (("=1",), "is not key=value"),
        (("colour=red",), "EnergyTradeArguments has no colour; it has seller, energy,"),
        (("energy.colour=red",), "EnergySelection has no colour"),
        (("seller.x=1",), "has no seller"),
        (("energy=solar",), "energy is not a single value"),
        (("quantity=1kWh", "quantity_wh=1000"), "quantity_wh is set twice"),
        (("energy.delivery=2026-07-01T12:00Z/PT1H", "energy.delivery_end_ns=1"), "delivery_end_ns is set twice"),
        (("quantity=1.5",), "not an amount of energy"),
        (("quantity_wh=1.5",), "is a whole number"),
        (("quantity_wh=1_000",), "is a whole number"),
        (("quantity_wh=",), "is a whole number"),
        (("quantity_wh=99999999999999999999",), "does not fit"),
        (("seller=nobody",), "no party is called 'nobody'"),
        (("seller=twin",), "several parties are called 'twin'"),
    ],
)
def test_mistakes_are_named(pairs: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        built(arguments_pb2.EnergyTradeArguments, *pairs)
    assert sentence in str(caught.value)


def test_json_mistakes_are_named() -> None:
    with pytest.raises(UsageError, match="the JSON is not a p2pet"):
        built(arguments_pb2.PaymentPayArguments, json_text='{"colour": 1}')


def test_booleans_and_enums_of_other_flows() -> None:
    expected = network_pb2.NetworkParameters(negative_prices=True)
    assert built(network_pb2.NetworkParameters, "negative_prices=true") == expected
    with pytest.raises(UsageError, match="true or false"):
        built(network_pb2.NetworkParameters, "negative_prices=1")
    outcome = built(flows_pb2.FlowOutcome, "status=FLOW_STATUS_FAILED")
    assert outcome == flows_pb2.FlowOutcome(status=flows_pb2.FLOW_STATUS_FAILED)
    with pytest.raises(UsageError, match="not a single value"):
        built(network_pb2.NetworkParameters, "notaries=solar")


def test_meter_register_with_power_types_and_a_notary_by_name() -> None:
    message = built(
        arguments_pb2.MeterRegisterArguments,
        "meter=m-1",
        "producer=bob",
        "capacity=4.5kW",
        "energy_types=solar,wind",
        "issue_notary=notary",
    )
    assert message == arguments_pb2.MeterRegisterArguments(
        meter="m-1", producer=BOB, capacity_w=4500, energy_types=["solar", "wind"], issue_notary=SERVICE
    )
    with pytest.raises(UsageError, match="no notary is called 'bob'"):
        built(arguments_pb2.MeterRegisterArguments, "issue_notary=bob")


def test_repeated_quantities_and_state_references() -> None:
    split = built(arguments_pb2.EnergySplitArguments, "parts=1kWh,0.5kWh")
    assert split == arguments_pb2.EnergySplitArguments(parts_wh=[1000, 500])
    first, second = b"\x01" * 32 + b"\0\0\0\x02", b"\x02" * 32 + b"\0\0\0\0"
    moved = built(arguments_pb2.NotaryChangeArguments, f"states={first[:32].hex()}:2,{second.hex()}")
    assert moved == arguments_pb2.NotaryChangeArguments(states=[first, second])


def test_message_types() -> None:
    assert message_type("p2pet.flows.v1.EnergyTradeArguments") is arguments_pb2.EnergyTradeArguments
    with pytest.raises(UsageError, match="does not know"):
        message_type("example.Unknown")


def test_names_of_parties() -> None:
    assert common_name("O=x,CN=Alice\\, Ltd,C=DE") == "Alice, Ltd"
    assert common_name("O=x") == "O=x"
    assert PARTIES.find("CN=twin,O=y") == OTHER
    assert PARTIES.name(BOB) == "bob"
    assert PARTIES.name(b"\x01" * 32) == "01" * 8
