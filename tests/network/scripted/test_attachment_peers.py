"""Attachments from scripted peers: fetched for a client, a flow or a notary, and refused (C18)."""

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import pytest
from p2pet.attachments.v1.attachments_pb2 import ChunkReply, ChunkRequest, FetchRequest
from p2pet.client import ApiError
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_FAILED, ListFlowsResponse
from p2pet.flows.v1.sessions_pb2 import SignatureRequest, SignatureResponse
from p2pet.notary.v1.notary_pb2 import NotarisationReply
from p2pet.peer.v1.peer_pb2 import Call, Frame, Reply, SessionMessage

from p2petd.attachments.chunks import ATTACHMENT, CHUNK_BYTES_MAX, PARALLEL_PER_PEER_MAX
from p2petd.attachments.fetcher import CHUNK_BYTES
from p2petd.attachments.store import CONTRACT_ATTACHMENT_BYTES_MAX
from p2petd.contracts import energy
from p2petd.contracts.energy import EnergyTransfer
from p2petd.contracts.tariff import TariffRow, TariffTable
from p2petd.flows.attachments import FETCH
from p2petd.ledger.transaction import Draft, TransactionBuilder
from p2petd.notary.attachments import FETCHING_PER_CALLER_MAX
from p2petd.units import NO_LOWER_BOUND, SECOND_NS, MicroPerKwh, TimeNs
from tests.support.community import CURRENCY, EURO_NANO, FIRST_PERIOD_NS, QUARTER_NS
from tests.support.drafts import Held, TradePlan, builder_of, built, money_issue, refusal
from tests.support.peer import Connection
from tests.support.scripted import REAL, ScriptedCommunity, eventually

GIVER = "home-2"
INVALID = "notary.invalid_transaction"
MISSING = "transaction.attachment_missing"
PAID_NANO = 1_000


@dataclass
class Giver:
    """Answers calls of the service "attachment" on a connection, with what the test says."""

    contents: dict[bytes, bytes] = field(default_factory=dict)
    asked: list[ChunkRequest] = field(default_factory=list)
    # None: this request is not answered.
    change: Callable[[ChunkRequest, ChunkReply], ChunkReply | None] = lambda _, right: right

    def hold(self, size: int) -> bytes:
        """New content; its hash."""
        content = os.urandom(size)
        self.contents[sha256(content).digest()] = content
        return sha256(content).digest()

    @contextlib.asynccontextmanager
    async def on(self, connection: Connection) -> AsyncIterator["Giver"]:
        task = asyncio.create_task(self._serve(connection))
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _serve(self, connection: Connection) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await self._answer(connection, await connection.called())

    async def _answer(self, connection: Connection, call: Call) -> None:
        request = ChunkRequest.FromString(call.payload)
        self.asked.append(request)
        content = self.contents.get(request.hash, b"")
        part = content[request.offset : request.offset + request.bytes_max]
        answer = self.change(request, ChunkReply(size_bytes=len(content), content=part))
        if answer is not None:
            reply = Reply(call_id=call.call_id, payload=answer.SerializeToString())
            await connection.raw.write(Frame(replies=[reply]))

    async def count(self) -> int:
        return len(self.asked)


def nonsense(_: ChunkRequest, right: ChunkReply) -> ChunkReply:
    """The right size, other content."""
    return ChunkReply(size_bytes=right.size_bytes, content=bytes(len(right.content)))


def files(scripted: ScriptedCommunity, name: str) -> set[str]:
    return {path.name for path in directory(scripted, name).iterdir()}


def directory(scripted: ScriptedCommunity, name: str) -> Path:
    return scripted.network.node_directory(name) / "data" / "attachments"


async def fetch(scripted: ScriptedCommunity, attachment: bytes) -> None:
    async with scripted.client(REAL) as client:
        await client.attachments.fetch(attachment, scripted.identity[GIVER])


# Fetched for a client.


def test_c18_wrong_content_from_a_hostile_peer_is_refused(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        before = files(scripted, REAL)
        async with scripted.connect(GIVER, REAL) as home, Giver(change=nonsense).on(home) as giver:
            attachment = giver.hold(3 * CHUNK_BYTES)
            with pytest.raises(ApiError, match=attachment.hex()) as refused:
                await fetch(scripted, attachment)
            assert refused.value.code == "attachment.hash_differs"
            assert files(scripted, REAL) == before
            giver.change = lambda _, right: right
            await fetch(scripted, attachment)
        assert files(scripted, REAL) == before | {attachment.hex()}

    asyncio.run(scenario())


def test_c18_a_size_beyond_the_networks_is_refused_before_anything_is_sent(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        async with scripted.connect(GIVER, REAL) as home:
            huge = Giver(change=lambda _, right: ChunkReply(size_bytes=2**40, content=right.content))
            async with huge.on(home) as giver:
                attachment = giver.hold(CHUNK_BYTES)
                with pytest.raises(ApiError) as refused:
                    await fetch(scripted, attachment)
                assert refused.value.code == "attachment.too_large"
                assert len(giver.asked) == 1
        assert attachment.hex() not in files(scripted, REAL)

    asyncio.run(scenario())


def test_c18_a_fetch_goes_on_over_a_connection_that_breaks(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        giver = Giver(change=lambda request, right: None if request.offset else right)
        attachment = giver.hold(6 * CHUNK_BYTES + 1)
        async with scripted.connect(GIVER, REAL) as home, giver.on(home):
            fetching = asyncio.create_task(fetch(scripted, attachment))
            # The first part has come, four are asked for.
            await eventually(giver.count, 5)
        giver.change = lambda _, right: right
        async with scripted.connect(GIVER, REAL) as home, giver.on(home):
            await fetching
        assert len([request for request in giver.asked if request.offset == 0]) == 1

    asyncio.run(scenario())


def test_c18_a_restart_in_the_middle_of_a_fetch_leaves_nothing(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        before = files(scripted, REAL)
        giver = Giver(change=lambda request, right: None if request.offset else right)
        attachment = giver.hold(6 * CHUNK_BYTES + 1)
        async with scripted.connect(GIVER, REAL) as home, giver.on(home):
            fetching = asyncio.create_task(fetch(scripted, attachment))
            await eventually(giver.count, 5)
            assert len(files(scripted, REAL) - before) == 1
            scripted.network.kill(REAL)
            with pytest.raises(ApiError):
                await fetching
        await scripted.network.start(REAL)
        assert files(scripted, REAL) == before
        giver.change = lambda _, right: right
        async with scripted.connect(GIVER, REAL) as home, giver.on(home):
            await fetch(scripted, attachment)
        assert files(scripted, REAL) == before | {attachment.hex()}

    asyncio.run(scenario())


# Served to a peer.


def test_c18_a_peer_gets_parts_of_bounded_size_and_number(scripted: ScriptedCommunity) -> None:
    content = os.urandom(3 * CHUNK_BYTES_MAX)
    attachment = sha256(content).digest()

    async def part(home: Connection, **request: int) -> ChunkReply:
        reply = await home.call(ATTACHMENT, ChunkRequest(hash=attachment, **request).SerializeToString())
        assert not reply.error_code
        return ChunkReply.FromString(reply.payload)

    async def scenario() -> None:
        async with scripted.client(REAL) as client:
            await client.attachments.upload(content)
        async with scripted.connect(GIVER, REAL) as home:
            assert (await part(home, bytes_max=2**32 - 1)).content == content[:CHUNK_BYTES_MAX]
            assert (await part(home)).content == content[:CHUNK_BYTES_MAX]
            assert (await part(home, offset=7, bytes_max=5)).content == content[7:12]
            for offset in (len(content), 2**64 - 1):
                beyond = await part(home, offset=offset, bytes_max=1)
                assert (beyond.size_bytes, beyond.content) == (len(content), b"")
            for wrong in (b"", b"\xff\xff", ChunkRequest(hash=b"short").SerializeToString()):
                assert (await home.call(ATTACHMENT, wrong)).error_code == "request.malformed"
            unknown = ChunkRequest(hash=bytes(32)).SerializeToString()
            assert (await home.call(ATTACHMENT, unknown)).payload == b""
            assert (await home.call(FETCH, FetchRequest(hash=attachment).SerializeToString())).error_code == (
                "peer.unknown_service"
            )

    asyncio.run(scenario())


def test_c18_a_peer_that_asks_too_much_is_told_to_come_again(scripted: ScriptedCommunity) -> None:
    content = os.urandom(CHUNK_BYTES_MAX)

    async def scenario() -> None:
        async with scripted.client(REAL) as client:
            stored = await client.attachments.upload(content)
        async with scripted.connect(GIVER, REAL) as home:
            payload = ChunkRequest(hash=stored.hash).SerializeToString()
            ids = [secrets.token_bytes(16) for _ in range(100)]
            waiting = [asyncio.create_task(home.call(ATTACHMENT, payload, one)) for one in ids]
            replies = await asyncio.gather(*waiting)
            served = [reply for reply in replies if not reply.error_code]
            assert len(served) >= PARALLEL_PER_PEER_MAX
            assert all(ChunkReply.FromString(reply.payload).content == content for reply in served)
            refused = [reply for reply in replies if reply.error_code]
            assert all(reply.error_code == "attachment.busy" and reply.retry_after_ns > 0 for reply in refused)

    asyncio.run(scenario())


# Fetched for a notary.


async def ask_to_notarise(scripted: ScriptedCommunity, notary: Connection, *attachments: bytes) -> NotarisationReply:
    """The reply to an issue of money that cites attachments."""
    issuer = scripted.peer("community")
    builder = money_issue(issuer, [issuer.identity], PAID_NANO)
    for attachment in attachments:
        builder.add_attachment(attachment)
    draft = built(builder)
    return await notary.ask(issuer.request(draft, draft.proposal([issuer.sign(draft.id)])))


def test_c18_a_notary_fetches_what_it_lacks_from_the_caller_once(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        async with scripted.connect("community") as notary, Giver().on(notary) as giver:
            attachments = [giver.hold(CHUNK_BYTES + 1), giver.hold(33)]
            for _ in range(2):
                reply = await ask_to_notarise(scripted, notary, *attachments)
                assert reply.HasField("finality_proof")
            assert sorted((one.hash, one.offset) for one in giver.asked) == sorted(
                [(attachments[0], 0), (attachments[0], CHUNK_BYTES), (attachments[1], 0)]
            )

    asyncio.run(scenario())


@pytest.mark.parametrize("wrong", ["not held", "other content"])
def test_l20_missing_attachment_is_refused_by_the_notary(scripted: ScriptedCommunity, wrong: str) -> None:
    async def scenario() -> None:
        before = files(scripted, "notary")
        change = nonsense if wrong == "other content" else lambda *_: ChunkReply()
        async with scripted.connect("community") as notary, Giver(change=change).on(notary) as giver:
            attachment = giver.hold(1_000)
            reply = refusal(await ask_to_notarise(scripted, notary, attachment), INVALID)
            assert reply.error.cause == MISSING
            assert attachment.hex() in reply.error.message
            assert files(scripted, "notary") == before
            # Nothing was consumed: with the attachment it passes.
            giver.change = lambda _, right: right
            assert (await ask_to_notarise(scripted, notary, attachment)).HasField("finality_proof")

    asyncio.run(scenario())


def test_l20_missing_attachments_without_number_are_not_fetched(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        async with scripted.connect("community") as notary, Giver().on(notary) as giver:
            attachments = [giver.hold(40) for _ in range(17)]
            reply = refusal(await ask_to_notarise(scripted, notary, *attachments), INVALID)
            assert reply.error.cause == MISSING
            assert not giver.asked

    asyncio.run(scenario())


def test_c18_a_caller_that_gives_nothing_delays_only_itself(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        issuer = scripted.peer("community")
        async with scripted.connect("community") as notary, Giver(change=lambda *_: None).on(notary) as silent:
            calls = []
            for _ in range(FETCHING_PER_CALLER_MAX + 3):
                draft = built(money_issue(issuer, [issuer.identity], 1).add_attachment(silent.hold(40)))
                request = issuer.request(draft, draft.proposal([issuer.sign(draft.id)])).SerializeToString()
                calls.append(asyncio.create_task(notary.call("notarise", request)))
            done, waiting = await asyncio.wait(calls, timeout=2)
            assert len(waiting) == FETCHING_PER_CALLER_MAX
            assert {one.result().error_code for one in done} == {"notary.overloaded"}
            assert all(one.result().retry_after_ns > 0 for one in done)
            # Others, and its own requests without attachments, are decided meanwhile.
            assert (await ask_to_notarise(scripted, notary)).HasField("finality_proof")
            for call in waiting:
                call.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            # When it does give, what it waits for is decided.
            silent.change = lambda _, right: right
        async with scripted.connect("community") as notary, silent.on(notary):
            draft = built(money_issue(issuer, [issuer.identity], 1).add_attachment(silent.hold(50)))
            request = issuer.request(draft, draft.proposal([issuer.sign(draft.id)])).SerializeToString()

            async def error() -> str:
                return (await notary.call("notarise", request)).error_code

            await eventually(error, "")

    asyncio.run(scenario())


def tariff_table(price_max: int, padding: int = 0) -> bytes:
    """An attachment that bounds the price of solar energy; `padding` makes it larger."""
    validity = TimeNs(FIRST_PERIOD_NS), TimeNs(FIRST_PERIOD_NS + QUARTER_NS)
    row = TariffRow("solar", "", MicroPerKwh(0), MicroPerKwh(price_max), MicroPerKwh(0), MicroPerKwh(0))
    return TariffTable("summer" + "!" * padding, CURRENCY, *validity, (row,)).encode()


def test_c18_a_notary_reads_the_tariff_that_a_trade_cites(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        seller, buyer = scripted.peer(GIVER), scripted.peer("home-3")
        (coin,) = await scripted.coins([buyer.identity], EURO_NANO)
        plan = TradePlan(
            lot=await scripted.lot(GIVER, 400),
            coin=coin,
            seller=seller.identity,
            buyer=buyer.identity,
            quantity_wh=400,
            price=250_000,
            until_ns=time.time_ns() + 20 * SECOND_NS,
        )
        async with scripted.connect("home-3") as notary, Giver().on(notary) as giver:

            async def trade(table: bytes) -> NotarisationReply:
                tariff = sha256(table).digest()
                giver.contents[tariff] = table
                draft = built(replace(plan, tariff=tariff).build(builder_of(buyer)))
                signatures = [seller.sign(draft.id), buyer.sign(draft.id)]
                return await notary.ask(buyer.request(draft, draft.proposal(signatures, plan.proofs)))

            cheap = refusal(await trade(tariff_table(price_max=249_999)), INVALID)
            assert cheap.error.cause == "energy.trade.price_outside_tariff"
            large = refusal(await trade(tariff_table(250_000, CONTRACT_ATTACHMENT_BYTES_MAX)), INVALID)
            assert large.error.cause == "transaction.attachment_too_large"
            garbage = refusal(await trade(b"no table at all"), INVALID)
            assert garbage.error.cause == "transaction.malformed"
            # Nothing was consumed.
            assert (await trade(tariff_table(price_max=250_000))).HasField("finality_proof")

    asyncio.run(scenario())


# Fetched for a flow.


@dataclass(frozen=True)
class Gift:
    """Energy for the real home, in a transaction that cites attachments."""

    scripted: ScriptedCommunity
    lot: Held

    def builder(self, *attachments: bytes) -> TransactionBuilder:
        giver, receiver = self.scripted.identity[GIVER], self.scripted.identity[REAL]
        builder = builder_of(self.scripted.peer(GIVER))
        builder.window(NO_LOWER_BOUND, TimeNs(time.time_ns() + 25 * SECOND_NS))
        builder.add_input(self.lot.ref, self.lot.component)
        builder.add_output(energy.NAME, energy.VERSION, replace(self.lot.energy, owner=receiver))
        for attachment in attachments:
            builder.add_attachment(attachment)
        return builder.add_command(
            energy.NAME, EnergyTransfer(giver, receiver, self.lot.energy.quantity_wh), [giver, receiver]
        )

    async def propose(self, home: Connection, draft: Draft) -> bytes:
        return await home.open(
            "energy.transfer", SignatureRequest(proposal=draft.proposal((), [self.lot.proof]).encode())
        )


async def newest_failure(scripted: ScriptedCommunity) -> str:
    """The code of the newest flow of the real home, when it has failed."""
    async with scripted.client(REAL) as client:
        listed: ListFlowsResponse = await client.flows.list(status=FLOW_STATUS_FAILED, page_size=1)
    return listed.flows[0].outcome.error_code if listed.flows else ""


def test_c18_a_counterparty_fetches_what_a_proposal_cites_before_it_signs(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        gift = Gift(scripted, await scripted.lot(GIVER, 1_000))
        async with scripted.connect(GIVER, REAL) as home, Giver().on(home) as giver:
            attachment = giver.hold(CHUNK_BYTES + 5)
            draft = built(gift.builder(attachment))
            answer = await home.hear(await gift.propose(home, draft))
            assert answer.kind == SessionMessage.KIND_DATA
            assert SignatureResponse.FromString(answer.payload).signature
            assert [one.offset for one in giver.asked] == [0, CHUNK_BYTES]
            assert attachment.hex() in files(scripted, REAL)
            # Another proposal that cites it finds it here.
            again = built(gift.builder(attachment))
            assert (await home.hear(await gift.propose(home, again))).kind == SessionMessage.KIND_DATA
            assert len(giver.asked) == 2

    asyncio.run(scenario())


def test_l20_missing_attachment_is_refused_by_the_counterparty(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        gift = Gift(scripted, await scripted.lot(GIVER, 1_000))
        before = files(scripted, REAL)
        for change in (lambda *_: ChunkReply(), nonsense):
            async with scripted.connect(GIVER, REAL) as home, Giver(change=change).on(home) as giver:
                draft = built(gift.builder(giver.hold(1_000)))
                answer = await home.hear(await gift.propose(home, draft))
                assert answer.kind == SessionMessage.KIND_ERROR
                assert not answer.payload
            await eventually(lambda: newest_failure(scripted), MISSING)
            assert files(scripted, REAL) == before

    asyncio.run(scenario())


def test_c18_a_flow_fetches_again_after_a_kill_in_the_middle(scripted: ScriptedCommunity) -> None:
    async def scenario() -> None:
        gift = Gift(scripted, await scripted.lot(GIVER, 1_000))
        giver = Giver(change=lambda *_: None)
        draft = built(gift.builder(giver.hold(1_000)))
        async with scripted.connect(GIVER, REAL) as home, giver.on(home):
            flow_id = await gift.propose(home, draft)
            await eventually(giver.count, 1)
            await home.settled()
            scripted.network.kill(REAL)
        giver.change = lambda _, right: right
        await scripted.network.start(REAL)
        async with scripted.connect(GIVER, REAL) as home, giver.on(home):
            answer = await home.hear(flow_id)
            assert SignatureResponse.FromString(answer.payload).signature

    asyncio.run(scenario())
