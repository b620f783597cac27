"""`p2pet-cli contract`: the contracts that are installed here, and permitting them in a network."""

import time
from pathlib import Path
from typing import Annotated

import typer

from p2pet.cli.output import print_json, print_line, print_table
from p2pet.cli.session import CliError, JsonOption
from p2pet.cli.units import format_moment

DIGITS_SHOWN = 16

app = typer.Typer(help="Contracts that are installed here.", no_args_is_help=True)


@app.command("list")
def list_contracts(as_json: JsonOption = False) -> None:
    """Name, version and the hash of the code of each installed contract."""
    try:
        from p2petd.contracts.registry import installed
        from p2petd.errors import NodeError
    except ImportError as error:
        raise CliError("contracts are listed where the p2petd package is installed; install it with pip") from error
    try:
        registry = installed()
    except NodeError as error:
        raise CliError(str(error), error.code) from error
    rows = sorted((c.name, c.version, registry.code_hash(c.name, c.version).hex()) for c in registry.contracts)
    if as_json:
        return print_json([{"name": name, "version": version, "code_hash": code} for name, version, code in rows])
    print_table(("contract", "version", "code hash"), [(name, str(version), code) for name, version, code in rows], "")


@app.command()
def permit(
    name: Annotated[str, typer.Argument(help="An installed contract; `contract list` names them.")],
    directory: Annotated[Path, typer.Option("--dir", help="The directory that `network bootstrap` made.")],
    version: Annotated[int, typer.Option(help="0 is the newest installed.")] = 0,
    after: Annotated[int, typer.Option("--in", min=1, help="Seconds until the new parameters are in force.")] = 60,
    as_json: JsonOption = False,
) -> None:
    """Sign new network parameters that permit an installed contract, pinned by the hash of its code.

    Nodes read them when they start: install the contract on each, then restart them.
    """
    try:
        from p2petd.contracts.registry import installed
        from p2petd.errors import NodeError
        from p2petd.network.amend import amend, permit_contract
        from p2petd.network.parameters import ContractVersion
    except ImportError as error:
        raise CliError("parameters are signed where the p2petd package is installed; install it with pip") from error
    try:
        registry = installed()
        versions = [contract.version for contract in registry.contracts if contract.name == name]
        if not versions:
            raise CliError(f"no contract {name!r} is installed here; `p2pet-cli contract list` names them")
        chosen = version or max(versions)
        pinned = ContractVersion(name, chosen, registry.code_hash(name, chosen))
        valid_from_ns = time.time_ns() + after * 10**9
        made = amend(directory / "network", lambda now: permit_contract(now, pinned), valid_from_ns)
    except NodeError as error:
        raise CliError(str(error), error.code) from error
    if as_json:
        return print_json(
            {
                "parameters_version": made.version,
                "parameters_hash": made.hash.hex(),
                "valid_from_ns": made.valid_from_ns,
                "code_hash": pinned.code_hash.hex(),
            }
        )
    code = pinned.code_hash.hex()[:DIGITS_SHOWN]
    print_line(f"Version {made.version} of the parameters permits {name} {chosen} (code {code}...)")
    print_line(f"from {format_moment(valid_from_ns)} on. Install the contract on every node, then restart the nodes.")
