import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from demo_day.__main__ import run_until_signal
from demo_day.network import DirectoryRefused, Layout, clear, stop_recorded
from demo_day.tools import ToolFailed, run_tool

# Like a daemon: its command line names its node.toml, and it runs until it is asked to stop.
DAEMON = "import sys; print('ready', flush=True); sys.stdin.read()"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "demo")


def start_daemon(layout: Layout, named: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", DAEMON, "--config", str(named)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    layout.base.mkdir()
    layout.processes.write_text(json.dumps({"home-1": process.pid}))
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def test_clear_removes_an_earlier_demo(layout: Layout) -> None:
    layout.network.mkdir(parents=True)
    layout.processes.write_text("{}")

    clear(layout)

    assert not layout.base.exists()


def test_clear_refuses_a_directory_of_other_files(layout: Layout) -> None:
    layout.base.mkdir()
    (layout.base / "thesis.tex").write_text("years of work")

    with pytest.raises(DirectoryRefused, match="holds other files"):
        clear(layout)
    assert (layout.base / "thesis.tex").exists()


def test_clear_refuses_while_a_network_runs(layout: Layout) -> None:
    process = start_daemon(layout, layout.network / "home-1" / "node.toml")
    try:
        with pytest.raises(DirectoryRefused, match="scripts/demo --stop"):
            clear(layout)
        assert layout.processes.exists()
        assert process.poll() is None
    finally:
        end(process)


def test_stop_ends_what_an_earlier_demo_kept(layout: Layout) -> None:
    process = start_daemon(layout, layout.network / "home-1" / "node.toml")
    try:
        assert stop_recorded(layout) == 1
        assert process.wait(10) == -signal.SIGTERM
    finally:
        end(process)


def test_stop_leaves_a_process_alone_that_only_has_the_number(layout: Layout) -> None:
    process = start_daemon(layout, Path("another") / "node.toml")
    try:
        assert stop_recorded(layout) == 0
        assert process.poll() is None
    finally:
        end(process)


def test_stop_without_a_demo(layout: Layout) -> None:
    assert stop_recorded(layout) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_lets_the_work_clean_up(number: signal.Signals) -> None:
    cleaned = []

    async def work() -> int:
        try:
            os.kill(os.getpid(), number)
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)
        return 0

    assert run_until_signal(work()) == 128 + number
    assert cleaned == [True]


def test_status_of_the_work_is_kept() -> None:
    async def work() -> int:
        return 1

    assert run_until_signal(work()) == 1


def test_tool_that_fails_is_named_with_what_it_said() -> None:
    complain = "import sys; sys.stderr.write('no such thing'); sys.exit(3)"
    with pytest.raises(ToolFailed, match="ended with status 3: no such thing"):
        asyncio.run(run_tool(sys.executable, "-c", complain))


def test_tool_of_a_cancelled_caller_is_killed(tmp_path: Path) -> None:
    started = tmp_path / "started"
    os.mkfifo(started)
    code = "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid())); sys.stdin.read(); open(sys.argv[1]).read()"

    async def cancelled() -> int:
        task = asyncio.create_task(run_tool(sys.executable, "-c", code, str(started)))
        pid = int(await asyncio.to_thread(started.read_text))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return pid

    pid = asyncio.run(cancelled())
    assert not Path(f"/proc/{pid}").exists()
