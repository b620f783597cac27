"""Bad input gets one clear sentence and loses nothing: when a daemon starts, at its client API, on the command line."""

import asyncio
import os
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from p2pet.client import ApiError
from p2pet.flows.v1 import arguments_pb2 as args
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_FAILED

from tests.support.community import (
    CURRENCY,
    EURO_NANO,
    QUARTER_NS,
    Community,
    completed,
    energy_request,
    selection,
)
from tests.support.scripted import eventually

SELLER, BUYER, STOPPED = "home-1", "home-2", "home-3"
HOMES = (SELLER, BUYER)
OWNED_WH, OWNED_NANO = 1_000, 5 * EURO_NANO
REFUSED = 1
CALLED_WRONGLY = 2


@pytest.fixture(scope="module")
def funded(community: Community) -> Community:
    """A seller with energy, a buyer with money, and a home with both that is stopped again."""

    async def fund() -> None:
        completed(await community.issue_money(BUYER, OWNED_NANO))
        completed(await community.issue_money(STOPPED, OWNED_NANO))
        completed(await community.issue_energy(SELLER, OWNED_WH))
        await eventually(lambda: community.money_nano(STOPPED), OWNED_NANO)
        await eventually(lambda: community.money_nano(BUYER), OWNED_NANO)

    asyncio.run(fund())
    community.network.stop(STOPPED)
    return community


# At the start of a daemon.


@dataclass(frozen=True)
class Spoiled:
    """A home whose files are changed for one start; leaving the stack restores them."""

    home: Path
    undo: ExitStack

    def rewrite(self, name: str, change: Callable[[str], str]) -> None:
        path = self.home / name
        before = path.read_bytes()
        self.undo.callback(path.write_bytes, before)
        path.write_text(change(before.decode()))

    def chmod(self, name: str, mode: int) -> None:
        path = self.home / name
        self.undo.callback(path.chmod, path.stat().st_mode & 0o777)
        path.chmod(mode)

    def take_away(self, name: str) -> None:
        path, aside = self.home / name, self.home / f"{name}.aside"
        self.undo.callback(aside.rename, path)
        path.rename(aside)

    def occupy(self, section: str) -> None:
        """Listen where the home shall listen."""
        text = (self.home / "node.toml").read_text()
        found = re.search(rf'\[{section}\]\nlisten = "([0-9.]+):([0-9]+)"', text)
        assert found is not None
        listener = self.undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((found[1], int(found[2])))
        listener.listen()


def _misspell(text: str) -> str:
    return text.replace("token_file", "tokenfile")


START_FAULTS: dict[str, tuple[Callable[[Spoiled], None], str, str]] = {
    "wrong config key": (lambda s: s.rewrite("node.toml", _misspell), "config.invalid", "tokenfile"),
    "config is no TOML": (lambda s: s.rewrite("node.toml", lambda t: t + "["), "config.invalid", "TOML"),
    "config is missing": (lambda s: s.take_away("node.toml"), "config.invalid", "node.toml"),
    "key file that others can read": (lambda s: s.chmod("identity.key", 0o644), "identity.key_file", "identity.key"),
    "TLS key that others can read": (lambda s: s.chmod("tls.key", 0o640), "identity.key_file", "tls.key"),
    "token that others can read": (lambda s: s.chmod("client.token", 0o604), "identity.key_file", "client.token"),
    "missing key": (lambda s: s.take_away("identity.key"), "identity.key_file", "identity.key"),
    "missing certificate": (lambda s: s.take_away("identity.crt"), "identity.certificate", "identity.crt"),
    "missing TLS certificate": (lambda s: s.take_away("tls.crt"), "identity.certificate", "tls.crt"),
    "peer port in use": (lambda s: s.occupy("peer"), "node.listen", "peer listener"),
    "client port in use": (lambda s: s.occupy("client"), "node.listen", "client listener"),
}


def start_daemon(home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "p2petd", "--config", str(home / "node.toml")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("fault", START_FAULTS)
def test_r17_start_is_refused_with_one_sentence(fault: str, funded: Community) -> None:
    spoil, code, named = START_FAULTS[fault]
    home = funded.network.node_directory(STOPPED)
    with ExitStack() as undo:
        spoil(Spoiled(home, undo))
        ended = start_daemon(home)
    assert ended.returncode == REFUSED, ended.stderr
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert re.fullmatch(rf"p2petd: .+ \[{re.escape(code)}\]", line)
    assert named in line


def test_a_data_directory_in_use_is_refused_and_its_owner_goes_on(funded: Community) -> None:
    text = (funded.network.node_directory(SELLER) / "node.toml").read_text()
    second = funded.network.node_directory(SELLER) / "second.toml"
    second.write_text(re.sub(r'listen = "127.0.0.1:[0-9]+"', 'listen = "127.0.0.1:1"', text))
    command = [sys.executable, "-m", "p2petd", "--config", str(second)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == REFUSED
    (line,) = ended.stderr.splitlines()
    assert line.endswith("[store.directory]")
    asyncio.run(still_works(funded))


def test_a_home_that_was_refused_its_start_has_lost_nothing(funded: Community) -> None:
    async def scenario() -> None:
        with ExitStack() as undo:
            Spoiled(funded.network.node_directory(STOPPED), undo).occupy("client")
            assert start_daemon(funded.network.node_directory(STOPPED)).returncode == REFUSED
        await funded.network.start(STOPPED)
        assert await funded.money_nano(STOPPED) == OWNED_NANO
        assert await funded.locked(STOPPED) == 0
        completed(await funded.run(STOPPED, "payment.pay", payment(funded, STOPPED, OWNED_NANO)))
        assert await funded.money_nano(STOPPED) == OWNED_NANO
        funded.network.stop(STOPPED)

    asyncio.run(scenario())


def test_a_request_too_large_for_any_transaction_is_refused_and_the_node_goes_on(funded: Community) -> None:
    async def scenario() -> None:
        await funded.network.start(STOPPED)
        async with funded.client(STOPPED) as client:
            request = changed(energy_request(STOPPED, 10, 40), zone="z" * 2_000_000)
            outcome = (await client.flows.run("energy.request", request, deadline_seconds=5)).outcome
            assert outcome.status == FLOW_STATUS_FAILED
            assert_one_sentence(outcome.error_message)
            good = energy_request(STOPPED, 10, 40)
            completed((await client.flows.run("energy.request", good, deadline_seconds=5)).outcome)

    asyncio.run(scenario())


# At the client API.


def payment(community: Community, to: str, amount: int) -> args.PaymentPayArguments:
    return args.PaymentPayArguments(currency=CURRENCY, amount_nano=amount, recipient=community.identity[to])


def transfer(community: Community, to: str, quantity_wh: int) -> args.EnergyTransferArguments:
    return args.EnergyTransferArguments(energy=selection(), quantity_wh=quantity_wh, recipient=community.identity[to])


def changed(message: Message, **fields: Any) -> Message:
    """The arguments with one thing wrong."""
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def unaligned() -> Message:
    request = energy_request(SELLER, 10, period=40)
    return changed(request, delivery_start_ns=request.delivery_start_ns + 1)


def backwards() -> Message:
    request = energy_request(SELLER, 10, period=40)
    return changed(request, delivery_end_ns=request.delivery_start_ns - QUARTER_NS)


NOBODY = bytes(range(32))

# What is wrong -> (node, flow, arguments, the stable code of the outcome).
FLOW_FAULTS: dict[str, tuple[str, str, Callable[[Community], Message], str]] = {
    "request of nothing": (SELLER, "energy.request", lambda c: energy_request(SELLER, 0, 40), "flow.arguments"),
    "request of less": (SELLER, "energy.request", lambda c: energy_request(SELLER, -5, 40), "flow.arguments"),
    "request without a meter": (
        SELLER,
        "energy.request",
        lambda c: changed(energy_request(SELLER, 10, 40), meter=""),
        "flow.arguments",
    ),
    "request of an unknown type": (
        SELLER,
        "energy.request",
        lambda c: changed(energy_request(SELLER, 10, 40), energy_type="moonlight"),
        "energy.issue.type_not_permitted",
    ),
    "request across a market time unit": (
        SELLER,
        "energy.request",
        lambda c: unaligned(),
        "energy.issue.period_not_aligned",
    ),
    "request of a period that ends before it starts": (
        SELLER,
        "energy.request",
        lambda c: backwards(),
        "flow.arguments",
    ),
    "transfer of nothing": (SELLER, "energy.transfer", lambda c: transfer(c, BUYER, 0), "flow.arguments"),
    "transfer of more than one owns": (
        SELLER,
        "energy.transfer",
        lambda c: transfer(c, BUYER, OWNED_WH + 1),
        "vault.insufficient",
    ),
    "transfer to nobody": (
        SELLER,
        "energy.transfer",
        lambda c: changed(transfer(c, BUYER, 1), recipient=NOBODY),
        "network.unknown_party",
    ),
    "transfer to half a key": (
        SELLER,
        "energy.transfer",
        lambda c: changed(transfer(c, BUYER, 1), recipient=NOBODY[:16]),
        "flow.arguments",
    ),
    "transfer to oneself": (SELLER, "energy.transfer", lambda c: transfer(c, SELLER, 1), "flow.arguments"),
    "payment of nothing": (BUYER, "payment.pay", lambda c: payment(c, SELLER, 0), "flow.arguments"),
    "payment of more than one has": (
        BUYER,
        "payment.pay",
        lambda c: payment(c, SELLER, OWNED_NANO + 1),
        "vault.insufficient",
    ),
    "payment to nobody": (
        BUYER,
        "payment.pay",
        lambda c: changed(payment(c, SELLER, 1), recipient=NOBODY),
        "network.unknown_party",
    ),
    "payment in a currency that nobody issues": (
        BUYER,
        "payment.pay",
        lambda c: changed(payment(c, SELLER, 1), currency="XXX"),
        "vault.insufficient",
    ),
    "payment of another issuer": (
        BUYER,
        "payment.pay",
        lambda c: changed(payment(c, SELLER, 1), issuer=NOBODY * 32),
        "vault.insufficient",
    ),
    "money made by one who is not its issuer": (
        BUYER,
        "payment.issue",
        lambda c: args.PaymentIssueArguments(currency=CURRENCY, amount_nano=1),
        "payment.issue.issuer_not_listed",
    ),
    "issue of no money": (
        "community",
        "payment.issue",
        lambda c: args.PaymentIssueArguments(currency=CURRENCY),
        "flow.arguments",
    ),
    "trade of nothing": (BUYER, "energy.trade", lambda c: c.trade_terms(SELLER, 0), "flow.arguments"),
    "trade of more than the seller owns": (
        BUYER,
        "energy.trade",
        lambda c: c.trade_terms(SELLER, OWNED_WH + 1),
        "flow.refused",
    ),
    "trade of more than the buyer can pay": (
        BUYER,
        "energy.trade",
        lambda c: c.trade_terms(SELLER, 100, price=50_000_001),
        "vault.insufficient",
    ),
    "trade below the asked price": (
        BUYER,
        "energy.trade",
        lambda c: c.trade_terms(SELLER, 100, price=199_999),
        "flow.refused",
    ),
    "trade at a negative price": (
        BUYER,
        "energy.trade",
        lambda c: c.trade_terms(SELLER, 100, price=-1),
        "flow.arguments",
    ),
    "trade worth more than 64 bits": (
        BUYER,
        "energy.trade",
        lambda c: c.trade_terms(SELLER, 2**62, price=2**62),
        "units.overflow",
    ),
    "trade with nobody": (
        BUYER,
        "energy.trade",
        lambda c: changed(c.trade_terms(SELLER, 1), seller=NOBODY),
        "network.unknown_party",
    ),
    "trade with oneself": (BUYER, "energy.trade", lambda c: c.trade_terms(BUYER, 1), "flow.arguments"),
    "trade without arguments": (BUYER, "energy.trade", lambda c: args.EnergyTradeArguments(), "flow.arguments"),
}


async def still_works(community: Community) -> None:
    """A good flow goes through, and comes back."""
    completed(await community.run(BUYER, "payment.pay", payment(community, SELLER, 1_000)))
    await eventually(lambda: community.money_nano(SELLER), 1_000)
    completed(await community.run(SELLER, "payment.pay", payment(community, BUYER, 1_000)))
    await eventually(lambda: community.money_nano(BUYER), OWNED_NANO)


async def holdings(community: Community) -> dict[str, tuple[int, int, int]]:
    """(Wh, nano, reserved) of each home that runs."""
    return {
        name: (await community.energy_wh(name), await community.money_nano(name), await community.locked(name))
        for name in HOMES
    }


OWNED = {SELLER: (OWNED_WH, 0, 0), BUYER: (0, OWNED_NANO, 0)}


def assert_one_sentence(text: str) -> None:
    assert text
    assert "\n" not in text
    assert "Traceback" not in text
    assert "error id" not in text
    assert len(text) <= 500


@pytest.mark.parametrize("fault", FLOW_FAULTS)
def test_c07_f10_flow_is_refused_and_nothing_is_lost(fault: str, funded: Community) -> None:
    node, flow, arguments, code = FLOW_FAULTS[fault]

    async def scenario() -> None:
        async with funded.client(node) as client:
            outcome = (await client.flows.run(flow, arguments(funded), deadline_seconds=5)).outcome
        assert (outcome.status, outcome.error_code) == (FLOW_STATUS_FAILED, code), outcome.error_message
        assert_one_sentence(outcome.error_message)
        # The counterparty's half ends by itself, a moment later.
        await eventually(lambda: holdings(funded), OWNED)
        await still_works(funded)

    asyncio.run(scenario())


Call = Callable[[Any], Awaitable[object]]


def _raw(client: Any, method: str, payload: bytes, token: bool = True) -> Awaitable[object]:
    call = client.connection.channel.unary_unary(f"/p2pet.{method}")
    metadata = client.connection.metadata if token else (("authorization", "Bearer wrong"),)
    answer: Awaitable[object] = client.connection.answer(call(payload, timeout=5, metadata=metadata))
    return answer


# What is wrong -> (the call, its gRPC status, its stable code).
CALL_FAULTS: dict[str, tuple[Call, str, str]] = {
    "unknown flow": (lambda c: c.flows.start("energy.gift", b""), "NOT_FOUND", "flow.unknown"),
    "unknown version": (lambda c: c.flows.start("energy.trade", b"", version=9), "NOT_FOUND", "flow.unknown"),
    "arguments of no message": (
        lambda c: c.flows.start("energy.trade", b"\xff\xff"),
        "INVALID_ARGUMENT",
        "flow.arguments",
    ),
    "client id of 257 bytes": (
        lambda c: c.flows.start("energy.trade", b"", client_id="x" * 257),
        "INVALID_ARGUMENT",
        "flow.arguments",
    ),
    "client id of 600 bytes": (
        lambda c: c.flows.start("energy.trade", b"", client_id="x" * 600),
        "INVALID_ARGUMENT",
        "flow.arguments",
    ),
    "flow that nobody started": (lambda c: c.flows.get(flow_id=b"x" * 600), "NOT_FOUND", "flow.not_found"),
    "client id that nobody used": (lambda c: c.flows.get(client_id="y" * 600), "NOT_FOUND", "flow.not_found"),
    "page token of nobody": (lambda c: c.flows.list(page_token="*"), "INVALID_ARGUMENT", "request.page"),
    "page of 1001": (lambda c: c.vault.states(page_size=1001), "INVALID_ARGUMENT", "request.page"),
    "transaction that is not held": (
        lambda c: c.vault.transaction(b"\x01" * 32),
        "NOT_FOUND",
        "vault.transaction_not_found",
    ),
    "half a transaction id": (
        lambda c: c.vault.transaction(b"\x01" * 16),
        "NOT_FOUND",
        "vault.transaction_not_found",
    ),
    "a wrong token": (
        lambda c: _raw(c, "vault.v1.VaultService/GetBalance", b"", token=False),
        "UNAUTHENTICATED",
        "client.unauthenticated",
    ),
    "a frame that is no message": (
        lambda c: _raw(c, "flows.v1.FlowService/StartFlow", b"\xff\xff\xff"),
        "INVALID_ARGUMENT",
        "request.malformed",
    ),
    "a message over 4 MiB": (
        lambda c: _raw(c, "flows.v1.FlowService/StartFlow", bytes(4 * 1024 * 1024 + 1)),
        "RESOURCE_EXHAUSTED",
        "resource_exhausted",
    ),
    "a method that is not there": (
        lambda c: _raw(c, "flows.v1.FlowService/Nothing", b""),
        "UNIMPLEMENTED",
        "unimplemented",
    ),
}


@pytest.mark.parametrize("fault", CALL_FAULTS)
def test_r13_call_is_refused_and_nothing_is_lost(fault: str, funded: Community) -> None:
    call, status, code = CALL_FAULTS[fault]

    async def scenario() -> None:
        async with funded.client(BUYER) as client:
            with pytest.raises(ApiError) as caught:
                await call(client)
        assert (caught.value.status, caught.value.code) == (status, code), caught.value.message
        assert_one_sentence(caught.value.message)
        assert await holdings(funded) == OWNED
        await still_works(funded)

    log = funded.network.node_directory(BUYER) / "node.log"
    logged_before = log.stat().st_size
    asyncio.run(scenario())
    assert b"Traceback" not in log.read_bytes()[logged_before:]


@pytest.fixture
def client_socket(funded: Community) -> Iterator[ssl.SSLSocket]:
    """TLS to the client listener, below gRPC."""
    text = (funded.network.node_directory(BUYER) / "node.toml").read_text()
    found = re.search(r'\[client\]\nlisten = "([0-9.]+):([0-9]+)"', text)
    assert found is not None
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection((found[1], int(found[2])), timeout=5) as plain,
        context.wrap_socket(plain) as secure,
    ):
        yield secure


def test_r13_bytes_that_are_no_http2_end_only_their_own_connection(
    funded: Community, client_socket: ssl.SSLSocket
) -> None:
    client_socket.sendall(os.urandom(4096))
    received = b"-"
    try:
        while received:
            received = client_socket.recv(4096)
    except OSError:
        received = b""
    assert received == b""
    asyncio.run(still_works(funded))


# On the command line.

CLI_FAULTS: dict[str, tuple[tuple[str, ...], int, str]] = {
    "unknown flow": (("flow", "start", "energy.gift"), REFUSED, "flow.unknown"),
    "unknown argument": (("flow", "start", "payment.pay", "colour=red"), CALLED_WRONGLY, "colour"),
    "amount that is no number": (("flow", "start", "payment.pay", "amount=much"), CALLED_WRONGLY, "amount"),
    "peer that is not in the map": (
        ("flow", "start", "payment.pay", "currency=EUR", "amount=1", "recipient=home-99"),
        CALLED_WRONGLY,
        "home-99",
    ),
    "more than one has": (
        ("flow", "start", "payment.pay", "currency=EUR", "amount=1000", "recipient=home-1"),
        REFUSED,
        "vault.insufficient",
    ),
    "a quantity of zero": (
        ("flow", "start", "payment.pay", "currency=EUR", "amount=0", "recipient=home-1"),
        REFUSED,
        "flow.arguments",
    ),
}


@pytest.mark.parametrize("fault", CLI_FAULTS)
def test_command_line_answers_bad_input_with_one_sentence(fault: str, funded: Community) -> None:
    words, exit_code, named = CLI_FAULTS[fault]
    environment = {**os.environ, "P2PET_NODE": str(funded.network.node_directory(BUYER))}
    command = [sys.executable, "-m", "p2pet.cli.main", *words]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    # A flow that failed has an outcome, which is an answer; all else is an error.
    (line,) = [line for line in (ended.stdout + ended.stderr).splitlines() if named in line]
    assert len(ended.stderr.splitlines()) == (0 if ended.stdout else 1)
    assert ended.returncode == exit_code, line
    assert asyncio.run(holdings(funded)) == OWNED
