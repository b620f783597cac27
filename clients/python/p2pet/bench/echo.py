"""Frames over loopback TLS and nothing else: what the transport between nodes could do if nodes did nothing."""

import asyncio
import multiprocessing
import time
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from p2pet.bench.load import NS_PER_SECOND

from p2petd.identity.tls import TlsMaterial, dial_options
from p2petd.peer.transport import CHANNEL_OPTIONS

METHOD = "Echo"
SERVICE = "p2pet.bench.Echo"
START_SECONDS_MAX = 20.0


class EchoServer:
    """A process of its own that sends every frame back."""

    def __init__(self, tls: TlsMaterial) -> None:
        # Forking would copy the threads that gRPC has started here.
        context = multiprocessing.get_context("spawn")
        self._port, theirs = context.Pipe(duplex=False)
        self._process = context.Process(target=_serve, args=(theirs, tls), daemon=True)
        self.address = ""

    def __enter__(self) -> Self:
        self._process.start()
        if not self._port.poll(START_SECONDS_MAX):
            self._process.kill()
            raise TimeoutError("the process that echoes frames did not start")
        self.address = f"127.0.0.1:{self._port.recv()}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.join()


def _serve(port: Connection, tls: TlsMaterial) -> None:
    asyncio.run(_echo(port, tls))


async def _echo(port: Connection, tls: TlsMaterial) -> None:
    async def exchange(_: Any, context: Any) -> None:
        while (frame := await context.read()) is not grpc.aio.EOF:
            await context.write(frame)

    server = grpc.aio.server(options=CHANNEL_OPTIONS)
    handler: Any = grpc.stream_stream_rpc_method_handler(exchange)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
    port.send(server.add_secure_port("127.0.0.1:0", tls.peer_server_credentials()))
    await server.start()
    await server.wait_for_termination()


def _channel(server: EchoServer, tls: TlsMaterial, fingerprint: str) -> grpc.aio.Channel:
    options = (*CHANNEL_OPTIONS, *dial_options(fingerprint))
    return grpc.aio.secure_channel(server.address, tls.peer_channel_credentials(), options)


async def echo_frames(
    server: EchoServer, tls: TlsMaterial, fingerprint: str, frame_bytes: int, outstanding: int, seconds: float
) -> float:
    """Frames per second there, and as many back, with `outstanding` under way."""
    frame = bytes(frame_bytes)
    async with _channel(server, tls, fingerprint) as channel:
        call: Any = channel.stream_stream(f"/{SERVICE}/{METHOD}")()
        for _ in range(outstanding):
            await call.write(frame)
        echoed = 0
        started = time.perf_counter_ns()
        until = started + int(seconds * NS_PER_SECOND)
        while (now := time.perf_counter_ns()) < until:
            await call.read()
            await call.write(frame)
            echoed += 1
        call.cancel()
    return echoed * NS_PER_SECOND / (now - started)


async def echo_round_trips(
    server: EchoServer, tls: TlsMaterial, fingerprint: str, frame_bytes: int, seconds: float
) -> float:
    """Round trips per second, one after the other."""
    return await echo_frames(server, tls, fingerprint, frame_bytes, 1, seconds)
