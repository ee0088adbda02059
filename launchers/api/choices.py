"""Choices: several answers to one question, each a run of its own inside of the request's."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from functools import partial
from typing import Any

from ...flow.calls import start_body
from ...flow.fanout import fan_out
from ...flow.steps import Step
from ...streaming.events import RunFinished, RunStarted, Usage
from ...streaming.options import Options
from ...streaming.runs import Run
from ...streaming.streams import Stream

__all__ = ["answer_several"]


async def answer_several(
    flow: Step[Any, Any], x: Any, n: int, at_once: int, run: Run
) -> list[dict[str, Any]]:
    """Runs the flow `n` times, `at_once` of them at a time, as a part of `run`: the work of a run whose events have the
    number of their choice before their path.

    A seed is one more for each choice. The earliest failure ends them all. Returns the `text` of each choice and why
    it ended, as `finish_reason`.
    """
    return await fan_out([partial(_answer, flow, x, i, run) for i in range(n)], None, concurrency=at_once)


async def _answer(flow: Step[Any, Any], x: Any, i: int, run: Run) -> dict[str, Any]:
    options = Options(
        history=run.history,
        sampling=_with_own_seed(run.sampling, i),
        tools=run.tools,
        tool_choice=run.tool_choice,
    )
    async with Stream(partial(start_body, flow, x), options, None, flow.name) as stream:
        async for event in stream:
            if isinstance(event, RunFinished):
                continue  # where it is none of an answer, the stream raises next
            if not isinstance(event, (RunStarted, Usage)):  # its usage is added to the run at its end
                await run.put(copy(event), (i, *event.path))
        return {"text": stream.result, "finish_reason": stream.run.reason}


def _with_own_seed(sampling: Mapping[str, Any], i: int) -> Mapping[str, Any]:
    seed = sampling.get("seed")
    return sampling if seed is None else {**sampling, "seed": seed + i}
