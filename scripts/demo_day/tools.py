"""Programs that the demo runs beside the daemons."""

import asyncio
import sys
from pathlib import Path

CLI = Path(sys.executable).with_name("p2pet-cli")
DOUBLE_SPEND = (sys.executable, "-m", "demo_day.double_spend")


class ToolFailed(Exception):
    """A program ended with another status than 0; the text holds what it said."""


async def run_tool(*command: str | Path) -> str:
    """What the program writes to its standard output. Raises ToolFailed. A cancelled caller leaves no process."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, complaint = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = out.decode("utf-8", errors="replace").strip()
    if process.returncode:
        said = complaint.decode("utf-8", errors="replace").strip() or text
        raise ToolFailed(f"{Path(command[0]).name} ended with status {process.returncode}: {said}")
    return text
