"""`p2petd verify` on the data of real daemons: silent about what is whole, and every kind of damage is found."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from p2pet.localnet import LocalNetwork
from p2pet.store.v1.store_pb2 import StateRow, TransactionRow

from p2petd import native
from p2petd.config import load_config
from p2petd.errors import DataDirectoryError
from p2petd.ledger.proposal import Proposal, Signature
from p2petd.offline.findings import Verification
from p2petd.offline.verify import verify
from p2petd.store.tables import Table
from tests.support.community import EURO_NANO, Community, completed, make_community
from tests.support.scripted import eventually
from tests.support.small_logs import flip, make_small, segments, snapshots

HOME = "home-1"
PERIODS = 24
Row = tuple[int, bytes, bytes | None]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directories of nodes that have traded, hold an attachment and were stopped."""
    directory = tmp_path_factory.mktemp("verify") / "net"
    made = make_community(directory)
    for node in made.nodes:
        make_small(node.directory)
    with LocalNetwork(directory) as network:
        asyncio.run(network.start())
        asyncio.run(_trade(Community(made, network)))
        network.stop()
        yield directory


async def _trade(community: Community) -> None:
    completed(await community.issue_money(HOME, 100 * EURO_NANO))
    for period in range(PERIODS):
        completed(await community.issue_energy("home-2", 1000, period))
        completed(await community.trade(HOME, "home-2", 400, period))
    async with community.client(HOME) as client:
        await client.attachments.upload(b"a tariff that nobody reads" * 1000, name="t")

        async def taken() -> bool:
            return (await client.info()).snapshot_sequence > 0

        # Its thread looks once a second, and the trades may take less.
        await eventually(taken, True)


def verified(nodes: Path, name: str = HOME) -> Verification:
    return verify(load_config(nodes / name / "node.toml"), None, lambda what, done, total: None)


def findings(nodes: Path, name: str = HOME) -> list[str]:
    """All sentences; nothing that verification made is left."""
    found = verified(nodes, name)
    assert not list((nodes / name / "data").glob(".verify-*"))
    return [sentence for part in found.parts for sentence in part.findings]


def data(nodes: Path, name: str = HOME) -> Path:
    return nodes / name / "data"


@contextmanager
def flipped(path: Path, offset: int) -> Iterator[None]:
    """One bit of a file is another one meanwhile."""
    flip(path, offset)
    try:
        yield
    finally:
        flip(path, offset)


@contextmanager
def changed(nodes: Path, change: Callable[[native.Store], list[Row]]) -> Iterator[None]:
    """Rows that no node would commit, meanwhile."""
    directory = str(data(nodes) / "node")
    store = native.Store.open(directory)
    rows = change(store)
    before = [(table, key, store.get(table, key)) for table, key, _ in rows]
    store.commit(rows)
    store.close()
    try:
        yield
    finally:
        store = native.Store.open(directory)
        store.commit(before)
        store.close()


def first(store: native.Store, table: Table) -> tuple[bytes, bytes]:
    return store.scan(table, b"", None, 1)[0]


@pytest.mark.parametrize("name", ["home-1", "home-2", "community", "notary"])
def test_what_a_node_leaves_is_what_its_log_says(nodes: Path, name: str) -> None:
    found = verified(nodes, name)
    assert found.count == 0, found.lines()
    facts = {part.name: part.facts for part in found.parts}
    assert facts["node"]["view"] == "what the log says"
    if name == "notary":
        assert facts["notary"]["decisions"] == 2 * PERIODS + 1
    elif name == HOME:
        assert facts["node"]["transactions"] == PERIODS + 1
        assert facts["attachments"]["files"] == 1
        assert snapshots(data(nodes) / "node"), facts


def test_it_changes_nothing(nodes: Path) -> None:
    def files() -> dict[Path, tuple[int, int]]:
        found = (path for path in data(nodes).rglob("*") if path.is_file())
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}

    before = files()
    assert findings(nodes) == []
    assert files() == before


def test_r06_a_flipped_bit_of_a_segment_is_named_with_file_and_offset(nodes: Path) -> None:
    store = data(nodes) / "node"
    segment = store / "log" / f"{segments(store)[0]:020}.log"
    with flipped(segment, 3000):
        (sentence,) = findings(nodes)
    assert str(segment) in sentence
    assert "at offset" in sentence


def test_r06_a_flipped_bit_of_a_snapshot_is_named(nodes: Path) -> None:
    store = data(nodes) / "node"
    newest = snapshots(store)[0]
    with flipped(store / "snapshots" / f"{newest:020}.mdb", 6000):
        (sentence,) = findings(nodes)
    assert str(newest) in sentence
    assert "snapshots" in sentence


def test_r06_flipped_bits_of_the_view_are_found_or_mean_nothing(nodes: Path) -> None:
    view = data(nodes) / "node" / "view" / "data.mdb"
    content = view.read_bytes()
    store = native.Store.open(str(data(nodes) / "node"))
    _, value = first(store, Table.STATE)
    store.close()
    # Of a row that has moved an old page may still hold a copy.
    with ExitStack() as stack:
        for found in re.finditer(re.escape(value), content):
            stack.enter_context(flipped(view, found.start() + 50))
        told = findings(nodes)
    assert any(str(view) in sentence and "another value" in sentence for sentence in told), told
    for offset in range(8, len(content), len(content) // 5):
        with flipped(view, offset):
            # Of a page that is free no bit means anything.
            assert all(str(view) in sentence or "the view is wrong" in sentence for sentence in findings(nodes))


def test_a_signature_of_another_key_is_found(nodes: Path) -> None:
    def forge(store: native.Store) -> list[Row]:
        key, value = first(store, Table.TRANSACTION)
        row = TransactionRow.FromString(value)
        proposal = Proposal.decode(row.signed_transaction)
        signatures = tuple(Signature(s.key, bytes(reversed(s.signature))) for s in proposal.signatures)
        row.signed_transaction = Proposal(proposal.transaction, signatures).encode()
        return [(Table.TRANSACTION, key, row.SerializeToString())]

    with changed(nodes, forge):
        (sentence,) = findings(nodes)
    assert "signature" in sentence


def test_signatures_of_others_that_lack_are_counted_and_no_finding(nodes: Path) -> None:
    def leave_out(store: native.Store) -> list[Row]:
        for key, value in store.scan(Table.TRANSACTION, b"", None, 1000):
            row = TransactionRow.FromString(value)
            proposal = Proposal.decode(row.signed_transaction)
            if len(proposal.signatures) > 1:
                row.signed_transaction = Proposal(proposal.transaction, proposal.signatures[:1]).encode()
                return [(Table.TRANSACTION, key, row.SerializeToString())]
        raise AssertionError("every transaction has one signature")

    with changed(nodes, leave_out):
        found = verified(nodes)
    assert found.count == 0, found.lines()
    assert found.parts[0].facts["without signatures of other parties"] == 1


def test_a_damaged_finality_proof_is_found(nodes: Path) -> None:
    def damage(store: native.Store) -> list[Row]:
        key, value = first(store, Table.TRANSACTION)
        row = TransactionRow.FromString(value)
        row.finality_proof = row.finality_proof[:-1] + bytes([row.finality_proof[-1] ^ 1])
        return [(Table.TRANSACTION, key, row.SerializeToString())]

    with changed(nodes, damage):
        assert len(findings(nodes)) == 1


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (Table.TRANSACTION, "transaction"),
        (Table.STATE, "missing"),
        (Table.SPENDABLE, "spendable"),
        (Table.TRANSACTION_ORDER, "listed by time"),
    ],
)
def test_a_row_that_lacks_is_found(nodes: Path, table: Table, words: str) -> None:
    with changed(nodes, lambda store: [(table, first(store, table)[0], None)]):
        told = findings(nodes)
    assert any(words in sentence for sentence in told), told


def test_a_state_that_was_changed_or_is_said_to_be_unspent_is_found(nodes: Path) -> None:
    def more_energy(store: native.Store) -> list[Row]:
        key, value = first(store, Table.STATE)
        row = StateRow.FromString(value)
        row.output = row.output[:-1] + bytes([row.output[-1] ^ 1])
        return [(Table.STATE, key, row.SerializeToString())]

    def unspent(store: native.Store) -> list[Row]:
        for key, value in store.scan(Table.STATE, b"", None, 1000):
            row = StateRow.FromString(value)
            if row.consumed_by:
                row.consumed_by = b""
                return [(Table.STATE, key, row.SerializeToString())]
        raise AssertionError("nothing is consumed")

    with changed(nodes, lambda store: [(Table.STATE, first(store, Table.STATE)[0], b"\xff\xff")]):
        assert any("a row cannot be read" in sentence for sentence in findings(nodes))
    with changed(nodes, more_energy):
        assert any("not what a stored transaction made" in sentence for sentence in findings(nodes))
    with changed(nodes, unspent):
        assert any("not marked as consumed" in sentence for sentence in findings(nodes))


def test_rows_that_belong_to_nothing_are_found(nodes: Path) -> None:
    def lock(store: native.Store) -> list[Row]:
        return [(Table.LOCK, first(store, Table.STATE)[0], bytes(16))]

    def listed(store: native.Store) -> list[Row]:
        key, value = first(store, Table.SPENDABLE)
        return [(Table.SPENDABLE, key[:-36] + bytes(36), value)]

    def listed_twice(store: native.Store) -> list[Row]:
        key, value = first(store, Table.SPENDABLE)
        return [(Table.SPENDABLE, bytes([key[0] ^ 0x80]) + key[1:], value)]

    with changed(nodes, listed_twice):
        (sentence,) = findings(nodes)
        assert "1 more rows list states as spendable" in sentence
    with changed(nodes, lock):
        (sentence,) = findings(nodes)
        assert "not under way" in sentence
    with changed(nodes, listed):
        (sentence,) = findings(nodes)
        assert "listed as spendable" in sentence


def test_an_attachment_that_was_changed_is_named(nodes: Path) -> None:
    (file,) = (path for path in (data(nodes) / "attachments").iterdir() if len(path.name) == 64)
    with flipped(file, 100):
        (sentence,) = findings(nodes)
    assert str(file) in sentence


@pytest.mark.subprocesses
def test_the_command_says_so_and_ends_with_1(nodes: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "p2petd", "verify", "--config", str(nodes / HOME / "node.toml"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    whole = run()
    assert whole.returncode == 0, whole.stderr
    assert "everything agrees" in whole.stdout
    store = data(nodes) / "node"
    with flipped(store / "log" / f"{segments(store)[0]:020}.log", 3000):
        damaged = run("--json")
    assert damaged.returncode == 1
    assert "[store.verify]" in damaged.stderr
    assert json.loads(damaged.stdout)["ok"] is False
    missing = run("--scratch", str(nodes / "nowhere"))
    assert (missing.returncode, "no directory" in missing.stderr) == (1, True)


def test_a_node_that_runs_is_not_looked_at(nodes: Path) -> None:
    store = native.Store.open(str(data(nodes) / "node"))
    try:
        with pytest.raises(DataDirectoryError, match="stop the node"):
            verified(nodes)
    finally:
        store.close()
