"""`p2pet-cli flow`: starting flows and following them."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import typer

from p2pet.cli.arguments import build, message_type, parse
from p2pet.cli.output import enum_name, plain, print_fields, print_json, print_line, print_table
from p2pet.cli.pages import LimitOption, collect, more_line
from p2pet.cli.parties import Parties, load_parties
from p2pet.cli.session import CliError, ExitCode, JsonOption, UsageError, ask, parse_hex
from p2pet.cli.units import format_moment
from p2pet.client import NodeClient
from p2pet.flows.v1 import flows_pb2

FLOW_ID_BYTES = 16
INDENT = "  "
STATUSES = ("running", "completed", "failed", "parked")
_STATUS = flows_pb2.FlowStatus.DESCRIPTOR

app = typer.Typer(help="Start flows and follow them.", no_args_is_help=True)

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Flow id: 32 hexadecimal digits.")]


@app.command()
def start(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Such as energy.request; `flow types` lists them.")],
    pairs: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE...")] = None,
    client_id: Annotated[str, typer.Option(help="Makes the start idempotent: the same id is the same flow.")] = "",
    flow_version: Annotated[int, typer.Option("--version", help="0 is the newest.")] = 0,
    arguments: Annotated[str, typer.Option(help="The arguments as protobuf JSON; KEY=VALUE comes on top.")] = "",
    wait: Annotated[bool, typer.Option(help="Wait for the outcome.")] = True,
    watch: Annotated[bool, typer.Option(help="Print each step as it happens.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Start a flow: `flow start energy.request energy_type=solar quantity=1.5kWh delivery=2026-07-01T12:00Z/PT1H`."""

    async def work(client: NodeClient) -> flows_pb2.RunFlowResponse:
        data = await _arguments(client, name, flow_version, pairs or [], arguments)
        if wait and not watch:
            return await client.flows.run(name, data, client_id=client_id, version=flow_version)
        flow_id = await client.flows.start(name, data, client_id=client_id, version=flow_version)
        outcome = flows_pb2.FlowOutcome(status=flows_pb2.FLOW_STATUS_RUNNING)
        if watch:
            outcome = await _follow(client.flows.watch(flow_id), as_json)
        return flows_pb2.RunFlowResponse(flow_id=flow_id, outcome=outcome)

    print_outcome(ask(context, work), as_json)


async def _arguments(client: NodeClient, name: str, version: int, pairs: list[str], json_text: str) -> bytes:
    types = [one for one in (await client.flows.types()).types if one.flow == name and version in (0, one.version)]
    if not types:
        raise CliError(f"the node has no flow {name}; `p2pet-cli flow types` lists its flows", "flow.unknown")
    kind = message_type(max(types, key=lambda one: one.version).arguments_type)
    assignments = parse(kind, pairs)
    parties = await load_parties(client) if any(one.is_key for one in assignments) else Parties({})
    return build(kind, assignments, parties, json_text).SerializeToString(deterministic=True)


async def _follow(events: AsyncIterator[flows_pb2.WatchFlowResponse], as_json: bool) -> flows_pb2.FlowOutcome:
    """Prints each step; the outcome."""
    async for event in events:
        if event.HasField("outcome"):
            return event.outcome
        if as_json:
            print_json(plain(event.step))
        else:
            print_line(f"{format_moment(event.step.at_ns)}  {event.step.step:3}  {_nested(event.step)}")
    raise CliError("the node ended the stream before the flow had an outcome; watch it again", "flow.stream_ended")


def _nested(step: flows_pb2.ProgressStep) -> str:
    return INDENT * step.depth + step.name


def print_outcome(response: flows_pb2.RunFlowResponse, as_json: bool) -> None:
    """What became of a flow; ends the command with REFUSED when it failed."""
    outcome = response.outcome
    if as_json:
        print_json(plain(response))
    else:
        fields = [("flow", response.flow_id.hex()), ("status", enum_name(_STATUS, outcome.status))]
        if outcome.transaction_id:
            fields.append(("transaction", outcome.transaction_id.hex()))
        if outcome.error_code:
            fields.append(("error", f"{outcome.error_code}: {outcome.error_message}"))
        print_fields(fields)
    if outcome.status in (flows_pb2.FLOW_STATUS_FAILED, flows_pb2.FLOW_STATUS_PARKED):
        raise typer.Exit(ExitCode.REFUSED)


@app.command()
def watch(context: typer.Context, flow_id: IdArgument, as_json: JsonOption = False) -> None:
    """The steps of a flow so far and as they happen, then its outcome."""
    identifier = parse_hex(flow_id, FLOW_ID_BYTES, "a flow id")

    async def work(client: NodeClient) -> flows_pb2.FlowOutcome:
        return await _follow(client.flows.watch(identifier), as_json)

    print_outcome(flows_pb2.RunFlowResponse(flow_id=identifier, outcome=ask(context, work)), as_json)


@app.command()
def show(
    context: typer.Context,
    flow_id: Annotated[str, typer.Argument(metavar="[ID]", help="Flow id: 32 hexadecimal digits.")] = "",
    client_id: Annotated[str, typer.Option(help="The client id that started it, instead of the flow id.")] = "",
    as_json: JsonOption = False,
) -> None:
    """A flow with its steps so far."""
    if bool(flow_id) == bool(client_id):
        raise UsageError("give either a flow id or --client-id")
    identifier = parse_hex(flow_id, FLOW_ID_BYTES, "a flow id") if flow_id else b""

    async def work(client: NodeClient) -> tuple[flows_pb2.GetFlowResponse, Parties]:
        answer = await client.flows.get(flow_id=identifier, client_id=client_id)
        return answer, await load_parties(client) if answer.flow.counterparty else Parties({})

    answer, parties = ask(context, work)
    if as_json:
        return print_json(plain(answer))
    print_fields(_fields(answer.flow, parties))
    print_table(
        (">step", "name", "at"),
        [(str(step.step), _nested(step), format_moment(step.at_ns)) for step in answer.steps],
        "No steps yet.",
    )


def _fields(flow: flows_pb2.FlowInfo, parties: Parties) -> list[tuple[str, str]]:
    fields = [
        ("flow", flow.flow_id.hex()),
        ("name", f"{flow.flow} version {flow.version}"),
        ("client id", flow.client_id or "-"),
        ("role", "initiator" if flow.initiator else f"responder to {parties.name(flow.counterparty)}"),
        ("started", format_moment(flow.started_at_ns)),
        ("ended", format_moment(flow.ended_at_ns)),
        ("status", enum_name(_STATUS, flow.outcome.status)),
    ]
    if flow.waiting_for:
        fields.append(("waits for", flow.waiting_for))
    if flow.outcome.transaction_id:
        fields.append(("transaction", flow.outcome.transaction_id.hex()))
    if flow.outcome.error_code:
        fields.append(("error", f"{flow.outcome.error_code}: {flow.outcome.error_message}"))
    return fields


@app.command("list")
def list_flows(
    context: typer.Context,
    status: Annotated[str, typer.Option(help="running, completed, failed or parked; all when left out.")] = "",
    limit: LimitOption = 100,
    as_json: JsonOption = False,
) -> None:
    """The node's flows, the newest first."""
    if status and status not in STATUSES:
        raise UsageError(f"--status is {', '.join(STATUSES)}, not {status!r}")
    wanted: Any = STATUSES.index(status) + 1 if status else flows_pb2.FLOW_STATUS_UNSPECIFIED

    flows, more = _page(context, wanted, limit)
    if as_json:
        return print_json({"flows": [plain(flow) for flow in flows], "more": more})
    print_table(
        ("flow", "name", "status", "step", "waits for", "started", "ended", "error"),
        [
            (
                flow.flow_id.hex(),
                flow.flow,
                enum_name(_STATUS, flow.outcome.status),
                flow.current_step or "-",
                flow.waiting_for or "-",
                format_moment(flow.started_at_ns),
                format_moment(flow.ended_at_ns),
                flow.outcome.error_code or "-",
            )
            for flow in flows
        ],
        "No flows.",
    )
    more_line(more, limit)


def _page(context: typer.Context, status: Any, limit: int) -> tuple[list[flows_pb2.FlowInfo], bool]:
    async def work(client: NodeClient) -> tuple[list[flows_pb2.FlowInfo], bool]:
        async def page(size: int, token: str) -> tuple[list[flows_pb2.FlowInfo], str]:
            answer = await client.flows.list(status=status, page_size=size, page_token=token)
            return list(answer.flows), answer.next_page_token

        return await collect(page, limit)

    return ask(context, work)


@app.command()
def parked(context: typer.Context, limit: LimitOption = 100, as_json: JsonOption = False) -> None:
    """The flows that stand still until they are retried or dropped, each with its cause."""
    flows, more = _page(context, flows_pb2.FLOW_STATUS_PARKED, limit)
    if as_json:
        return print_json({"flows": [plain(flow) for flow in flows], "more": more})
    print_table(
        ("flow", "name", "role", "started", "cause"),
        [
            (
                flow.flow_id.hex(),
                f"{flow.flow} version {flow.version}",
                "initiator" if flow.initiator else "responder",
                format_moment(flow.started_at_ns),
                f"{flow.outcome.error_code}: {flow.outcome.error_message}",
            )
            for flow in flows
        ],
        "No flow is parked.",
    )
    more_line(more, limit)


@app.command()
def retry(context: typer.Context, flow_id: IdArgument, as_json: JsonOption = False) -> None:
    """Run a parked flow again from what it has journaled."""
    identifier = parse_hex(flow_id, FLOW_ID_BYTES, "a flow id")
    ask(context, lambda client: client.flows.retry(identifier))
    _done(as_json, f"the flow {flow_id} runs again; `p2pet-cli flow show {flow_id}` tells how far it gets")


@app.command()
def drop(context: typer.Context, flow_id: IdArgument, as_json: JsonOption = False) -> None:
    """Give a parked flow up: what it holds is freed, and its counterparties are told."""
    identifier = parse_hex(flow_id, FLOW_ID_BYTES, "a flow id")
    _print_ended(flow_id, ask(context, lambda client: client.flows.drop(identifier)), as_json)


@app.command()
def kill(context: typer.Context, flow_id: IdArgument, as_json: JsonOption = False) -> None:
    """End a flow that is under way or parked: what it holds is freed, and its counterparties are told."""
    identifier = parse_hex(flow_id, FLOW_ID_BYTES, "a flow id")
    _print_ended(flow_id, ask(context, lambda client: client.flows.kill(identifier)), as_json)


@app.command()
def remove(context: typer.Context, flow_id: IdArgument, as_json: JsonOption = False) -> None:
    """Forget an ended flow and its client id, which starts another flow then."""
    identifier = parse_hex(flow_id, FLOW_ID_BYTES, "a flow id")
    ask(context, lambda client: client.flows.remove(identifier))
    _done(as_json, f"the flow {flow_id} is forgotten")


def _done(as_json: bool, text: str) -> None:
    if as_json:
        print_json({"done": True})
    else:
        print_line(text)


def _print_ended(flow_id: str, answer: flows_pb2.KillFlowResponse | flows_pb2.DropFlowResponse, as_json: bool) -> None:
    if as_json:
        return print_json(plain(answer))
    print_line(f"the flow {flow_id} is ended")
    for transaction_id in answer.in_flight:
        print_line(
            f"it had signed the transaction {transaction_id.hex()}, which may still become final; what it consumes "
            "stays reserved until its notary has decided (`p2pet-cli tx in-flight`)"
        )


@app.command()
def types(context: typer.Context, as_json: JsonOption = False) -> None:
    """The flows that can be started here, with their arguments."""
    answer = ask(context, lambda client: client.flows.types())
    if as_json:
        return print_json(plain(answer))
    print_table(
        ("flow", ">version", "arguments", "what it does"),
        [(one.flow, str(one.version), one.arguments_type, one.description) for one in answer.types],
        "The node has no flows.",
    )
