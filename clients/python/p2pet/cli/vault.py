"""`p2pet-cli vault`: what the node owns."""

from typing import Annotated, Any

import typer

from p2pet.cli.output import plain, print_json, print_line, print_table
from p2pet.cli.pages import LimitOption, collect, more_line
from p2pet.cli.parties import Parties, load_parties
from p2pet.cli.session import CliError, ExitCode, JsonOption, UsageError, ask
from p2pet.cli.states import describe_state, plain_state, power_w
from p2pet.cli.units import format_amount, format_moment, format_period, format_quantity, parse_power
from p2pet.client import NodeClient
from p2pet.flows.v1 import arguments_pb2, flows_pb2
from p2pet.ledger.v1 import transaction_pb2
from p2pet.vault.v1 import vault_pb2

STATUSES = ("unconsumed", "consumed", "all")
UNITS = ("kwh", "kw")

app = typer.Typer(help="What the node owns.", no_args_is_help=True)


@app.command("list")
def list_states(
    context: typer.Context,
    status: Annotated[str, typer.Option(help="unconsumed, consumed or all.")] = "unconsumed",
    contract: Annotated[str, typer.Option(help="Such as energy or payment; all when left out.")] = "",
    owner: Annotated[str, typer.Option(help="A party's name or key; any when left out.")] = "",
    unit: Annotated[str, typer.Option(help="Energy in kwh, or in kw: its mean power over the period.")] = "kwh",
    min_power: Annotated[str, typer.Option(help="Only energy of at least this mean power, such as 2kW.")] = "",
    limit: LimitOption = 100,
    as_json: JsonOption = False,
) -> None:
    """The states that the node has recorded."""
    if status not in STATUSES:
        raise UsageError(f"--status is {', '.join(STATUSES)}, not {status!r}")
    if unit not in UNITS:
        raise UsageError(f"--unit is {' or '.join(UNITS)}, not {unit!r}")
    least_w = parse_power(min_power) if min_power else None
    wanted: Any = {"unconsumed": 1, "consumed": 2, "all": 0}[status]

    async def work(client: NodeClient) -> tuple[list[vault_pb2.VaultState], bool, Parties]:
        parties = await load_parties(client)
        key = parties.find(owner) if owner else b""

        async def page(size: int, token: str) -> tuple[list[vault_pb2.VaultState], str]:
            answer = await client.vault.states(
                status=wanted, contract=contract, owner=key, page_size=size, page_token=token
            )
            return [one for one in answer.states if _is_as_strong(one, least_w)], answer.next_page_token

        return *await collect(page, limit), parties

    states, more, parties = ask(context, work)
    if as_json:
        return print_json({"states": [plain_state(state) for state in states], "more": more})
    print_table(
        ("state", "what", "owner", "notary", "recorded", "status"),
        [_row(state, parties, unit) for state in states],
        "No states.",
    )
    more_line(more, limit)


def _is_as_strong(state: vault_pb2.VaultState, least_w: int | None) -> bool:
    if least_w is None:
        return True
    power = power_w(transaction_pb2.OutputState.FromString(state.output))
    return power is not None and power >= least_w


def _row(state: vault_pb2.VaultState, parties: Parties, unit: str) -> tuple[str, ...]:
    output = transaction_pb2.OutputState.FromString(state.output)
    what, owner = describe_state(output, parties, unit)
    consumed = state.status == vault_pb2.STATE_STATUS_CONSUMED
    status = "consumed" if consumed else "reserved" if state.soft_locked else "unconsumed"
    if output.encumbered_by:
        status += f", bound to :{output.encumbered_by - 1}"
    reference = f"{state.ref[:8].hex()}:{int.from_bytes(state.ref[32:], 'big')}"
    notary = parties.notary(output.notary)
    return (reference, what, owner, notary, format_moment(state.recorded_at_ns), status)


@app.command()
def balance(context: typer.Context, as_json: JsonOption = False) -> None:
    """Energy by type and delivery period, and money by currency and issuer."""

    async def work(client: NodeClient) -> tuple[vault_pb2.GetBalanceResponse, Parties]:
        return await client.vault.balance(), Parties({}) if as_json else await load_parties(client)

    answer, parties = ask(context, work)
    if as_json:
        return print_json(plain(answer))
    print_table(
        ("energy", "delivery", ">quantity", ">reserved", ">own production"),
        [
            (
                one.energy_type,
                format_period(one.delivery_start_ns, one.delivery_end_ns),
                format_quantity(one.quantity_wh),
                format_quantity(one.locked_wh),
                format_quantity(one.own_wh),
            )
            for one in answer.energy
        ],
        "No energy.",
    )
    print_table(
        ("money", "issuer", ">amount", ">reserved"),
        [
            (one.currency, parties.name(one.issuer), format_amount(one.amount_nano), format_amount(one.locked_nano))
            for one in answer.money
        ],
        "No money.",
    )


@app.command()
def recover(
    context: typer.Context,
    source: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="NAME", help="A party to ask; again for more. Everybody when none is named."),
    ] = None,
    client_id: Annotated[str, typer.Option(help="Makes the start idempotent: the same id is the same flow.")] = "",
    watch: Annotated[bool, typer.Option(help="Print each step as it happens.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Get back a lost vault: what other parties and the notaries know of this node. It changes nothing that is here."""

    async def work(client: NodeClient) -> tuple[flows_pb2.RunFlowResponse, str, vault_pb2.GetBalanceResponse]:
        parties = await load_parties(client) if source else Parties({})
        arguments = arguments_pb2.LedgerRecoverArguments(parties=[parties.find(one) for one in source or []])
        flow_id = await client.flows.start("ledger.recover", arguments, client_id=client_id)
        outcome, summary = await _follow(client, flow_id, watch and not as_json)
        response = flows_pb2.RunFlowResponse(flow_id=flow_id, outcome=outcome)
        return response, summary, await client.vault.balance()

    response, summary, now = ask(context, work)
    if as_json:
        print_json({"flow": plain(response), "summary": summary, "balance": plain(now)})
    else:
        _describe(response.outcome, summary, now)
    if response.outcome.status != flows_pb2.FLOW_STATUS_COMPLETED:
        raise typer.Exit(ExitCode.REFUSED)


async def _follow(client: NodeClient, flow_id: bytes, tell: bool) -> tuple[flows_pb2.FlowOutcome, str]:
    """The outcome, and the last step, which sums up."""
    last = ""
    async for event in client.flows.watch(flow_id):
        if event.HasField("outcome"):
            return event.outcome, last
        last = event.step.name
        if tell:
            print_line(f"{format_moment(event.step.at_ns)}  {last}")
    raise CliError("the node ended the stream before the flow had an outcome; run it again", "flow.stream_ended")


def _describe(outcome: flows_pb2.FlowOutcome, summary: str, now: vault_pb2.GetBalanceResponse) -> None:
    if outcome.error_code:
        print_line(f"{outcome.error_message} ({outcome.error_code})")
    else:
        print_line(f"{summary[:1].upper()}{summary[1:]}.")
    energy_wh = sum(one.quantity_wh for one in now.energy)
    money = [f"{format_amount(one.amount_nano)} {one.currency}" for one in now.money]
    print_line(f"The node holds {format_quantity(energy_wh)} of energy, and {' and '.join(money) or 'no money'}.")
    print_line(
        "What this node alone took part in does not come back, such as energy that it issued and never gave to anybody."
    )
