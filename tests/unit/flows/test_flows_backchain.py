"""Histories under a uniqueness-only notary: what is fetched, what is refused, what is kept."""

import asyncio
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from p2pet.ledger.v1.chain_pb2 import ChainReply, ChainRequest
from p2pet.peer.v1.peer_pb2 import Reply

from p2petd.config import load_config
from p2petd.errors import (
    HistoryCyclic,
    HistoryError,
    HistoryForged,
    HistoryForked,
    HistoryMissing,
    HistoryTooLarge,
    HistoryUnavailable,
    LockWrong,
)
from p2petd.flows import backchain, chain_service
from p2petd.flows.backchain import ChainResolver
from p2petd.flows.chain_check import Link, oldest_first
from p2petd.flows.chain_service import ChainService
from p2petd.ledger.proposal import Proposal
from p2petd.membership import Membership
from p2petd.store.changes import scan_prefix
from p2petd.store.tables import Table
from tests.support.community import make_community
from tests.support.unseen import Histories, Spend, Unseen, UnseenNotary, chain, issue, spend

ROOT = b"r" * 32
Corrupt = Callable[[ChainReply], None]


@dataclass(frozen=True)
class Network:
    directory: Path
    issuer: Membership
    giver: Membership
    taker: Membership


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    directory = tmp_path_factory.mktemp("unseen") / "net"
    make_community(directory, homes=2, uniqueness_notaries=1)

    def load(name: str) -> Membership:
        return Membership.load(load_config(directory / name / "node.toml"))

    return Network(directory, load("community"), load("home-1"), load("home-2"))


@dataclass
class Nodes:
    """Two nodes, one of which asks the other directly; the test may change the answers."""

    network: Network
    notary: UnseenNotary
    giving: Histories
    taking: Histories
    corrupt: Corrupt = lambda reply: None
    requests: list[ChainRequest] = field(default_factory=list)
    replies: list[int] = field(default_factory=list)

    @property
    def me(self) -> bytes:
        return self.network.giver.identity.public

    @property
    def taker(self) -> bytes:
        return self.network.taker.identity.public

    def chain(self, depth: int) -> list[Unseen]:
        made = chain(self.notary, self.network.issuer, self.network.giver, depth)
        self.give(made)
        return made

    def pay(self, made: Unseen, **wrong: Any) -> Unseen:
        return spend(self.notary, replace(Spend(self.network.giver, ((made, 0),), ((self.me, 1000),)), **wrong))

    def give(self, made: Sequence[Unseen]) -> None:
        self.giving.keep(made)
        self.giving.grant(self.taker, ROOT, [made[-1].id])

    async def call(self, peer: bytes, service: str, payload: bytes) -> Reply:
        request = ChainRequest.FromString(payload)
        self.requests.append(request)
        server = ChainService(self.giving.ancestry)
        reply = server.reply(self.taker, request)
        server.stop()
        self.corrupt(reply)
        self.replies.append(len(reply.transactions))
        return Reply(payload=reply.SerializeToString())

    def resolve(self, *wanted: Unseen) -> None:
        # No transaction of these tests cites an attachment.
        attachments: Any = None
        resolver = ChainResolver(self.taker, self.taking.verifier, attachments, self.call)
        asyncio.run(resolver.resolve(self.me, ROOT, [one.id for one in wanted]))

    def kept(self) -> set[bytes]:
        return {key for key, _ in scan_prefix(self.taking.histories, Table.ANCESTOR, b"")}

    def refuses(self, error: type[HistoryError], *wanted: Unseen) -> HistoryError:
        before = self.kept()
        with pytest.raises(error) as refused:
            self.resolve(*wanted)
        assert refused.type is error
        assert not {one.id for one in wanted} & self.kept()
        assert before <= self.kept()
        return refused.value


@pytest.fixture
def nodes(network: Network, tmp_path: Path) -> Iterator[Nodes]:
    giving, taking = Histories(tmp_path / "giver", network.giver), Histories(tmp_path / "taker", network.taker)
    yield Nodes(network, UnseenNotary(network.directory, tmp_path / "notary", network.giver), giving, taking)
    giving.close()
    taking.close()


def test_f24_history_is_verified_kept_and_not_asked_for_again(nodes: Nodes) -> None:
    made = nodes.chain(20)
    nodes.resolve(made[-1])
    assert nodes.kept() == {one.id for one in made}
    assert [request.transactions_max for request in nodes.requests] == [16, 128]
    assert nodes.replies == [16, 4]
    nodes.resolve(made[-1], made[3])
    assert len(nodes.requests) == 2
    # Whoever knows all but the end asks once, for little.
    longer = nodes.pay(made[-1])
    nodes.give([longer])
    nodes.resolve(longer)
    assert list(nodes.requests[2].wanted) == [longer.id]
    assert nodes.replies[2] == 16
    assert nodes.taking.ancestry.parents(longer.id) == (made[-1].id,)
    assert nodes.taking.ancestry.consumer(made[-1].draft.output_ref(0).encode()) == longer.id


def test_f24_a_long_history_comes_in_few_replies_of_limited_size(nodes: Nodes) -> None:
    made = nodes.chain(1_500)
    nodes.resolve(made[-1])
    assert nodes.kept() == {one.id for one in made}
    assert len(nodes.requests) <= 6
    request = ChainRequest(root=ROOT, wanted=[made[-1].id])
    server = ChainService(nodes.giving.ancestry)
    reply = server.reply(nodes.taker, request)
    server.stop()
    size = len(reply.SerializeToString())
    assert 0.95 * chain_service.REPLY_BYTES_MAX < size <= chain_service.REPLY_BYTES_MAX


def test_f24_states_of_several_histories_are_resolved_together(nodes: Nodes) -> None:
    left, right = nodes.chain(3), nodes.chain(3)
    joined = spend(
        nodes.notary, Spend(nodes.network.giver, ((left[-1], 0), (right[-1], 0)), ((nodes.me, 1500), (nodes.me, 500)))
    )
    again = nodes.pay(joined, outputs=((nodes.me, 1500),))
    nodes.give([joined, again])
    nodes.resolve(again)
    assert nodes.kept() == {one.id for one in (*left, *right, joined, again)}


def test_f24_a_missing_ancestor_refuses(nodes: Nodes) -> None:
    made = nodes.chain(20)

    def hide(reply: ChainReply) -> None:
        given = [t.signed_transaction for t in reply.transactions]
        if made[2].signed in given:
            del reply.transactions[given.index(made[2].signed) :]

    nodes.corrupt = hide
    nodes.refuses(HistoryMissing, made[-1])
    assert nodes.kept() == set()
    nodes.corrupt = lambda reply: reply.Clear()
    nodes.refuses(HistoryMissing, made[-1])


def test_f24_an_answer_that_was_not_asked_for_refuses(nodes: Nodes) -> None:
    made, other = nodes.chain(5), nodes.chain(2)
    nodes.give(made)
    nodes.corrupt = lambda reply: reply.transactions.append(other[-1].entry())
    nodes.refuses(HistoryCyclic, made[-1])
    assert nodes.kept() == set()


def test_f24_links_in_a_circle_refuse() -> None:
    def link(identifier: bytes, *parents: bytes) -> Link:
        return Link(identifier, parents, (), b"", b"")

    ordered = oldest_first({one.id: one for one in (link(b"c", b"b", b"a"), link(b"b", b"a"), link(b"a", b"known"))})
    assert [one.id for one in ordered] == [b"a", b"b", b"c"]
    with pytest.raises(HistoryCyclic):
        oldest_first({one.id: one for one in (link(b"a", b"b"), link(b"b", b"a"))})


@pytest.mark.parametrize("part", ["signature", "proof", "junk"])
def test_f24_a_forged_ancestor_refuses(nodes: Nodes, part: str) -> None:
    made = nodes.chain(6)
    stranger = nodes.network.taker.identity.signing_key

    def forge(reply: ChainReply) -> None:
        for entry in reply.transactions:
            if entry.signed_transaction != made[2].signed:
                continue
            if part == "signature":
                proposal = Proposal.decode(entry.signed_transaction)
                false = replace(proposal.signatures[0], signature=stranger.sign(bytes(32), 1, made[2].id))
                entry.signed_transaction = replace(proposal, signatures=(false,)).encode()
            elif part == "proof":
                entry.finality_proof = made[3].proof
            else:
                entry.signed_transaction = b"junk"

    nodes.corrupt = forge
    nodes.refuses(HistoryForged, made[-1])


def test_c10_an_ancestor_that_makes_money_refuses(nodes: Nodes) -> None:
    first = nodes.chain(2)
    rich = nodes.pay(first[-1], outputs=((nodes.me, 1001),))
    last = nodes.pay(rich, outputs=((nodes.me, 1001),))
    nodes.give([rich, last])
    refused = nodes.refuses(HistoryForged, last)
    assert "payment." in refused.message
    # The notary has decided it all the same: it does not see amounts.
    assert rich.proof


def test_f24_an_ancestor_that_its_owner_has_not_signed_refuses(nodes: Nodes) -> None:
    first = nodes.chain(2)
    unsigned = nodes.pay(first[-1], signer=nodes.network.taker)
    nodes.give([unsigned])
    nodes.refuses(HistoryForged, unsigned)


def test_f24_a_lock_that_is_not_its_owners_refuses(nodes: Nodes) -> None:
    first = nodes.chain(2)
    kept_open = nodes.pay(first[-1], outputs=((nodes.taker, 1000),), locks=(nodes.me,))
    nodes.give([kept_open])
    nodes.refuses(LockWrong, kept_open)


def test_f24_a_fork_refuses_in_one_history_and_across_two(nodes: Nodes, tmp_path: Path) -> None:
    made = nodes.chain(3)
    shutil.copytree(tmp_path / "notary", tmp_path / "false")
    false = UnseenNotary(nodes.network.directory, tmp_path / "false", nodes.network.giver)
    # The notary's own key has signed both: it decided each in another log.
    one = spend(nodes.notary, Spend(nodes.network.giver, ((made[-1], 0),), ((nodes.me, 1000),)))
    two = spend(false, Spend(nodes.network.giver, ((made[-1], 0),), ((nodes.me, 999), (nodes.me, 1))))
    nodes.give([one])
    nodes.give([two])
    nodes.giving.grant(nodes.taker, ROOT, [one.id, two.id])
    nodes.refuses(HistoryForked, one, two)
    nodes.resolve(one)
    nodes.refuses(HistoryForked, two)
    assert nodes.taking.ancestry.consumer(made[-1].draft.output_ref(0).encode()) == one.id


def test_f24_what_is_learned_elsewhere_while_the_peer_answers_is_not_missed(nodes: Nodes) -> None:
    """Another flow has recorded all that was asked for: the answer brings nothing new, and nothing lacks."""
    made = nodes.chain(3)
    nodes.corrupt = lambda reply: nodes.taking.keep(made)
    nodes.resolve(made[-1])
    assert len(nodes.requests) == 1


def test_f24_what_was_verified_before_an_end_stays_and_is_enough(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    made = nodes.chain(40)
    monkeypatch.setattr(backchain, "PORTION", 10)
    verify = nodes.taking.verifier.verify
    portions = 0

    class Crash(Exception):
        """The node ends."""

    def crash_at_third(links: Sequence[Link]) -> Any:
        nonlocal portions
        portions += 1
        if portions == 3:
            raise Crash
        return verify(links)

    object.__setattr__(nodes.taking.verifier, "verify", crash_at_third)
    with pytest.raises(Crash):
        nodes.resolve(made[-1])
    assert nodes.kept() == {one.id for one in made[:20]}
    object.__setattr__(nodes.taking.verifier, "verify", verify)
    nodes.resolve(made[-1])
    assert nodes.kept() == {one.id for one in made}


def test_f24_histories_have_a_limit(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    made = nodes.chain(11)
    monkeypatch.setattr(backchain, "TRANSACTIONS_MAX", 10)
    nodes.refuses(HistoryTooLarge, made[-1])
    assert nodes.kept() == set()
    nodes.resolve(made[-2])
    monkeypatch.setattr(backchain, "BYTES_MAX", 100)
    nodes.refuses(HistoryTooLarge, made[-1])
    monkeypatch.setattr(backchain, "BYTES_MAX", len(made[-1].signed) + len(made[-1].proof))
    nodes.resolve(made[-1])


def test_f24_a_peer_that_is_silent_is_not_waited_for(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    made = nodes.chain(2)

    async def silence(peer: bytes, service: str, payload: bytes) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(backchain, "STALL_SECONDS_MAX", 0.01)
    monkeypatch.setattr(nodes, "call", silence)
    nodes.refuses(HistoryUnavailable, made[-1])


def test_f24_only_what_a_peer_was_sent_and_what_is_behind_it_is_given(nodes: Nodes) -> None:
    made, secret = nodes.chain(5), nodes.chain(3)
    # Of the first history the taker was sent the third transaction.
    nodes.giving.grant(nodes.taker, ROOT, [made[2].id])
    server = ChainService(nodes.giving.ancestry)

    def given(peer: bytes, root: bytes, *wanted: Unseen, at_most: int = 0) -> list[bytes]:
        request = ChainRequest(root=root, wanted=[one.id for one in wanted], transactions_max=at_most)
        return [one.signed_transaction for one in server.reply(peer, request).transactions]

    assert given(nodes.taker, ROOT, made[2]) == [one.signed for one in reversed(made[:3])]
    assert given(nodes.taker, ROOT, made[0]) == [made[0].signed]
    assert given(nodes.taker, ROOT, made[2], at_most=2) == [made[2].signed, made[1].signed]
    for wanted in (made[3], made[4], secret[-1], secret[0]):
        assert given(nodes.taker, ROOT, wanted) == []
    stranger = nodes.network.issuer.identity.public
    assert given(stranger, ROOT, made[0], made[2]) == []
    assert given(nodes.taker, made[2].id, made[2]) == []
    server.stop()


def test_f24_too_many_wanted_at_once_are_refused(nodes: Nodes) -> None:
    async def scenario() -> None:
        server = ChainService(nodes.giving.ancestry)
        answers: asyncio.Queue[Reply] = asyncio.Queue()
        for count, code in ((chain_service.WANTED_MAX, ""), (chain_service.WANTED_MAX + 1, "request.malformed")):
            request = ChainRequest(root=ROOT, wanted=[bytes(32)] * count)
            server.serve(nodes.taker, request.SerializeToString(), answers.put_nowait)
            assert (await answers.get()).error_code == code
        server.serve(nodes.taker, b"\xff", answers.put_nowait)
        assert (await answers.get()).error_code == "request.malformed"
        for _ in range(chain_service.WAITING_PER_PEER_MAX + 1):
            server.serve(nodes.taker, request.SerializeToString()[:34], answers.put_nowait)
        codes = [(await answers.get()).error_code for _ in range(chain_service.WAITING_PER_PEER_MAX + 1)]
        assert sorted(codes) == [""] * chain_service.WAITING_PER_PEER_MAX + ["chain.busy"]
        server.stop()

    asyncio.run(scenario())


def test_f24_an_issue_needs_no_history(nodes: Nodes) -> None:
    first = issue(nodes.notary, nodes.network.issuer, nodes.me, 5)
    nodes.give([first])
    nodes.resolve(first)
    assert nodes.taking.ancestry.parents(first.id) == ()
