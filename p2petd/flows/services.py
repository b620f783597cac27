"""What all flows of a node share, and what a context sees of its own run."""

from collections.abc import Callable
from dataclasses import dataclass, field

from p2petd import native
from p2petd.attachments.library import Attachments
from p2petd.flows.chain_check import ChainVerifier
from p2petd.flows.policy import ResponderPolicy
from p2petd.flows.recovery import RecoveredPages
from p2petd.ledger.parameters import ContractParameters
from p2petd.network.network_map import NetworkMap
from p2petd.network.parameters import NetworkParameters
from p2petd.store.changes import Changes, Reader
from p2petd.units import TimeNs
from p2petd.vault.locks import SoftLocks


@dataclass(frozen=True)
class FlowServices:
    """What all flows of a node share."""

    identity: bytes
    key: native.SigningKey
    network_id: bytes
    parameters: NetworkParameters
    parameters_hash: bytes
    contract_parameters: ContractParameters
    network_map: NetworkMap
    store: Reader
    locks: SoftLocks
    clock: Callable[[], TimeNs]
    attachments: Attachments
    chains: ChainVerifier
    # With a peer for which so many messages wait no flow is begun.
    outbox_messages_max: int
    # What others have given of a vault that was lost, verified and not recorded yet.
    recovered: RecoveredPages = field(default_factory=RecoveredPages)
    # The operator's own rules for what others propose.
    policy: ResponderPolicy | None = None


@dataclass(frozen=True)
class RunView:
    """What a context sees of its own run; `send` and `changes` belong to the batch that is running."""

    flow_id: bytes
    # The flow's name.
    flow: str
    entropy: bytes
    started_at_ns: TimeNs
    changes: Callable[[], Changes]
    send: Callable[[bytes, bytes], None]
    progress: Callable[[str], None]
    # Go so many sub-flows deeper; back with a negative number.
    nest: Callable[[int], None]
    # Identity of the peer that this run answers; empty for a run that this node itself started.
    counterparty: bytes
    replaying: Callable[[], bool]
    # How many messages wait for a peer.
    backlog: Callable[[bytes], int]
