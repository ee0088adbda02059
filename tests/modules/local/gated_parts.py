"""What the tests of generations share: how an engine at the gate is asked."""

from __future__ import annotations

from typing import Any

import pytest

from millrace.modules.local import Delta, Engine, Generation, Request, Sampling
from millrace.streaming.limits import Limits

__all__ = ["GREEDY", "ask", "limited", "rest"]

GREEDY = Sampling(temperature=0.0, max_tokens=8)


def limited(running: int, waiting: int = 10, queue_timeout: float = 30.0) -> Any:
    limits = Limits(running=running, waiting=waiting, queue_timeout=queue_timeout)
    return pytest.mark.parametrize("engine", [{"limits": limits}], indirect=True)


def ask(engine: Engine, prompt: str = "the mill", **settings: Any) -> Generation:
    return engine.submit(Request(prompt=prompt, sampling=GREEDY.replace(**settings)))


async def rest(generation: Generation) -> list[Delta]:
    """The remaining deltas; the last one and only the last one is terminal."""
    deltas = [delta async for delta in generation]
    assert [delta.finish_reason is not None for delta in deltas] == [False] * (len(deltas) - 1) + [True]
    assert deltas[-1].usage is not None
    assert generation.status == "finished"
    assert generation.finish_reason == deltas[-1].finish_reason
    with pytest.raises(StopAsyncIteration):
        await anext(generation)
    return deltas
