"""Frames that are joined from the bytes of their calls."""

import pytest
from p2pet.bench.notary_stream import PreparedCalls, exchange_request
from p2pet.peer.v1.peer_pb2 import ExchangeRequest

from p2petd.peer.link import FRAME_HARD_BYTES, FRAME_SOFT_BYTES


@pytest.mark.parametrize("size", [0, 1, 100, 20_000, 300_000])
def test_joined_frames_decode_as_one(size: int) -> None:
    calls = PreparedCalls([bytes(size), b"second"])
    frame = ExchangeRequest.FromString(exchange_request(calls.frames)).frame
    assert [call.payload for call in frame.calls] == [bytes(size), b"second"]
    assert [int.from_bytes(call.call_id) for call in frame.calls] == [0, 1]
    assert {call.service for call in frame.calls} == {"notarise"}


def test_packed_frames_hold_all_calls_in_order_within_the_limits() -> None:
    requests = [number.to_bytes(2) * 2_000 for number in range(100)]
    packed = PreparedCalls(requests).packed(0, 100)
    assert all(len(data) < FRAME_SOFT_BYTES + 5_000 < FRAME_HARD_BYTES for _, data in packed)
    payloads = [call.payload for _, data in packed for call in ExchangeRequest.FromString(data).frame.calls]
    assert payloads == requests
    assert sum(count for count, _ in packed) == 100


def test_packed_frames_hold_only_the_calls_asked_for() -> None:
    calls = PreparedCalls([b"a", b"b", b"c", b"d"])
    ((count, data),) = calls.packed(1, 3)
    assert count == 2
    assert [call.payload for call in ExchangeRequest.FromString(data).frame.calls] == [b"b", b"c"]
    assert calls.packed(2, 2) == []
