"""What the commands share: the node to ask, how to answer, how to fail."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from p2pet.client import NodeClient

NODE_VARIABLE = "P2PET_NODE"
TOKEN_VARIABLE = "P2PET_TOKEN_FILE"

JsonOption = Annotated[bool, typer.Option("--json", help="Answer in JSON, for programs.")]
T = TypeVar("T")


class ExitCode(IntEnum):
    """What the command ended with."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3


class CliError(Exception):
    """A command that cannot go on; its text is one clear sentence."""

    exit_code = ExitCode.REFUSED

    def __init__(self, message: str, code: str = "cli.failed") -> None:
        super().__init__(message)
        self.code = code


class UsageError(CliError):
    """What was typed is not what the command takes."""

    exit_code = ExitCode.USAGE

    def __init__(self, message: str) -> None:
        super().__init__(message, "cli.usage")


@dataclass(frozen=True)
class Settings:
    """The global options."""

    node: Path | None
    token_file: Path | None = None


def node_path(context: typer.Context) -> Path:
    """The node.toml or directory of the node to ask; raises UsageError when none is named."""
    settings = context.find_root().obj
    if isinstance(settings, Settings) and settings.node is not None:
        return settings.node
    if os.environ.get(NODE_VARIABLE):
        return Path(os.environ[NODE_VARIABLE])
    raise UsageError(f"which node? Give --node with its directory or node.toml, or set {NODE_VARIABLE}")


def ask(context: typer.Context, work: Callable[[NodeClient], Awaitable[T]]) -> T:
    """Runs `work` with a client of the node; raises ClientError, UsageError."""
    path = node_path(context)
    settings = context.find_root().obj
    token_file = settings.token_file if isinstance(settings, Settings) else None

    async def connected() -> T:
        async with NodeClient.from_config(path, token_file) as client:
            return await work(client)

    return asyncio.run(connected())


def parse_hex(text: str, length: int, what: str) -> bytes:
    """The bytes of a hexadecimal text; raises UsageError unless there are `length`."""
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    if len(data) != length:
        raise UsageError(f"{text!r} is not {what}: that has {2 * length} hexadecimal digits")
    return data
