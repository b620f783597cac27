"""What can go wrong for a client.

ClientError
├── SettingsError       node.toml, token or certificate cannot be used; nothing was sent
└── ApiError            the node refused, or failed: `code` is stable, docs/errors.md explains it
    └── UnreachableError no answer from the node's address
"""

import grpc

CODE_METADATA = "p2pet-code"
# What gRPC says when the address answers but its certificate is not accepted.
_TLS_FAILURES = ("handshake", "verification", "certificate")
CODE_UNREACHABLE = "client.unreachable"
CODE_DEADLINE = "client.deadline"


class ClientError(Exception):
    """Base of the client's errors; its text is one clear sentence."""


class SettingsError(ClientError):
    """The files that say how to reach the node are missing or malformed."""


class ApiError(ClientError):
    """The node's answer is an error. `code` is stable; `status` is the name of the gRPC status."""

    def __init__(self, code: str, message: str, status: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


class UnreachableError(ApiError):
    """No node answers at the address, or it is not the node that it should be."""


def from_rpc(error: grpc.aio.AioRpcError, address: str) -> ApiError:
    """The client's error for a failed call."""
    status = error.code()
    details = error.details() or "no details"
    for key, value in error.trailing_metadata() or ():
        if key == CODE_METADATA:
            code = value if isinstance(value, str) else value.decode("ascii", errors="replace")
            return ApiError(code, details, status.name)
    if status is grpc.StatusCode.UNAVAILABLE:
        message = f"no node answers at {address}; is it running?"
        if any(sign in details.lower() for sign in _TLS_FAILURES):
            message = f"what answers at {address} is not this node, or its certificate is not the network's"
        return UnreachableError(CODE_UNREACHABLE, message, status.name)
    if status is grpc.StatusCode.DEADLINE_EXCEEDED:
        return ApiError(CODE_DEADLINE, f"the node at {address} did not answer in time", status.name)
    return ApiError(status.name.lower(), details, status.name)
