"""Calls that are left in some way, at some moment."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from millrace.streaming import MillraceError

__all__ = ["leave_at_random"]


async def leave_at_random(flow: Any, rnd: random.Random) -> None:
    """Begins a call and leaves it in some way, at some moment."""
    way, turns = rnd.choice(["task", "stream", "deadline", "cancel", "none"]), rnd.randrange(30)
    try:
        if way == "deadline":
            await flow.acall("ab", timeout=rnd.uniform(0.0005, 0.01))
        elif way in ("task", "none"):
            task = asyncio.create_task(flow.acall("ab"))
            for _ in range(turns):
                await asyncio.sleep(0)
            if way == "task":
                task.cancel()
            await asyncio.wait([task])
            task.cancelled() or task.exception()
        else:
            async with flow.stream("ab") as stream:
                async for _ in stream:
                    turns -= 10
                    if turns < 0:
                        if way == "cancel":
                            stream.run.cancel("enough")
                        break
    except (MillraceError, ConnectionError, TimeoutError):
        pass
