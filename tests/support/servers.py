"""Real servers on real sockets: an ASGI app in a thread, `python -m millrace` in a process; and a raw client.

The raw client sends a request, reads as many events as the test wants, and leaves as the test wants: with
FIN, as a closed tab does, or with RST, as a lost process does.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from tests.support.leaks import eventually

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Served:
    """A server that is up. `url` has no trailing slash."""

    port: int
    server: uvicorn.Server

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def connect(self) -> Connection:
        return Connection(self.port)


@contextmanager
def serving(app: Any, **settings: Any) -> Iterator[Served]:
    """Runs an ASGI app under uvicorn in a thread, on a free port of 127.0.0.1, until the block is left.

    `settings` go to `uvicorn.Config`. Its start is waited for; its shutdown is graceful: streams get 5 s.

    Raises:
        RuntimeError: the app's lifespan failed at startup.
    """
    with closing(socket.create_server((HOST, 0))) as listener:
        defaults = {"log_level": "warning", "ws": "none", "timeout_graceful_shutdown": 5}
        server = uvicorn.Server(uvicorn.Config(app, **{**defaults, **settings}))

        def serve() -> None:
            with suppress(SystemExit):  # how uvicorn ends where the startup fails
                server.run([listener])

        thread = threading.Thread(target=serve, name="test-server", daemon=True)
        thread.start()
        try:
            eventually(lambda: server.started or not thread.is_alive(), timeout=30)
            if not server.started:
                raise RuntimeError(f"{app!r} failed at startup; its log tells why")
            yield Served(listener.getsockname()[1], server)
        finally:
            server.should_exit = True
            thread.join(15)
            if thread.is_alive():
                server.force_exit = True
                raise AssertionError(f"the server of {app!r} did not shut down within 15 s")


@dataclass
class Reply:
    """The head of a response; header names are in lower case."""

    status: int
    headers: dict[str, str]


@dataclass
class Connection:
    """One HTTP/1.1 connection on a bare socket. Reading waits `timeout` seconds at most, then fails."""

    port: int
    timeout: float = 10.0
    received: bytearray = field(default_factory=bytearray)
    body: bytearray = field(default_factory=bytearray)
    chunked: bool = False
    ended: bool = False
    remaining: int | None = None
    socket: socket.socket = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.socket = socket.create_connection((HOST, self.port), self.timeout)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """Sends a request; a `body` that is not bytes is sent as JSON."""
        payload = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        lines = {
            "Host": f"{HOST}:{self.port}",
            "Content-Type": "application/json",
            "Content-Length": str(len(payload)),
            **(headers or {}),
        }
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(
            f"{name}: {text}\r\n" for name, text in lines.items()
        )
        self.socket.sendall(head.encode() + b"\r\n" + payload)
        self.body, self.ended = bytearray(), False

    def reply(self) -> Reply:
        """Reads the head of the response."""
        while b"\r\n\r\n" not in self.received:
            self._receive()
        head = self._cut(self.received.index(b"\r\n\r\n"), 4)
        first, *rest = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): text.strip() for name, _, text in (line.partition(":") for line in rest)}
        self.chunked = headers.get("transfer-encoding") == "chunked"
        self.remaining = int(headers["content-length"]) if "content-length" in headers else None
        return Reply(int(first.split()[1]), headers)

    def read(self) -> bytes:
        """Reads the body to its end."""
        while self._more():
            pass
        body, self.body = self.body, bytearray()
        return bytes(body)

    def json(self) -> Any:
        return json.loads(self.read())

    def events(self, count: int | None = None) -> list[str]:
        """Reads the `data` of the next `count` server-sent events; fewer where the body ends, all if None."""
        found: list[str] = []
        while count is None or len(found) < count:
            while b"\n\n" not in self.body:
                if not self._more():
                    return found
            frame, _, self.body = self.body.partition(b"\n\n")
            data = [
                line[5:].removeprefix(" ") for line in frame.decode().split("\n") if line.startswith("data:")
            ]
            if data:
                found.append("\n".join(data))
        return found

    def closed_by_server(self) -> bool:
        """Waits until the server ends the connection; false if it still stands after `timeout`."""
        while True:
            readable, _, _ = select.select([self.socket], [], [], self.timeout)
            if not readable:
                return False
            try:
                if not self.socket.recv(65536):
                    return True
            except ConnectionResetError:
                return True

    def close(self) -> None:
        """Leaves with FIN, as a client does that closes properly."""
        self.socket.close()

    def reset(self) -> None:
        """Leaves with RST, as a client does whose process or network is gone."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def _receive(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError(f"the server closed the connection; unread: {bytes(self.received[:200])!r}")
        self.received += data

    def _more(self) -> bool:
        """Moves one more piece of the body from the wire to `self.body`; false at its end."""
        if self.ended:
            return False
        if self.chunked:
            return self._next_chunk()
        if self.remaining is None:  # the body ends with the connection
            try:
                if not self.received:
                    self._receive()
            except ConnectionError:
                self.ended = True
                return False
            self.body += self._cut(len(self.received))
            return True
        while len(self.received) < self.remaining:
            self._receive()
        self.body += self._cut(self.remaining)
        self.ended = True
        return True

    def _next_chunk(self) -> bool:
        while b"\r\n" not in self.received:
            self._receive()
        line = self._cut(self.received.index(b"\r\n"), 2)
        size = int(line.partition(b";")[0], 16)
        while len(self.received) < size + 2:
            self._receive()
        self.body += self._cut(size, 2)
        self.ended = size == 0
        return not self.ended

    def _cut(self, size: int, end: int = 0) -> bytes:
        """Takes so many bytes of what has been received, and drops those of their `end`."""
        piece = bytes(self.received[:size])
        del self.received[: size + end]
        return piece


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago."""
    with closing(socket.create_server((HOST, 0))) as listener:
        port: int = listener.getsockname()[1]
        return port


@dataclass(frozen=True)
class Launched:
    """A `python -m millrace` that is ready."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def connect(self) -> Connection:
        return Connection(self.port)

    def output(self) -> str:
        """What it has printed so far, on both outputs."""
        return self.log.read_text(encoding="utf-8", errors="replace")


@contextmanager
def millrace_process(
    *arguments: str,
    ready: str = "/health/ready",
    timeout: float = 90.0,
    cwd: Path = ROOT,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Launched]:
    """Starts `python -m millrace *arguments --port <free>` as a child, and ends it when the block is left.

    Waits up to `timeout` seconds until `ready` answers 200. `environment` is added to this process's own; user's data
    goes into a directory that ends with the block, unless it says otherwise. The end is SIGTERM and, after 15 s,
    SIGKILL and a failure.

    Raises:
        RuntimeError: it ended before it was ready; the message has its output.
    """
    port = free_port()
    command = [sys.executable, "-m", "millrace", *arguments, "--port", str(port)]
    with tempfile.TemporaryDirectory(prefix="millrace-process-") as directory:
        log = Path(directory) / "output"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env={**os.environ, "XDG_DATA_HOME": directory, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        launched = Launched(process, port, log)
        try:
            eventually(
                lambda: process.poll() is not None or answers(port, ready), timeout, message=launched.output
            )
            if process.poll() is not None:
                raise RuntimeError(f"{command} ended with {process.returncode}:\n{launched.output()}")
            yield launched
        finally:
            end(process)


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    try:
        socket.create_connection((HOST, port), 5).close()
    except OSError:
        return False
    return True


def answers(port: int, path: str) -> bool:
    """Whether a GET of `path` is answered with 200 right now."""
    try:
        with Connection(port, timeout=5) as connection:
            connection.send("GET", path)
            return connection.reply().status == 200
    except OSError:
        return False


def end(process: subprocess.Popen[Any], grace: float = 15.0) -> None:
    """Ends a child by its pid, and closes its pipes: SIGTERM; SIGKILL and a failure if it is still there after `grace`
    seconds."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(grace)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise AssertionError(f"process {process.pid} did not end within {grace} s of SIGTERM") from None
    finally:
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
