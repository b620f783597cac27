"""`p2pet-cli node`: what the node is, and whom it knows."""

import typer

from p2pet.cli.output import plain, print_fields, print_json, print_table, short
from p2pet.cli.parties import common_name
from p2pet.cli.session import JsonOption, ask
from p2pet.cli.units import format_time

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
