"""Each command against a served node: what people see, what programs get, how it ends."""

import json
from pathlib import Path

import pytest
from cli_runner import Ended, Run
from fake_node import ALICE, BOB, FLOW_ID, FLOWS, NOON_NS, TRANSACTION_ID, Served
from p2pet.flows.v1 import arguments_pb2, flows_pb2

from p2petd.config import check_config
from p2petd.contracts.registry import installed
from p2petd.identity.certificates import load_root
from p2petd.network.network_map import NetworkMap


@pytest.fixture
def home(network: Path, served: Served, cli: Run) -> Run:
    """The CLI with home-1 as its node."""
    served.flows.outcome = flows_pb2.FlowOutcome(status=flows_pb2.FLOW_STATUS_COMPLETED, transaction_id=TRANSACTION_ID)
    return lambda *words: cli("--node", str(network / "home-1"), *words)


def answer(ended: Ended) -> object:
    assert (ended.code, ended.err) == (0, "")
    return json.loads(ended.out)


def test_node_info_and_peers(home: Run) -> None:
    assert "CN=alice,O=x" in home("node", "info").out
    info = answer(home("node", "info", "--json"))
    assert isinstance(info, dict)
    assert (info["identity"], info["log_sequence"], info["roles"]) == (ALICE.hex(), 0, ["party"])
    assert "bob" in home("node", "peers").out
    assert answer(home("node", "peers", "--json")) == {
        "peers": [
            {
                "name": "CN=bob,O=x",
                "identity": BOB.hex(),
                "addresses": ["127.0.0.1:1"],
                "roles": ["party"],
                "connected": False,
                "outbox": 0,
                "notary_service_key": "",
            }
        ]
    }


def test_node_stats_and_health(home: Run) -> None:
    assert answer(home("node", "stats", "--json")) == {"appends": 3, "flows": 7}
    assert answer(home("node", "health", "--json")) == {"serving": True}


def test_the_node_comes_from_the_environment(
    network: Path, served: Served, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P2PET_NODE", str(network / "home-1" / "node.toml"))
    assert cli("node", "info").code == 0


def test_flow_start_sends_the_arguments(home: Run, served: Served) -> None:
    words = ("recipient=bob", "amount=3.50", "currency=EUR")
    ended = home("flow", "start", "payment.pay", *words, "--client-id", "mine", "--json")
    result = answer(ended)
    assert isinstance(result, dict)
    assert result["flow_id"] == FLOW_ID.hex()
    assert result["outcome"]["status"] == "completed"
    assert result["outcome"]["transaction_id"] == TRANSACTION_ID.hex()
    start = served.flows.started[-1]
    assert (start.flow, start.client_id, start.version) == ("payment.pay", "mine", 0)
    sent = arguments_pb2.PaymentPayArguments.FromString(start.arguments)
    assert sent == arguments_pb2.PaymentPayArguments(currency="EUR", amount_nano=3_500_000_000, recipient=BOB)


def test_flow_start_without_waiting_and_watching(home: Run) -> None:
    result = answer(home("flow", "start", "payment.pay", "--no-wait", "--json"))
    assert isinstance(result, dict)
    assert result["outcome"]["status"] == "running"
    ended = home("flow", "start", "payment.pay", "--watch", "--json")
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert [line.get("name") for line in lines] == ["building", "notarising", None]
    assert lines[-1]["outcome"]["status"] == "completed"


def test_a_failed_flow_ends_with_1(home: Run, served: Served) -> None:
    served.flows.outcome = flows_pb2.FlowOutcome(
        status=flows_pb2.FLOW_STATUS_FAILED, error_code="vault.insufficient", error_message="3 Wh lack"
    )
    ended = home("flow", "start", "payment.pay")
    assert ended.code == 1
    assert "vault.insufficient: 3 Wh lack" in ended.out
    assert home("flow", "watch", FLOW_ID.hex()).code == 1


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("flow", "start", "no.flow"), 1, "the node has no flow no.flow"),
        (("flow", "start", "payment.pay", "amount=lots"), 2, "not an amount of money"),
        (("flow", "start", "payment.pay", "recipient=nobody"), 2, "no party is called"),
        (("flow", "start", "other.flow"), 2, "does not know example.Unknown"),
        (("flow", "watch", "xyz"), 2, "is not a flow id"),
        (("flow", "watch", "09" * 16), 1, "no flow with this id is known"),
        (("flow", "show"), 2, "either a flow id or --client-id"),
        (("flow", "list", "--status", "odd"), 2, "--status is running"),
        (("vault", "list", "--status", "odd"), 2, "--status is unconsumed"),
        (("tx", "show", "00"), 2, "is not a transaction id"),
    ],
)
def test_mistakes_are_one_sentence(home: Run, served: Served, words: tuple[str, ...], code: int, sentence: str) -> None:
    started = len(served.flows.started)
    ended = home(*words)
    assert ended.code == code
    assert sentence in ended.err
    assert len(ended.err.splitlines()) == 1
    as_json = home(*words, "--json")
    assert as_json.code == code
    assert sentence in json.loads(as_json.out)["error"]["message"]
    assert len(served.flows.started) == started


def test_flow_show_watch_and_types(home: Run) -> None:
    assert "responder to bob" in home("flow", "show", FLOW_ID.hex()).out
    shown = answer(home("flow", "show", "--client-id", "mine", "--json"))
    assert isinstance(shown, dict)
    assert shown["steps"] == [
        {"step": 1, "name": "building", "at_ns": NOON_NS, "depth": 0},
        {"step": 2, "name": "notarising", "at_ns": NOON_NS, "depth": 1},
    ]
    assert "2026-07-01T12:00:00Z    1  building" in home("flow", "watch", FLOW_ID.hex()).out
    assert "p2pet.flows.v1.PaymentPayArguments" in home("flow", "types").out


def test_flow_list_never_truncates_silently(home: Run) -> None:
    everything = answer(home("flow", "list", "--json"))
    assert isinstance(everything, dict)
    assert len(everything["flows"]) == FLOWS
    assert everything["more"] is False
    part = answer(home("flow", "list", "--json", "--limit", "12"))
    assert isinstance(part, dict)
    assert (len(part["flows"]), part["more"]) == (12, True)
    assert "There are more than these 12" in home("flow", "list", "--limit", "12").out


def test_f06_parked_flows_are_listed_with_their_cause(home: Run, served: Served) -> None:
    served.flows.outcome = flows_pb2.FlowOutcome(
        status=flows_pb2.FLOW_STATUS_PARKED, error_code="flow.code_changed", error_message="Step 3 was another one."
    )
    shown = home("flow", "parked", "--limit", "2")
    assert shown.code == 0
    assert "flow.code_changed: Step 3 was another one." in shown.out
    assert "There are more than these 2" in shown.out
    listed = answer(home("flow", "parked", "--json"))
    assert isinstance(listed, dict)
    assert (len(listed["flows"]), listed["flows"][0]["outcome"]["status"]) == (FLOWS, "parked")


def test_f06_f07_flows_are_retried_dropped_killed_and_removed(home: Run, served: Served) -> None:
    flow_id = FLOW_ID.hex()
    assert "runs again" in home("flow", "retry", flow_id).out
    assert "forgotten" in home("flow", "remove", flow_id).out
    assert home("flow", "drop", flow_id).out.strip() == f"the flow {flow_id} is ended"
    killed = home("flow", "kill", flow_id).out
    assert f"signed the transaction {TRANSACTION_ID.hex()}, which may still become final" in killed
    assert [name for name, _ in served.flows.operated] == ["retry", "remove", "drop", "kill"]
    assert answer(home("flow", "retry", flow_id, "--json")) == {"done": True}
    told = answer(home("flow", "kill", flow_id, "--json"))
    assert isinstance(told, dict)
    assert (told["outcome"]["error_code"], told["in_flight"]) == ("flow.killed", [TRANSACTION_ID.hex()])
    refused = home("flow", "retry", "02" * 16)
    assert (refused.code, refused.err) == (1, "the flow is running [flow.not_parked]\n")
    assert home("flow", "kill", "nonsense").code == 2


def test_f08_steps_of_a_flow_inside_a_flow_are_indented(home: Run) -> None:
    shown = home("flow", "show", FLOW_ID.hex()).out
    assert "  notarising" in shown
    assert "waits for" in shown
    assert "the notary CN=notary,O=x" in shown
    assert "the notary CN=notary,O=x" in home("flow", "list", "--limit", "1").out


def test_f09_a_node_is_drained_and_kept(home: Run) -> None:
    assert "stops when 3 flows have ended; 1 parked ones stay" in home("node", "drain").out
    assert "accepts no new flow" in home("node", "info").out
    assert "accepts new flows again" in home("node", "drain", "--undo").out
    assert "draining" not in home("node", "info").out
    assert answer(home("node", "drain", "--json")) == {"running": 3, "parked": 1}
    assert home("node", "drain", "--undo", "--wait").code == 2


def test_vault_in_human_units(home: Run) -> None:
    shown = home("vault", "list").out
    assert "1.5 kWh solar, 2026-07-01T12:00:00Z to 13:00:00Z, 0.25 /kWh" in shown
    assert "3.50 EUR" in shown
    assert "other Thing" in shown
    balance = home("vault", "balance").out
    assert "1.5 kWh" in balance
    assert "0.3 kWh" in balance
    assert "3.50" in balance


def test_vault_for_programs(home: Run) -> None:
    listed = answer(home("vault", "list", "--json", "--owner", "bob"))
    assert isinstance(listed, dict)
    energy, money, other = listed["states"]
    assert energy["output"]["state"]["quantity_wh"] == 1500
    assert energy["ref"] == (TRANSACTION_ID + bytes(4)).hex()
    assert money["output"]["state"]["amount_nano"] == 3_500_000_000
    assert other["output"]["state"] is None
    assert other["output"]["payload"] == "ff"
    balance = answer(home("vault", "balance", "--json"))
    assert isinstance(balance, dict)
    assert balance["energy"][0]["locked_wh"] == 300


def test_an_unreachable_node_ends_with_3(network: Path, cli: Run) -> None:
    ended = cli("--node", str(network / "home-2"), "node", "info")
    assert ended.code == 3
    assert "[client.unreachable]" in ended.err


def test_wrong_calls_end_with_2(cli: Run, tmp_path: Path) -> None:
    assert cli("node", "info").code == 2
    assert cli("--node", str(tmp_path), "node", "info").code == 2
    assert cli("node", "fly").code == 2
    assert cli("flow", "list", "--limit", "0").code == 2


def test_bootstrap_makes_a_network_of_the_installed_contracts(cli: Run, tmp_path: Path) -> None:
    directory = tmp_path / "net"
    made = answer(cli("network", "bootstrap", "--dir", str(directory), "--homes", "2", "--json"))
    assert isinstance(made, dict)
    assert [Path(node["directory"]).name for node in made["nodes"]] == [
        "notary",
        "community",
        "oracle",
        "home-1",
        "home-2",
    ]
    for node in made["nodes"]:
        check_config(Path(node["directory"]))
    shared = directory / "network"
    root = load_root(shared / "root.crt")
    known = NetworkMap.load(shared / "nodes", shared / "parameters", root, NOON_NS + 10**18)
    (signed,) = known.parameters.values()
    registry = installed()
    expected = {(c.name, c.version): registry.code_hash(c.name, c.version) for c in registry.contracts}
    assert signed.parameters.contract_parameters().contracts == expected
    assert signed.hash.hex() == made["parameters_hash"]


def test_bootstrap_refuses_a_directory_in_use(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    ended = cli("network", "bootstrap", "--dir", str(tmp_path))
    assert ended.code == 1
    assert "not empty" in ended.err
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_vault_list_as_power_and_by_power(home: Run) -> None:
    assert "1.5 kW solar" in home("vault", "list", "--unit", "kw").out
    strong = answer(home("vault", "list", "--min-power", "1.5kW", "--json"))
    assert isinstance(strong, dict)
    assert [state["output"]["type_name"] for state in strong["states"]] == ["EnergyState"]
    assert strong["states"][0]["output"]["power_w"] == 1500
    assert answer(home("vault", "list", "--min-power", "1501W", "--json")) == {"states": [], "more": False}
    assert home("vault", "list", "--unit", "ws").code == 2


def test_meter_commands_refuse_what_cannot_be_read_before_they_ask(home: Run) -> None:
    valid = ("--types", "solar", "--from", "2030-01-01T00:00Z", "--until", "2031-01-01T00:00Z")
    register = ("meter", "register", "m-1", "--producer", "bob", *valid)
    assert home(*register, "--capacity", "5kWh").code == 2
    assert home(*register, "--capacity", "5kW", "--notary", "nobody").code == 2
    assert home("meter", "extend", "m-1", "--until", "tomorrow").code == 2
    assert "No registrations" in home("meter", "list").out
