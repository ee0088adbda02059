"""The HTTP service beside bare Starlette: streamed chunks and whole answers per second, and refusals.

Both servers run in processes of their own, with the same uvicorn, loop and flow; rounds alternate, so that both
meet the same noise. The client is one thread over bare sockets, far cheaper than either server.
"""

from __future__ import annotations

import asyncio
import json
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

STREAMS, CHUNKS = 16, 500
CALLERS, CALLS = 32, 1500
ROUNDS = 5
BURST = 64
TIMEOUT = 60.0
END = b"0\r\n\r\n"


def run() -> list[dict[str, Any]]:
    """Medians over the rounds; the ratio is that of the two medians."""
    with ExitStack() as stack:
        ours, echo, full, bare = (
            stack.enter_context(served(name)) for name in ("stream", "echo", "full", "starlette")
        )
        rows = []
        for name, measure, port, goal in (
            ("streamed chunks, 16 x 500", lambda port: streams(port, "paced"), ours, 0.5),
            ("the same, from a producer that never waits", lambda port: streams(port, "unpaced"), ours, None),
            ("echo, 32 callers", echoes, echo, 0.55),
        ):
            value, floor = side_by_side(measure, port, bare)
            rows.append(row(name, value, floor, goal))
        return [*rows, refusals(full)]


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


def side_by_side(measure: Callable[[int], float], ours: int, bare: int) -> tuple[float, float]:
    for port in (ours, bare):
        measure(port)
    pairs = [(measure(ours), measure(bare)) for _ in range(ROUNDS)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


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


def echoes(port: int) -> float:
    """Whole answers per second, each caller asking again as soon as it has its answer."""
    asked = request("hello", stream=False)
    received = {connect(port): b"" for _ in range(CALLERS)}
    left = CALLS
    with selectors.DefaultSelector() as selector:
        began = time.perf_counter()
        for connection in received:
            selector.register(connection, selectors.EVENT_READ)
            connection.sendall(asked)
        while left > 0:
            for connection in ready(selector):
                received[connection] += connection.recv(65536)
                if is_whole(received[connection]):
                    left -= 1
                    received[connection] = b""
                    connection.sendall(asked)
        seconds = time.perf_counter() - began
    for connection in received:
        connection.close()
    return CALLS / seconds


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
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection, selectors.EVENT_READ)
        while selector.get_map():
            for connection in ready(selector):
                if connection.recv(1 << 20).endswith(END):
                    selector.unregister(connection)


# ---------------------------------------------------------------- the servers


@contextmanager
def served(name: str) -> Iterator[int]:
    """The port of a server in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.service", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.terminate()


async def answer(text: str) -> AsyncIterator[str]:
    """What both servers stream."""
    for _ in range(CHUNKS):
        yield "piece "
        if text == "paced":
            await asyncio.sleep(0)
        elif text == "held":
            await asyncio.Event().wait()


async def echo(text: str) -> str:
    """What both servers answer as a whole."""
    return text


def bare_starlette() -> Any:
    """What one would write by hand for the same answers, without a check of the request, a limit, or a stop."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response, StreamingResponse
    from starlette.routing import Route

    async def frames(text: str) -> AsyncIterator[str]:
        async for piece in answer(text):
            delta = {"index": 0, "delta": {"content": piece}, "logprobs": None, "finish_reason": None}
            yield f"data: {json.dumps({**CHUNK, 'choices': [delta]}, separators=(',', ':'))}\n\n"

    async def endpoint(request: Request) -> Response:
        body = await request.json()
        text = body["messages"][-1]["content"]
        if body["stream"]:
            return StreamingResponse(frames(text), media_type="text/event-stream")
        message = {"role": "assistant", "content": await echo(text)}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        return JSONResponse({**CHUNK, "choices": [choice], "usage": usage})

    return Starlette(routes=[Route("/v1/chat/completions", endpoint, methods=["POST"])])


CHUNK = {
    "id": "chatcmpl-0123456789abcdef0123456789abcdef",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "answer",
}


def main(name: str) -> None:
    """Serves until SIGTERM and prints the port."""
    if name == "starlette":
        import uvicorn

        listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        print(listener.getsockname()[1], flush=True)
        uvicorn.Server(uvicorn.Config(bare_starlette(), log_level="error", access_log=False)).run([listener])
    else:
        from millrace import Limits, serve

        limits = Limits(running=1, waiting=0) if name == "full" else Limits(running=64, waiting=64)
        flow = echo if name == "echo" else answer
        serve(flow, port=0, limits=limits, announce=lambda url: print(url.rpartition(":")[2], flush=True))


if __name__ == "__main__":
    main(sys.argv[1])
