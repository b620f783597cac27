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
from p2petd.ledger.parameters import ContractParameters
from p2petd.network.network_map import NetworkMap
from p2petd.store.changes import Reader
from p2petd.vault.ancestry import Ancestry, mode_reader


@dataclass(frozen=True)
class Histories:
    """The verifier, for flows, and the services, for peers and for this node itself, by name."""

    verifier: ChainVerifier
    services: Mapping[str, PeerService]


def open_histories(directory: Path, *, segment_bytes: int, map_bytes: int) -> native.Store:
    """The store of histories. Raises DataDirectoryError."""
    try:
        return native.Store.open(str(directory), segment_bytes=segment_bytes, map_bytes=map_bytes)
    except native.NativeError as error:
        raise DataDirectoryError(str(error)) from error


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
    stack.callback(kept.close)
    network_map = member.network_map
    ancestry = Ancestry(store, kept, mode_reader(network_map))
    verifier = ChainVerifier(
        member.rules, ancestry, member.contract_parameters, network_map.is_in_force, attachments.content
    )
    resolver = ChainResolver(me, verifier, attachments, call)
    stack.push_async_callback(resolver.stop)
    served = ChainService(ancestry)
    stack.callback(served.stop)
    return Histories(verifier, {TRANSACTIONS: served.serve, RESOLVE: resolver.serve})
