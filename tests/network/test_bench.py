"""The bench itself, with real daemons: that it measures every row and leaves nothing behind. Never how fast."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from p2pet.bench.budgets import ROWS

COMMAND = (sys.executable, "-m", "p2pet.cli.main", "bench")


def processes_of(directory: Path) -> list[str]:
    """Command lines of the processes that work in a directory."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(directory) in line:
            found.append(line)
    return found


def check_row(row: dict[str, Any]) -> None:
    assert row["failure"] == ""
    assert len(row["repeats"]) >= 1
    assert all(value > 0 for value in row["median"].values())
    if not row["transactions_per_unit"]:
        return
    for repeat in row["repeats"]:
        assert repeat["units"] >= 1
        assert repeat["batches"]["notary"] >= 1
        assert repeat["signatures_per_1000"]["notary verified"] > 0
        assert repeat["appends_per_1000"]["notary"] > 0


def test_quick_bench_measures_every_row(tmp_path: Path) -> None:
    networks, report_file = tmp_path / "networks", tmp_path / "report.json"
    networks.mkdir()
    command = [*COMMAND, "--quick", "--directory", str(networks), "--json", str(report_file)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    assert ended.returncode == 0, ended.stderr
    report = json.loads(report_file.read_text())
    assert [row["name"] for row in report["rows"]] == [row.name for row in ROWS]
    for row in report["rows"]:
        check_row(row)
        assert row["title"] in ended.stdout
    assert all(value > 0 for value in report["limits"].values())
    assert {node["name"] for node in report["nodes"]} == {"notary", "community", "home-1", "home-2", "home-3"}
    for node in report["nodes"]:
        assert node["memory"]["resident"] > 0
        assert node["disk_bytes"] > 0
        assert node["file_system"] == report["machine"]["file_system"]
    assert list(networks.iterdir()) == []
    assert processes_of(networks) == []


def test_stopped_bench_stops_its_daemons_and_removes_its_files(tmp_path: Path) -> None:
    command = [*COMMAND, "--rows", "request", "--seconds", "60", "--repeats", "1", "--directory", str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    assert any("request, one RPC a flow" in line for line in process.stderr)
    assert len(processes_of(tmp_path)) > 3
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 1
    assert "stopped" in process.stderr.read()
    assert list(tmp_path.iterdir()) == []
    assert processes_of(tmp_path) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [(("--rows", "requests"), "there is no row 'requests'"), (("--directory", "nowhere"), "is not a directory")],
)
def test_wrong_call_says_what_is_wrong(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    ended = subprocess.run([*COMMAND, *words], capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
