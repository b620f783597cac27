"""The channel to one node, and what every call has in common."""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable
from typing import TypeVar

import grpc

from p2pet.client.errors import from_rpc
from p2pet.client.settings import ClientSettings

DEADLINE_SECONDS = 30.0
# A node that restarts is back in less than the second that gRPC would wait.
RECONNECT_FIRST_MS = 100

T = TypeVar("T")


class Connection:
    """A channel to one node with what every call carries."""

    def __init__(self, settings: ClientSettings) -> None:
        self.address = settings.address
        # Plain metadata: call credentials of grpcio cost a thread switch for every call.
        self.metadata = (("authorization", f"Bearer {settings.token}"),)
        self.channel = grpc.aio.secure_channel(
            settings.address,
            grpc.ssl_channel_credentials(settings.trust_pem),
            options=(
                ("grpc.ssl_target_name_override", settings.server_name),
                ("grpc.initial_reconnect_backoff_ms", RECONNECT_FIRST_MS),
            ),
        )

    async def answer(self, call: Awaitable[T]) -> T:
        """The answer of a call; raises ApiError."""
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error, self.address) from None

    async def answers(self, call: AsyncIterable[T]) -> AsyncIterator[T]:
        """Each answer of a streaming call; raises ApiError."""
        try:
            async for one in call:
                yield one
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error, self.address) from None
