"""What the directory of attachments holds, refuses, and never serves."""

import os
from hashlib import sha256
from pathlib import Path

import pytest

from p2petd.attachments.files import disk_errors
from p2petd.attachments.store import CONTRACT_ATTACHMENT_BYTES_MAX, AttachmentStore, Stored
from p2petd.errors import (
    AttachmentDamaged,
    AttachmentDiskFull,
    AttachmentHashDiffers,
    AttachmentNotFound,
    AttachmentTooLarge,
    DataDirectoryError,
    RequestMalformed,
    TransactionRefused,
)
from tests.unit.attachments.conftest import ATTACHMENT_BYTES_MAX, DIRECTORY_BYTES_MAX

CONTENT = b"long,short\n0.08,0.31\n"
HASH = sha256(CONTENT).digest()
MEGABYTE = 1024 * 1024


def put(store: AttachmentStore, content: bytes, name: str = "", expected: bytes = b"") -> Stored:
    incoming = store.incoming()
    try:
        for at in range(0, len(content), 100_000):
            incoming.write(content[at : at + 100_000])
        return incoming.finish(name=name, expected=expected)
    finally:
        incoming.abort()


def reopened(directory: Path) -> AttachmentStore:
    return AttachmentStore(directory, DIRECTORY_BYTES_MAX, lambda: ATTACHMENT_BYTES_MAX)


def files(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_c18_an_attachment_is_found_by_its_hash_also_after_a_restart(store: AttachmentStore, directory: Path) -> None:
    stored = put(store, CONTENT, "tariff.csv")
    assert stored.hash == HASH
    assert (stored.size_bytes, stored.name) == (len(CONTENT), "tariff.csv")
    for one in (store, reopened(directory)):
        assert one.info(HASH) == stored
        assert one.for_contract(HASH) == CONTENT
        assert one.verify(HASH, anew=True) == len(CONTENT)
        assert one.read_part(HASH, 5, 5) == CONTENT[5:10]


def test_c18_a_repeated_upload_changes_nothing(store: AttachmentStore, directory: Path) -> None:
    first = put(store, CONTENT, "first")
    before = _identity(directory / HASH.hex())
    counters = store.counters()
    assert put(store, CONTENT, "second") == first
    assert _identity(directory / HASH.hex()) == before
    assert store.counters() == counters
    assert files(directory) == {HASH.hex(), f"{HASH.hex()}.name"}


def _identity(file: Path) -> tuple[int, int, int]:
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def test_c18_two_writers_of_one_content_make_one_attachment(store: AttachmentStore, directory: Path) -> None:
    one, other = store.incoming(), store.incoming()
    for incoming in (one, other):
        incoming.write(CONTENT)
    assert one.finish().hash == other.finish().hash == HASH
    for incoming in (one, other):
        incoming.abort()
    assert store.counters() == reopened(directory).counters() == {"attachments": 1, "attachments_bytes": 4096}


def test_c18_the_size_limit_is_the_networks(store: AttachmentStore, directory: Path) -> None:
    assert put(store, bytes(ATTACHMENT_BYTES_MAX)).size_bytes == ATTACHMENT_BYTES_MAX
    before = files(directory), store.counters()
    with pytest.raises(AttachmentTooLarge, match=str(ATTACHMENT_BYTES_MAX)):
        put(store, b"\x01" * (ATTACHMENT_BYTES_MAX + 1))
    assert (files(directory), store.counters()) == before


def test_c18_the_directory_has_a_limit_and_a_refused_one_takes_no_room(store: AttachmentStore, directory: Path) -> None:
    for number in range(4):
        put(store, bytes([number]) * ATTACHMENT_BYTES_MAX)
    before = files(directory), store.counters()
    with pytest.raises(AttachmentDiskFull, match="may take"):
        put(store, CONTENT)
    assert (files(directory), store.counters()) == before


def test_c18_nothing_is_no_attachment(store: AttachmentStore, directory: Path) -> None:
    with pytest.raises(RequestMalformed):
        put(store, b"")
    assert not files(directory)


def test_c18_content_with_another_hash_is_not_kept(store: AttachmentStore, directory: Path) -> None:
    with pytest.raises(AttachmentHashDiffers, match=HASH.hex()):
        put(store, CONTENT + b"!", expected=HASH)
    assert not files(directory)
    assert store.counters() == {"attachments": 0, "attachments_bytes": 0}
    assert not store.holds(HASH)


def test_c18_a_start_removes_what_is_unfinished_and_nothing_else(store: AttachmentStore, directory: Path) -> None:
    put(store, CONTENT, "tariff.csv")
    unfinished = store.incoming()
    unfinished.write(bytes(MEGABYTE))
    (directory / f"{bytes(32).hex()}.name").write_text("of nothing")
    (directory / "README").write_text("not ours")
    again = reopened(directory)
    assert files(directory) == {HASH.hex(), f"{HASH.hex()}.name", "README"}
    assert again.page(b"", 10) == [HASH]
    assert again.counters() == {"attachments": 1, "attachments_bytes": 4096}


@pytest.mark.parametrize("damage", [b"X", CONTENT + b"!", b""], ids=["shorter", "longer", "empty"])
def test_c18_a_damaged_file_is_named_and_never_served(store: AttachmentStore, directory: Path, damage: bytes) -> None:
    put(store, CONTENT)
    path = directory / HASH.hex()
    path.write_bytes(damage)
    again = reopened(directory)
    with pytest.raises(AttachmentDamaged, match=HASH.hex()):
        again.verify(HASH)
    assert not again.holds(HASH)
    with pytest.raises(AttachmentDamaged, match=HASH.hex()):
        again.info(HASH)
    with pytest.raises(TransactionRefused, match=HASH.hex()) as refused:
        again.for_contract(HASH)
    assert refused.value.code == "transaction.attachment_missing"
    # The same content again makes it whole.
    put(again, CONTENT)
    assert again.holds(HASH)
    assert again.for_contract(HASH) == path.read_bytes() == CONTENT
    assert again.counters() == {"attachments": 1, "attachments_bytes": 4096}


def test_c18_a_contract_never_reads_a_file_that_was_changed_in_place(store: AttachmentStore, directory: Path) -> None:
    put(store, CONTENT)
    path = directory / HASH.hex()
    times = path.stat()
    path.write_bytes(CONTENT.replace(b"0.08", b"9.08"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(TransactionRefused, match="hash"):
        store.for_contract(HASH)
    assert not store.holds(HASH)


def test_c18_a_repeated_upload_replaces_a_file_that_is_damaged(store: AttachmentStore, directory: Path) -> None:
    put(store, CONTENT)
    (directory / HASH.hex()).write_bytes(b"damaged, and nobody has looked yet")
    put(store, CONTENT)
    assert (directory / HASH.hex()).read_bytes() == CONTENT


def test_c18_a_file_that_vanished_is_damaged(store: AttachmentStore, directory: Path) -> None:
    put(store, CONTENT)
    (directory / HASH.hex()).unlink()
    with pytest.raises(AttachmentDamaged):
        store.verify(HASH, anew=True)
    assert not store.holds(HASH)


def test_c18_a_contract_reads_so_much_and_not_more(store: AttachmentStore) -> None:
    most = put(store, bytes(CONTRACT_ATTACHMENT_BYTES_MAX))
    assert len(store.for_contract(most.hash)) == CONTRACT_ATTACHMENT_BYTES_MAX
    more = put(store, bytes(CONTRACT_ATTACHMENT_BYTES_MAX + 1))
    with pytest.raises(TransactionRefused) as refused:
        store.for_contract(more.hash)
    assert refused.value.code == "transaction.attachment_too_large"


def test_l20_missing_attachment_has_its_own_code(store: AttachmentStore) -> None:
    with pytest.raises(TransactionRefused, match=HASH.hex()) as refused:
        store.for_contract(HASH)
    assert refused.value.code == "transaction.attachment_missing"
    with pytest.raises(AttachmentNotFound, match=HASH.hex()):
        store.info(HASH)


def test_c18_pages_are_ascending_and_complete(store: AttachmentStore) -> None:
    hashes = sorted(put(store, bytes([number])).hash for number in range(1, 12))
    seen: list[bytes] = []
    while page := store.page(seen[-1] if seen else b"", 4):
        seen += page
    assert seen == hashes


def test_c18_a_directory_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataDirectoryError, match="file"):
        AttachmentStore(tmp_path / "file" / "attachments", 1, lambda: 1)


def test_c18_a_write_after_giving_up_does_nothing(store: AttachmentStore, directory: Path) -> None:
    incoming = store.incoming()
    incoming.write(CONTENT)
    incoming.abort()
    incoming.write(CONTENT)
    incoming.abort()
    assert not files(directory)
    assert store.counters() == {"attachments": 0, "attachments_bytes": 0}


def test_c18_a_full_disk_is_an_error_of_its_own() -> None:
    with pytest.raises(AttachmentDiskFull, match="No space left"), disk_errors("a test"):
        Path("/dev/full").write_bytes(CONTENT)
