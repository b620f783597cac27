"""What a trade may cite, between real nodes: a tariff that bounds its price, and the orders that it fills (C17)."""

import asyncio
from hashlib import sha256

from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_FAILED
from p2pet.ledger.v1.energy_pb2 import OrderTerms
from p2pet.ledger.v1.oracle_pb2 import TariffRow, TariffTable

from tests.support.community import (
    CURRENCY,
    EURO_NANO,
    FIRST_PERIOD_NS,
    QUARTER_NS,
    Community,
    completed,
)
from tests.support.scripted import eventually

BUYER, SELLER = "home-1", "home-2"
PRICE, QUANTITY_WH = 250_000, 1_000


def _tariff(highest: int) -> bytes:
    row = TariffRow(energy_type="solar", price_min_micro_per_kwh=0, price_max_micro_per_kwh=highest)
    valid = {"valid_from_ns": FIRST_PERIOD_NS, "valid_until_ns": FIRST_PERIOD_NS + 400 * QUARTER_NS}
    table = TariffTable(name=f"up to {highest}", currency=CURRENCY, rows=[row], **valid)
    return table.SerializeToString(deterministic=True)


def _order(period: int, limit: int) -> OrderTerms:
    start = FIRST_PERIOD_NS + period * QUARTER_NS
    return OrderTerms(
        order_id=b"o" * 32,
        quantity_wh=QUANTITY_WH,
        limit_micro_per_kwh=limit,
        energy_type="solar",
        delivery_start_ns=start,
        delivery_end_ns=start + QUARTER_NS,
    )


async def _ready(community: Community, period: int) -> None:
    before = await community.money_nano(BUYER)
    completed(await community.issue_money(BUYER, EURO_NANO))
    await eventually(lambda: community.money_nano(BUYER), before + EURO_NANO)
    completed(await community.issue_energy(SELLER, QUANTITY_WH, period))


def test_c17_a_cited_tariff_travels_with_the_trade_and_bounds_its_price(community: Community) -> None:
    async def scenario() -> None:
        await _ready(community, 41)
        terms = community.trade_terms(SELLER, QUANTITY_WH, 41, PRICE)
        for highest, fits in ((PRICE - 1, False), (PRICE, True)):
            content = _tariff(highest)
            async with community.client(BUYER) as client:
                await client.attachments.upload(content)
            terms.tariff = sha256(content).digest()
            outcome = await community.run(BUYER, "energy.trade", terms)
            if fits:
                completed(outcome)
                continue
            assert outcome.status == FLOW_STATUS_FAILED
            assert await community.locked(BUYER) == 0
            await eventually(lambda: community.locked(SELLER), 0)
        # The seller has fetched it to check it.
        async with community.client(SELLER) as client:
            kept = {info.hash for info in (await client.attachments.list()).attachments}
        assert terms.tariff in kept

    asyncio.run(scenario())


def test_c17_cited_orders_bound_the_price_from_both_sides(community: Community) -> None:
    async def scenario() -> None:
        await _ready(community, 42)
        money = await community.money_nano(BUYER)
        for bid, offer, fits in ((PRICE - 1, PRICE, False), (PRICE, PRICE + 1, False), (PRICE, PRICE, True)):
            terms = community.trade_terms(SELLER, QUANTITY_WH, 42, PRICE)
            terms.bid.CopyFrom(_order(42, bid))
            terms.offer.CopyFrom(_order(42, offer))
            outcome = await community.run(BUYER, "energy.trade", terms)
            if fits:
                completed(outcome)
                continue
            assert outcome.status == FLOW_STATUS_FAILED
            assert await community.money_nano(BUYER) == money
            await eventually(lambda: community.locked(SELLER), 0)
        assert await community.money_nano(BUYER) == money - 250_000_000

    asyncio.run(scenario())


def test_c17_malformed_terms_are_refused_before_anything_is_reserved(community: Community) -> None:
    async def scenario() -> None:
        for wrong in (
            {"tariff": b"short"},
            {"observers": [bytes(31)]},
            {"observers": [bytes([n]) * 32 for n in range(65)]},
        ):
            terms = community.trade_terms(SELLER, QUANTITY_WH, 43, PRICE)
            terms.MergeFrom(type(terms)(**wrong))
            assert (await community.run(BUYER, "energy.trade", terms)).error_code == "flow.arguments"
        assert await community.locked(BUYER) == 0

    asyncio.run(scenario())
