"""Whether the other half of a session still runs: asked when a flow has waited long, answered from the view.

A half that fails tells its peer. One that has merely ended, or whose node has lost it, tells nothing: no message on the
good path is spent on that. Instead a flow that waits asks, and takes the session as ended when the peer says that it is
and everything that it had sent before has come.
"""

import logging
from collections.abc import Callable
from functools import partial

from google.protobuf.message import DecodeError
from p2pet.flows.v1.sessions_pb2 import SessionReply, SessionRequest
from p2pet.peer.v1.peer_pb2 import Reply
from p2pet.store.v1.store_pb2 import FlowRow, MailRow, PeerRow

from p2petd.errors import RequestMalformed, UnknownParty
from p2petd.flows.delivery import Delivery
from p2petd.flows.effects import PeerPort
from p2petd.flows.journal import UNFINISHED
from p2petd.flows.requests import Receive
from p2petd.flows.run import MAIL_ERROR, Run, responder_flow_id
from p2petd.flows.runner import Runner
from p2petd.network.network_map import NetworkMap
from p2petd.store.changes import Reader
from p2petd.store.tables import FLOW_ID_BYTES, Table
from p2petd.units import SECOND_NS

log = logging.getLogger(__name__)

SESSION = "session"
# A flow found waiting at this many looks in a row has its peer asked, then after twice as many, up to the last.
LOOK_EVERY_NS = 5 * SECOND_NS // 2
LOOKS_FIRST, LOOKS_MAX = 2, 24
# More flows than these wait for a later look.
PROBES_MAX = 1000
# No flow's call of a service, and no call of this process, has an id of this length.
PROBE_ID_BYTES = 1 + FLOW_ID_BYTES + 4


class Probes:
    """The asking side, on the engine's thread. A flow that does not wait long costs nothing."""

    def __init__(self, runner: Runner, delivery: Delivery, peers: PeerPort, network_map: NetworkMap) -> None:
        self._runner = runner
        self._delivery = delivery
        self._peers = peers
        self._map = network_map
        self._look_at_ns = 0

    def next_ns(self) -> int | None:
        """When to look; never while no flow is under way."""
        return self._look_at_ns if self._runner.runs else None

    def is_due(self, now_ns: int) -> bool:
        # A clock that was set back does not make us wait longer.
        self._look_at_ns = min(self._look_at_ns, now_ns + LOOK_EVERY_NS)
        return bool(self._runner.runs) and self._look_at_ns <= now_ns

    def look(self, now_ns: int) -> None:
        """Ask for each flow that has waited long for a peer who holds all that it was sent."""
        self._look_at_ns = now_ns + LOOK_EVERY_NS
        asked = 0
        for run in self._runner.runs.values():
            if not isinstance(run.waiting, Receive):
                continue
            if run.watched_serial != run.wait_serial:
                run.watched_serial, run.looks, run.looks_to_probe = run.wait_serial, 0, LOOKS_FIRST
                continue
            run.looks += 1
            if asked < PROBES_MAX and run.looks >= run.looks_to_probe and not run.probe_id:
                asked += self._ask(run, run.waiting.peer)

    def _ask(self, run: Run, peer: bytes) -> bool:
        try:
            self._map.by_identity(peer)
        except UnknownParty:
            return False
        if not self._delivery.holds(peer, run.last_sequence.get(peer, 0)):
            return False
        run.looks, run.looks_to_probe = 0, min(2 * run.looks_to_probe, LOOKS_MAX)
        run.probe_id = b"?" + run.flow_id + (run.wait_serial % 2**32).to_bytes(4)
        responds = peer == run.row.counterparty
        request = SessionRequest(
            flow_id=run.row.initiator_flow_id if responds else run.flow_id, from_initiator=not responds
        )
        self._runner.effects.add(partial(self._peers.call, peer, run.probe_id, SESSION, request.SerializeToString()))
        return True

    def answered(self, probe_id: bytes, payload: bytes) -> None:
        """End the session of a flow that waits for nobody any more."""
        run = self._runner.runs.get(probe_id[1 : 1 + FLOW_ID_BYTES])
        if run is None or run.probe_id != probe_id or not isinstance(run.waiting, Receive):
            return
        run.probe_id = b""
        peer = run.waiting.peer
        try:
            reply = SessionReply.FromString(payload)
        except DecodeError:
            log.warning("peer %s answered no session reply", peer.hex()[:16])
            return
        # What it sent before it ended may still be on its way.
        if not reply.alive and self._delivery.has_received(peer, reply.last_sent):
            self._runner.post(run, MailRow(peer=peer, kind=MAIL_ERROR))

    def refused(self, probe_id: bytes) -> None:
        """The peer could not say: it is asked again at a later look."""
        run = self._runner.runs.get(probe_id[1 : 1 + FLOW_ID_BYTES])
        if run is not None and run.probe_id == probe_id:
            run.probe_id = b""


class SessionService:
    """The answering side, on the event loop's thread.

    Read from the view, the row of the flow before that of the peer: both change with one batch, so that what an ended
    flow had sent is not after the last message that is named.
    """

    def __init__(self, store: Reader) -> None:
        self._store = store

    def serve(self, peer: bytes, payload: bytes, answer: Callable[[Reply], None]) -> None:
        try:
            request = SessionRequest.FromString(payload)
        except DecodeError:
            malformed = RequestMalformed("the request does not decode; use the protos of this version")
            answer(Reply(error_code=malformed.code, error_message=malformed.message))
            return
        alive = self._is_alive(peer, request)
        row = self._store.get(Table.PEER, peer)
        last_sent = 0 if row is None else PeerRow.FromString(row).last_sent
        answer(Reply(payload=SessionReply(alive=alive, last_sent=last_sent).SerializeToString()))

    def _is_alive(self, peer: bytes, request: SessionRequest) -> bool:
        flow_id = responder_flow_id(peer, request.flow_id) if request.from_initiator else request.flow_id
        value = self._store.get(Table.FLOW, flow_id)
        if value is None:
            return False
        row = FlowRow.FromString(value)
        return row.status in UNFINISHED and row.counterparty == (peer if request.from_initiator else b"")
