"""Bytes that other versions of the program will read: a change here is a change of format, with a line in CHANGELOG."""

import json
from pathlib import Path

from google.protobuf.message import Message
from p2pet.flows.v1 import sessions_pb2 as sessions
from p2pet.ledger.v1 import chain_pb2 as chain
from p2pet.ledger.v1 import transaction_pb2 as ledger
from p2pet.notary.v1 import notary_pb2 as notary
from p2pet.peer.v1 import peer_pb2 as peer
from p2pet.store.v1 import store_pb2 as store

from p2petd.store.tables import Table, order_key, outbox_key, step_key
from p2petd.vault.ancestry import grant_key

GOLDEN = Path(__file__).with_name("wire.json")
ID16, KEY = bytes(range(16)), bytes(range(32))

MESSAGES: dict[str, Message] = {
    "hello": peer.ExchangeRequest(
        frame=peer.Frame(
            hello=peer.Hello(
                protocol_min=1,
                protocol_max=1,
                network_id=KEY,
                identity=KEY[::-1],
                epoch=ID16,
                last_sent=7,
                last_received=5,
                platform_version=1,
                received_epoch=ID16[::-1],
            )
        )
    ),
    "frame": peer.Frame(
        acknowledged=9,
        messages=[
            peer.Message(
                sequence=8,
                session=peer.SessionMessage(
                    kind=peer.SessionMessage.KIND_OPEN, flow_id=ID16, step=1, flow="f", flow_version=1, payload=b"p"
                ).SerializeToString(),
            )
        ],
        calls=[peer.Call(call_id=ID16, service="notarise", payload=b"q")],
        replies=[peer.Reply(call_id=ID16, payload=b"r")],
    ),
    "flow row": store.FlowRow(
        flow="energy.trade",
        version=1,
        client_id="c",
        input=b"i",
        entropy=KEY,
        started_at_ns=1,
        status=1,
        counterparty=KEY,
        initiator_flow_id=ID16,
        current_step="signing",
    ),
    "parked flow row": store.FlowRow(
        flow="energy.trade",
        version=1,
        status=4,
        error_code="internal",
        error_message="m",
        parameters_hash=KEY,
        waiting=True,
        opened=[KEY],
        parked_at=store.ParkedAt(sent=2, read=3),
    ),
    "in flight row": store.InFlightRow(signed_transaction=b"s", request=b"r", until_ns=2, since_ns=1, tell=[KEY]),
    "step row": store.StepRow(name="lock money", result=b"r"),
    "mail row": store.MailRow(peer=KEY, kind=2, payload=b"p"),
    "peer row": store.PeerRow(last_sent=3, last_received=4, received_epoch=ID16),
    "transaction row": store.TransactionRow(signed_transaction=b"t", finality_proof=b"f", recorded_at_ns=5),
    "state row": store.StateRow(output=b"o", recorded_at_ns=5, consumed_by=KEY, consumed_at_ns=6),
    "final": sessions.Final(signed_transaction=b"t", finality_proof=b"f"),
    "notarisation request": notary.NotarisationRequest(proposal=b"p", caller=KEY, scheme=1, signature=KEY + KEY),
    "uniqueness request": notary.NotarisationRequest(
        caller=KEY, scheme=1, signature=KEY + KEY, uniqueness_proposal=b"u"
    ),
    "uniqueness proposal": ledger.UniquenessProposal(
        transaction=ledger.TearOff(format=1), input_proofs=[b"i"], unlock_signatures=[KEY + KEY]
    ),
    "unlock signatures": sessions.UnlockSignatures(signatures=[KEY + KEY, b""]),
    "chain request": chain.ChainRequest(root=KEY, wanted=[KEY[::-1]], transactions_max=16),
    "chain reply": chain.ChainReply(
        transactions=[chain.ChainTransaction(signed_transaction=b"t", finality_proof=b"f")]
    ),
    "status request": notary.StatusRequest(transaction_id=KEY, until_ns=9),
}
KEYS = {
    "step key": step_key(ID16, 3),
    "order key": order_key(1, ID16),
    "outbox key": outbox_key(KEY, 2),
    "grant key": grant_key(KEY, KEY[::-1]),
}


def test_l03_wire_and_journal_formats_are_the_golden_ones() -> None:
    made = {name: message.SerializeToString(deterministic=True).hex() for name, message in MESSAGES.items()}
    made |= {name: key.hex() for name, key in KEYS.items()}
    made |= {f"table {table.name.lower()}": f"{table.value:02x}" for table in Table}
    assert made == json.loads(GOLDEN.read_text())


def test_r20_golden_bytes_read_back_as_the_same_messages() -> None:
    golden = json.loads(GOLDEN.read_text())
    for name, message in MESSAGES.items():
        assert type(message).FromString(bytes.fromhex(golden[name])) == message
