"""`p2pet-cli meter`: registering meters, as a registrar; seeing registrations, as anybody concerned."""

from collections.abc import Callable
from typing import Annotated

import typer
from google.protobuf.message import Message

from p2pet.cli.flow import print_outcome
from p2pet.cli.output import plain, print_json, print_table
from p2pet.cli.pages import LimitOption, collect, more_line
from p2pet.cli.parties import Parties, load_parties
from p2pet.cli.session import JsonOption, ask
from p2pet.cli.states import decode_state
from p2pet.cli.units import format_power, format_time, parse_power, parse_time
from p2pet.client import NodeClient
from p2pet.flows.v1 import arguments_pb2, flows_pb2
from p2pet.ledger.v1 import meter_pb2, transaction_pb2
from p2pet.vault.v1 import vault_pb2

app = typer.Typer(help="Register meters and see their registrations.", no_args_is_help=True)

MeterArgument = Annotated[str, typer.Argument(metavar="METER", help="The meter's name.")]
UntilOption = Annotated[str, typer.Option("--until", help="End of its validity, such as 2031-01-01T00:00Z.")]


@app.command()
def register(
    context: typer.Context,
    meter: MeterArgument,
    producer: Annotated[str, typer.Option(help="The party that issues its energy: name or key.")],
    capacity: Annotated[str, typer.Option(help="Its highest power, such as 10kW.")],
    types: Annotated[str, typer.Option(help="Energy types that it may feed in, such as solar,wind.")],
    begin: Annotated[str, typer.Option("--from", help="Begin of its validity, such as 2030-01-01T00:00Z.")],
    until: UntilOption,
    zone: Annotated[str, typer.Option(help="The part of the grid in which it feeds in.")] = "",
    notary: Annotated[str, typer.Option(help="The notary that takes its issues: name or service key.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Register a producer's meter, once; this node must be a registrar of the network."""

    def arguments(parties: Parties) -> Message:
        return arguments_pb2.MeterRegisterArguments(
            meter=meter,
            producer=parties.find(producer),
            zone=zone,
            capacity_w=parse_power(capacity),
            energy_types=sorted({one for one in types.split(",") if one}),
            valid_from_ns=parse_time(begin),
            valid_until_ns=parse_time(until),
            issue_notary=parties.find_notary(notary) if notary else b"",
        )

    _run(context, "meter.register", arguments, as_json)


@app.command()
def extend(context: typer.Context, meter: MeterArgument, until: UntilOption, as_json: JsonOption = False) -> None:
    """Let the last registration of a meter end later."""
    message = arguments_pb2.MeterExtendArguments(meter=meter, valid_until_ns=parse_time(until))
    _run(context, "meter.extend", lambda _: message, as_json)


@app.command()
def reassign(
    context: typer.Context,
    meter: MeterArgument,
    begin: Annotated[str, typer.Option("--from", help="From when on, such as 2030-06-01T00:00Z.")],
    notary: Annotated[str, typer.Option(help="The notary that takes its issues then: name or service key.")],
    as_json: JsonOption = False,
) -> None:
    """Let another notary take a meter's issues from some time on."""

    def arguments(parties: Parties) -> Message:
        return arguments_pb2.MeterReassignArguments(
            meter=meter, from_ns=parse_time(begin), issue_notary=parties.find_notary(notary)
        )

    _run(context, "meter.reassign", arguments, as_json)


@app.command()
def end(
    context: typer.Context,
    meter: MeterArgument,
    begin: Annotated[
        str, typer.Option("--from", help="Which one, where there are several: begin of its validity.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """End a registration; what was issued under it stays."""
    message = arguments_pb2.MeterEndArguments(meter=meter, valid_from_ns=parse_time(begin) if begin else 0)
    _run(context, "meter.end", lambda _: message, as_json)


@app.command("list")
def list_registrations(context: typer.Context, limit: LimitOption = 100, as_json: JsonOption = False) -> None:
    """The registrations that this node has made, or that are of its own meters."""

    async def work(client: NodeClient) -> tuple[list[vault_pb2.VaultState], bool, Parties]:
        async def page(size: int, token: str) -> tuple[list[vault_pb2.VaultState], str]:
            answer = await client.vault.states(
                status=vault_pb2.STATE_STATUS_UNCONSUMED, contract="meter", page_size=size, page_token=token
            )
            return list(answer.states), answer.next_page_token

        return *await collect(page, limit), await load_parties(client)

    states, more, parties = ask(context, work)
    decoded = [decode_state(transaction_pb2.OutputState.FromString(state.output)) for state in states]
    found = sorted(
        (one for one in decoded if isinstance(one, meter_pb2.MeterRegistration)),
        key=lambda one: (one.meter, one.valid_from_ns),
    )
    if as_json:
        return print_json({"registrations": [plain(one) for one in found], "more": more})
    print_table(
        ("meter", "producer", "zone", ">capacity", "types", "from", "until", "notary of its issues"),
        [
            (
                one.meter,
                parties.name(one.producer),
                one.zone or "-",
                format_power(one.capacity_w),
                ", ".join(one.energy_types),
                format_time(one.valid_from_ns),
                format_time(one.valid_until_ns),
                parties.notary(one.issue_notary),
            )
            for one in found
        ],
        "No registrations.",
    )
    more_line(more, limit)


def _run(context: typer.Context, flow: str, arguments: Callable[[Parties], Message], as_json: bool) -> None:
    async def work(client: NodeClient) -> flows_pb2.RunFlowResponse:
        return await client.flows.run(flow, arguments(await load_parties(client)))

    print_outcome(ask(context, work), as_json)
