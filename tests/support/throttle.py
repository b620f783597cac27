"""A gate in front of a node's peer listener, through which a connection can be made to crawl."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

# What a connection takes before it crawls: enough for TLS and the hellos, so that it counts as a peer's.
SWIFT_BYTES = 16 * 1024
CHUNK_BYTES = 16 * 1024


class Gate:
    """Passes connections on to a node. While it crawls, the node reads 1 byte a second of what others write to it."""

    def __init__(self, to: str) -> None:
        self._to = to
        self._swift = asyncio.Event()
        self._swift.set()
        self._connections: set[asyncio.Task[None]] = set()

    def crawl(self) -> None:
        """From now on, and also of connections that stand."""
        self._swift.clear()

    def open(self) -> None:
        self._swift.set()

    @contextlib.asynccontextmanager
    async def listening(self, address: str) -> AsyncIterator["Gate"]:
        host, port = address.rsplit(":", 1)
        listener = socket.create_server((host, int(port)))
        # A small buffer, so that the kernel does not read on for the node.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        server = await asyncio.start_server(self._accept, sock=listener, limit=CHUNK_BYTES)
        try:
            yield self
        finally:
            server.close()
            for connection in self._connections:
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await self._pass_on(reader, writer)
        self._connections.discard(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = self._to.rsplit(":", 1)
        there_reader, there_writer = await asyncio.open_connection(host, int(port))
        into = asyncio.create_task(self._pump(reader, there_writer, crawls=True))
        out = asyncio.create_task(self._pump(there_reader, writer, crawls=False))
        try:
            await asyncio.wait({into, out}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in (into, out):
                pump.cancel()
            await asyncio.gather(into, out, return_exceptions=True)
            writer.close()
            there_writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, crawls: bool) -> None:
        passed = 0
        while data := await reader.read(CHUNK_BYTES if self._swift.is_set() or not crawls else 1):
            writer.write(data)
            await writer.drain()
            passed += len(data)
            if crawls and passed > SWIFT_BYTES and not self._swift.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._swift.wait(), 1.0)
