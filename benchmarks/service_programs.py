"""The servers that benchmarks/service.py measures, each a process of its own, which prints its port once it is bound.

Ours, a bare Starlette and LitServe (lit_serve.py) answer the same requests with the same flow.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

__all__ = ["CHUNKS", "PIECE", "answer", "frame", "whole"]

CHUNKS = 500
PIECE = "piece "


async def answer(text: str) -> AsyncIterator[str]:
    """What both servers stream."""
    for _ in range(CHUNKS):
        yield PIECE
        if text == "paced":
            await asyncio.sleep(0)
        elif text == "held":
            await asyncio.Event().wait()


async def echo(text: str) -> str:
    """What both servers answer as a whole."""
    return text


async def endless(text: str) -> AsyncIterator[str]:
    """Says on stdout, on the clock that all processes share, when it has been stopped."""
    try:
        while True:
            yield PIECE
            await asyncio.sleep(0.001)
    finally:
        print(time.monotonic(), flush=True)


def busy_in_a_thread(text: str) -> str:
    """Five milliseconds of work that holds the interpreter."""
    until = time.thread_time() + 0.005
    while time.thread_time() < until:
        pass
    return text


async def busy(text: str) -> str:
    """The same on the loop."""
    return busy_in_a_thread(text)


def bare_starlette() -> Any:
    """What one would write by hand for the same answers, without a check of the request, a limit, or a stop."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response, StreamingResponse
    from starlette.routing import Route

    async def frames(text: str) -> AsyncIterator[str]:
        async for piece in answer(text):
            yield frame(piece)

    async def endpoint(request: Request) -> Response:
        body = await request.json()
        text = body["messages"][-1]["content"]
        if body["stream"]:
            return StreamingResponse(frames(text), media_type="text/event-stream")
        return JSONResponse(whole(await echo(text)))

    return Starlette(routes=[Route("/v1/chat/completions", endpoint, methods=["POST"])])


def frame(piece: str) -> str:
    delta = {"index": 0, "delta": {"content": piece}, "logprobs": None, "finish_reason": None}
    return f"data: {json.dumps({**CHUNK, 'choices': [delta]}, separators=(',', ':'))}\n\n"


def whole(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    return {**CHUNK, "choices": [choice], "usage": usage}


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
        flows: dict[str, Any] = {"echo": echo, "endless": endless}
        workers, _, work = name.partition(" of ")
        serve(
            f"benchmarks.service_programs:{work}" if work else flows.get(name, answer),
            workers=int(workers) if work else 1,
            port=0,
            limits=limits,
            announce=lambda url: print(url.rpartition(":")[2], flush=True),
        )


if __name__ == "__main__":
    main(sys.argv[1])
