"""The binding of the notary: what its own callers may do wrong."""

from pathlib import Path

import pytest
from p2pet.notary.v1 import notary_pb2

from p2petd import native

NETWORK = bytes(32)
WORKER = native.SigningKey.from_seed(bytes([2]) * 32)
JUNK = [(bytes(32), b"junk")]


def open_notary(directory: Path, service_seed: int) -> native.Notary:
    service = native.SigningKey.from_seed(bytes([service_seed]) * 32)
    certificate = native.certify_worker(service, NETWORK, WORKER.public, 0, 2**62)
    rules = native.Rules(NETWORK, [])
    return native.Notary.open(
        str(directory), rules, NETWORK, 1, WORKER, certificate, segment_bytes=1 << 16, map_bytes=1 << 24
    )


def test_a_sentence_that_is_no_unicode_costs_nobody_an_answer(tmp_path: Path) -> None:
    notary = open_notary(tmp_path, 1)
    replies = notary.decide(notary.check(JUNK), {0: ("a.rule", "half a character: \ud800")}, 1)
    assert [notary_pb2.NotarisationReply.FromString(reply).error.code for reply in replies] == [
        "notary.invalid_transaction"
    ]


def test_a_batch_of_another_notary_is_refused(tmp_path: Path) -> None:
    notary, other = open_notary(tmp_path / "one", 1), open_notary(tmp_path / "two", 3)
    with pytest.raises(native.MalformedError) as refused:
        other.decide(notary.check(JUNK), {}, 1)
    assert (refused.value.code, other.stats()["batches"]) == ("notary.other_batch", 0)
