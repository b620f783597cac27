"""A flow that ends before the notary has decided leaves its transaction to a flow of the node's own."""

import pytest
from p2pet.flows.v1.arguments_pb2 import LedgerSettleArguments
from p2pet.flows.v1.flows_pb2 import (
    FLOW_STATUS_COMPLETED,
    FLOW_STATUS_FAILED,
    FLOW_STATUS_PARKED,
    FLOW_STATUS_RUNNING,
)
from p2pet.store.v1.store_pb2 import InFlightRow

from p2petd.contracts import payment
from p2petd.contracts.payment import PaymentPay, PaymentState
from p2petd.errors import FlowCodeChanged, FlowError, FlowNotParked, TransactionRefused
from p2petd.flows.context import FlowContext
from p2petd.flows.events import Drop, Kill, Remove, Retry
from p2petd.flows.flow_in_flight import InFlight
from p2petd.flows.registry import FlowDefinition
from p2petd.flows.settling import SETTLE, settle_flow_id
from p2petd.ledger.refs import StateRef
from p2petd.ledger.transaction import Draft, TransactionBuilder
from p2petd.store.changes import scan_prefix
from p2petd.store.tables import Table
from p2petd.units import NanoMoney
from tests.support.engines import Node
from tests.support.toys import toy
from tests.unit.flows.conftest import Parties

COINS = (StateRef(b"1" * 32, 0), StateRef(b"2" * 32, 0))


class Notary:
    """What the settling flow learns, as long as it is a word."""

    def __init__(self) -> None:
        self.word = ""

    async def settle(self, ctx: FlowContext, arguments: LedgerSettleArguments) -> bytes | None:
        key = arguments.in_flight
        left = await ctx.once("what was left", lambda: ctx.in_flight.left_by(key))
        draft = InFlight.read(left).draft
        if not self.word:
            await ctx.pause_for(10**9)
        if self.word == "unclear":
            raise TransactionRefused("finality.proof", "the notary's proof does not verify")
        ctx.in_flight.settled(key)
        if self.word == "never":
            raise FlowError("never")
        return draft.id

    def flow(self) -> FlowDefinition:
        return FlowDefinition(SETTLE, 1, LedgerSettleArguments, "", self.settle, None, internal=True)


def _draft(ctx: FlowContext, coin: StateRef) -> Draft:
    """A payment of a coin, whatever that may be worth."""
    state = PaymentState(currency="EUR", amount_nano=NanoMoney(1), issuer=ctx.me, owner=ctx.me)
    minted = TransactionBuilder(ctx.notary(), ctx.parameters_hash).add_output(payment.NAME, payment.VERSION, state)
    builder = TransactionBuilder(ctx.notary(), ctx.parameters_hash).add_input(coin, minted.outputs[0])
    builder.add_output(payment.NAME, payment.VERSION, state)
    return builder.add_command(payment.NAME, PaymentPay(), [ctx.me]).build(ctx.random("salt"))


async def _sign(ctx: FlowContext) -> None:
    """Reserve both coins and spend the first."""
    await ctx.vault.reserve("reserve", COINS)
    draft = _draft(ctx, COINS[0])
    ctx.in_flight.begin(draft.id, InFlightRow(signed_transaction=draft.proposal().encode()))


async def _sign_and_wait(ctx: FlowContext, _: bytes) -> None:
    await _sign(ctx)
    await ctx.pause_for(3600 * 10**9)


SIGNING = toy("sign", _sign_and_wait)


def locks(node: Node) -> dict[StateRef, bytes]:
    """The flow that holds each reserved state."""
    return {StateRef.decode(ref): flow for ref, flow in scan_prefix(node.store, Table.LOCK, b"")}


def heir(node: Node) -> bytes:
    """The flow that follows the one transaction in flight."""
    ((key, _),) = scan_prefix(node.store, Table.IN_FLIGHT, b"")
    return settle_flow_id(key)


@pytest.mark.parametrize("word", ["final", "never"])
def test_f07_f20_a_kill_leaves_what_is_in_flight_to_the_notary(parties: Parties, word: str) -> None:
    notary = Notary()
    (home,) = parties(1, SIGNING, notary.flow())
    flow_id = home.begin("sign")
    ended = home.operate(Kill, flow_id)
    assert ended is not None
    (transaction_id,) = ended.in_flight
    assert (ended.outcome.status, len(transaction_id)) == (FLOW_STATUS_FAILED, 32)
    # What the transaction consumes passes to its follower, anything else is free.
    follower = heir(home)
    assert locks(home) == {COINS[0]: follower}
    home.restart()
    assert locks(home) == {COINS[0]: follower}
    assert home.info(follower).outcome.status == FLOW_STATUS_RUNNING
    notary.word = word
    home.world.after(3)
    expected = FLOW_STATUS_COMPLETED if word == "final" else FLOW_STATUS_FAILED
    assert home.info(follower).outcome.status == expected
    assert (locks(home), home.count(Table.IN_FLIGHT), len(home.rows())) == ({}, 0, 2)
    # The rest can be reserved again.
    again = home.begin("sign")
    assert set(locks(home).values()) == {again}


def test_f06_a_parked_flow_with_something_in_flight_is_dropped_the_same_way(parties: Parties) -> None:
    async def sign_and_fail(ctx: FlowContext, _: bytes) -> None:
        await _sign(ctx)
        raise ZeroDivisionError

    notary = Notary()
    (home,) = parties(1, toy("sign", sign_and_fail), notary.flow())
    flow_id = home.begin("sign")
    assert set(locks(home).values()) == {flow_id}
    # Also when its code is gone.
    home.restart(flows=(notary.flow(),))
    ended = home.operate(Drop, flow_id)
    assert ended is not None
    assert len(ended.in_flight) == 1
    assert locks(home) == {COINS[0]: heir(home)}


def test_f20_a_flow_that_fails_by_itself_leaves_what_is_in_flight_to_the_notary(parties: Parties) -> None:
    """An error of any kind frees nothing that may still be consumed, also in the batch that signed it."""

    async def sign_and_fail(ctx: FlowContext, _: bytes) -> None:
        await _sign(ctx)
        raise FlowError("an error after the signature")

    notary = Notary()
    (home,) = parties(1, toy("sign", sign_and_fail), notary.flow())
    flow_id = home.begin("sign")
    assert home.info(flow_id).outcome.status == FLOW_STATUS_FAILED
    assert locks(home) == {COINS[0]: heir(home)}


def test_f20_what_cannot_be_followed_stays_with_its_flow(parties: Parties) -> None:
    async def sign_and_fail(ctx: FlowContext, _: bytes) -> None:
        await _sign(ctx)
        raise FlowError("an error after the signature")

    (home,) = parties(1, toy("sign", sign_and_fail))
    flow_id = home.begin("sign")
    assert home.info(flow_id).outcome.status == FLOW_STATUS_PARKED
    assert set(locks(home).values()) == {flow_id}


def test_f20_a_follower_that_learns_nothing_is_parked_and_goes_on_when_it_is_retried(parties: Parties) -> None:
    notary = Notary()
    (home,) = parties(1, SIGNING, notary.flow())
    flow_id = home.begin("sign")
    notary.word = "unclear"
    home.operate(Kill, flow_id)
    follower = heir(home)
    assert home.info(follower).outcome.error_code == "finality.proof"
    assert home.info(follower).outcome.status == FLOW_STATUS_PARKED
    assert locks(home) == {COINS[0]: follower}
    for operation in (Kill, Drop):
        with pytest.raises(FlowError, match="cannot be ended"):
            home.operate(operation, follower)
    notary.word = "final"
    home.operate(Retry, follower)
    assert home.info(follower).outcome.status == FLOW_STATUS_COMPLETED
    assert (locks(home), home.count(Table.IN_FLIGHT)) == ({}, 0)


def test_f06_f20_a_flow_that_nothing_can_follow_keeps_what_it_holds_when_it_is_to_be_dropped(parties: Parties) -> None:
    """Its network parameters are not here, so neither it nor a follower can run."""
    (home,) = parties(1, SIGNING, Notary().flow())
    flow_id = home.begin("sign")
    row = home.rows()[flow_id]
    row.parameters_hash = b"p" * 32
    home.store.commit([(Table.FLOW, flow_id, row.SerializeToString())])
    home.restart()
    assert home.info(flow_id).outcome.error_code == "flow.code_changed"
    for operation in (Drop, Kill):
        with pytest.raises(FlowCodeChanged):
            home.operate(operation, flow_id)
    assert set(locks(home).values()) == {flow_id}
    assert home.engine.counters()["flows_standing"] == 1
    # They are back.
    row.parameters_hash = home.member.network_map.current_parameters(home.world.now_ns).hash
    home.store.commit([(Table.FLOW, flow_id, row.SerializeToString())])
    home.restart()
    ended = home.operate(Kill, flow_id)
    assert ended is not None
    assert locks(home) == {COINS[0]: heir(home)}


def test_f01_f07_a_killed_flow_says_what_is_in_flight_and_is_not_removed_before_that_is_decided(
    parties: Parties,
) -> None:
    """Who starts the same client id again after a removal would do it twice."""
    notary = Notary()
    (home,) = parties(1, SIGNING, notary.flow())
    flow_id = home.begin("sign", client_id="once")
    ended = home.operate(Kill, flow_id)
    assert ended is not None
    assert f"may still become final: {ended.in_flight[0].hex()}" in home.info(flow_id).outcome.error_message
    with pytest.raises(FlowNotParked, match="may still become final"):
        home.operate(Remove, flow_id)
    assert home.begin("sign", client_id="once") == flow_id
    notary.word = "final"
    home.world.after(3)
    home.operate(Remove, flow_id)
    assert home.begin("sign", client_id="once") != flow_id
