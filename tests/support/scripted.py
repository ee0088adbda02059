"""A real HTTP server whose every byte is the test's: what a well-behaved one never does can be tried too.

    async def script(exchange):
        await exchange.begin()                       # 200 and the head of an event stream
        await exchange.say("Hel")                    # a chunk with text
        await server.signal("more").wait()           # until the test says server.signal("more").set()
        exchange.cut()                               # RST in the midst of it

    with scripted(script) as server:
        RemoteEngine(server.url, "tiny")
        server.exchanges[0].body                     # what was asked, and
        server.exchanges[0].left.is_set()            # whether the client has closed its connection

It runs in a thread with an event loop of its own. `answers("Hello")` is the script of a plain answer.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.support.leaks import eventually

__all__ = ["Exchange", "ScriptedServer", "Signal", "answers", "in_turn", "refuses", "scripted"]

HOST = "127.0.0.1"
PATIENCE = 20.0


class Signal:
    """An event between the test and the server's loop."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def is_set(self) -> bool:
        return self._event.is_set()

    async def wait(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while not self._event.is_set():
                await asyncio.sleep(0.001)


class Exchange:
    """One request, and the way back to whoever sent it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.method = self.path = ""
        self.headers: dict[str, str] = {}
        self.body: Any = None
        self.left = threading.Event()
        """Set when the client closes the connection."""
        self.cut_off = False
        self._reader = reader
        self._writer = writer

    async def read(self) -> bool:
        """Reads the request; false where the connection ends instead."""
        try:
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except (asyncio.IncompleteReadError, ConnectionError):
            return False
        first, *lines = head.strip().split("\r\n")
        self.method, self.path, _ = first.split(" ", 2)
        for line in lines:
            name, _, value = line.partition(":")
            self.headers[name.lower()] = value.strip()
        try:
            raw = await self._reader.readexactly(int(self.headers.get("content-length", 0)))
        except asyncio.IncompleteReadError:
            return False
        self.body = json.loads(raw) if raw else None
        return True

    async def reply(self, status: int, body: object = b"", headers: Mapping[str, str] | None = None) -> None:
        """A whole answer; a `body` that is not bytes is sent as JSON."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        await self._head(
            status, {"content-type": "application/json", "content-length": str(len(raw)), **(headers or {})}
        )
        await self.send(raw)

    async def begin(self, headers: Mapping[str, str] | None = None) -> None:
        """The head of an event stream."""
        await self._head(
            200, {"content-type": "text/event-stream", "transfer-encoding": "chunked", **(headers or {})}
        )

    async def raw(self, raw: bytes) -> None:
        """A piece of the stream, as it is."""
        await self.send(f"{len(raw):x}\r\n".encode() + raw + b"\r\n")

    async def data(self, payload: object) -> None:
        """A frame; what is no text is sent as JSON."""
        text = payload if isinstance(payload, str) else json.dumps(payload)
        await self.raw(f"data: {text}\n\n".encode())

    async def delta(self, finish: str | None = None, **delta: Any) -> None:
        """A chunk of a chat completion."""
        await self.data({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    async def say(self, text: str) -> None:
        await self.delta(content=text)

    async def finish(self, reason: str = "stop", usage: tuple[int, int] | None = (3, 5)) -> None:
        """The end of an answer, as OpenAI does it."""
        await self.delta(finish=reason)
        if usage is not None:
            counts = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
            await self.data({"choices": [], "usage": counts})
        await self.data("[DONE]")
        await self.end()

    async def end(self) -> None:
        """The last chunk of the body; the connection stays."""
        await self.send(b"0\r\n\r\n")

    async def send(self, raw: bytes) -> None:
        self._writer.write(raw)
        await self._writer.drain()

    async def gone(self) -> None:
        """Waits until the client has closed the connection."""
        async with asyncio.timeout(PATIENCE):
            try:
                while await self._reader.read(1024):
                    pass
            except ConnectionError:
                pass
        self.left.set()

    def cut(self) -> None:
        """Ends the connection with RST."""
        self.cut_off = True
        raw: socket.socket = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def close(self) -> None:
        """Ends the connection with FIN."""
        self.cut_off = True
        self._writer.close()

    async def _head(self, status: int, headers: Mapping[str, str]) -> None:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        await self.send(f"HTTP/1.1 {status} -\r\n{lines}\r\n".encode("latin-1"))


Script = Callable[[Exchange], Awaitable[None]]


class ScriptedServer:
    """The test's side. `script` may be changed at any time; `models` answers the list of models."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.models = refuses(200, {"object": "list", "data": [{"id": "tiny"}]})
        """How the list of models is answered."""
        self.exchanges: list[Exchange] = []
        """In the order in which they came, /models not counted."""
        self.connections = 0
        """How many there have been."""
        self.port = 0
        self._signals: dict[str, Signal] = {}
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/v1"

    @property
    def open_connections(self) -> int:
        return len(self._open)

    def signal(self, name: str) -> Signal:
        return self._signals.setdefault(name, Signal())

    def asked(self, count: int = 1) -> Exchange:
        """Waits until that many requests have come; the newest of them."""
        eventually(lambda: len(self.exchanges) >= count, timeout=PATIENCE)
        return self.exchanges[count - 1]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, request by request."""
        self._open.add(writer)
        self.connections += 1
        try:
            while True:
                exchange = Exchange(reader, writer)
                if not await exchange.read():
                    return
                if exchange.path.partition("?")[0].endswith("/models"):
                    await self.models(exchange)
                    continue
                self.exchanges.append(exchange)
                await self.script(exchange)
                if exchange.cut_off or exchange.left.is_set():
                    return
        except ConnectionError:
            if self.exchanges:
                self.exchanges[-1].left.set()
        finally:
            self._open.discard(writer)
            writer.close()

    def close_all(self) -> None:
        for writer in list(self._open):
            writer.close()


def answers(*pieces: str, reason: str = "stop", usage: tuple[int, int] | None = (3, 5)) -> Script:
    """The script of a plain answer."""

    async def script(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.delta(role="assistant", content="")
        for piece in pieces:
            await exchange.say(piece)
        await exchange.finish(reason, usage)

    return script


def refuses(status: int, body: object = b"", headers: Mapping[str, str] | None = None) -> Script:
    """The script of a refusal."""

    async def script(exchange: Exchange) -> None:
        await exchange.reply(status, body, headers)

    return script


def in_turn(*scripts: Script) -> Script:
    """Each request gets the next script; the last one stays."""
    left = list(scripts)

    async def script(exchange: Exchange) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(exchange)

    return script


@contextmanager
def scripted(script: Script = answers("Hello")) -> Iterator[ScriptedServer]:  # noqa: B008
    """Starts the server, and ends it with the block."""
    server = ScriptedServer(script)
    ended = threading.Event()

    async def main() -> None:
        listening = await asyncio.start_server(server.serve, HOST, 0)
        server.port = listening.sockets[0].getsockname()[1]
        async with listening:
            while not ended.is_set():
                await asyncio.sleep(0.005)
            listening.close()
            server.close_all()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
            await asyncio.wait([task])

    thread = threading.Thread(target=lambda: asyncio.run(main()), name="scripted-server", daemon=True)
    thread.start()
    try:
        eventually(lambda: server.port, timeout=10)
        yield server
    finally:
        ended.set()
        thread.join(10)
        assert not thread.is_alive(), "the scripted server did not end"
