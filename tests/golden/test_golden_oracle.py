"""Bytes that an oracle keeps and other versions of the program will read: a change here is a change of format."""

import json
from pathlib import Path

from google.protobuf.message import Message
from p2pet.oracle.v1 import oracle_pb2 as oracle
from p2pet.store.v1 import store_pb2 as store

from p2petd.oracle.book import OracleTable, meter_prefix, moment

GOLDEN = Path(__file__).with_name("oracle.json")
KEY = bytes(range(32))

MESSAGES: dict[str, Message] = {
    "reading row": store.ReadingRow(
        energy_wh=480, revision=3, received_at_ns=9, attested_revision=2, attested_in=KEY, earlier_wh=[500, 490]
    ),
    "forecast row": store.ForecastRow(energy_wh_max=900, received_at_ns=9),
    "tariff row": store.TariffRow(tariff=KEY, valid_from_ns=1, valid_until_ns=2, published_at_ns=9),
    "attestation row": store.AttestationRow(attestation=b"a", signed_at_ns=9),
    "feed row": store.FeedRow(digest=KEY, offset=100, lines=4),
    "facts reply": oracle.FactsReply(error_code="oracle.unknown_fact", error_message="m"),
    "sign request": oracle.SignRequest(transaction_id=KEY, tear_off=b"t"),
    "sign reply": oracle.SignReply(signature=KEY + KEY),
}
KEYS = {"reading key": meter_prefix("meter-1") + moment(900), "moment before 1970": moment(-1)}


def test_l03_what_an_oracle_keeps_and_says_is_golden() -> None:
    made = {name: message.SerializeToString(deterministic=True).hex() for name, message in MESSAGES.items()}
    made |= {name: key.hex() for name, key in KEYS.items()}
    made |= {f"table {table.name.lower()}": f"{table.value:02x}" for table in OracleTable}
    assert made == json.loads(GOLDEN.read_text())


def test_r20_golden_bytes_of_an_oracle_read_back_as_the_same_messages() -> None:
    golden = json.loads(GOLDEN.read_text())
    for name, message in MESSAGES.items():
        assert type(message).FromString(bytes.fromhex(golden[name])) == message
