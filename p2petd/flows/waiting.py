"""What a flow waits for, in words for people."""

from datetime import UTC, datetime

from p2pet.attachments.v1.attachments_pb2 import FetchRequest

from p2petd.errors import UnknownParty
from p2petd.flows.attachments import FETCH
from p2petd.flows.finality import NOTARISE
from p2petd.flows.requests import CallService, Pause, Receive, Request
from p2petd.network.network_map import NetworkMap
from p2petd.notary.queries import STATUS
from p2petd.units import SECOND_NS


def waiting_words(request: Request | None, network_map: NetworkMap) -> str:
    """One phrase; empty for a flow that waits for nothing."""
    match request:
        case Receive(peer, deadline_ns):
            until = "" if deadline_ns is None else f", until {_utc(deadline_ns)}"
            return f"an answer of {_name(peer, network_map)}{until}"
        case CallService(peer, service, _) if service in (NOTARISE, STATUS):
            return f"the notary {_name(peer, network_map)}"
        case CallService(_, service, payload) if service == FETCH:
            wanted = FetchRequest.FromString(payload)
            return f"the attachment {wanted.hash.hex()} of {_name(wanted.peer, network_map)}"
        case CallService(peer, service, _):
            return f"the service {service} of {_name(peer, network_map)}"
        case Pause(until_ns):
            return f"until {_utc(until_ns)}"
    return ""


def _name(peer: bytes, network_map: NetworkMap) -> str:
    if not peer:
        return "a node that the network map does not know"
    try:
        return network_map.by_identity(peer).name
    except UnknownParty:
        return f"{peer.hex()[:16]}, which has left the network"


def _utc(at_ns: int) -> str:
    try:
        return datetime.fromtimestamp(at_ns // SECOND_NS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{at_ns} ns"
