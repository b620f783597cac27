"""An oracle on a copy of its log, and on a full disk: it signs nothing that it might contradict, and loses nothing."""

import asyncio
import shutil
from pathlib import Path

import pytest
from scribe import KEY, NETWORK, NOW_NS, START_NS, UNIT_NS, reading
from test_oracle_service import ask, query

from p2petd.errors import CopyUnconfirmed, DiskFull, RolledBack
from p2petd.oracle.service import OracleService, open_oracle_store
from p2petd.store.standing import accept_loss, mark_restored, mark_rolled_back, take_standing
from p2petd.units import TimeNs
from tests.support.small_disk import small_disk


def _opened(directory: Path, held: str | None = None) -> OracleService:
    store = open_oracle_store(directory, segment_bytes=2**20, map_bytes=2**26)
    readings = directory.parent / "readings"
    readings.mkdir(exist_ok=True)
    return OracleService(store, KEY, NETWORK, UNIT_NS, readings, lambda: TimeNs(NOW_NS), held)


def test_r07_an_oracle_that_is_held_takes_readings_and_vouches_for_nothing(tmp_path: Path) -> None:
    """Its operator brings it up to date first; who asks meanwhile asks again."""

    async def scenario() -> None:
        oracle = _opened(tmp_path / "oracle", "it runs on a copy")
        oracle.start()
        assert (await oracle.push_readings([reading(500)])).added == 1
        for service in (oracle.facts, oracle.sign):
            reply = await ask(service, query().SerializeToString())
            assert reply.error_code == CopyUnconfirmed.code
            assert reply.retry_after_ns > 0
            assert not reply.payload
        await oracle.stop()

    asyncio.run(scenario())


def test_r05_an_oracle_on_a_full_disk_refuses_what_it_cannot_keep_and_goes_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        with small_disk(tmp_path / "small", 64) as disk:
            oracle = _opened(tmp_path / "small" / "oracle")
            oracle.start()
            assert (await oracle.push_readings([reading(500)])).added == 1
            disk.fill()
            with pytest.raises(DiskFull):
                await oracle.push_readings([reading(480)])
            reply = await ask(oracle.facts, query().SerializeToString())
            assert reply.error_code == DiskFull.code
            (known,), _ = oracle.readings("", b"", 0, START_NS + UNIT_NS, 10)
            assert known.reading.energy_wh == 500
            disk.free()
            assert (await oracle.push_readings([reading(480)])).corrected == 1
            reply = await ask(oracle.facts, query().SerializeToString())
            assert not reply.error_code
            await oracle.stop()

    asyncio.run(scenario())


# Whether a log may be gone on with.


def _a_log(directory: Path) -> Path:
    store = open_oracle_store(directory, segment_bytes=2**20, map_bytes=2**26)
    store.close()
    return directory


def test_r07_a_log_stays_at_home_over_restarts_and_under_another_name(tmp_path: Path) -> None:
    log = _a_log(tmp_path / "one" / "oracle")
    for _ in range(3):
        assert take_standing(log, "oracle") is None
    (tmp_path / "one").rename(tmp_path / "two")
    assert take_standing(tmp_path / "two" / "oracle", "oracle") is None


def test_r07_a_copy_is_held_until_its_operator_has_decided(tmp_path: Path) -> None:
    log = _a_log(tmp_path / "one" / "oracle")
    assert take_standing(log, "oracle") is None
    shutil.copytree(tmp_path / "one", tmp_path / "two", symlinks=True)
    copy = tmp_path / "two" / "oracle"
    for _ in range(2):
        assert "copy" in (take_standing(copy, "oracle") or "")
    assert accept_loss(copy)
    assert take_standing(copy, "oracle") is None
    assert not accept_loss(copy)
    assert take_standing(log, "oracle") is None


@pytest.mark.parametrize("starts_between", [1, 2])
def test_r07_an_older_copy_that_is_written_back_over_its_original_is_held(starts_between: int, tmp_path: Path) -> None:
    """The directories stay, and so do the files, as `cp -aT` and `tar x` leave them."""
    log = _a_log(tmp_path / "one" / "oracle")
    assert take_standing(log, "oracle") is None
    shutil.copytree(tmp_path / "one", tmp_path / "two", symlinks=True)
    for _ in range(starts_between):
        assert take_standing(log, "oracle") is None
    shutil.copytree(tmp_path / "two", tmp_path / "one", symlinks=True, dirs_exist_ok=True)
    for _ in range(2):
        assert "copy" in (take_standing(log, "oracle") or "")
    assert accept_loss(log)
    assert take_standing(log, "oracle") is None


def test_r07_what_was_restored_is_held_also_in_the_same_place(tmp_path: Path) -> None:
    log = _a_log(tmp_path / "oracle")
    mark_restored(log, "2026-01-01 00:00:00 UTC")
    assert "2026-01-01" in (take_standing(log, "oracle") or "")
    assert accept_loss(log)
    assert take_standing(log, "oracle") is None


def test_r07_what_was_found_to_be_older_never_starts_again_by_itself(tmp_path: Path) -> None:
    log = _a_log(tmp_path / "oracle")
    assert take_standing(log, "oracle") is None
    mark_rolled_back(log, "it lacks decision 7")
    for _ in range(2):
        with pytest.raises(RolledBack, match="decision 7"):
            take_standing(log, "oracle")


@pytest.mark.parametrize("content", [b"", b"no JSON", b"[]", b"{}"])
def test_r07_a_file_that_says_nothing_holds_the_log(content: bytes, tmp_path: Path) -> None:
    log = _a_log(tmp_path / "oracle")
    (log / "standing").write_bytes(content)
    assert take_standing(log, "oracle") is not None
