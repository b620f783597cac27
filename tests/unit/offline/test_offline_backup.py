"""Backups and restores of data directories: what they refuse, and that nothing is lost on the way."""

import dataclasses
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Container
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import pytest

from p2petd import native
from p2petd.config import NodeConfig, load_config
from p2petd.errors import BackupRefused, DataDirectoryError
from p2petd.node import open_store
from p2petd.offline.backup import make_backup
from p2petd.offline.check import check_backup
from p2petd.offline.manifest import NAME, Manifest
from p2petd.offline.restore import restore_backup
from p2petd.offline.segments import Copied, copy_segment, segment_names
from tests.support.community import make_community

SEGMENT_BYTES = 1 << 20
ROW_BYTES = 200_000
ROWS = 12
TABLE = 1


class Home:
    """A stopped node with some records; other homes of its network, and of another one."""

    def __init__(self, directory: Path) -> None:
        make_community(directory / "net", homes=2)
        make_community(directory / "other", homes=1)
        self._directory = directory
        self.config = self.config_of("net", "home-1")
        self.data = self.config.node.data_directory
        self.write(0, ROWS)

    def config_of(self, network: str, name: str) -> NodeConfig:
        return load_config(self._directory / network / name / "node.toml")

    def open(self, data: Path | None = None) -> native.Store:
        return native.Store.open(str((data or self.data) / "node"), segment_bytes=SEGMENT_BYTES, map_bytes=1 << 26)

    def write(self, start: int, end: int) -> None:
        store = self.open()
        for number in range(start, end):
            store.commit([(TABLE, number.to_bytes(4), bytes([number]) * ROW_BYTES)])
        store.close()

    def rows(self) -> int:
        store = self.open()
        count = len(store.scan(TABLE, b"", None, 10_000))
        store.close()
        return count

    def segments(self) -> list[Path]:
        log = self.data / "node" / "log"
        return [log / name for name in segment_names(log)]

    def backup(self, name: str = "backup") -> Path:
        make_backup(self.config, self._directory / name, _nobody)
        return self._directory / name

    def restore(self, backup: Path, config: NodeConfig | None = None, *, replace: bool = False) -> None:
        restore_backup(config or self.config, backup, _nobody, replace=replace, loss_accepted=False)


def _nobody(_: str) -> None:
    pass


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def _tree(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


def _flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def test_a_backup_holds_all_records_and_is_private(home: Home, tmp_path: Path) -> None:
    attachment = b"a tariff"
    (home.data / "attachments").mkdir()
    (home.data / "attachments" / sha256(attachment).hexdigest()).write_bytes(attachment)
    (home.data / "attachments" / ("0" * 64)).write_bytes(b"damaged")
    (home.data / "attachments" / ".incoming-1").write_bytes(b"unfinished")
    made = make_backup(home.config, tmp_path / "backup", _nobody)
    assert made.left_out == ("0" * 64,)
    manifest = check_backup(tmp_path / "backup")
    assert manifest == made.manifest
    assert manifest.stores["node"].last_sequence == ROWS
    assert len(home.segments()) > 1
    names = {file.path for file in manifest.files}
    assert f"attachments/{sha256(attachment).hexdigest()}" in names
    assert not any("key" in name or "toml" in name for name in names)
    files = [path for path in (tmp_path / "backup").rglob("*") if path.is_file()]
    assert all(path.stat().st_mode & 0o077 == 0 for path in [tmp_path / "backup", *files])
    shutil.rmtree(home.data)
    home.restore(tmp_path / "backup")
    assert home.rows() == ROWS


def test_a_backup_with_keys_says_so_and_holds_them(home: Home, tmp_path: Path) -> None:
    configuration = home.config.identity.key_file.with_name("node.toml")
    make_backup(home.config, tmp_path / "backup", _nobody, configuration)
    manifest = check_backup(tmp_path / "backup")
    assert manifest.with_keys
    key = tmp_path / "backup" / "keys" / "identity.key"
    assert key.read_bytes() == home.config.identity.key_file.read_bytes()
    assert key.stat().st_mode & 0o777 == 0o600
    shutil.rmtree(home.data)
    home.restore(tmp_path / "backup")
    assert not (home.data / "keys").exists()


def test_a_torn_tail_is_no_part_of_the_backup(home: Home) -> None:
    """As a kill in the middle of a write leaves it."""
    last = home.segments()[-1]
    content = last.read_bytes()
    end = len(content.rstrip(b"\0")) // 8 * 8 + 8
    last.write_bytes(
        content[:end] + (500).to_bytes(4) + bytes(4) + (ROWS + 1).to_bytes(8) + b"x" * 100 + content[end + 116 :]
    )
    manifest = check_backup(home.backup())
    assert manifest.stores["node"].last_sequence == ROWS


@pytest.mark.parametrize("segment", [0, -1], ids=["sealed", "open"])
def test_r06_a_damaged_log_is_not_backed_up_as_if_it_were_whole(segment: int, home: Home, tmp_path: Path) -> None:
    """A bad record in front of a whole one was durable once; the message names file and offset."""
    path = home.segments()[segment]
    _flip(path, 64 + 48 + 10)
    with pytest.raises(BackupRefused, match=f"{path.name} at offset 64"):
        home.backup()
    assert not (tmp_path / "backup").exists()
    assert not (tmp_path / "backup.partial").exists()


def test_a_place_that_is_taken_is_refused_and_left_alone(home: Home, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "file").write_text("mine")
    for place in (taken, taken / "file", home.data / "backup", tmp_path / "nowhere" / "backup"):
        with pytest.raises(BackupRefused):
            make_backup(home.config, place, _nobody)
    assert _tree(taken) == {str(taken / "file"): b"mine"}
    empty = tmp_path / "empty"
    empty.mkdir()
    make_backup(home.config, empty, _nobody)
    check_backup(empty)


def test_a_backup_that_was_interrupted_is_none_and_the_next_one_clears_it_away(home: Home, tmp_path: Path) -> None:
    partial = tmp_path / "backup.partial"
    (partial / "node").mkdir(parents=True)
    (partial / "node" / "half").write_bytes(b"x")
    with pytest.raises(BackupRefused, match=NAME):
        check_backup(partial)
    with (partial / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BackupRefused, match="another backup"):
            home.backup()
    check_backup(home.backup())
    assert not partial.exists()


def test_a_log_that_is_trimmed_while_it_is_copied_is_copied_again(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first attempt meets a segment that is gone."""
    calls = 0

    def trimming(source: Path, target: BinaryIO, watched: Container[int]) -> Copied:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise FileNotFoundError
        return copy_segment(source, target, watched)

    monkeypatch.setattr("p2petd.offline.backup.copy_segment", trimming)
    assert check_backup(home.backup()).stores["node"].last_sequence == ROWS
    assert calls == 2 + len(home.segments())


def test_a_trimmed_log_is_restored_with_the_snapshot_that_stands_for_its_beginning(home: Home) -> None:
    store = home.open()
    for number in range(2):
        store.take_snapshot()
        store.commit([(TABLE, b"more" + bytes([number]), b"row")])
    assert store.trim() > 1
    store.close()
    backup = home.backup()
    manifest = check_backup(backup)
    assert manifest.stores["node"].first_sequence > 1
    assert len(manifest.stores["node"].snapshots) == 2
    shutil.rmtree(home.data)
    home.restore(backup)
    assert home.rows() == ROWS + 2


def test_a_damaged_snapshot_is_left_out_and_without_any_a_trimmed_log_is_refused(home: Home) -> None:
    store = home.open()
    store.take_snapshot()
    store.commit([(TABLE, b"more", b"row")])
    store.take_snapshot()
    store.trim()
    store.close()
    newest, oldest = sorted((home.data / "node" / "snapshots").glob("*.mdb"), reverse=True)
    _flip(newest, 5000)
    assert len(check_backup(home.backup()).stores["node"].snapshots) == 1
    _flip(oldest, 5000)
    with pytest.raises(BackupRefused, match="no whole snapshot"):
        home.backup("second")


def _trimmed(home: Home) -> list[Path]:
    """The descriptions of the two snapshots of a log whose beginning is gone, the older first."""
    store = home.open()
    for _ in range(2):
        store.take_snapshot()
        store.commit([(TABLE, b"more", b"row")])
    assert store.trim() > 1
    store.close()
    return sorted((home.data / "node" / "snapshots").glob("*.snapshot"))


@pytest.mark.parametrize("line", range(6))
def test_r06_a_snapshot_whose_description_is_damaged_is_left_out(line: int, home: Home) -> None:
    """A node does not believe it either, so that a log which only such snapshots cover cannot be restored."""
    for number, description in enumerate(_trimmed(home)):
        _flip(description, sum(map(len, description.read_bytes().splitlines(keepends=True)[: line + 1])) - 2)
        if number == 0:
            assert len(check_backup(home.backup()).stores["node"].snapshots) == 1
    with pytest.raises(BackupRefused, match="no whole snapshot"):
        home.backup("second")


def test_a_snapshot_whose_pages_are_gone_is_left_out(home: Home) -> None:
    _, newest = _trimmed(home)
    newest.with_suffix(".mdb").unlink()
    backup = home.backup()
    assert len(check_backup(backup).stores["node"].snapshots) == 1
    home.restore(backup, replace=True)
    assert home.rows() == ROWS + 1


# What a restore refuses; the data directory stays what it was.


def _damage(backup: Path, path: str, change: Callable[[Path], None]) -> str:
    change(backup / path)
    return path


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("a bit", lambda path: _flip(path, 100_000)),
        ("the end", lambda path: path.write_bytes(path.read_bytes()[:-1])),
        ("all of it", Path.unlink),
    ],
)
def test_a_damaged_backup_is_refused_naming_the_file(what: str, change: Callable[[Path], None], home: Home) -> None:
    backup = home.backup()
    path = _damage(backup, f"node/log/{home.segments()[0].name}", change)
    before = _tree(home.data)
    with pytest.raises(BackupRefused, match=path):
        check_backup(backup)
    with pytest.raises(BackupRefused, match=path):
        home.restore(backup, replace=True)
    assert _tree(home.data) == before


@pytest.mark.parametrize("key", [field.name for field in dataclasses.fields(Manifest)])
def test_a_manifest_that_was_changed_is_refused(key: str, home: Home) -> None:
    backup = home.backup()
    table = json.loads((backup / NAME).read_text())
    table[key] = None
    (backup / NAME).write_text(json.dumps(table))
    with pytest.raises(BackupRefused):
        check_backup(backup)


def test_a_file_that_is_no_part_of_the_backup_is_refused(home: Home) -> None:
    backup = home.backup()
    (backup / "node" / "view").mkdir()
    (backup / "node" / "view" / "data.mdb").write_bytes(b"x")
    with pytest.raises(BackupRefused, match=r"data\.mdb is no part"):
        check_backup(backup)


@pytest.mark.parametrize(("network", "name"), [("net", "home-2"), ("other", "home-1")])
def test_the_backup_of_another_node_or_network_is_refused(network: str, name: str, home: Home) -> None:
    backup = home.backup()
    other = home.config_of(network, name)
    before = _tree(other.node.data_directory.parent)
    with pytest.raises(BackupRefused, match="of another"):
        home.restore(backup, other)
    assert _tree(other.node.data_directory.parent) == before


def test_a_data_directory_that_holds_something_is_moved_aside_only_when_asked(home: Home) -> None:
    backup = home.backup()
    home.write(ROWS, ROWS + 3)
    before = _tree(home.data)
    with pytest.raises(BackupRefused, match="--replace"):
        home.restore(backup)
    assert _tree(home.data) == before
    restored = restore_backup(home.config, backup, _nobody, replace=True, loss_accepted=False)
    assert home.rows() == ROWS
    assert restored.replaced is not None
    assert {Path(path).relative_to(restored.replaced) for path in _tree(restored.replaced)} == {
        Path(path).relative_to(home.data) for path in before
    }
    # The same again, within the second.
    home.restore(backup, replace=True)
    assert len(list(home.data.parent.glob("data.replaced-*"))) == 2


def test_a_node_that_runs_is_not_restored(home: Home) -> None:
    backup = home.backup()
    store = home.open()
    with pytest.raises(BackupRefused, match="stop the node"):
        home.restore(backup, replace=True)
    store.commit([(TABLE, b"later", b"row")])
    store.close()
    assert home.rows() == ROWS + 1


@pytest.mark.parametrize("step", ["copy", "between the renames"])
def test_a_restore_that_was_interrupted_is_repeated(step: str, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a crash leaves it: half a copy, or no data directory at all, with the old one beside it."""
    backup = home.backup()
    unfinished = home.data.with_name("data.restoring")
    if step == "copy":
        (unfinished / "node").mkdir(parents=True)
        (unfinished / "node" / "half").write_bytes(b"x")
    else:
        shutil.copytree(backup / "node", unfinished / "node")
        home.data.rename(home.data.with_name("data.replaced-before"))
        with pytest.raises(DataDirectoryError, match="interrupted"):
            open_store(home.config, bytes(32))
        assert not home.data.exists()
    home.restore(backup, replace=True)
    assert home.rows() == ROWS
    assert not unfinished.exists()


def test_a_restore_without_room_leaves_everything_as_it_was(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    backup = home.backup()
    before = _tree(home.data)

    def no_room(descriptor: int) -> None:
        raise OSError(28, "No space left on device", str(descriptor))

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(BackupRefused, match="No space left"):
        home.restore(backup, replace=True)
    assert _tree(home.data) == before
