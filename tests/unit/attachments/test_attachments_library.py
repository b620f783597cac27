"""What is missing, what is required, and what a transaction may make a node fetch."""

import asyncio
import os
from hashlib import sha256
from types import SimpleNamespace
from typing import cast

import pytest
from p2pet.peer.v1.peer_pb2 import Reply

from p2petd.attachments.fetcher import AttachmentFetcher
from p2petd.attachments.library import FETCHED_FOR_TRANSACTION_MAX, Attachments
from p2petd.attachments.store import AttachmentStore
from p2petd.contracts import payment
from p2petd.contracts.payment import PaymentIssue, PaymentState
from p2petd.errors import TransactionRefused
from p2petd.flows.flow_history import FlowHistory
from p2petd.flows.flow_ledger import FlowLedger
from p2petd.flows.services import FlowServices, RunView
from p2petd.ledger.transaction import TransactionBuilder
from p2petd.store.changes import Changes
from p2petd.units import NanoMoney, TimeNs

PEER = b"\x0a" * 32


async def nobody(peer: bytes, service: str, payload: bytes) -> Reply:
    return Reply(error_code="peer.unknown_service")


@pytest.fixture
def library(store: AttachmentStore) -> Attachments:
    return Attachments(store, AttachmentFetcher(store, nobody))


def held(store: AttachmentStore) -> bytes:
    content = os.urandom(40)
    incoming = store.incoming()
    incoming.write(content)
    incoming.finish()
    return sha256(content).digest()


def test_l20_missing_attachment_is_required_by_name(store: AttachmentStore, library: Attachments) -> None:
    here, absent = held(store), b"\x01" * 32
    library.require((here, here))
    assert library.missing((here, absent)) == (absent,)
    with pytest.raises(TransactionRefused, match=absent.hex()) as refused:
        library.require((here, absent))
    assert refused.value.code == "transaction.attachment_missing"


def test_c18_a_transaction_makes_a_node_fetch_so_many_and_not_more(library: Attachments) -> None:
    cited = [bytes([number]) * 32 for number in range(FETCHED_FOR_TRANSACTION_MAX + 1)]
    assert len(library.missing(cited[:-1])) == FETCHED_FOR_TRANSACTION_MAX
    with pytest.raises(TransactionRefused) as refused:
        library.missing(cited)
    assert refused.value.code == "transaction.attachment_missing"


def test_c18_what_cannot_be_had_is_still_missing_afterwards(library: Attachments) -> None:
    async def scenario() -> None:
        await library.fetch_all(PEER, (b"\x01" * 32, b"\x02" * 32))

    asyncio.run(scenario())
    assert len(library.missing((b"\x01" * 32, b"\x02" * 32))) == 2


@pytest.mark.parametrize("replaying", [False, True])
def test_l20_missing_attachment_is_refused_by_an_initiator_before_anybody_signs(
    store: AttachmentStore, library: Attachments, replaying: bool
) -> None:
    """A replay asks no more: the draft passed when it was new."""
    changes = Changes()
    run = RunView(
        flow_id=bytes(16),
        flow="payment.issue",
        entropy=bytes(32),
        started_at_ns=TimeNs(0),
        changes=lambda: changes,
        send=lambda peer, payload: None,
        progress=lambda name: None,
        nest=lambda depth: None,
        counterparty=b"",
        replaying=lambda: replaying,
        backlog=lambda _: 0,
    )
    services = cast(FlowServices, SimpleNamespace(attachments=library, contract_parameters=None))
    ledger = FlowLedger(services, run, cast(FlowHistory, None))
    builder = TransactionBuilder(PEER, bytes(32)).add_attachment(b"\x01" * 32)
    builder.add_output(payment.NAME, payment.VERSION, PaymentState("EUR", NanoMoney(1), PEER, PEER))
    draft = builder.add_command(payment.NAME, PaymentIssue(bytes(32)), [PEER]).build(bytes(32))
    if replaying:
        ledger.check_draft(draft)
        return
    with pytest.raises(TransactionRefused) as refused:
        ledger.check_draft(draft)
    assert refused.value.code == "transaction.attachment_missing"
