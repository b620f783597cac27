"""`p2pet-cli vault`: what the node owns."""

from typing import Annotated, Any

import typer
from google.protobuf.message import DecodeError, Message

from p2pet.cli.output import plain, print_json, print_table, short
from p2pet.cli.pages import LimitOption, collect, more_line
from p2pet.cli.parties import Parties, load_parties
from p2pet.cli.session import JsonOption, UsageError, ask
from p2pet.cli.units import format_amount, format_moment, format_period, format_price, format_quantity
from p2pet.client import NodeClient
from p2pet.ledger.v1 import energy_pb2, payment_pb2, transaction_pb2
from p2pet.vault.v1 import vault_pb2

STATUSES = ("unconsumed", "consumed", "all")
STATES: dict[tuple[str, str], type[Message]] = {
    ("energy", "EnergyState"): energy_pb2.EnergyState,
    ("payment", "PaymentState"): payment_pb2.PaymentState,
}

app = typer.Typer(help="What the node owns.", no_args_is_help=True)


@app.command("list")
def list_states(
    context: typer.Context,
    status: Annotated[str, typer.Option(help="unconsumed, consumed or all.")] = "unconsumed",
    contract: Annotated[str, typer.Option(help="Such as energy or payment; all when left out.")] = "",
    owner: Annotated[str, typer.Option(help="A party's name or key; any when left out.")] = "",
    limit: LimitOption = 100,
    as_json: JsonOption = False,
) -> None:
    """The states that the node has recorded."""
    if status not in STATUSES:
        raise UsageError(f"--status is {', '.join(STATUSES)}, not {status!r}")
    wanted: Any = {"unconsumed": 1, "consumed": 2, "all": 0}[status]

    async def work(client: NodeClient) -> tuple[list[vault_pb2.VaultState], bool, Parties]:
        parties = await load_parties(client)
        key = parties.find(owner) if owner else b""

        async def page(size: int, token: str) -> tuple[list[vault_pb2.VaultState], str]:
            answer = await client.vault.states(
                status=wanted, contract=contract, owner=key, page_size=size, page_token=token
            )
            return list(answer.states), answer.next_page_token

        return *await collect(page, limit), parties

    states, more, parties = ask(context, work)
    if as_json:
        return print_json({"states": [plain_state(state) for state in states], "more": more})
    print_table(
        ("state", "what", "owner", "notary", "recorded", "status"),
        [_row(state, parties) for state in states],
        "No states.",
    )
    more_line(more, limit)


def plain_state(state: vault_pb2.VaultState) -> dict[str, object]:
    """A recorded state for programs; `output.state` holds the decoded payload where this client knows its type."""
    return plain(state) | {"output": plain_output(state.output)}


def plain_output(component: bytes) -> dict[str, object] | None:
    """An `OutputState` component for programs; None when it does not decode."""
    try:
        output = transaction_pb2.OutputState.FromString(component)
    except DecodeError:
        return None
    state = decode_state(output)
    return plain(output) | {"state": None if state is None else plain(state)}


def decode_state(output: transaction_pb2.OutputState) -> Message | None:
    """The payload of an output; None when this client does not know its type."""
    kind = STATES.get((output.contract, output.type_name))
    if kind is None:
        return None
    try:
        return kind.FromString(output.payload)
    except DecodeError:
        return None


def describe_state(output: transaction_pb2.OutputState, parties: Parties) -> tuple[str, str]:
    """What a state is and who owns it, for people."""
    state = decode_state(output)
    if isinstance(state, energy_pb2.EnergyState):
        period = format_period(state.delivery_start_ns, state.delivery_end_ns)
        price = format_price(state.asked_price_micro_per_kwh)
        return f"{format_quantity(state.quantity_wh)} {state.energy_type}, {period}, {price}", parties.name(state.owner)
    if isinstance(state, payment_pb2.PaymentState):
        return format_amount(state.amount_nano, state.currency), parties.name(state.owner)
    return f"{output.contract} {output.type_name}", "-"


def _row(state: vault_pb2.VaultState, parties: Parties) -> tuple[str, ...]:
    output = transaction_pb2.OutputState.FromString(state.output)
    what, owner = describe_state(output, parties)
    consumed = state.status == vault_pb2.STATE_STATUS_CONSUMED
    status = "consumed" if consumed else "reserved" if state.soft_locked else "unconsumed"
    reference = f"{state.ref[:8].hex()}:{int.from_bytes(state.ref[32:], 'big')}"
    return (reference, what, owner, short(output.notary), format_moment(state.recorded_at_ns), status)


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
