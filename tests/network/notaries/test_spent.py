"""Who spent this state, when, by which request: the operator of a notary asks it, with the permission to (N17)."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from p2pet.cli.main import main
from p2pet.client import ApiError, NodeClient
from p2pet.flows.v1 import arguments_pb2 as args
from p2pet.localnet import LocalNetwork

from p2petd import native
from p2petd.contracts.energy import issue_claims
from p2petd.flows.finality import request_digest
from p2petd.identity.keys import create_token
from p2petd.ledger.refs import StateRef
from tests.support.community import (
    CURRENCY,
    EURO_NANO,
    FIRST_PERIOD_NS,
    QUARTER_NS,
    Community,
    completed,
    make_community,
)
from tests.support.peer import PURPOSE_REQUEST
from tests.support.scripted import eventually

PAYER, PAYEE, NOTARY = "home-1", "home-2", "notary"
USERS = {"auditor": ["notary"], "reader": ["node", "vault"], "nobody": []}


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Community]:
    directory = tmp_path_factory.mktemp("audited") / "net"
    made = make_community(directory, homes=2)
    node = directory / NOTARY
    with (node / "node.toml").open("a") as config:
        for name, permissions in USERS.items():
            create_token(node / f"{name}.token")
            text = f'name = "{name}"\ntoken_file = "{name}.token"\npermissions = {json.dumps(permissions)}\n'
            config.write("\n[[client.users]]\n" + text)
    with LocalNetwork(directory) as network:
        asyncio.run(network.start())
        yield Community(made, network)


def _as(community: Community, user: str) -> NodeClient:
    return NodeClient.from_config(_directory(community), _token(community, user))


def _directory(community: Community) -> Path:
    return community.network.node_directory(NOTARY)


def _token(community: Community, user: str) -> Path:
    return _directory(community) / f"{user}.token"


async def _spent_coin(community: Community) -> tuple[StateRef, bytes]:
    """A coin of the payer and the id of the payment that consumed it."""
    issued = completed(await community.issue_money(PAYER, EURO_NANO))
    await eventually(lambda: community.money_nano(PAYER), EURO_NANO)
    pay = args.PaymentPayArguments(currency=CURRENCY, amount_nano=EURO_NANO, recipient=community.identity[PAYEE])
    paid = completed(await community.run(PAYER, "payment.pay", pay))
    return StateRef(issued.transaction_id, 0), paid.transaction_id


def test_n17_the_operator_learns_who_spent_a_state_and_by_which_request(audited: Community) -> None:
    async def scenario() -> None:
        before_ns = time.time_ns()
        coin, consumer = await _spent_coin(audited)
        async with _as(audited, "auditor") as client:
            answer = await client.notary.who_spent(coin.encode())
            assert answer.spent
            assert (answer.transaction_id, answer.caller) == (consumer, audited.identity[PAYER])
            assert answer.caller_name == f"CN={PAYER},O=community"
            assert before_ns <= answer.decided_at_ns <= time.time_ns()
            assert list(answer.inputs) == [coin.encode()]
            # The request itself is the evidence: its caller signed it.
            item = (
                answer.caller,
                audited.made.network_id,
                PURPOSE_REQUEST,
                request_digest((coin,), consumer),
                answer.request_signature,
            )
            assert native.verify_signatures([item]) == [True]
            unspent = await client.notary.who_spent(StateRef(consumer, 0).encode())
            assert not unspent.spent
            assert unspent.transaction_id == b""
            issued = completed(await audited.issue_energy(PAYER, 100, period=2))
            start = FIRST_PERIOD_NS + 2 * QUARTER_NS
            (claim,) = issue_claims(f"meter-{PAYER}", start, start + QUARTER_NS, QUARTER_NS)
            assert (await client.notary.who_spent(claim)).transaction_id == issued.transaction_id
            with pytest.raises(ApiError) as caught:
                await client.notary.who_spent(b"short")
            assert caught.value.status == "INVALID_ARGUMENT"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("user", "permitted"), [("auditor", {"notary"}), ("reader", {"node", "vault"}), ("nobody", set())]
)
def test_n17_a_user_calls_what_it_has_the_permission_for(audited: Community, user: str, permitted: set[str]) -> None:
    async def scenario() -> None:
        async with _as(audited, user) as client:
            calls = {
                "notary": lambda: client.notary.who_spent(bytes(32)),
                "vault": client.vault.balance,
                "node": client.stats,
                "flows": client.flows.types,
            }
            # Who may see the node may not stop it.
            for permission, call in [*calls.items(), ("flows", client.drain)]:
                if permission in permitted:
                    await call()
                    continue
                with pytest.raises(ApiError) as caught:
                    await call()
                assert (caught.value.code, caught.value.status) == ("client.permission", "PERMISSION_DENIED")
                assert caught.value.message == f"the user {user} lacks the permission '{permission}'"
            assert await client.is_serving()
            # Streams are refused as well.
            with pytest.raises(ApiError) as caught:
                async for _ in client.flows.watch(bytes(16)):
                    pass
            assert caught.value.code == "client.permission"

    asyncio.run(scenario())


def test_n17_the_token_of_node_toml_calls_everything(audited: Community) -> None:
    async def scenario() -> None:
        async with audited.client(NOTARY) as client:
            await client.vault.balance()
            await client.flows.types()
            assert not (await client.notary.who_spent(bytes(32))).spent
        # A node that is no notary has no such service.
        async with audited.client(PAYER) as client:
            with pytest.raises(ApiError) as caught:
                await client.notary.who_spent(bytes(32))
            assert caught.value.status == "UNIMPLEMENTED"

    asyncio.run(scenario())


def test_n17_the_command_line_shows_who_spent_it(audited: Community, capsys: pytest.CaptureFixture[str]) -> None:
    coin, consumer = asyncio.run(_spent_coin(audited))
    options = ["--node", str(_directory(audited)), "--token-file", str(_token(audited, "auditor"))]
    reference = f"{coin.transaction_id.hex()}:{coin.index}"
    assert _run([*options, "notary", "spent", reference]) == 0
    shown = capsys.readouterr().out
    assert consumer.hex() in shown
    assert "home-1" in shown
    assert _run([*options, "notary", "spent", coin.encode().hex(), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["transaction_id"] == consumer.hex()
    assert _run([*options, "notary", "spent", "00" * 32]) == 0
    assert "Nobody has consumed it" in capsys.readouterr().out
    assert _run([*options, "notary", "spent", "12:x"]) == 2
    assert _run([*options, "vault", "balance"]) == 1
    assert "client.permission" in capsys.readouterr().err


def _run(words: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(str(ended.value.code or 0))
