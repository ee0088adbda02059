"""The chats that benchmarks/chat.py looks at, each a process of its own, which prints its port once it is bound."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator

__all__ = ["PIECES", "RATE"]

PIECES, RATE = 500, 100


async def steady(text: str) -> AsyncIterator[str]:
    """`RATE` pieces a second."""
    began = asyncio.get_running_loop().time()
    for i in range(PIECES):
        await asyncio.sleep(max(0.0, began + i / RATE - asyncio.get_running_loop().time()))
        yield f"word{i} "
    yield "done"


def main(name: str) -> None:
    """Serves until SIGTERM. Of the model's answers it prints when each began, in seconds since the epoch."""
    from millrace import LocalModel, serve

    model = LocalModel.demo()

    async def told(question: str) -> AsyncIterator[str]:
        first = True
        async for piece in model.stream(question).text():
            if first:
                first = False
                print(time.time(), flush=True)
            yield piece

    flow = told if name == "model" else steady
    serve(flow, port=0, chat=True, announce=lambda url: print(url.rpartition(":")[2], flush=True))


if __name__ == "__main__":
    main(sys.argv[1])
