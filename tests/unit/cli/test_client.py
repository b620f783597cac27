"""The client library against a served node: answers, refusals, and nodes that are not there or not it."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from fake_node import ALICE, FLOW_ID, NOON_NS, Served
from p2pet.client import ApiError, ClientSettings, NodeClient, SettingsError, UnreachableError
from p2pet.client.node_client import flow_start
from p2pet.flows.v1 import arguments_pb2, flows_pb2

T = TypeVar("T")


def asked(node: Path, work: Callable[[NodeClient], Awaitable[T]]) -> T:
    async def connected() -> T:
        async with NodeClient.from_config(node) as client:
            return await work(client)

    return asyncio.run(connected())


def refused(node: Path) -> ApiError:
    with pytest.raises(ApiError) as caught:
        asked(node, lambda client: client.info())
    return caught.value


@pytest.fixture
def copy(network: Path, tmp_path: Path) -> Path:
    """Files of home-1 in a network of their own, to be changed."""
    shutil.copytree(network / "home-1", tmp_path / "home-1", ignore=shutil.ignore_patterns("data"))
    shutil.copytree(network / "network", tmp_path / "network", ignore=shutil.ignore_patterns("offline"))
    return tmp_path / "home-1"


def test_unary_answers(network: Path, served: Served) -> None:
    home = network / "home-1"
    assert asked(home, lambda client: client.info()).identity == ALICE
    assert asked(home / "node.toml", lambda client: client.stats()) == {"appends": 3, "flows": 7}
    assert asked(home, lambda client: client.is_serving()) is True
    assert asked(home, lambda client: client.vault.balance()).energy[0].quantity_wh == 1500


def test_flows_run_one_or_many(network: Path, served: Served) -> None:
    arguments = arguments_pb2.PaymentPayArguments(currency="EUR", amount_nano=1)

    async def work(client: NodeClient) -> tuple[flows_pb2.RunFlowResponse, list[int]]:
        one = await client.flows.run("payment.pay", arguments, client_id="mine", deadline_seconds=5)
        starts = [flow_start("payment.pay", arguments.SerializeToString()) for _ in range(3)]
        return one, [result.index async for result in client.flows.run_many(starts)]

    one, indexes = asked(network / "home-1", work)
    assert one.outcome.status == flows_pb2.FLOW_STATUS_COMPLETED
    assert indexes == [0, 1, 2]
    expected = flow_start("payment.pay", arguments, client_id="mine")
    assert served.flows.started[-4] == expected


def test_a_watched_flow_ends_with_its_outcome(network: Path, served: Served) -> None:
    async def work(client: NodeClient) -> list[str | None]:
        return [event.WhichOneof("event") async for event in client.flows.watch(FLOW_ID)]

    assert asked(network / "home-1", work) == ["step", "step", "outcome"]


def test_refusals_keep_code_and_sentence(network: Path, served: Served) -> None:
    async def unary(client: NodeClient) -> None:
        await client.flows.get(flow_id=b"\x09" * 16)

    async def stream(client: NodeClient) -> None:
        async for _ in client.flows.watch(b"\x09" * 16):
            pass

    for work in (unary, stream):
        with pytest.raises(ApiError) as caught:
            asked(network / "home-1", work)
        error = caught.value
        assert (error.code, error.status) == ("flow.not_found", "NOT_FOUND")
        assert str(error) == "no flow with this id is known"


def test_an_unimplemented_method_is_an_api_error(network: Path, served: Served) -> None:
    with pytest.raises(ApiError) as caught:
        asked(network / "home-1", lambda client: client.vault.transactions())
    assert caught.value.code == "unimplemented"


def test_a_wrong_token_is_refused(served: Served, copy: Path) -> None:
    (copy / "client.token").write_text("ab" * 32)
    assert refused(copy).code == "client.unauthenticated"


def test_no_node_at_the_address(network: Path) -> None:
    error = refused(network / "home-2")
    assert isinstance(error, UnreachableError)
    assert "no node answers at 127.0.0.1:" in str(error)


def test_another_node_at_the_address_is_not_believed(network: Path, served: Served, copy: Path) -> None:
    shutil.copy(network / "home-2" / "tls.crt", copy / "tls.crt")
    error = refused(copy)
    assert isinstance(error, UnreachableError)
    assert "not this node" in str(error)


def test_a_node_of_another_network_is_not_believed(network: Path, served: Served, copy: Path) -> None:
    shutil.copy(network / "network" / "identity-authority.crt", copy.parent / "network" / "tls-trust.crt")
    assert isinstance(refused(copy), UnreachableError)


def test_settings(network: Path) -> None:
    settings = ClientSettings.from_config(network / "home-1")
    assert settings == ClientSettings.from_config(network / "home-1" / "node.toml")
    assert settings.server_name.endswith(".node.p2pet")
    assert settings.token not in repr(settings)
    assert NOON_NS > 0


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("node.toml", None, "does not exist"),
        ("node.toml", "[client", "not valid TOML"),
        ("node.toml", "client = 1", "should be text in quotes"),
        ("node.toml", "[client]\nlisten = 1", "should be text in quotes"),
        ("client.token", None, "does not exist"),
        ("client.token", "secret", "not 64 hexadecimal digits"),
        ("tls.crt", "", "not the TLS certificate of a node"),
        ("tls.crt", "-----BEGIN CERTIFICATE-----\nAAA\n-----END CERTIFICATE-----", "not the TLS certificate"),
        ("identity.crt", None, None),
    ],
)
def test_settings_that_cannot_be_used(copy: Path, file: str, content: str | None, sentence: str | None) -> None:
    (copy / file).unlink()
    if content is not None:
        (copy / file).write_text(content)
    if sentence is None:
        assert ClientSettings.from_config(copy).address
        return
    with pytest.raises(SettingsError, match=sentence):
        ClientSettings.from_config(copy)


def test_a_listener_on_every_address_is_dialled_on_loopback(copy: Path) -> None:
    for listen, address in (("0.0.0.0:7501", "127.0.0.1:7501"), ("[::]:1", "[::1]:1"), ("h.example:2", "h.example:2")):
        (copy / "node.toml").write_text(f'[client]\nlisten = "{listen}"\n')
        assert ClientSettings.from_config(copy).address == address
