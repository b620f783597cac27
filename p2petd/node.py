"""The composition root: builds the parts of a node from its configuration and runs them. It decides nothing."""

import asyncio
import logging
import secrets
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health
from p2pet.node.v1.node_pb2 import GetInfoResponse

from p2petd import native
from p2petd.attachments.chunks import ATTACHMENT
from p2petd.attachments.library import AttachmentParts, Attachments, open_attachments
from p2petd.config import NodeConfig
from p2petd.contracts.registry import installed
from p2petd.errors import (
    ConfigError,
    DataDirectoryError,
    ListenError,
    NodeError,
    RolledBack,
    TransactionNotFound,
)
from p2petd.flows.attachments import FETCH, FetchForFlows
from p2petd.flows.builtin import installed_flows
from p2petd.flows.engine import Engine
from p2petd.flows.histories import Histories, histories_of, open_histories
from p2petd.flows.inbound import FlowInbound, PeerService
from p2petd.flows.loop import NodeLoop
from p2petd.flows.policy import load_policy
from p2petd.flows.services import FlowServices
from p2petd.flows.sessions import SESSION, SessionService
from p2petd.identity.keys import load_token
from p2petd.identity.node_identity import NodeIdentity
from p2petd.membership import Membership
from p2petd.network.node_info import PLATFORM_VERSION
from p2petd.notary.service import NotaryService
from p2petd.observe import failpoints
from p2petd.observe.clock import system_clock
from p2petd.observe.failpoints import Failpoint
from p2petd.oracle.service import FACTS, SIGN, OracleService
from p2petd.peer.calls import PeerCalls
from p2petd.peer.hello import LocalNode
from p2petd.peer.link import KnownPeers
from p2petd.peer.tokens import Tokens
from p2petd.peer.transport import CHANNEL_OPTIONS, PeerTransport, peer_handlers
from p2petd.roles import open_notary, open_oracle
from p2petd.rpc.attachment_service import AttachmentService
from p2petd.rpc.flow_service import FlowService
from p2petd.rpc.node_service import NodeService
from p2petd.rpc.notary_service import NotaryRpc
from p2petd.rpc.oracle_service import OracleRpc
from p2petd.rpc.server import User, client_server
from p2petd.rpc.vault_service import VaultService
from p2petd.store.changes import Reader
from p2petd.store.files import RESTORING
from p2petd.store.opening import Opening
from p2petd.store.room import close_store
from p2petd.store.snapshots import SnapshotKeeper
from p2petd.store.tables import META_EPOCH, META_IDENTITY, META_SECRET, Table
from p2petd.vault.locks import SoftLocks
from p2petd.version import VERSION

log = logging.getLogger(__name__)

STOP_GRACE_SECONDS = 2.0
# What the last flows of a node that is drained have sent is given so long to reach peers that are there.
DELIVER_SECONDS_MAX = 5.0


def open_store(config: NodeConfig, identity: bytes) -> native.Store:
    """The node's store. Raises DataDirectoryError when it is in use, damaged or another node's."""
    directory = config.node.data_directory
    # A restore was interrupted between its two renames: a node that began here with nothing would forget everything.
    if directory.with_name(directory.name + RESTORING).exists() and not directory.exists():
        raise DataDirectoryError(f"a restore of {directory} was interrupted: run `p2petd restore` again")
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        opening = Opening("node")
        store = native.Store.open(
            str(directory / "node"),
            segment_bytes=config.store.segment_bytes,
            map_bytes=config.store.map_bytes,
            progress=opening,
        )
    except (native.NativeError, OSError) as error:
        raise DataDirectoryError(str(error)) from error
    opening.opened(store.stats())
    owner = store.get(Table.META, META_IDENTITY)
    if owner is None:
        fresh = {META_IDENTITY: identity, META_EPOCH: secrets.token_bytes(16), META_SECRET: secrets.token_bytes(32)}
        failpoints.pass_(Failpoint.STORE_BEFORE_FIRST)
        store.commit([(Table.META, key, value) for key, value in fresh.items()])
        failpoints.pass_(Failpoint.STORE_AFTER_FIRST)
    elif owner != identity:
        store.close()
        raise DataDirectoryError(
            f"{directory} belongs to the node with identity {owner.hex()}; choose another directory"
        )
    return store


def local_node(identity: NodeIdentity, store: Reader) -> LocalNode:
    """What this node says of itself to peers; epoch and secret belong to the data directory."""
    epoch, secret = store.get(Table.META, META_EPOCH), store.get(Table.META, META_SECRET)
    assert epoch is not None
    assert secret is not None
    return LocalNode(identity.public, identity.fingerprint, identity.network_id, epoch, Tokens(secret))


async def run_node(config: NodeConfig, ready: Callable[[], None]) -> None:
    """Run until SIGTERM or SIGINT; calls `ready` when the node serves. Raises NodeError when it cannot start."""
    member = Membership.load(config)
    _compare_contracts(member)
    stop = asyncio.Event()
    failure: list[NodeError] = []

    def rolled_back(error: RolledBack) -> None:
        failure.append(error)
        stop.set()

    async with AsyncExitStack() as stack:
        snapshots = SnapshotKeeper(config.store.snapshot_log_bytes)
        stack.callback(snapshots.join)
        store = open_store(config, member.identity.public)
        snapshots.keep("node", store)
        stack.callback(close_store, store, "node")
        calls = PeerCalls()
        attachments = open_attachments(
            config.node.data_directory / "attachments",
            config.attachments.directory_bytes_max,
            lambda: member.network_map.current_parameters(system_clock()).attachment_bytes_max,
            calls.call,
        )
        stack.push_async_callback(attachments.fetcher.stop)
        notary = open_notary(config, member, attachments.library, rolled_back, snapshots)
        _start_role(stack, notary)
        oracle = open_oracle(config, member, snapshots)
        _start_role(stack, oracle)
        directory, sizes = config.node.data_directory / "histories", config.store
        kept = open_histories(directory, segment_bytes=sizes.segment_bytes, map_bytes=sizes.map_bytes)
        snapshots.keep("histories", kept)
        me = member.identity.public
        histories = histories_of(stack, kept, store, me, member, attachments.library, calls.call)
        offered = {**_offered(me, store, attachments, oracle), **histories.services}
        inbound = FlowInbound(notary, rolled_back, offered, calls)
        local = local_node(member.identity, store)
        transport = PeerTransport(local, member.network_map, member.tls, KnownPeers.load(store), inbound)
        calls.port = transport
        versions = _flow_services(config, member, store, attachments.library, histories)
        services = versions[member.network_map.current_parameters(system_clock()).hash]
        engine = Engine(services, versions, installed_flows(), member.rules, transport)
        loop = NodeLoop(engine, store, system_clock)
        inbound.submit = loop.submit
        loop.start()
        stack.push_async_callback(loop.stop)
        stack.push_async_callback(transport.stop)
        await _listen_peers(stack, config, member, transport)
        transport.start()
        await _listen_clients(
            stack,
            config,
            member,
            store,
            services,
            loop,
            engine,
            notary,
            oracle,
            transport,
            attachments,
            snapshots,
            stop.set,
        )
        snapshots.start()
        stack.callback(snapshots.stop)
        await _until_stopped(stop, ready, engine, transport)
    if failure:
        raise failure[0]


def _start_role(stack: AsyncExitStack, role: NotaryService | OracleService | None) -> None:
    if role is not None:
        role.start()
        stack.push_async_callback(role.stop)


def _offered(
    me: bytes, store: Reader, attachments: AttachmentParts, oracle: OracleService | None
) -> dict[str, PeerService]:
    """What peers may call here besides the notary's services and those of histories."""
    offered: dict[str, PeerService] = {} if oracle is None else {FACTS: oracle.facts, SIGN: oracle.sign}
    offered[ATTACHMENT] = attachments.chunks.serve
    offered[SESSION] = SessionService(store).serve
    offered[FETCH] = FetchForFlows(me, attachments.library).serve
    return offered


async def _until_stopped(
    stop: asyncio.Event, ready: Callable[[], None], engine: Engine, transport: PeerTransport
) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    ready()
    await stop.wait()
    log.info("stopping")
    if engine.is_draining:
        await transport.deliver(DELIVER_SECONDS_MAX)


def _compare_contracts(member: Membership) -> None:
    """Read the sources of all contracts now, and say which of them the network does not know in this form."""
    registry = installed()
    for (name, version), pinned in (
        member.network_map.current_parameters(system_clock()).contract_parameters().contracts.items()
    ):
        if (name, version) not in {(c.name, c.version) for c in registry.contracts}:
            log.warning("contract %s version %d of the network is not installed here", name, version)
        elif registry.code_hash(name, version) != pinned:
            log.warning("the code of contract %s version %d differs from the network's", name, version)


def _flow_services(
    config: NodeConfig, member: Membership, store: native.Store, attachments: Attachments, histories: Histories
) -> dict[bytes, FlowServices]:
    """What flows share, under each version of the network parameters: a flow keeps to the one that it began under."""
    policy = load_policy(config.flows.policy)
    locks = SoftLocks(store)
    return {
        parameters_hash: FlowServices(
            identity=member.identity.public,
            key=member.identity.signing_key,
            network_id=member.identity.network_id,
            parameters=signed.parameters,
            parameters_hash=parameters_hash,
            contract_parameters=member.contract_parameters[parameters_hash],
            network_map=member.network_map,
            store=store,
            locks=locks,
            clock=system_clock,
            attachments=attachments,
            chains=histories.verifier,
            outbox_messages_max=config.peer.outbox_messages_max,
            recovered=histories.pages,
            policy=policy,
        )
        for parameters_hash, signed in member.network_map.parameters.items()
    }


async def _listen_peers(
    stack: AsyncExitStack, config: NodeConfig, member: Membership, transport: PeerTransport
) -> None:
    server = grpc.aio.server(options=(*CHANNEL_OPTIONS, ("grpc.so_reuseport", 0)))
    server.add_generic_rpc_handlers((peer_handlers(transport),))
    await _bind(server, config.peer.listen, member.tls.peer_server_credentials(), "peer")
    stack.push_async_callback(server.stop, None)


async def _listen_clients(
    stack: AsyncExitStack,
    config: NodeConfig,
    member: Membership,
    store: native.Store,
    services: FlowServices,
    loop: NodeLoop,
    engine: Engine,
    notary: NotaryService | None,
    oracle: OracleService | None,
    transport: PeerTransport,
    attachments: AttachmentParts,
    snapshots: SnapshotKeeper,
    stop: Callable[[], None],
) -> None:
    def info() -> GetInfoResponse:
        return GetInfoResponse(
            name=member.identity.name,
            identity=member.identity.public,
            roles=sorted(member.identity.roles),
            version=VERSION,
            platform_version=PLATFORM_VERSION,
            network_id=member.identity.network_id,
            parameters_hash=services.parameters_hash,
            log_sequence=store.sequence,
            started_at_ns=started_at_ns,
            data_directory=str(config.node.data_directory.resolve()),
            disk_full=loop.is_full,
            log_first_sequence=store.stats()["log_first_sequence"],
            snapshot_sequence=store.stats()["snapshot_sequence"],
            draining=engine.is_draining,
            notary_service_key=member.network_map.by_identity(member.identity.public).notary_service_key,
        )

    def counters() -> dict[str, int]:
        store_counters = {f"store_{name}": value for name, value in store.stats().items()}
        notary_counters = notary.counters() if notary is not None else {}
        oracle_counters = oracle.counters() if oracle is not None else {}
        return {
            **engine.counters(),
            **store_counters,
            **snapshots.counters(),
            **transport.counters,
            **notary_counters,
            **oracle_counters,
            **attachments.store.counters(),
            **failpoints.counters(),
        }

    def signed_parameters(parameters_hash: bytes) -> bytes:
        signed = member.network_map.parameters.get(parameters_hash)
        if signed is None:
            raise TransactionNotFound(f"this node has no network parameters {parameters_hash.hex()}")
        return signed.encoded

    started_at_ns = system_clock()
    servicer = health.HealthServicer()
    server = client_server(
        _client_users(config),
        FlowService(loop.submit, store, installed_flows(), engine.live),
        VaultService(store, services.locks, services.identity, signed_parameters),
        NodeService(info, counters, member.network_map, transport, loop.submit, stop),
        AttachmentService(attachments.store, attachments.fetcher, member.network_map),
        None if notary is None else NotaryRpc(notary),
        None if oracle is None else OracleRpc(oracle, attachments.library.content),
        servicer,
    )
    await _bind(server, config.client.listen, member.tls.client_server_credentials(), "client")
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    stack.push_async_callback(server.stop, STOP_GRACE_SECONDS)


def _client_users(config: NodeConfig) -> list[User]:
    """Raises KeyFileError for a token that cannot be read, ConfigError for one that two users have."""
    everything = User("the node's owner", load_token(config.client.token_file))
    others = [User(one.name, load_token(one.token_file), frozenset(one.permissions)) for one in config.client.users]
    users = [everything, *others]
    if len({user.token for user in users}) != len(users):
        raise ConfigError("two users of the client listener have the same token; create one for each")
    return users


async def _bind(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials, what: str) -> None:
    try:
        server.add_secure_port(address, credentials)
    except RuntimeError:
        raise ListenError(f"the {what} listener cannot use {address}: the port is taken or not of this host") from None
    await server.start()
