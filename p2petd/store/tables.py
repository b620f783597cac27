"""Tables of the view and the layout of their keys. Keys sort as their contents do: integers are big-endian."""

import enum
import struct


class Table(enum.IntEnum):
    """One byte in the log record; numbers are never reused."""

    META = 0  # name -> value
    FLOW = 1  # flow id -> FlowRow
    STEP = 2  # flow id ‖ u32 step -> StepRow
    MAIL = 3  # flow id ‖ u32 arrival -> MailRow
    CLIENT_ID = 4  # client id -> flow id
    FLOW_ORDER = 5  # u64 started at ‖ flow id -> nothing
    OUTBOX = 6  # peer ‖ u64 sequence -> SessionMessage
    PEER = 7  # peer -> PeerRow
    TRANSACTION = 8  # id -> TransactionRow
    TRANSACTION_ORDER = 9  # u64 recorded at ‖ id -> nothing
    STATE = 10  # state reference -> StateRow
    SPENDABLE = 11  # bucket ‖ state reference -> u64 amount ‖ 32-byte notary
    LOCK = 12  # state reference -> flow id
    KNOWN = 13  # what flows look a state up by ‖ state reference -> nothing
    PARENTS = 14  # id of a transaction under a uniqueness-only notary -> ids of those that made what it names
    GRANT = 15  # peer ‖ root -> ids of transactions whose history the peer may ask for
    ANCESTOR = 16  # id -> TransactionRow, in the store of histories
    SPENT = 17  # state reference -> id of the verified transaction under a uniqueness-only notary that consumed it
    IN_FLIGHT = 18  # flow id ‖ id of a transaction whose outcome only the notary decides -> InFlightRow


META_EPOCH = b"epoch"
META_IDENTITY = b"identity"
META_SECRET = b"secret"

FLOW_ID_BYTES = 16
PEER_KEY_BYTES = 32


def step_key(flow_id: bytes, step: int) -> bytes:
    return flow_id + struct.pack(">I", step)


def order_key(at_ns: int, identifier: bytes) -> bytes:
    return struct.pack(">Q", at_ns) + identifier


def outbox_key(peer: bytes, sequence: int) -> bytes:
    return peer + struct.pack(">Q", sequence)


def after_prefix(prefix: bytes) -> bytes | None:
    """The smallest key above all keys with this prefix; None when there is none."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes([trimmed[-1] + 1]) if trimmed else None
