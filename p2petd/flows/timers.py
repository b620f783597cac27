"""Deadlines of waiting flows, in order of time."""

import heapq


class Timers:
    """A timer is never cancelled; one whose flow has gone on is recognised by its serial and ignored."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, bytes, int]] = []

    def at(self, when_ns: int, flow_id: bytes, wait_serial: int) -> None:
        heapq.heappush(self._heap, (when_ns, flow_id, wait_serial))

    def next_ns(self) -> int | None:
        return self._heap[0][0] if self._heap else None

    def due(self, now_ns: int) -> list[tuple[bytes, int]]:
        due = []
        while self._heap and self._heap[0][0] <= now_ns:
            _, flow_id, wait_serial = heapq.heappop(self._heap)
            due.append((flow_id, wait_serial))
        return due
