"""`p2pet-cli attachment`: the files that transactions cite."""

import contextlib
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, BinaryIO, TypeVar

import typer

from p2pet.attachments.v1.attachments_pb2 import AttachmentInfo
from p2pet.cli.output import plain, print_json, print_line, print_table
from p2pet.cli.pages import LimitOption, collect, more_line
from p2pet.cli.parties import load_parties
from p2pet.cli.session import CliError, JsonOption, UsageError, ask, parse_hex
from p2pet.cli.tariff import read_tariff
from p2pet.cli.units import format_moment, parse_time
from p2pet.client import NodeClient

T = TypeVar("T")

app = typer.Typer(help="Files that transactions cite by their hash.", no_args_is_help=True)

HashArgument = Annotated[str, typer.Argument(metavar="HASH", help="SHA-256 of the attachment, 64 hexadecimal digits.")]


@app.command()
def upload(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="What to upload.")],
    name: Annotated[str, typer.Option(help="What the node shows; the file's name when left out.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Keep a file at the node and print its hash; repeating it changes nothing."""
    try:
        with file.open("rb") as content:
            stored = ask(context, lambda client: client.attachments.upload(content, name=name or file.name))
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None
    _print_stored(stored, as_json)


@app.command()
def download(
    context: typer.Context,
    attachment: HashArgument,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Standard output when left out.")] = None,
) -> None:
    """Get the content of an attachment, with its hash verified."""
    wanted = _hash(attachment)
    if output is None:
        ask(context, lambda client: client.attachments.download(wanted, sys.stdout.buffer.write))
        sys.stdout.buffer.flush()
        return
    # Under another name until the hash is verified.
    partial = output.with_name(f".{output.name}.part")
    try:
        with partial.open("wb") as content:
            ask(context, _into(wanted, content))
        os.replace(partial, output)
    except OSError as error:
        raise CliError(f"{output} cannot be written: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


@app.command()
def fetch(
    context: typer.Context,
    attachment: HashArgument,
    party: Annotated[str, typer.Option("--from", help="Name or key of a node that holds it.")],
    as_json: JsonOption = False,
) -> None:
    """Make the node fetch an attachment from another node."""
    wanted = _hash(attachment)

    async def work(client: NodeClient) -> AttachmentInfo:
        return await client.attachments.fetch(wanted, (await load_parties(client)).find(party))

    _print_stored(ask(context, work), as_json)


@app.command("list")
def list_attachments(context: typer.Context, limit: LimitOption = 100, as_json: JsonOption = False) -> None:
    """What the node keeps."""

    async def work(client: NodeClient) -> tuple[list[AttachmentInfo], bool]:
        async def page(size: int, token: str) -> tuple[list[AttachmentInfo], str]:
            answer = await client.attachments.list(page_size=size, page_token=token)
            return list(answer.attachments), answer.next_page_token

        return await collect(page, limit)

    attachments, more = ask(context, work)
    if as_json:
        return print_json({"attachments": [plain(one) for one in attachments], "more": more})
    print_table(
        ("attachment", "name", ">bytes", "stored"),
        [(one.hash.hex(), one.name, str(one.size_bytes), format_moment(one.stored_at_ns)) for one in attachments],
        "No attachments.",
    )
    more_line(more, limit)


@app.command()
def tariff(
    context: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(
            help="CSV with the columns energy_type, zone, price_min, price_max, long_price, short_price, "
            "in currency per kWh."
        ),
    ],
    name: Annotated[str, typer.Option(help="What the tariff is called.")],
    currency: Annotated[str, typer.Option(help="Such as EUR.")],
    since: Annotated[str, typer.Option("--from", help="Start of its validity, such as 2026-07-01T00:00Z.")],
    until: Annotated[str, typer.Option("--until", help="End of its validity, exclusive.")],
    as_json: JsonOption = False,
) -> None:
    """Make a table of prices from a CSV, upload it, and print its hash, which trades and deliveries cite."""
    table = read_tariff(file, name, currency, parse_time(since), parse_time(until))
    content = table.SerializeToString(deterministic=True)
    stored = ask(context, lambda client: client.attachments.upload(content, name=name))
    _print_stored(stored, as_json)


def _into(attachment: bytes, content: BinaryIO) -> Callable[[NodeClient], Awaitable[int]]:
    return lambda client: client.attachments.download(attachment, content.write)


def _hash(text: str) -> bytes:
    return parse_hex(text, 32, "the hash of an attachment")


def _print_stored(stored: AttachmentInfo, as_json: bool) -> None:
    if as_json:
        return print_json(plain(stored))
    print_line(stored.hash.hex())
