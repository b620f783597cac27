"""The parts of a node that concern histories, put together: their store, who resolves them, who serves them."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from p2petd import native
from p2petd.attachments.library import Attachments
from p2petd.errors import DataDirectoryError
from p2petd.flows.backchain import RESOLVE, CallPeer, ChainResolver
from p2petd.flows.chain_check import ChainVerifier
from p2petd.flows.chain_service import TRANSACTIONS, ChainService
from p2petd.flows.inbound import PeerService
from p2petd.flows.recovery import ASK, RecoveredPages, RecoveryDesk, Verifying
from p2petd.flows.shared_service import SHARED, SharedTransactions
from p2petd.ledger.parameters import ContractParameters
from p2petd.network.network_map import NetworkMap
from p2petd.store.changes import Reader
from p2petd.store.opening import Opening
from p2petd.store.room import close_store
from p2petd.vault.ancestry import Ancestry, mode_reader


@dataclass(frozen=True)
class Histories:
    """The verifier, for flows, and the services, for peers and for this node itself, by name."""

    verifier: ChainVerifier
    services: Mapping[str, PeerService]
    # Of a vault that is being recovered.
    pages: RecoveredPages


def open_histories(directory: Path, *, segment_bytes: int, map_bytes: int) -> native.Store:
    """The store of histories. Raises DataDirectoryError."""
    opening = Opening("histories")
    try:
        store = native.Store.open(str(directory), segment_bytes=segment_bytes, map_bytes=map_bytes, progress=opening)
    except native.NativeError as error:
        raise DataDirectoryError(str(error)) from error
    opening.opened(store.stats())
    return store


class Member(Protocol):
    """The part of a node's membership that histories are verified with."""

    @property
    def network_map(self) -> NetworkMap: ...

    @property
    def rules(self) -> native.Rules: ...

    @property
    def contract_parameters(self) -> Mapping[bytes, ContractParameters]: ...


def histories_of(
    stack: AsyncExitStack,
    kept: native.Store,
    store: Reader,
    me: bytes,
    member: Member,
    attachments: Attachments,
    call: CallPeer,
) -> Histories:
    """What `kept`, the store of histories, is used by; the stack ends it and closes the store."""
    stack.callback(close_store, kept, "histories")
    network_map = member.network_map
    ancestry = Ancestry(store, kept, mode_reader(network_map))
    verifier = ChainVerifier(
        member.rules, ancestry, member.contract_parameters, network_map.is_in_force, attachments.content
    )
    resolver = ChainResolver(me, verifier, attachments, call)
    stack.push_async_callback(resolver.stop)
    shared = SharedTransactions(store)
    stack.callback(shared.stop)
    served = ChainService(ancestry, shared.shares)
    stack.callback(served.stop)
    (network_id,) = {signed.parameters.network_id for signed in network_map.parameters.values()}
    pages = RecoveredPages()
    desk = RecoveryDesk(Verifying(me, network_id, network_map, verifier, resolver, store), call, pages)
    stack.push_async_callback(desk.stop)
    services = {TRANSACTIONS: served.serve, RESOLVE: resolver.serve, SHARED: shared.serve, ASK: desk.serve}
    return Histories(verifier, services, pages)
