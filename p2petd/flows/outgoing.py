"""Session messages that flows send: what they say, and what a flow that fails tells the peers that it talks to."""

from p2pet.peer.v1.peer_pb2 import SessionMessage

from p2petd.errors import FlowError, NodeError, NotaryError, spoken
from p2petd.flows.delivery import Delivery
from p2petd.flows.effects import Effects
from p2petd.flows.run import PEER_WORDS_MAX, Run
from p2petd.observe import failpoints
from p2petd.observe.failpoints import Failpoint
from p2petd.store.changes import Changes

MESSAGE_BYTES_MAX = 960 * 1024


class Outgoing:
    """Messages are durable with the batch and leave after it."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self.backlog = delivery.backlog

    def send(self, changes: Changes, effects: Effects, run: Run, peer: bytes, payload: bytes) -> None:
        """Queue the flow's next message, unless it was sent before and the flow only repeats itself."""
        if len(payload) > MESSAGE_BYTES_MAX:
            raise FlowError(f"a message of {len(payload)} bytes is over the limit of {MESSAGE_BYTES_MAX}")
        responds = peer == run.row.counterparty
        opens = not responds and peer not in run.opened
        run.opened.add(peer)
        run.sent += 1
        if run.replaying or run.sent <= run.sent_before:
            # Which it was is forgotten, but not that it was among those before.
            run.last_sequence[peer] = self._delivery.last_sent(peer)
            return
        message = SessionMessage(
            kind=SessionMessage.KIND_OPEN if opens else SessionMessage.KIND_DATA,
            flow_id=run.row.initiator_flow_id if responds else run.flow_id,
            to_initiator=responds,
            step=run.sent,
            payload=payload,
        )
        if opens:
            message.flow, message.flow_version = run.row.flow, run.row.version
        run.last_sequence[peer] = self._delivery.queue(changes, effects, peer, message)
        failpoints.pass_(Failpoint.FLOW_SENT)

    def tell_failure(self, changes: Changes, effects: Effects, run: Run, error: NodeError) -> list[bytes]:
        """End the flow's sessions at the other sides; which these are.

        A business refusal crosses with its words, and so does a notary's, which the others have signed for; anything
        else crosses as a bare failure.
        """
        code, text = _crossing(error)
        peers = run.opened | ({run.row.counterparty} if run.is_responder else set())
        told = sorted(peers - run.closed)
        for peer in told:
            responds = peer == run.row.counterparty
            message = SessionMessage(
                kind=SessionMessage.KIND_ERROR,
                flow_id=run.row.initiator_flow_id if responds else run.flow_id,
                to_initiator=responds,
                step=run.sent,
                error_code=code,
                error_message=text,
            )
            self._delivery.queue(changes, effects, peer, message)
        return told

    def refuse(
        self, changes: Changes, effects: Effects, peer: bytes, initiator_flow_id: bytes, error: NodeError
    ) -> None:
        """Tell the initiator why nobody here answers it."""
        message = SessionMessage(
            kind=SessionMessage.KIND_ERROR,
            flow_id=initiator_flow_id,
            to_initiator=True,
            error_code=error.code,
            error_message=spoken(error.message, PEER_WORDS_MAX),
        )
        self._delivery.queue(changes, effects, peer, message)


def _crossing(error: NodeError) -> tuple[str, str]:
    """Code and words for the other side."""
    if isinstance(error, NotaryError):
        return FlowError.code, f"the notary has refused the transaction: {error.message}"
    return (error.code, error.message) if isinstance(error, FlowError) else ("", "")
