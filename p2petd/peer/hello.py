"""The first frame of each side: who speaks, and how far both directions have come."""

from dataclasses import dataclass

from p2pet.peer.v1.peer_pb2 import Frame, Hello

from p2petd.errors import RolledBack
from p2petd.network.node_info import PLATFORM_VERSION
from p2petd.peer.link import Link
from p2petd.peer.tokens import Tokens

PROTOCOL_VERSION = 1
EPOCH_BYTES = 16


class HelloRefused(Exception):
    """The other side cannot be talked to; the text says why."""


@dataclass(frozen=True)
class LocalNode:
    """What this node says of itself in a hello, and what only it knows."""

    identity: bytes
    fingerprint: str
    network_id: bytes
    epoch: bytes
    tokens: Tokens


def make_hello(local: LocalNode, link: Link) -> Frame:
    """The first frame; with the hello goes the first credit."""
    hello = Hello(
        protocol_min=PROTOCOL_VERSION,
        protocol_max=PROTOCOL_VERSION,
        network_id=local.network_id,
        identity=local.identity,
        epoch=local.epoch,
        last_sent=link.last_sent,
        last_received=link.durable,
        received_token=link.durable_token,
        received_epoch=link.received_epoch,
        last_acknowledged=link.last_acknowledged,
        acknowledged_token=link.acknowledged_token,
        platform_version=PLATFORM_VERSION,
    )
    return Frame(hello=hello, messages_until=link.grant())


def check_hello(local: LocalNode, link: Link, frame: Frame | None) -> tuple[Hello, int]:
    """The hello and the first credit; 0: the peer knows no credits.

    Raises HelloRefused unless it is the node that TLS says, of our network, with a common protocol.
    """
    if frame is None or not frame.HasField("hello"):
        raise HelloRefused("the first frame must hold a hello")
    if frame.messages or frame.calls or frame.replies or frame.acknowledged:
        raise HelloRefused("the first frame must hold a hello and nothing else")
    hello = frame.hello
    if hello.identity != link.peer or len(hello.epoch) != EPOCH_BYTES:
        raise HelloRefused("the hello is of another node than the TLS certificate")
    if hello.network_id != local.network_id:
        raise HelloRefused("the hello is of another network")
    if not hello.protocol_min <= PROTOCOL_VERSION <= hello.protocol_max:
        raise HelloRefused(f"this node speaks protocol {PROTOCOL_VERSION} only")
    return hello, frame.messages_until


def received_by_peer(local: LocalNode, link: Link, hello: Hello) -> int:
    """How far the peer has received what we sent; 0 when it has received nothing of this data directory.

    Raises RolledBack when the peer proves, with a token that only this node can have made, that we sent or
    acknowledged more than this data directory knows; HelloRefused when it says so without proof.
    """
    received = hello.last_received if hello.received_epoch == local.epoch else 0
    sent_more = received > link.transmitted_max
    if sent_more and local.tokens.is_message(hello.received_token, link.peer, received):
        raise RolledBack(_old_copy(link, f"has message {received} of this node, which knows of {link.last_sent}"))
    known = link.durable if hello.epoch == link.received_epoch else 0
    if hello.last_acknowledged > known and local.tokens.is_acknowledgement(
        hello.acknowledged_token, link.peer, hello.epoch, hello.last_acknowledged
    ):
        # A peer that changes its epoch and comes back with the first one must not stop us.
        if hello.epoch != link.received_epoch and link.received_epoch:
            raise HelloRefused("messages of this epoch were taken here, but another epoch of this peer came since")
        what = f"was told that its message {hello.last_acknowledged} is here, but {known} is the last one here"
        raise RolledBack(_old_copy(link, what))
    if sent_more:
        raise HelloRefused(f"message {received} was never sent to this peer; its token is not ours")
    return received


def _old_copy(link: Link, what: str) -> str:
    return f"{link.info.name} {what}: this data directory is an old copy; restore the newest one"
