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

SERVICE = "p2pet.bench.Echo"
START_SECONDS_MAX = 20.0
FRAMES_OUTSTANDING, FRAMES_ACKNOWLEDGED = 256, 32
ACKNOWLEDGEMENT = b"\x01"


class EchoServer:
    """A process of its own that acknowledges frames, or sends each back."""

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
        received = 0
        while await context.read() is not grpc.aio.EOF:
            received += 1
            if received % FRAMES_ACKNOWLEDGED == 0:
                await context.write(ACKNOWLEDGEMENT)

    async def echo(_: Any, context: Any) -> None:
        while (frame := await context.read()) is not grpc.aio.EOF:
            await context.write(frame)

    server = grpc.aio.server(options=CHANNEL_OPTIONS)
    methods: Any = {
        "Send": grpc.stream_stream_rpc_method_handler(exchange),
        "Echo": grpc.stream_stream_rpc_method_handler(echo),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    port.send(server.add_secure_port("127.0.0.1:0", tls.peer_server_credentials()))
    await server.start()
    await server.wait_for_termination()


class EchoClient:
    """The other end, in this process."""

    def __init__(self, server: EchoServer, tls: TlsMaterial, fingerprint: str, frame_bytes: int) -> None:
        """`fingerprint` names the node whose certificate the server shows."""
        self._address = server.address
        self._credentials = tls.peer_channel_credentials()
        self._options = (*CHANNEL_OPTIONS, *dial_options(fingerprint))
        self._frame = bytes(frame_bytes)

    async def frames_per_second(self, seconds: float) -> float:
        """One way, as fast as they go, at most `FRAMES_OUTSTANDING` of them not acknowledged."""
        async with grpc.aio.secure_channel(self._address, self._credentials, self._options) as channel:
            call: Any = channel.stream_stream(f"/{SERVICE}/Send")()
            room = asyncio.Semaphore(FRAMES_OUTSTANDING // FRAMES_ACKNOWLEDGED)

            async def acknowledged() -> None:
                while await call.read() is not grpc.aio.EOF:
                    room.release()

            reader = asyncio.create_task(acknowledged())
            sent = 0
            started = time.perf_counter_ns()
            until = started + int(seconds * NS_PER_SECOND)
            while (now := time.perf_counter_ns()) < until:
                await room.acquire()
                for _ in range(FRAMES_ACKNOWLEDGED):
                    await call.write(self._frame)
                sent += FRAMES_ACKNOWLEDGED
            reader.cancel()
            call.cancel()
        return sent * NS_PER_SECOND / (now - started)

    async def round_trips_per_second(self, seconds: float) -> float:
        """One after the other."""
        async with grpc.aio.secure_channel(self._address, self._credentials, self._options) as channel:
            call: Any = channel.stream_stream(f"/{SERVICE}/Echo")()
            echoed = 0
            started = time.perf_counter_ns()
            until = started + int(seconds * NS_PER_SECOND)
            while (now := time.perf_counter_ns()) < until:
                await call.write(self._frame)
                await call.read()
                echoed += 1
            call.cancel()
        return echoed * NS_PER_SECOND / (now - started)
