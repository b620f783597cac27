"""What is read of the machine."""

import os
from pathlib import Path

import pytest
from p2pet.bench.machine import UnfitDirectory, cpu_us, disk_bytes, durable_file_system, file_system, memory

MOUNTS = """\
1 0 254:0 / / rw - ext4 /dev/vda rw
2 1 0:1 / /srv rw shared:2 master:1 - xfs /dev/vdb rw
3 2 0:2 / /srv/with\\040space rw - tmpfs none rw
4 1 0:3 / /srv rw - btrfs /dev/vdc rw
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "ext4"),
        ("/srvx", "ext4"),
        ("/srv", "btrfs"),
        ("/srv/data", "btrfs"),
        ("/srv/with space/data", "tmpfs"),
    ],
)
def test_file_system_is_of_the_deepest_and_last_mount(tmp_path: Path, path: str, expected: str) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert file_system(Path(path), mounts) == expected


def test_a_directory_in_memory_is_refused() -> None:
    shared = Path("/dev/shm")
    if not shared.is_dir() or file_system(shared) != "tmpfs":
        pytest.skip("this machine has no tmpfs at /dev/shm")
    with pytest.raises(UnfitDirectory, match="tmpfs"):
        durable_file_system(shared)


def test_memory_and_processor_time_of_a_process() -> None:
    held = memory(os.getpid())
    assert 0 < held.anonymous < held.resident <= held.peak
    assert cpu_us(os.getpid()) > 0


def test_disk_bytes_counts_blocks_of_files_below(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(os.urandom(10_000))
    assert disk_bytes(tmp_path) >= 10_000
