"""A TCP proxy in front of a real server that breaks connections where the test says: in a run's stream, at a byte.

    with breaking(service.port) as proxy:
        proxy.allow(700)                     # the next stream of a run gets 700 bytes of its answer, and no more
        proxy.allow(0)                       # the one after it not one
        RemoteFlow(proxy.url)("Hi")
        proxy.streams                        # first lines of the requests for streams: POST /v1/runs ..., GET ...

Other requests (health, a cancel) pass whole. It runs in a thread with an event loop of its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.leaks import eventually

__all__ = ["BreakingProxy", "breaking"]

HOST = "127.0.0.1"


class BreakingProxy:
    """The test's side."""

    def __init__(self, to: int) -> None:
        self.to = to
        """The port of the server."""
        self.port = 0
        self.requests: list[str] = []
        """First lines of all requests."""
        self.refusing = False
        """New connections are broken before a byte has passed."""
        self.deaf = False
        """New connections are taken, and never answered."""
        self.hanging = False
        """Where a stream would be broken nothing passes any more, and the connection stays."""
        self.keeping = False
        """The server does not hear of it when a client leaves."""
        self.connections = 0
        """How many there have been."""
        self._allowed: list[int] = []
        self._open: set[asyncio.StreamWriter] = set()
        self._ended = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def open_connections(self) -> int:
        return len(self._open)

    @property
    def streams(self) -> list[str]:
        """First lines of the requests for streams."""
        return [line for line in self.requests if is_stream(line)]

    @property
    def cancels(self) -> list[str]:
        """First lines of the requests that stop a run."""
        return [line for line in self.requests if "/cancel " in line]

    def allow(self, *sizes: int) -> None:
        """How many bytes the answers to the next requests for streams may have."""
        self._allowed += sizes

    def cut(self) -> None:
        """Breaks all connections that are open now."""
        for writer in list(self._open):
            self._loop.call_soon_threadsafe(writer.close)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client's."""
        self._open.add(writer)
        self.connections += 1
        try:
            if self.deaf:
                await reader.read()
            elif not self.refusing:
                await self._pass(reader, writer)
        except OSError:
            pass
        finally:
            writer.close()
            self._open.discard(writer)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(HOST, self.to)
        both = [
            asyncio.ensure_future(self._forth(reader, to_server)),
            asyncio.ensure_future(self._back(from_server, writer)),
        ]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if self.keeping:
                writer.close()
                await self._ended.wait()
        finally:
            for each in both:
                each.cancel()
            await asyncio.wait(both)
            to_server.close()

    async def _forth(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(65536):
                line = piece.partition(b"\r\n")[0].decode("latin-1")
                if line.endswith(" HTTP/1.1"):
                    self.requests.append(line)
                writer.write(piece)
                await writer.drain()
        except ConnectionError:
            pass

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left: int | None = None
        try:
            while piece := await reader.read(65536):
                if piece.startswith(b"HTTP/1.1 "):
                    passes = not is_stream(self.requests[-1]) or not self._allowed
                    left = None if passes else self._allowed.pop(0)
                if left is not None:
                    piece, left = piece[:left], left - len(piece)
                writer.write(piece)
                await writer.drain()
                if left is not None and left <= 0:
                    if self.hanging:
                        await self._ended.wait()
                    return
        except ConnectionError:
            pass

    async def run(self) -> None:
        self._loop = asyncio.get_running_loop()
        listening = await asyncio.start_server(self.serve, HOST, 0)
        self.port = listening.sockets[0].getsockname()[1]
        async with listening:
            await self._ended.wait()
            listening.close()
            for writer in list(self._open):
                writer.close()
            while self._open:
                await asyncio.sleep(0.001)

    def end(self) -> None:
        self._ended.set()


def is_stream(line: str) -> bool:
    return line.startswith("POST /v1/runs ") or "/events" in line


@contextmanager
def breaking(to: int) -> Iterator[BreakingProxy]:
    """Starts the proxy to a port of this machine, and ends it with the block."""
    proxy, loop = BreakingProxy(to), asyncio.new_event_loop()

    def body() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(proxy.run())

    thread = threading.Thread(target=body, name="breaking-proxy", daemon=True)
    thread.start()
    try:
        eventually(lambda: proxy.port, timeout=10)
        yield proxy
    finally:
        loop.call_soon_threadsafe(proxy.end)
        thread.join(10)
        assert not thread.is_alive(), "the proxy did not end"
