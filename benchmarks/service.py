"""The HTTP service beside bare Starlette: streamed chunks and whole answers per second, and refusals.

Both servers run in processes of their own, with the same uvicorn, loop and flow; rounds alternate, so that both
meet the same noise. The client is one thread over bare sockets, far cheaper than either server.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from .service_programs import CHUNKS, PIECE

STREAMS = 16
FIRST = 50
CALLERS, CALLS = 32, 1500
HARD_CALLS = 400
ROUNDS = 5
BURST = 64
TIMEOUT = 60.0
LAST_MOMENTS = 15.0
END = b"0\r\n\r\n"


def run() -> list[dict[str, Any]]:
    """Medians over the rounds; the ratio is that of the two medians."""
    names = ("stream", "echo", "full", "endless", "starlette", "lit_stream", "lit_echo")
    with ExitStack() as stack:
        programs = {name: stack.enter_context(served(name)) for name in names}
        ports = {name: program.port for name, program in programs.items()}
        bare = ports["starlette"]
        rows = []
        for name, measure, ours, peer, goal in (
            ("streamed chunks, 16 x 500", lambda port: streams(port, "paced"), "stream", "lit_stream", 0.5),
            (
                "the same, a producer that never waits",
                lambda port: streams(port, "unpaced"),
                "stream",
                "",
                None,
            ),
            ("echo, 32 callers", echoes, "echo", "lit_echo", 0.55),
        ):
            values = side_by_side(measure, ports[ours], bare, *([ports[peer]] if peer else []))
            rows.append(row(name, values[0], values[1], goal))
            if peer:
                rows.append(row(f"LitServe: {name}", values[2], values[1], None))
        rows.append(first_chunk(ports["stream"], bare))
        rows += [refusals(ports["full"]), stops(programs["endless"])]
    for work, name, goal in (
        ("busy", "5 ms of work", 1.6),
        ("busy_in_a_thread", "5 ms of work in a function, so in a thread", None),
    ):
        with served(f"1 of {work}") as one, served(f"2 of {work}") as two:
            rows.append(scaling(name, goal, one.port, two.port))
    return rows


def row(name: str, value: float, floor: float, goal: float | None) -> dict[str, Any]:
    ratio = value / floor
    return {
        "name": f"{name}, beside bare Starlette",
        "value": value,
        "unit": "/s",
        "floor": floor,
        "ratio": ratio,
        "goal": None if goal is None else f"> {goal:.0%}",
        "ok": None if goal is None else ratio > goal,
    }


def side_by_side(measure: Callable[[int], float], *ports: int) -> list[float]:
    """The medians of what is measured at each port, in turns."""
    for port in ports:
        measure(port)
    rounds = [[measure(port) for port in ports] for _ in range(ROUNDS)]
    return [statistics.median(values) for values in zip(*rounds, strict=True)]


def scaling(name: str, goal: float | None, one: int, two: int) -> dict[str, Any]:
    """Whole answers that take 5 ms of work in Python each, from two processes and from one."""
    value, floor = side_by_side(partial(echoes, calls=HARD_CALLS), two, one)
    return {
        "name": f"{name}, 32 callers, two workers beside one",
        "value": value,
        "unit": "/s",
        "floor": floor,
        "ratio": value / floor,
        "goal": None if goal is None else f"ratio > {goal}",
        "ok": None if goal is None else value / floor > goal,
    }


def first_chunk(ours: int, bare: int) -> dict[str, Any]:
    """From the request to the first piece of the answer, one request at a time."""
    value, floor = side_by_side(first_pieces, ours, bare)
    return {
        "name": "first chunk, p50, beside bare Starlette",
        "value": value,
        "unit": "ms",
        "floor": floor,
        "ratio": value / floor,
        "goal": "ratio < 2",
        "ok": value / floor < 2,
    }


def first_pieces(port: int) -> float:
    waits = []
    asked = request("held", stream=True)
    for _ in range(FIRST):
        with connect(port) as connection:
            began = time.perf_counter()
            connection.sendall(asked)
            received = b""
            while PIECE.encode() not in received:
                received += connection.recv(65536)
            waits.append(time.perf_counter() - began)
    return statistics.median(waits) * 1e3


def stops(program: Program) -> dict[str, Any]:
    """From the client's close to the end of the flow's cleanup, one at a time; the median."""
    waits = []
    for _ in range(FIRST):
        with connect(program.port) as connection:
            connection.sendall(request("x", stream=True))
            connection.recv(65536)
            cut = time.monotonic()
        waits.append(program.line() - cut)
    slow = statistics.median(waits) * 1e3
    return {
        "name": "cut to stop, p50",
        "value": slow,
        "unit": "ms",
        "floor": None,
        "ratio": None,
        "goal": "< 10 ms",
        "ok": slow < 10,
    }


def streams(port: int, text: str) -> float:
    """Chunks per second over all streams, until the last has ended."""
    connections = [connect(port) for _ in range(STREAMS)]
    asked = request(text, stream=True)
    began = time.perf_counter()
    for connection in connections:
        connection.sendall(asked)
    read_to_end(connections)
    seconds = time.perf_counter() - began
    for connection in connections:
        connection.close()
    return STREAMS * CHUNKS / seconds


def echoes(port: int, calls: int = CALLS) -> float:
    """Whole answers per second, each caller asking again as soon as it has its answer."""
    asked = request("hello", stream=False)
    received = {connect(port): b"" for _ in range(CALLERS)}
    left = calls
    with selectors.DefaultSelector() as selector:
        began = time.perf_counter()
        for connection in received:
            selector.register(connection, selectors.EVENT_READ)
            connection.sendall(asked)
        seconds = 0.0
        while received:
            for connection in ready(selector):
                received[connection] += connection.recv(65536)
                if not is_whole(received[connection]):
                    continue
                left -= 1
                if left == 0:
                    seconds = time.perf_counter() - began
                if left > 0:
                    received[connection] = b""
                    connection.sendall(asked)
                else:  # what is still being answered must not be in the way of what is measured next
                    selector.unregister(connection)
                    del received[connection]
                    connection.close()
    return calls / seconds


def refusals(port: int) -> dict[str, Any]:
    """How long a burst waits for its 429, while the one place is taken; the 95th percentile."""
    with connect(port) as holder:
        holder.sendall(request("held", stream=True))
        holder.recv(65536)
        connections = [connect(port) for _ in range(BURST)]
        waits: list[float] = []
        began: dict[socket.socket, float] = {}
        with selectors.DefaultSelector() as selector:
            for connection in connections:
                selector.register(connection, selectors.EVENT_READ)
                began[connection] = time.perf_counter()
                connection.sendall(request("hello", stream=False))
            while len(waits) < BURST:
                for connection in ready(selector):
                    waits.append(time.perf_counter() - began[connection])
                    assert connection.recv(65536).startswith(b"HTTP/1.1 429")
                    selector.unregister(connection)
        for connection in connections:
            connection.close()
    slow = statistics.quantiles(waits, n=20)[-1] * 1e3
    return {
        "name": f"429 to {BURST} at once, 95th percentile",
        "value": slow,
        "unit": "ms",
        "floor": None,
        "ratio": None,
        "goal": "< 50 ms",
        "ok": slow < 50,
    }


# ---------------------------------------------------------------- the client


def request(text: str, stream: bool) -> bytes:
    body = json.dumps({"messages": [{"role": "user", "content": text}], "stream": stream}).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%s" % (len(body), body)
    )


def connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), TIMEOUT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def ready(selector: selectors.BaseSelector) -> list[socket.socket]:
    found = [key.fileobj for key, _ in selector.select(TIMEOUT)]
    if not found:
        raise TimeoutError(f"the server said nothing for {TIMEOUT:g} s")
    return [connection for connection in found if isinstance(connection, socket.socket)]


def is_whole(response: bytes) -> bool:
    head, _, body = response.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return len(body) == int(length or -1)


def read_to_end(connections: list[socket.socket]) -> None:
    """Raises: ConnectionError: one was closed before the end of its answer."""
    tails = dict.fromkeys(connections, b"")
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection, selectors.EVENT_READ)
        while selector.get_map():
            for connection in ready(selector):
                received = connection.recv(1 << 20)
                if not received:
                    raise ConnectionError(f"an answer broke off behind {tails[connection]!r}")
                tails[connection] = (tails[connection] + received)[-len(END) :]
                if tails[connection] == END:
                    selector.unregister(connection)


# ---------------------------------------------------------------- the servers


@dataclass
class Program:
    """A server in a process of its own."""

    process: subprocess.Popen[str]
    port: int = 0

    def line(self) -> float:
        """The number that it prints next."""
        assert self.process.stdout is not None
        return float(self.process.stdout.readline())


@contextmanager
def served(name: str) -> Iterator[Program]:
    module = "benchmarks.lit_serve" if name.startswith("lit_") else "benchmarks.service_programs"
    command = [sys.executable, "-m", module, name]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    ) as process:
        try:
            program = Program(process)
            program.port = int(program.line())
            wait_until_open(program.port)
            yield program
        finally:
            process.terminate()
            try:
                process.wait(LAST_MOMENTS)
            except subprocess.TimeoutExpired:
                pass
            try:
                os.killpg(
                    process.pid, signal.SIGKILL
                )  # LitServe's own processes outlive the one that began them
            except ProcessLookupError:
                pass


def wait_until_open(port: int) -> None:
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
