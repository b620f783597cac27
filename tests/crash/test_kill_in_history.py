"""kill -9 of each node at every commit stage of a payment under a uniqueness-only notary: a restart completes it once.

The payee's stores are two: that of histories is written first, each transaction whole; then the vault.
"""

import asyncio
import contextlib
import signal
from pathlib import Path

import pytest
from p2pet.client import ApiError
from p2pet.flows.v1 import arguments_pb2 as args
from p2pet.localnet import LocalNetwork

from tests.support.community import CURRENCY, Community, completed, make_community
from tests.support.crash import stages
from tests.support.scripted import eventually
from tests.support.unseen import NOTARY_DIRECTORY

PAYER, PAYEE = "home-1", "home-2"
AMOUNT = 1_000
PASSES_MAX = 12


def _failpoints(victim: str) -> list[str]:
    prefixes = ("log.", "view.", "notary.") if victim == NOTARY_DIRECTORY else ("log.", "view.")
    return stages(*prefixes)


@pytest.mark.parametrize("victim", [PAYEE, PAYER, NOTARY_DIRECTORY])
@pytest.mark.timeout(900)
def test_r01_f24_killed_node_completes_the_payment_once(victim: str, tmp_path: Path) -> None:
    made = make_community(tmp_path / "net", uniqueness_notaries=1)
    with LocalNetwork(tmp_path / "net") as network:
        kills = asyncio.run(_kill_everywhere(Community(made, network), victim))
    reached = {name for name, count in kills.items() if count}
    assert reached == set(_failpoints(victim))


async def _kill_everywhere(community: Community, victim: str) -> dict[str, int]:
    await community.network.start()
    kills: dict[str, int] = {}
    paid = 0
    for failpoint in _failpoints(victim):
        kills[failpoint] = 0
        for nth in range(1, PASSES_MAX):
            paid += 1
            if not await _pay_with_a_kill(community, victim, f"{failpoint}:{nth}", paid):
                break
            kills[failpoint] += 1
    return kills


async def _pay_with_a_kill(community: Community, victim: str, failpoint: str, paid: int) -> bool:
    """Whether the victim has died. The payer has a coin that it was just given: the payee knows nothing of it."""
    network = community.network
    service = next(n.notary_service_key for n in community.made.nodes if n.directory.name == NOTARY_DIRECTORY)
    issue = args.PaymentIssueArguments(
        currency=CURRENCY, amount_nano=AMOUNT, recipient=community.identity[PAYER], notary=service
    )
    completed(await community.run("community", "payment.issue", issue))
    await eventually(lambda: community.money_nano(PAYER), AMOUNT)
    network.stop(victim)
    await network.start(victim, environment={"P2PET_FAILPOINTS": failpoint})
    arguments = args.PaymentPayArguments(currency=CURRENCY, amount_nano=AMOUNT, recipient=community.identity[PAYEE])
    client_id = f"pay-{paid}"
    payment = asyncio.create_task(community.run(PAYER, "payment.pay", arguments, client_id))
    while network.is_running(victim) and not (payment.done() and await _arrived(community, victim, paid)):
        await asyncio.sleep(0.01)
    network.stop(victim)
    died = network.wait_ended(victim) == -signal.SIGKILL
    await network.start(victim)
    with contextlib.suppress(ApiError):  # The payer died under the call.
        await payment
    completed(await community.run(PAYER, "payment.pay", arguments, client_id))
    await eventually(lambda: community.money_nano(PAYEE), paid * AMOUNT)
    assert await community.money_nano(PAYER) == 0
    return died


async def _arrived(community: Community, victim: str, paid: int) -> bool:
    """Whether the payee shows the payment; a payee that dies cannot be asked."""
    try:
        return await community.money_nano(PAYEE) == paid * AMOUNT
    except ApiError:
        return victim == PAYEE
