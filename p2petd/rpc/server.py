"""The client listener: TLS, users by their tokens, the services, health."""

import hmac
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import aio as health
from p2pet.attachments.v1 import attachments_pb2_grpc
from p2pet.flows.v1 import flows_pb2_grpc
from p2pet.node.v1 import node_pb2_grpc
from p2pet.notary.v1 import notary_pb2_grpc
from p2pet.oracle.v1 import oracle_pb2_grpc
from p2pet.vault.v1 import vault_pb2_grpc

from p2petd.errors import NodeError, NotPermitted, PermissionMissing
from p2petd.rpc.attachment_service import AttachmentService
from p2petd.rpc.errors import abort, lenient
from p2petd.rpc.flow_service import FlowService
from p2petd.rpc.node_service import NodeService
from p2petd.rpc.notary_service import NotaryRpc
from p2petd.rpc.oracle_service import OracleRpc
from p2petd.rpc.vault_service import VaultService

MESSAGE_BYTES_MAX = 4 * 1024 * 1024
METADATA_BYTES_MAX = 8 * 1024
SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.max_concurrent_streams", 128),
    # How far a call may run ahead of its reader is fixed: a window that grows by itself fills with a fast upload.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 1024 * 1024),
    ("grpc.so_reuseport", 0),
)


# Who may look at a node may not stop it: that needs what the flows under way need.
_OTHER_PERMISSIONS = {"/p2pet.node.v1.NodeService/Drain": "flows"}


@dataclass(frozen=True)
class User:
    """Who presents `token`. `permissions` are packages of services such as "vault"; None permits every service."""

    name: str
    token: str
    permissions: frozenset[str] | None = None


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Lets a call pass only with the token of a user who may make it; health is open to all who reach the listener.

    The permission that a method needs is named by its package: /p2pet.vault.v1.VaultService/GetBalance needs "vault".
    Draining a node needs "flows".
    """

    def __init__(self, users: Sequence[User]) -> None:
        self._users = [(f"Bearer {user.token}".encode(), user) for user in users]

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        if handler_call_details.method.startswith("/grpc.health.v1."):
            return await continuation(handler_call_details)
        presented = dict(handler_call_details.invocation_metadata or ()).get("authorization", "")
        text = presented if isinstance(presented, str) else presented.decode("ascii", "replace")
        user = self._user_of(text.encode("utf-8", "replace"))
        if user is None:
            return _refusal(NotPermitted("the call carries no valid token; give the token file that node.toml names"))
        needed = _needed(handler_call_details.method)
        if user.permissions is not None and needed not in user.permissions:
            return _refusal(PermissionMissing(f"the user {user.name} lacks the permission {needed!r}"))
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_deserializer is None:
            return handler
        return handler._replace(request_deserializer=lenient(handler.request_deserializer))

    def _user_of(self, presented: bytes) -> User | None:
        # Every token is compared, so that the time says nothing of which one was nearly right.
        found = [user for expected, user in self._users if hmac.compare_digest(presented, expected)]
        return found[0] if found else None


def _needed(method: str) -> str:
    """The package after "p2pet": a service that is added needs a permission of its own name."""
    if method in _OTHER_PERMISSIONS:
        return _OTHER_PERMISSIONS[method]
    parts = method.removeprefix("/").split(".")
    return parts[1][:100] if len(parts) > 1 else method[:100]


def _refusal(error: NodeError) -> Any:
    async def refuse(request: Any, context: Any) -> None:
        await abort(context, error)

    handler: Any = grpc.unary_unary_rpc_method_handler(refuse)
    return handler


def client_server(
    users: Sequence[User],
    flows: FlowService,
    vault: VaultService,
    node: NodeService,
    attachments: AttachmentService,
    notary: NotaryRpc | None,
    oracle: OracleRpc | None,
    servicer: health.HealthServicer,
) -> grpc.aio.Server:
    """The server with all services, those of a notary and an oracle where they are; the caller adds port and start."""
    server = grpc.aio.server(interceptors=[TokenInterceptor(users)], options=SERVER_OPTIONS)
    flows_pb2_grpc.add_FlowServiceServicer_to_server(flows, server)
    vault_pb2_grpc.add_VaultServiceServicer_to_server(vault, server)
    node_pb2_grpc.add_NodeServiceServicer_to_server(node, server)
    attachments_pb2_grpc.add_AttachmentServiceServicer_to_server(attachments, server)
    if notary is not None:
        notary_pb2_grpc.add_NotaryServiceServicer_to_server(notary, server)
    if oracle is not None:
        oracle_pb2_grpc.add_OracleServiceServicer_to_server(oracle, server)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    return server
