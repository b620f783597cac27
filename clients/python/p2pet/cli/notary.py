"""`p2pet-cli notary`: moving states between notaries, and what a notary tells its operator."""

import re
from typing import Annotated

import typer

from p2pet.cli.arguments import state_reference
from p2pet.cli.flow import print_outcome
from p2pet.cli.output import plain, print_fields, print_json, print_line
from p2pet.cli.parties import common_name, load_parties
from p2pet.cli.session import JsonOption, UsageError, ask
from p2pet.cli.units import format_moment
from p2pet.client import NodeClient
from p2pet.flows.v1 import arguments_pb2, flows_pb2
from p2pet.notary.v1 import notary_pb2

app = typer.Typer(help="Move states between notaries; ask a notary.", no_args_is_help=True)


@app.command()
def change(
    context: typer.Context,
    to: Annotated[str, typer.Option(help="The notary's name, or its service key: 64 hexadecimal digits.")],
    state: Annotated[
        list[str] | None,
        typer.Option(metavar="REF", help="A state to move: ID:INDEX; again for more. All when none is named."),
    ] = None,
    client_id: Annotated[str, typer.Option(help="Makes the start idempotent: the same id is the same flow.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Move states of this node to another notary."""
    states = [_reference(text) for text in state or []]

    async def work(client: NodeClient) -> flows_pb2.RunFlowResponse:
        notary = (await load_parties(client)).find_notary(to)
        arguments = arguments_pb2.NotaryChangeArguments(states=states, notary=notary)
        return await client.flows.run("ledger.notary_change", arguments, client_id=client_id)

    print_outcome(ask(context, work), as_json)


@app.command()
def spent(
    context: typer.Context,
    subject: Annotated[str, typer.Argument(metavar="REF|CLAIM", help="A state, ID:INDEX, or the digits of a claim.")],
    as_json: JsonOption = False,
) -> None:
    """Who consumed a state or a claim at this notary, when, and by which request."""
    wanted = bytes.fromhex(subject) if re.fullmatch(r"[0-9a-fA-F]{64}", subject) else _reference(subject)
    answer = ask(context, lambda client: client.notary.who_spent(wanted))
    if as_json:
        return print_json(plain(answer))
    if not answer.spent:
        return print_line("Nobody has consumed it at this notary.")
    print_fields(_fields(answer))


def _reference(text: str) -> bytes:
    reference = state_reference(text)
    if not reference:
        raise UsageError(f"{text!r} is not a state: that is its transaction's 64 hexadecimal digits, a colon, an index")
    return reference


def _fields(answer: notary_pb2.WhoSpentResponse) -> list[tuple[str, str]]:
    inputs = [f"{ref[:32].hex()}:{int.from_bytes(ref[32:], 'big')}" for ref in answer.inputs]
    return [
        ("transaction", answer.transaction_id.hex()),
        ("asked by", f"{common_name(answer.caller_name) or 'a party that has left'}, {answer.caller.hex()}"),
        ("decided", format_moment(answer.decided_at_ns)),
        ("record", f"{answer.sequence}, position {answer.index}"),
        ("request signature", answer.request_signature.hex()),
        ("inputs", ", ".join(inputs) or "-"),
    ]
