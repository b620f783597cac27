"""`p2pet-cli tx`: recorded transactions, and proving them to anyone."""

import os
import tomllib
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.message import DecodeError

from p2pet.cli.output import plain, print_fields, print_json, print_line, print_table, short
from p2pet.cli.pages import LimitOption, collect, more_line
from p2pet.cli.parties import Parties, load_parties
from p2pet.cli.session import CliError, ExitCode, JsonOption, UsageError, ask, node_path, parse_hex
from p2pet.cli.states import describe_state, plain_output
from p2pet.cli.units import format_moment, format_time
from p2pet.cli.verify import STEPS, describe, read_export, verify
from p2pet.client import NodeClient
from p2pet.ledger.v1 import transaction_pb2
from p2pet.vault.v1 import vault_pb2

ID_BYTES = 32
OUTPUTS_GROUP = 2
COMMANDS_GROUP = 3

app = typer.Typer(help="Transactions: see, export, verify offline.", no_args_is_help=True)

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Transaction id: 64 hexadecimal digits.")]


@app.command("list")
def list_transactions(context: typer.Context, limit: LimitOption = 100, as_json: JsonOption = False) -> None:
    """The transactions that the node has recorded."""

    async def work(client: NodeClient) -> tuple[list[vault_pb2.TransactionSummary], bool]:
        async def page(size: int, token: str) -> tuple[list[vault_pb2.TransactionSummary], str]:
            answer = await client.vault.transactions(page_size=size, page_token=token)
            return list(answer.transactions), answer.next_page_token

        return await collect(page, limit)

    found, more = ask(context, work)
    if as_json:
        return print_json({"transactions": [plain(one) for one in found], "more": more})
    print_table(
        ("transaction", "commands", ">inputs", ">outputs", "notary", ">sequence", "decided"),
        [
            (
                one.id.hex(),
                ", ".join(one.commands),
                str(one.inputs),
                str(one.outputs),
                short(one.notary),
                str(one.notary_sequence),
                format_moment(one.decided_at_ns),
            )
            for one in found
        ],
        "No transactions.",
    )
    more_line(more, limit)


@app.command("in-flight")
def list_in_flight(context: typer.Context, limit: LimitOption = 100, as_json: JsonOption = False) -> None:
    """What the node has signed and the notary has not decided yet; only the notary ends it."""

    async def work(client: NodeClient) -> tuple[list[vault_pb2.InFlight], bool, Parties]:
        async def page(size: int, token: str) -> tuple[list[vault_pb2.InFlight], str]:
            answer = await client.vault.in_flight(page_size=size, page_token=token)
            return list(answer.transactions), answer.next_page_token

        return *await collect(page, limit), await load_parties(client)

    found, more, parties = ask(context, work)
    if as_json:
        return print_json({"transactions": [plain(one) for one in found], "more": more})
    print_table(
        ("transaction", "flow", "since", "until", "notary", "who asks it"),
        [
            (
                one.id.hex(),
                one.flow_id.hex(),
                format_moment(one.since_ns),
                format_moment(one.until_ns) if one.until_ns else "no end",
                parties.notary(one.notary),
                "this node" if one.asks_notary else "the other party",
            )
            for one in found
        ],
        "Nothing is in flight.",
    )
    more_line(more, limit)


@app.command()
def show(context: typer.Context, transaction_id: IdArgument, as_json: JsonOption = False) -> None:
    """A transaction: commands, outputs, signers, and the notary's decision."""
    identifier = parse_hex(transaction_id, ID_BYTES, "a transaction id")

    async def work(client: NodeClient) -> tuple[vault_pb2.GetTransactionResponse, Parties]:
        return await client.vault.transaction(identifier), await load_parties(client)

    answer, parties = ask(context, work)
    proposal, groups = _decode(answer.signed_transaction)
    if as_json:
        return print_json(
            {
                "summary": plain(answer.summary),
                "outputs": [plain_output(component) for component in groups[OUTPUTS_GROUP]],
                "commands": [plain(_command(component)) for component in groups[COMMANDS_GROUP]],
                "signatures": [plain(signature) for signature in proposal.signatures],
            }
        )
    summary = answer.summary
    print_fields(
        [
            ("transaction", summary.id.hex()),
            ("recorded", format_time(summary.recorded_at_ns)),
            ("notary", f"{summary.notary.hex()}, sequence {summary.notary_sequence}"),
            ("decided", format_time(summary.decided_at_ns)),
            ("inputs", str(summary.inputs)),
            ("commands", ", ".join(_command(component).type_name for component in groups[COMMANDS_GROUP])),
            ("signed by", ", ".join(parties.name(signature.key) for signature in proposal.signatures)),
        ]
    )
    outputs = [transaction_pb2.OutputState.FromString(component) for component in groups[OUTPUTS_GROUP]]
    print_table(
        (">output", "what", "owner"),
        [(str(index), *describe_state(output, parties)) for index, output in enumerate(outputs)],
        "No outputs.",
    )


def _decode(signed_transaction: bytes) -> tuple[transaction_pb2.Proposal, list[list[bytes]]]:
    try:
        proposal = transaction_pb2.Proposal.FromString(signed_transaction)
        transaction = transaction_pb2.Transaction.FromString(proposal.transaction)
    except DecodeError:
        raise CliError("the node's answer is not a transaction", "client.malformed") from None
    groups = [list(group.components) for group in transaction.groups]
    return proposal, groups + [[]] * (12 - len(groups))


def _command(component: bytes) -> transaction_pb2.Command:
    return transaction_pb2.Command.FromString(component)


@app.command()
def export(
    context: typer.Context,
    transaction_id: IdArgument,
    out: Annotated[Path | None, typer.Option(help="File to write; <id>.proof when left out.")] = None,
    force: Annotated[bool, typer.Option(help="Overwrite the file.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write one file with which anyone can verify the transaction offline."""
    identifier = parse_hex(transaction_id, ID_BYTES, "a transaction id")
    path = out or Path(f"{identifier.hex()}.proof")
    if path.exists() and not force:
        raise CliError(f"{path} exists; choose another file or give --force")
    answer = ask(context, lambda client: client.vault.finality_proof(identifier))
    try:
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_bytes(answer.SerializeToString(deterministic=True))
        partial.replace(path)
    except OSError as error:
        raise CliError(f"{path} cannot be written: {error.strerror}") from error
    if as_json:
        return print_json({"id": identifier.hex(), "file": str(path), "bytes": path.stat().st_size})
    print_line(f"{path} holds the transaction, its finality proof and the signed network parameters.")


@app.command("verify")
def verify_file(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A file that `tx export` wrote.")],
    root: Annotated[Path | None, typer.Option(help="The network's root.crt; that of --node when left out.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Verify an exported transaction offline, step by step; ends with 1 when a step fails."""
    result = verify(read_export(file), root or _root_of_node(node_path(context)))
    if as_json:
        print_json(
            {
                "valid": result.is_valid,
                "transaction_id": result.transaction_id.hex(),
                "notary": result.notary,
                "sequence": result.sequence,
                "decided_at_ns": result.decided_at_ns,
                "failed_step": result.failed,
                "reason": result.reason,
                "steps": list(STEPS),
            }
        )
    else:
        describe(result, print_line)
        if result.is_valid:
            decided = format_time(result.decided_at_ns)
            print_line(f"Transaction {result.transaction_id.hex()} is final: {result.notary} decided it at {decided}.")
        else:
            print_line(f"The transaction is NOT proven: step {result.failed} failed.")
    raise typer.Exit(ExitCode.OK if result.is_valid else ExitCode.REFUSED)


def _root_of_node(path: Path) -> Path:
    file = path / "node.toml" if path.is_dir() else path
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{file} cannot be read, so give --root: {error}") from error
    network = table.get("network", {})
    return file.absolute().parent / str(network.get("root_certificate", "../network/root.crt"))
