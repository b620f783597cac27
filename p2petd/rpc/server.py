"""The client listener: TLS, one token, the services, health."""

import hmac
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import aio as health
from p2pet.flows.v1 import flows_pb2_grpc
from p2pet.node.v1 import node_pb2_grpc
from p2pet.vault.v1 import vault_pb2_grpc

from p2petd.errors import NotPermitted
from p2petd.rpc.errors import abort, lenient
from p2petd.rpc.flow_service import FlowService
from p2petd.rpc.node_service import NodeService
from p2petd.rpc.vault_service import VaultService

MESSAGE_BYTES_MAX = 4 * 1024 * 1024
METADATA_BYTES_MAX = 8 * 1024
SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.max_concurrent_streams", 128),
    ("grpc.so_reuseport", 0),
)


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Lets a call pass only with the node's token; health is open to all who reach the listener."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        if handler_call_details.method.startswith("/grpc.health.v1."):
            return await continuation(handler_call_details)
        presented = dict(handler_call_details.invocation_metadata or ()).get("authorization", "")
        text = presented if isinstance(presented, str) else presented.decode("ascii", "replace")
        if hmac.compare_digest(text.encode("utf-8", "replace"), self._expected):
            handler = await continuation(handler_call_details)
            if handler is None or handler.request_deserializer is None:
                return handler
            return handler._replace(request_deserializer=lenient(handler.request_deserializer))
        return _REFUSE


async def _refuse(request: Any, context: Any) -> None:
    await abort(context, NotPermitted("the call carries no valid token; give the token file that node.toml names"))


_REFUSE: Any = grpc.unary_unary_rpc_method_handler(_refuse)


def client_server(
    token: str, flows: FlowService, vault: VaultService, node: NodeService, servicer: health.HealthServicer
) -> grpc.aio.Server:
    """The server with all services; the caller adds the port and starts it."""
    server = grpc.aio.server(interceptors=[TokenInterceptor(token)], options=SERVER_OPTIONS)
    flows_pb2_grpc.add_FlowServiceServicer_to_server(flows, server)
    vault_pb2_grpc.add_VaultServiceServicer_to_server(vault, server)
    node_pb2_grpc.add_NodeServiceServicer_to_server(node, server)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    return server
