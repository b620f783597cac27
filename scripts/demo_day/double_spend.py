"""Tries to spend money twice: `python -m demo_day.double_spend <directory of a stopped home>`.

Takes the place of the home, with its keys, its certificates and its vault, as a thief or a dishonest owner would. The
transaction is right in every respect but one: its input was consumed before. Prints what the notary answers, in JSON.
"""

import asyncio
import hashlib
import json
import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2pet.notary.v1 import notary_pb2
from p2pet.peer.v1.peer_pb2 import Reply
from p2pet.store.v1.store_pb2 import StateRow

from p2petd import native
from p2petd.config import load_config
from p2petd.contracts import payment
from p2petd.contracts.payment import PaymentPay, PaymentState
from p2petd.contracts.registry import verify as verify_contracts
from p2petd.errors import NodeError
from p2petd.flows.finality import NOTARISE, request_digest
from p2petd.flows.money import add_payment
from p2petd.ledger.groups import Group
from p2petd.ledger.proposal import ED25519, PURPOSE_TRANSACTION, Proposal, Signature
from p2petd.ledger.refs import StateRef
from p2petd.ledger.resolved import LedgerTransaction, OutputState
from p2petd.ledger.transaction import Draft, TransactionBuilder
from p2petd.membership import Membership
from p2petd.node import local_node, open_store
from p2petd.peer.link import KnownPeers
from p2petd.peer.transport import PeerTransport
from p2petd.store.changes import scan_prefix
from p2petd.store.tables import Table
from p2petd.units import NO_LOWER_BOUND, SECOND_NS, TimeNs
from p2petd.vault.selection import Coin

PURPOSE_REQUEST = 3
WINDOW_NS = 30 * SECOND_NS
ANSWER_SECONDS_MAX = 15.0


@dataclass(frozen=True)
class Spent:
    """Money that this home has spent, and the transaction that did."""

    coin: Coin
    consumed_by: bytes


class NothingSpent(Exception):
    """The vault holds no consumed money."""


class RefusedBefore(Exception):
    """The forged proposal has another fault than the double spend, so it would prove nothing."""


def find_spent(store: native.Store, owner: bytes) -> Spent:
    """The first consumed payment state of `owner`. Raises NothingSpent."""
    for key, value in scan_prefix(store, Table.STATE, b""):
        row = StateRow.FromString(value)
        output = OutputState.decode(row.output)
        if row.consumed_by and output.contract == payment.NAME:
            coin = Coin(StateRef.decode(key), output)
            if coin.money.owner == owner:
                return Spent(coin, row.consumed_by)
    raise NothingSpent("this home has not spent any money yet")


def forge(member: Membership, spent: Spent, proof: bytes) -> tuple[Draft, Proposal]:
    """Pays the spent money to its old owner once more, rightly signed, with the proof of its input."""
    me = member.identity
    money: PaymentState = spent.coin.money
    parameters = member.network_map.current_parameters(time.time_ns())
    builder = TransactionBuilder(spent.coin.output.notary, parameters.hash)
    builder.window(NO_LOWER_BOUND, TimeNs(time.time_ns() + WINDOW_NS))
    add_payment(builder, [spent.coin], money.amount_nano, me.public, me.public)
    builder.add_command(payment.NAME, PaymentPay(), [me.public])
    draft = builder.build(secrets.token_bytes(32))
    signature = Signature(me.public, me.signing_key.sign(me.network_id, PURPOSE_TRANSACTION, draft.id))
    proposal = draft.signed([signature]).proposal((proof,))
    checked = member.rules.check_proposals([proposal.encode()], True)[0]
    if isinstance(checked, native.Refusal):
        raise RefusedBefore(f"{checked.message} [{checked.code}]")
    verify_contracts(LedgerTransaction.from_checked(checked, member.contract_parameters[parameters.hash]))
    return draft, proposal


@dataclass(frozen=True)
class OneReply:
    """The inbound side of a connection that waits for one answer and leaves all messages to the real node."""

    answer: asyncio.Future[Reply]

    def on_reply(self, reply: Reply) -> None:
        if not self.answer.done():
            self.answer.set_result(reply)

    def on_messages(self, peer: bytes, epoch: bytes, messages: tuple[Any, ...]) -> None:
        """Not acknowledged, so they are sent again when the real node is back."""

    def on_acknowledged(self, peer: bytes, first: int, last: int, token: bytes) -> None:
        """The real node hears of it again."""

    def on_call(self, peer: bytes, service: str, payload: bytes, answer: Callable[[Reply], None]) -> None:
        """This side offers no service."""

    def on_rolled_back(self, error: NodeError) -> None:
        self.answer.set_exception(error)


async def ask_notary(
    member: Membership, store: native.Store, request: notary_pb2.NotarisationRequest, notary: bytes
) -> notary_pb2.NotarisationReply:
    """What the notary answers over the peer connection. Raises TimeoutError, NodeError."""
    me = member.identity
    inbound = OneReply(asyncio.get_running_loop().create_future())
    local = local_node(me, store)
    transport = PeerTransport(local, member.network_map, member.tls, KnownPeers.load(store), inbound)
    try:
        transport.call(notary, secrets.token_bytes(16), NOTARISE, request.SerializeToString())
        reply = await asyncio.wait_for(inbound.answer, ANSWER_SECONDS_MAX)
    finally:
        await transport.stop()
    return notary_pb2.NotarisationReply.FromString(reply.payload)


async def attempt(directory: Path) -> dict[str, str]:
    """Tries it with the node of this directory, which must not run."""
    config = load_config(directory)
    member = Membership.load(config)
    me = member.identity
    store = open_store(config, me.public)
    try:
        spent = find_spent(store, me.public)
        draft, proposal = forge(member, spent, spent.coin.proof(store))
        request = notary_pb2.NotarisationRequest(
            proposal=proposal.encode(),
            caller=me.public,
            scheme=ED25519,
            signature=me.signing_key.sign(me.network_id, PURPOSE_REQUEST, request_digest(draft.inputs, draft.id)),
        )
        notary = member.network_map.notary_workers(draft.groups[Group.NOTARY][0])[0]
        reply = await ask_notary(member, store, request, notary.identity)
    finally:
        store.close()
    conflicts = reply.error.conflicts
    return {
        "amount_nano": str(spent.coin.money.amount_nano),
        "forged_id": draft.id.hex(),
        "code": reply.error.code if reply.HasField("error") else "",
        "message": reply.error.message,
        "subject": conflicts[0].subject.hex() if conflicts else "",
        "consumer_hash": conflicts[0].consumer_hash.hex() if conflicts else "",
        "spent_ref": spent.coin.ref.encode().hex(),
        "spent_by_hash": hashlib.sha256(spent.consumed_by).hexdigest(),
    }


def main() -> int:
    try:
        print(json.dumps(asyncio.run(attempt(Path(sys.argv[1])))))
    except (NodeError, NothingSpent, RefusedBefore, TimeoutError) as error:
        print(f"the double spend could not be tried: {error or 'the notary did not answer'}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
