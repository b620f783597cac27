"""The command `p2pet-cli`: one clear sentence on every error, never a traceback."""

import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from p2pet.cli import attachment, contract, flow, meter, network, node, notary, oracle, tx, vault
from p2pet.cli.bench import bench
from p2pet.cli.output import print_json
from p2pet.cli.session import NODE_VARIABLE, TOKEN_VARIABLE, CliError, ExitCode, Settings
from p2pet.client import ApiError, ClientError, UnreachableError

app = typer.Typer(
    help="Client of a p2petd energy trading node.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(network.app, name="network")
app.add_typer(contract.app, name="contract")
app.add_typer(node.app, name="node")
app.add_typer(flow.app, name="flow")
app.add_typer(vault.app, name="vault")
app.add_typer(meter.app, name="meter")
app.add_typer(tx.app, name="tx")
app.add_typer(attachment.app, name="attachment")
app.add_typer(oracle.app, name="oracle")
app.add_typer(notary.app, name="notary")
app.command("bench")(bench)


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"p2pet-cli {version('p2pet')}\n")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    node: Annotated[
        Path | None, typer.Option(envvar=NODE_VARIABLE, help="The node to ask: its directory or node.toml.")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(envvar=TOKEN_VARIABLE, help="The token of another user than node.toml's own [client] token_file."),
    ] = None,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Client of a p2petd energy trading node.

    Ends with 0 when done, 1 when refused or failed, 2 when called wrongly, 3 when the node cannot be reached.
    """
    context.obj = Settings(node, token_file)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command and ends the process with its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(args=words)
    except CliError as error:
        _fail(error.code, str(error), error.exit_code, words)
    except UnreachableError as error:
        _fail(error.code, str(error), ExitCode.UNREACHABLE, words)
    except ApiError as error:
        _fail(error.code, str(error), ExitCode.REFUSED, words)
    except ClientError as error:
        _fail("client.settings", str(error), ExitCode.USAGE, words)
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(code: str, message: str, exit_code: ExitCode, words: Sequence[str]) -> None:
    if "--json" in words:
        print_json({"error": {"code": code, "message": message}})
    else:
        sys.stderr.write(f"{message} [{code}]\n")
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
