"""A restart finds another network than the one in which its flows began: what was signed or sent is still finished."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from p2pet.client import ApiError
from p2pet.flows.v1.arguments_pb2 import PaymentPayArguments
from p2pet.flows.v1.sessions_pb2 import OfferedInput, SignedProposal, TradeOffer
from p2pet.localnet import LocalNetwork

from p2petd.identity.keys import load_signing_key
from p2petd.ledger.proposal import Proposal
from p2petd.ledger.transaction import Draft
from p2petd.network.parameters import sign_parameters
from p2petd.units import SECOND_NS, TimeNs
from tests.support.community import CURRENCY, EURO_NANO, completed, make_community
from tests.support.drafts import Final
from tests.support.peer import ScriptedPeer
from tests.support.scripted import REAL, Holdings, ScriptedCommunity, eventually, told

BUYER, LEAVING, STAYING = "home-2", "home-3", "home-4"
QUANTITY_WH, PAID_NANO = 1_000, 250_000_000
# The payer's second commit: the notary has answered, and nobody else knows.
AFTER_THE_NOTARY = "log.before_write:2"


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedCommunity]:
    """A notary, the issuer and home-1 run; every other home is scripted or down."""
    directory = tmp_path_factory.mktemp("changing") / "net"
    made = make_community(directory, homes=4)
    with LocalNetwork(directory) as network:
        asyncio.run(network.start("notary", "community", REAL))
        yield ScriptedCommunity(made, network)


def test_f01_f21_a_payer_killed_after_the_notary_decided_finishes_without_its_payee(
    changing: ScriptedCommunity,
) -> None:
    """The payee has left the network map when the payer starts again."""

    async def scenario() -> None:
        network = changing.network
        completed(await changing.issue_money(REAL, 10 * EURO_NANO))
        await eventually(lambda: changing.money_nano(REAL), 10 * EURO_NANO)
        network.stop(REAL)
        await network.start(REAL, environment={"P2PET_FAILPOINTS": AFTER_THE_NOTARY})
        decided = await _decided(changing)
        payment = PaymentPayArguments(currency=CURRENCY, amount_nano=EURO_NANO, recipient=changing.identity[LEAVING])
        with contextlib.suppress(ApiError):
            await changing.run(REAL, "payment.pay", payment, client_id="paid-once")
        assert network.wait_ended(REAL) == -signal.SIGKILL
        assert await _decided(changing) == decided + 1
        (changing.made.directory / "network" / "nodes" / f"{LEAVING}.info").unlink()
        await network.start(REAL)
        completed(await changing.run(REAL, "payment.pay", payment, client_id="paid-once"))
        assert await changing.holdings() == Holdings(0, 9 * EURO_NANO, 0)
        payment.recipient = changing.identity[STAYING]
        completed(await changing.run(REAL, "payment.pay", payment))
        assert await changing.holdings() == Holdings(0, 8 * EURO_NANO, 0)

    asyncio.run(scenario())


def test_f20_f21_a_seller_that_signed_finishes_under_new_network_parameters(changing: ScriptedCommunity) -> None:
    """Version 2 comes into force while it is down; the buyer finishes inside the window, under version 1."""

    async def scenario() -> None:
        buyer = changing.peer(BUYER)
        money = await changing.money_nano(REAL)
        completed(await changing.issue_energy(REAL, QUANTITY_WH))
        async with changing.connect(BUYER, REAL) as seller:
            flow_id = await seller.open("energy.trade", await _offer(changing, buyer))
            answer = SignedProposal.FromString((await seller.hear(flow_id)).payload)
        changing.network.stop(REAL)
        _publish_next_parameters(changing, buyer)
        await changing.network.start(REAL)
        assert await changing.holdings() == Holdings(QUANTITY_WH, money, QUANTITY_WH)
        final = await _finish(changing, buyer, Proposal.decode(answer.proposal))
        async with changing.connect(BUYER, REAL) as seller:
            await seller.say(flow_id, told(final))
            await eventually(changing.holdings, Holdings(0, money + PAID_NANO, 0))

    asyncio.run(scenario())


def test_n18_a_flow_that_missed_its_notary_in_the_map_goes_on_with_one_that_has_it(
    changing: ScriptedCommunity,
) -> None:
    """The notary's file came late, or was renewed late: the replay takes the same steps with it."""

    async def scenario() -> None:
        network, money = changing.network, await changing.money_nano(REAL)
        info = changing.made.directory / "network" / "nodes" / "notary.info"
        network.stop(REAL)
        info.rename(info.with_suffix(".late"))
        await network.start(REAL)
        pay = PaymentPayArguments(currency=CURRENCY, amount_nano=EURO_NANO, recipient=changing.identity[STAYING])
        async with changing.client(REAL) as client:
            flow_id = await client.flows.start("payment.pay", pay, client_id="late map")

            async def step() -> str:
                return (await client.flows.get(flow_id=flow_id)).flow.current_step

            await eventually(step, "waiting for the notary")
        assert await changing.locked(REAL) > 0
        network.stop(REAL)
        info.with_suffix(".late").rename(info)
        # It learns of the newest parameters too.
        network.stop("notary")
        await network.start("notary", REAL)
        completed(await changing.run(REAL, "payment.pay", pay, "late map"))
        assert (await changing.money_nano(REAL), await changing.locked(REAL)) == (money - EURO_NANO, 0)

    asyncio.run(scenario())


async def _decided(community: ScriptedCommunity) -> int:
    """How many transactions the notary has notarised."""
    async with community.client("notary") as client:
        return (await client.stats())["notary_accepted"]


async def _offer(community: ScriptedCommunity, buyer: ScriptedPeer) -> TradeOffer:
    (coin,) = await community.coins([buyer.identity], PAID_NANO)
    (parameters_hash,) = buyer.network_map.parameters
    return TradeOffer(
        terms=community.trade_terms(REAL, QUANTITY_WH),
        buyer=buyer.identity,
        notary=coin.output.notary,
        parameters_hash=parameters_hash,
        window_until_ns=time.time_ns() + 25 * SECOND_NS,
        payment_inputs=[OfferedInput(ref=coin.ref.encode(), proof=coin.proof)],
    )


async def _finish(community: ScriptedCommunity, buyer: ScriptedPeer, proposal: Proposal) -> Final:
    """What the buyer does with the seller's proposal."""
    draft = Draft.decode(proposal.transaction)
    signatures = [*proposal.signatures, buyer.sign(draft.id)]
    async with community.connect(BUYER) as notary:
        reply = await notary.ask(buyer.request(draft, draft.proposal(signatures, proposal.input_proofs)))
    assert reply.WhichOneof("result") == "finality_proof", reply.error.message
    return Final(draft, draft.proposal(signatures), reply.finality_proof)


def _publish_next_parameters(community: ScriptedCommunity, known: ScriptedPeer) -> None:
    """Version 2, in force from now on."""
    network = community.made.directory / "network"
    (first,) = known.network_map.parameters.values()
    energy_types = tuple(sorted({*first.parameters.energy_types, "hydro"}))
    second = replace(first.parameters, version=2, valid_from_ns=TimeNs(time.time_ns()), energy_types=energy_types)
    certificate = x509.load_pem_x509_certificate((network / "offline" / "map.crt").read_bytes())
    key = load_signing_key(network / "offline" / "map.key")
    signed = sign_parameters(second, key, [certificate.public_bytes(Encoding.DER)])
    (network / "parameters" / "2.params").write_bytes(signed)
