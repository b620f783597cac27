"""What a node that is asked for shared transactions spends on it; whom it tells what is tried with real nodes."""

import asyncio
import time
from pathlib import Path

from p2pet.flows.v1.sessions_pb2 import SharedReply, SharedRequest
from p2pet.peer.v1.peer_pb2 import Reply
from p2pet.store.v1.store_pb2 import TransactionRow

from p2petd import native
from p2petd.contracts import payment
from p2petd.contracts.payment import PaymentIssue, PaymentState
from p2petd.flows.shared_service import LOOKED_THROUGH_MAX, REST_FACTOR, SharedTransactions
from p2petd.ledger.transaction import TransactionBuilder
from p2petd.store.tables import Table, order_key
from p2petd.units import NanoMoney

ISSUER, ASKER = b"i" * 32, b"a" * 32
ASKED = 5


def filled(directory: Path) -> native.Store:
    """As many transactions as one request is looked through for, none of which names the asker."""
    store = native.Store.open(str(directory))
    for number in range(LOOKED_THROUGH_MAX):
        builder = TransactionBuilder(b"n" * 32, b"p" * 32)
        builder.add_output(payment.NAME, payment.VERSION, PaymentState("EUR", NanoMoney(1), ISSUER, ISSUER))
        builder.add_command(payment.NAME, PaymentIssue(bytes(32)), [ISSUER])
        draft = builder.build(number.to_bytes(32))
        row = TransactionRow(signed_transaction=draft.proposal().encode())
        place = order_key(number, draft.id)
        store.commit([(Table.TRANSACTION, draft.id, row.SerializeToString()), (Table.TRANSACTION_ORDER, place, b"")])
    return store


def test_r12_who_asks_on_and_on_is_answered_slower_than_it_is_looked_through(tmp_path: Path) -> None:
    store = filled(tmp_path / "store")
    shared = SharedTransactions(store)
    searches = []
    for _ in range(ASKED):
        began = time.thread_time()
        assert not shared.reply(ASKER, SharedRequest()).finals
        searches.append(time.thread_time() - began)

    async def ask() -> None:
        answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        shared.serve(ASKER, b"", answered.set_result)
        busy: list[Reply] = []
        shared.serve(ASKER, b"", busy.append)
        assert busy[0].error_code == "chain.busy"
        assert SharedReply.FromString((await answered).payload).next

    async def scenario() -> float:
        began = time.monotonic()
        for _ in range(ASKED):
            await ask()
        return time.monotonic() - began

    # Half of it, because one run of the same search can be that much faster than another.
    assert asyncio.run(scenario()) > ASKED * REST_FACTOR * min(searches) / 2
    shared.stop()
    store.close()
