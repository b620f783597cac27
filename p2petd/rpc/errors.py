"""Our errors as gRPC statuses: the category fixes the status, the stable code travels as metadata."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import wraps
from typing import Any, NoReturn, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from p2petd.errors import InternalError, NodeError, RequestMalformed
from p2petd.observe.log import log_unexpected

log = logging.getLogger(__name__)

CODE_METADATA = "p2pet-code"
R = TypeVar("R")


async def abort(context: Any, error: NodeError) -> NoReturn:
    """End the call with the error's status, its sentence, and its code in the trailing metadata."""
    status = grpc.StatusCode[error.category.value]
    await context.abort(status, error.message, ((CODE_METADATA, error.code),))
    raise AssertionError("abort returned")


class Undecodable:
    """Stands for a request whose bytes are not a message; the wrappers below refuse it."""


def lenient(deserializer: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """gRPC answers a failing deserializer with an unknown error and a trace; an `Undecodable` gets a clear one."""

    def decode(data: bytes) -> Any:
        try:
            return deserializer(data)
        except DecodeError:
            return Undecodable()

    return decode


def _check_decoded(request: Any) -> None:
    if isinstance(request, Undecodable):
        raise RequestMalformed("the request does not decode; use the protos of this version")


def unary(method: Callable[[Any, Any, Any], Awaitable[R]]) -> Callable[[Any, Any, Any], Awaitable[R]]:
    """Let a servicer's method raise NodeError; anything else becomes an internal error with an id and no text."""

    @wraps(method)
    async def call(self: Any, request: Any, context: Any) -> R:
        try:
            _check_decoded(request)
            return await method(self, request, context)
        except NodeError as error:
            await abort(context, error)
        except grpc.aio.AbortError:
            raise
        except Exception:  # noqa: BLE001 - the boundary of the API
            await abort(context, _internal(method.__name__))

    return call


def streaming(method: Callable[[Any, Any, Any], AsyncIterator[R]]) -> Callable[[Any, Any, Any], AsyncIterator[R]]:
    """The same for a method that streams its answers."""

    @wraps(method)
    async def call(self: Any, request: Any, context: Any) -> AsyncIterator[R]:
        try:
            _check_decoded(request)
            async for answer in method(self, request, context):
                yield answer
        except NodeError as error:
            await abort(context, error)
        except grpc.aio.AbortError:
            raise
        except Exception:  # noqa: BLE001 - the boundary of the API
            await abort(context, _internal(method.__name__))

    return call


def _internal(method: str) -> InternalError:
    error_id = log_unexpected(log, f"answering {method}")
    return InternalError(f"the node failed unexpectedly; its log has error id {error_id}")
