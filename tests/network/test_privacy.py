"""Need to know: what a trade leaves on the disks and in the logs of those who are no party to it."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from p2pet.localnet import LocalNetwork

from tests.support.community import CURRENCY, EURO_NANO, Community, completed, energy_request, make_community
from tests.support.drafts import built, energy_issue, refusal
from tests.support.peer import ScriptedPeer
from tests.support.scripted import eventually

SELLER, BUYER, STRANGER, SCRIPTED = "home-1", "home-2", "home-3", "home-4"
NOTARY, ISSUER = "notary", "community"
# Both take five bytes as a varint: nothing else on a disk looks like them by chance.
QUANTITY_WH = 0x1A2B3C4D
PRICE = 0x12B3C4D5E
METER = "marked-meter-zx81"
REFUSED_METER = "marked-meter-ql84"
ZONE = "marked-zone-qv37"
PERIOD = 77


def varint(value: int) -> bytes:
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])


def encodings(value: int) -> dict[str, bytes]:
    return {
        "varint": varint(value),
        "eight bytes": value.to_bytes(8, "big"),
        "eight bytes, little-endian": value.to_bytes(8, "little"),
        "digits": str(value).encode(),
    }


@dataclass(frozen=True)
class MarkedTrade:
    """A trade whose every fact can be searched for."""

    community: Community
    transaction_id: bytes
    amount_nano: int

    def traces(self) -> dict[str, bytes]:
        """What a party holds and nobody else needs, by what it is."""
        traces = {"meter": METER.encode(), "zone": ZONE.encode()}
        for name, value in (("quantity", QUANTITY_WH), ("price", PRICE), ("amount", self.amount_nano)):
            traces |= {f"{name} as {form}": data for form, data in encodings(value).items()}
        return traces

    def found(self, node: str, traces: dict[str, bytes]) -> set[str]:
        """Which of them stand in any file below the node's data directory, or in its log."""
        home = self.community.network.node_directory(node)
        files = [path for path in (home / "data").rglob("*") if path.is_file()]
        assert files
        contents = [_content(path) for path in (*files, home / "node.log")]
        return {name for name, trace in traces.items() if any(trace in content for content in contents)}


def _content(path: Path) -> bytes:
    """Sparse tails of a file are zeros."""
    return path.read_bytes().rstrip(b"\x00")


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MarkedTrade]:
    """One trade between two homes, while a third one runs; all of them log whatever they can."""
    directory = tmp_path_factory.mktemp("privacy") / "net"
    made = make_community(directory, homes=4)
    for node in made.nodes:
        with (node.directory / "node.toml").open("a") as config:
            config.write('\n[log]\nlevel = "debug"\n')
    with LocalNetwork(directory) as network:
        community = Community(made, network)
        trade = asyncio.run(_trade(community))
        # Everything that a node keeps in memory is on its disk now.
        network.stop()
        yield trade


async def _trade(community: Community) -> MarkedTrade:
    await community.network.start(NOTARY, ISSUER, SELLER, BUYER, STRANGER)
    amount = QUANTITY_WH * PRICE
    completed(await community.issue_money(BUYER, amount + EURO_NANO))
    await eventually(lambda: community.money_nano(BUYER), amount + EURO_NANO)
    request = energy_request(SELLER, QUANTITY_WH + 1, PERIOD, PRICE)
    request.meter, request.zone = METER, ZONE
    completed(await community.run(SELLER, "energy.request", request))
    terms = community.trade_terms(SELLER, QUANTITY_WH, PERIOD, PRICE)
    assert terms.currency == CURRENCY
    outcome = completed(await community.run(BUYER, "energy.trade", terms))
    await eventually(lambda: community.money_nano(SELLER), amount)
    await _be_refused(community)
    return MarkedTrade(community, outcome.transaction_id, amount)


async def _be_refused(community: Community) -> None:
    """A contract refuses a marked transaction; its sentence names what it saw."""
    producer = ScriptedPeer(community.network.node_directory(SCRIPTED))
    draft = built(energy_issue(producer, QUANTITY_WH + 2, REFUSED_METER, PERIOD).add_claim(bytes(32)))
    async with producer.connect(community.identity[NOTARY]) as notary:
        reply = await notary.ask(producer.request(draft, draft.proposal([producer.sign(draft.id)])))
    assert refusal(reply, "notary.invalid_transaction").error.cause == "contract.claim_not_demanded"


PARTIES_HOLD = {"meter", "zone", "quantity as varint", "price as varint", "amount as varint"}


@pytest.mark.parametrize("party", [SELLER, BUYER])
def test_the_search_finds_the_trade_at_its_parties(marked: MarkedTrade, party: str) -> None:
    assert marked.found(party, marked.traces()) >= PARTIES_HOLD
    assert marked.found(party, {"id": marked.transaction_id}) == {"id"}


def test_notary_keeps_ids_and_no_quantity_price_or_name(marked: MarkedTrade) -> None:
    assert marked.found(NOTARY, marked.traces()) == set()
    refused = {"meter": REFUSED_METER.encode(), "quantity": varint(QUANTITY_WH + 2)}
    assert marked.found(NOTARY, refused) == set()
    # It did decide this very trade.
    assert marked.found(NOTARY, {"id": marked.transaction_id}) == {"id"}
    notary_log = marked.community.network.node_directory(NOTARY) / "node.log"
    assert b"DEBUG" in notary_log.read_bytes()


@pytest.mark.parametrize("stranger", [STRANGER, ISSUER])
def test_c17_stranger_holds_nothing_of_a_trade_between_others(marked: MarkedTrade, stranger: str) -> None:
    traces = marked.traces() | {"id": marked.transaction_id, "id in hex": marked.transaction_id.hex().encode()}
    assert marked.found(stranger, traces) == set()


@pytest.mark.parametrize("node", [NOTARY, ISSUER, SELLER])
def test_no_other_user_of_the_machine_can_read_what_a_node_keeps(marked: MarkedTrade, node: str) -> None:
    data = marked.community.network.node_directory(node) / "data"
    open_to_others = [path.name for path in data.rglob("*") if path.stat().st_mode & 0o077]
    assert open_to_others == []
