"""`p2pet-cli network`: making a network."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p2pet.cli.output import print_json, print_line, print_table
from p2pet.cli.session import CliError, JsonOption, UsageError
from p2pet.cli.units import parse_duration

if TYPE_CHECKING:
    from p2petd.network.bootstrap import MadeNetwork

app = typer.Typer(help="Make a network.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Make a network."""


@app.command()
def bootstrap(
    directory: Annotated[Path, typer.Option("--dir", help="A new or empty directory.")],
    homes: Annotated[int, typer.Option(help="Parties that produce and consume, besides the community.")] = 3,
    currency: Annotated[str, typer.Option(help="Currency that the community issues.")] = "EUR",
    notaries: Annotated[int, typer.Option(help="Independent notary services.")] = 1,
    uniqueness_notaries: Annotated[int, typer.Option(help="Further ones that see uniqueness only.")] = 0,
    oracles: Annotated[int, typer.Option(help="Nodes that vouch for readings, forecasts and tariffs.")] = 1,
    meters: Annotated[str, typer.Option(help="registered: only of meters that the community registered; or open.")] = (
        "registered"
    ),
    trade_deadline: Annotated[
        str, typer.Option(help="How long after the start of delivery energy is still traded, such as PT1H.")
    ] = "",
    reading_deadline: Annotated[
        str, typer.Option(help="How long after its end the reading of a period may come, such as P1D.")
    ] = "P1D",
    issue_attested: Annotated[bool, typer.Option(help="Issues need an oracle's forecast or reading.")] = False,
    self_trades: Annotated[bool, typer.Option(help="A party may trade with itself.")] = False,
    base_port: Annotated[int, typer.Option(help="First port of all nodes; 0 takes free ones.")] = 0,
    host: Annotated[str, typer.Option(help="Address on which all nodes listen.")] = "127.0.0.1",
    as_json: JsonOption = False,
) -> None:
    """Make a whole network on this machine: keys, certificates, parameters, one directory per node."""
    if meters not in ("registered", "open"):
        raise UsageError(f"--meters is registered or open, not {meters!r}")
    made = _bootstrap(
        directory,
        homes,
        currency,
        notaries=notaries,
        uniqueness_notaries=uniqueness_notaries,
        oracles=oracles,
        registered_meters=meters == "registered",
        trade_deadline_ns=parse_duration(trade_deadline) if trade_deadline else 0,
        reading_deadline_ns=parse_duration(reading_deadline),
        issue_attested=issue_attested,
        self_trades=self_trades,
        base_port=base_port,
        host=host,
    )
    if as_json:
        return print_json(_plain(made))
    print_table(
        ("node", "peers", "clients", "directory"),
        [(n.directory.name, n.listeners.peer, n.listeners.client, str(n.directory)) for n in made.nodes],
        "",
    )
    print_line(
        f"Keep {made.directory / 'network' / 'offline'} safe, away from the nodes: its keys make and unmake nodes."
    )
    if meters == "registered":
        print_line("Energy is issued of registered meters: `p2pet-cli --node DIR/community meter register` makes one.")
    print_line(f"Start a node with: p2petd --config {made.nodes[0].directory / 'node.toml'}")


def _bootstrap(directory: Path, homes: int, currency: str, **settings: Any) -> "MadeNetwork":
    try:
        from p2petd.contracts.registry import installed
        from p2petd.errors import NodeError
        from p2petd.network.bootstrap import NetworkPlan, bootstrap
    except ImportError as error:
        raise CliError("making a network needs the p2petd package on this machine; install it with pip") from error
    try:
        registry = installed()
        contracts = {(c.name, c.version): registry.code_hash(c.name, c.version) for c in registry.contracts}
        return bootstrap(NetworkPlan(directory, homes, currency, contracts, **settings), time.time_ns())
    except NodeError as error:
        raise CliError(str(error), error.code) from error


def _plain(made: "MadeNetwork") -> dict[str, object]:
    return {
        "directory": str(made.directory),
        "network_id": made.network_id.hex(),
        "parameters_hash": made.parameters_hash.hex(),
        "nodes": [
            {
                "name": node.name,
                "identity": node.identity.hex(),
                "roles": sorted(node.roles),
                "directory": str(node.directory),
                "peer": node.listeners.peer,
                "client": node.listeners.client,
                "notary_service_key": node.notary_service_key.hex(),
            }
            for node in made.nodes
        ],
    }
