"""The demo as its user sees it: what it ends with, and what it leaves behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOMES = 6
NODES = HOMES + 3
SECONDS_MAX = 120
CHECKS = 9


class DemoRun:
    """A demo in a directory of its own, without the build."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def start(self, *options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "demo_day", "--directory", str(self.directory), *options],
            env={**os.environ, "PYTHONPATH": str(ROOT / "scripts")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *options: str) -> tuple[int, str]:
        process = self.start(*options)
        said, _ = process.communicate(timeout=SECONDS_MAX)
        return process.returncode, said

    def start_trading(self) -> subprocess.Popen[str]:
        """Returns when all nodes run and the day begins."""
        process = self.start("--homes", str(HOMES))
        assert process.stdout is not None
        for line in process.stdout:
            if "Trading" in line:
                return process
        raise AssertionError("the demo ended before it traded")

    def processes(self) -> list[int]:
        """Every process of this machine whose command line names the directory."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    command = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if os.fsencode(self.directory) in command:
                    found.append(int(entry.name))
        return found


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[DemoRun]:
    run = DemoRun(tmp_path / "demo")
    yield run
    for pid in run.processes():
        os.kill(pid, signal.SIGKILL)


def test_demo_trades_a_day_checks_it_and_leaves_no_process(demo: DemoRun) -> None:
    status, said = demo.run("--homes", str(HOMES))

    assert status == 0, said
    assert said.count("✓") == CHECKS
    assert "FAILED" not in said
    assert "notary.conflict" in said
    assert "flows/s; median latency" in said
    assert "What was delivered of each home's energy" in said
    assert demo.processes() == []


def test_demo_keep_leaves_the_network_until_it_is_stopped(demo: DemoRun) -> None:
    status, said = demo.run("--homes", str(HOMES), "--keep")
    assert status == 0, said
    assert len(demo.processes()) == NODES

    again, refusal = demo.run("--homes", str(HOMES))
    assert again == 1
    assert "scripts/demo --stop" in refusal
    assert len(demo.processes()) == NODES

    assert demo.run("--stop") == (0, f"stopped {NODES} processes\n")
    assert demo.processes() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_demo_interrupted_leaves_no_process(demo: DemoRun, number: signal.Signals) -> None:
    process = demo.start_trading()
    assert len(demo.processes()) == NODES + 1

    process.send_signal(number)
    said, _ = process.communicate(timeout=SECONDS_MAX)

    assert process.returncode == 128 + number
    assert "no process is left" in said
    assert demo.processes() == []


def test_demo_fails_when_a_home_dies_and_leaves_no_process(demo: DemoRun) -> None:
    process = demo.start_trading()
    os.kill(json.loads((demo.directory / "processes.json").read_text())["home-1"], signal.SIGKILL)
    said, _ = process.communicate(timeout=SECONDS_MAX)

    assert process.returncode == 1
    assert "scripts/demo: " in said
    assert "Traceback" not in said
    assert demo.processes() == []
