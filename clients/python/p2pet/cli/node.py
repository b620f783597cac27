"""`p2pet-cli node`: what the node is, and whom it knows."""

import time
from typing import Annotated

import typer

from p2pet.cli.output import plain, print_fields, print_json, print_line, print_table, short
from p2pet.cli.parties import common_name
from p2pet.cli.session import CliError, JsonOption, UsageError, ask
from p2pet.cli.units import format_time
from p2pet.client import UnreachableError

POLL_SECONDS = 0.2

app = typer.Typer(help="The node itself and the nodes that it knows.", no_args_is_help=True)


@app.command()
def info(context: typer.Context, as_json: JsonOption = False) -> None:
    """Who and what the node is."""
    answer = ask(context, lambda client: client.info())
    if as_json:
        return print_json(plain(answer))
    fields = [
        ("name", answer.name),
        ("identity", answer.identity.hex()),
        ("roles", ", ".join(answer.roles)),
        ("version", f"{answer.version}, platform {answer.platform_version}"),
        ("network", answer.network_id.hex()),
        ("parameters", answer.parameters_hash.hex()),
        ("log sequence", str(answer.log_sequence)),
        ("started", format_time(answer.started_at_ns)),
        ("data directory", answer.data_directory),
    ]
    if answer.draining:
        fields.append(("draining", "accepts no new flow, stops when those under way have ended"))
    if answer.disk_full:
        fields.append(("disk full", "changes nothing, goes on when its disk has room again"))
    if answer.notary_service_key:
        fields.append(("notary service", answer.notary_service_key.hex()))
    print_fields(fields)


@app.command()
def peers(context: typer.Context, as_json: JsonOption = False) -> None:
    """The nodes of the network, and whether each is connected."""
    answer = ask(context, lambda client: client.peers())
    if as_json:
        return print_json(plain(answer))
    print_table(
        ("name", "roles", "addresses", "connected", ">waiting", "identity"),
        [
            (
                common_name(peer.name),
                ", ".join(peer.roles),
                ", ".join(peer.addresses),
                "yes" if peer.connected else "no",
                str(peer.outbox),
                short(peer.identity),
            )
            for peer in answer.peers
        ],
        "The node knows no other node.",
    )


@app.command()
def drain(
    context: typer.Context,
    undo: Annotated[bool, typer.Option("--undo", help="Accept new flows again, and stay.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Until the node has stopped.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Let the node accept no new flow, finish those under way, and stop."""
    if undo and wait:
        raise UsageError("--undo lets the node go on; there is nothing to wait for")
    answer = ask(context, lambda client: client.drain(undo=undo))
    if as_json:
        print_json(plain(answer))
    elif undo:
        print_line("the node accepts new flows again")
    else:
        print_line(
            f"the node stops when {answer.running} flows have ended; {answer.parked} parked ones stay as they are"
        )
    while wait and _still_there(context):
        time.sleep(POLL_SECONDS)


def _still_there(context: typer.Context) -> bool:
    """Raises CliError when the node does not drain any more."""
    try:
        draining = ask(context, lambda client: client.info()).draining
    except UnreachableError:
        return False
    if not draining:
        raise CliError("somebody has ended the drain; the node accepts new flows again", "node.not_draining")
    return True


@app.command()
def stats(context: typer.Context, as_json: JsonOption = False) -> None:
    """Counters since the node started."""
    counters = ask(context, lambda client: client.stats())
    if as_json:
        return print_json(dict(sorted(counters.items())))
    print_table(
        ("counter", ">value"), [(name, str(value)) for name, value in sorted(counters.items())], "No counters yet."
    )


@app.command()
def health(context: typer.Context, as_json: JsonOption = False) -> None:
    """Whether the node serves; ends with 1 when it does not."""
    serving = ask(context, lambda client: client.is_serving())
    if as_json:
        print_json({"serving": serving})
    else:
        print_fields([("serving", "yes" if serving else "no")])
    raise typer.Exit(0 if serving else 1)
