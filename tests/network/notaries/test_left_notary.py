"""A notary has left the network parameters, its node still runs: states leave it, and do nothing else there (N12)."""

import asyncio
import secrets
import time
from collections.abc import Iterator

import pytest
from p2pet.flows.v1 import arguments_pb2 as args
from p2pet.localnet import LocalNetwork

from p2petd.contracts import payment
from p2petd.contracts.payment import PaymentIssue, PaymentPay, PaymentState
from p2petd.ledger.transaction import Draft, TransactionBuilder
from p2petd.network.bootstrap import NetworkPlan, bootstrap
from p2petd.units import HOUR_NS, NanoMoney
from tests.support.community import CURRENCY, EURO_NANO, completed, contract_hashes
from tests.support.drafts import Held, built, notarised, refusal
from tests.support.scripted import ScriptedCommunity, eventually
from tests.support.two_notaries import FIRST, SECOND, TwoNotaries
from tests.support.versions import newest_parameters, publish, without_notary

REAL, SCRIPTED = "home-1", "home-2"
AMOUNT = 1_000


class Left(ScriptedCommunity, TwoNotaries):
    """The coin of home-2 and the money of home-1 are guarded by a notary that has left."""

    coin: Held


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Left]:
    """A network of some days ago: its first version is out of force, and out of its grace."""
    directory = tmp_path_factory.mktemp("left") / "net"
    plan = NetworkPlan(directory, 2, CURRENCY, contract_hashes(), notaries=2, oracles=0, registered_meters=False)
    made = bootstrap(plan, time.time_ns() - 72 * HOUR_NS)
    with LocalNetwork(directory) as network:
        community = Left(made, network)
        asyncio.run(_leave(community))
        yield community


async def _leave(community: Left) -> None:
    running = (FIRST, SECOND, "community", REAL)
    await community.network.start(*running)
    for _ in range(3):
        completed(await community.money_at(SECOND, REAL, EURO_NANO))
    await eventually(lambda: community.money_nano(REAL), 3 * EURO_NANO)
    community.network.stop("community")
    community.coin = await _coin_there(community)
    community.network.stop()
    directory = community.made.directory
    publish(directory, without_notary(newest_parameters(directory), SECOND, time.time_ns() - 48 * HOUR_NS))
    await community.network.start(*running)


async def _coin_there(community: Left) -> Held:
    """A coin of home-2 that the notary guards which is about to leave."""
    issuer = community.fresh_peer("community")
    (parameters_hash,) = issuer.network_map.parameters
    coin = PaymentState(CURRENCY, NanoMoney(AMOUNT), issuer.identity, community.peer(SCRIPTED).identity)
    builder = TransactionBuilder(community.service_key(SECOND), parameters_hash)
    builder.add_output(payment.NAME, payment.VERSION, coin)
    builder.add_command(payment.NAME, PaymentIssue(secrets.token_bytes(32)), [issuer.identity])
    async with community.connect("community", SECOND) as notary:
        return (await notarised(notary, issuer, built(builder), [issuer])).held()


def _spend(community: Left, parameters_hash: bytes) -> Draft:
    coin, peer = community.coin, community.fresh_peer(SCRIPTED)
    builder = TransactionBuilder(community.service_key(SECOND), parameters_hash).add_input(coin.ref, coin.component)
    builder.add_output(payment.NAME, payment.VERSION, coin.money)
    return builder.add_command(payment.NAME, PaymentPay(), [peer.identity]).build(secrets.token_bytes(32))


@pytest.mark.parametrize(
    ("version", "cause"), [(1, "transaction.parameters_not_in_force"), (2, "transaction.notary_not_listed")]
)
def test_n12_a_regular_transaction_at_a_notary_that_has_left_is_refused(left: Left, version: int, cause: str) -> None:
    async def scenario() -> None:
        peer = left.peer(SCRIPTED)
        versions = {s.parameters.version: s.hash for s in left.fresh_peer(SCRIPTED).network_map.parameters.values()}
        draft = _spend(left, versions[version])
        proposal = draft.proposal([peer.sign(draft.id)], [left.coin.proof])
        before = await left.accepted(SECOND)
        async with left.connect(SCRIPTED, SECOND) as notary:
            assert refusal(
                await notary.ask(peer.request(draft, proposal)), "notary.invalid_transaction"
            ).error.cause == (cause)
        assert await left.accepted(SECOND) == before

    asyncio.run(scenario())


def test_n12_states_leave_it_and_are_spent_at_another(left: Left) -> None:
    async def scenario() -> None:
        assert await left.guarded(REAL) == {SECOND: 3, FIRST: 0}
        (one, *_) = [state.ref for state in await left.states(REAL)]
        completed(await left.move(REAL, FIRST, [one]))
        assert await left.guarded(REAL) == {SECOND: 2, FIRST: 1}
        # The other two: the payment moves them by itself.
        pay = args.PaymentPayArguments(
            currency=CURRENCY, amount_nano=3 * EURO_NANO, recipient=left.identity["community"]
        )
        completed(await left.run(REAL, "payment.pay", pay))
        assert await left.guarded(REAL) == {SECOND: 0, FIRST: 0}
        await eventually(lambda: left.money_nano("community"), 3 * EURO_NANO)
        assert await left.guarded("community") == {SECOND: 0, FIRST: 1}
        back = await left.move("community", SECOND)
        assert back.error_code == "flow.arguments"
        completed(await left.issue_energy(REAL, 500, period=1))
        assert await left.guarded(REAL) == {SECOND: 0, FIRST: 1}

    asyncio.run(scenario())
