"""Canonical messages and components; what is not canonical is refused (docs/protocol.md, sections 1 and 2)."""

import pytest
from p2pet.ledger.v1 import energy_pb2, payment_pb2

from p2petd.contracts.testkit import energy, party
from p2petd.errors import MalformedTransaction, QuantityOverflow
from p2petd.ledger.codec import (
    decode_signers,
    encode_canonical,
    encode_signers,
    parse_strict,
    u16_prefixed,
)
from p2petd.units import INT64_MAX

PAYLOAD = energy(10, party("alice")).to_payload()
KEYS = tuple(party(f"party {n}").key for n in range(40))


def test_what_is_canonical_is_parsed() -> None:
    assert parse_strict(energy_pb2.EnergyState, PAYLOAD).quantity_wh == 10
    assert parse_strict(energy_pb2.EnergyState, b"").quantity_wh == 0


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(PAYLOAD + b"\xf8\x01\x01", id="unknown field"),
        pytest.param(PAYLOAD + b"\x10\x0a", id="repeated singular field"),
        pytest.param(PAYLOAD + b"\x00", id="trailing zero"),
        pytest.param(PAYLOAD[:-1], id="truncated"),
        pytest.param(PAYLOAD.replace(b"\x10\x0a", b"\x10\x8a\x00", 1), id="long varint"),
        pytest.param(PAYLOAD.replace(b"\x10\x0a", b"\x90\x00\x0a", 1), id="long tag"),
        pytest.param(PAYLOAD[9:] + PAYLOAD[:9], id="other order"),
        pytest.param(b"\x10\x00", id="explicit default"),
        pytest.param(b"\x0a\x01\xff", id="text that is not UTF-8"),
        pytest.param(b"\x15\x00\x00\x00\x01", id="other wire type"),
    ],
)
def test_l03_what_is_not_canonical_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedTransaction):
        parse_strict(energy_pb2.EnergyState, data)


def test_c07_a_number_that_does_not_fit_is_refused() -> None:
    assert encode_canonical(payment_pb2.PaymentState, amount_nano=INT64_MAX)
    with pytest.raises(QuantityOverflow):
        encode_canonical(payment_pb2.PaymentState, amount_nano=INT64_MAX + 1)


@pytest.mark.parametrize("count", [0, 1, 3, 40])
def test_signers_are_kept(count: int) -> None:
    """40 are more than the cache takes."""
    keys = KEYS[:count]
    encoded = encode_signers((*keys, *keys))
    assert len(encoded) == 34 * count
    assert decode_signers(encoded) == set(keys)


@pytest.mark.parametrize(
    "component",
    [
        pytest.param(encode_signers(KEYS[:2])[:-1], id="truncated"),
        pytest.param(encode_signers(KEYS[:2])[:34] * 2, id="twice"),
        pytest.param(encode_signers(KEYS[:2])[34:] + encode_signers(KEYS[:2])[:34], id="descending"),
        pytest.param(b"\x00\x21" + KEYS[0], id="other length"),
    ],
)
def test_lists_of_signers_that_are_refused(component: bytes) -> None:
    with pytest.raises(MalformedTransaction):
        decode_signers(component)


def test_a_signer_is_a_key() -> None:
    with pytest.raises(MalformedTransaction):
        encode_signers([b"short"])


def test_texts_inside_hashes_have_at_most_65535_bytes() -> None:
    assert u16_prefixed("é") == b"\x00\x02\xc3\xa9"
    assert len(u16_prefixed("m" * 65_535)) == 65_537
    with pytest.raises(MalformedTransaction):
        u16_prefixed("m" * 65_536)
