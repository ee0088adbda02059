"""If and Loop: one branch or the other, and one body again and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..streaming.errors import FlowBuildError
from ..streaming.events import Path, StepFinished, StepStarted
from ..streaming.notes import trail
from ..streaming.runs import FRAME, Run
from .calls import run_here
from .flows import Flow
from .functions import FunctionStep, WholeStep, as_step
from .steps import In, Out, Step
from .switch import Switch

__all__ = ["If", "Loop"]


class If(Switch[In, Out]):
    """Runs `then` where `condition(x)` is true, else `otherwise`; without that the value passes as it is.

    A Switch with one case.
    """

    def __init__(
        self: If[Any, Any],
        condition: Step[Any, Any] | Callable[[Any], Any],
        then: Step[In, Out] | Callable[[In], Out],
        otherwise: Step[In, Out] | Callable[[In], Out] | None = None,
        *,
        name: str | None = None,
    ) -> None:
        if not callable(condition):
            raise FlowBuildError(
                f"If({condition!r}, ...): the condition is a predicate, something that can be called"
            )
        super().__init__(
            {condition: then}, default=otherwise if otherwise is not None else WholeStep(_pass), name=name
        )


def _pass(x: Any) -> Any:
    return x


class Loop(Flow[In, Out]):
    """Runs its body again and again, each turn on the value of the one before, and at least once.

    Args:
        body: the step.
        count: how many turns at most.
        until: a predicate on the value of each turn; true ends the loop.

    One of `count` and `until` is needed. Each turn's text is output, as the last step's of a Pipeline is.
    """

    count: int | None = None
    until: Step[Any, Any] | None = None

    def __init__(
        self: Loop[Any, Any],
        body: Step[Any, Any] | Callable[..., Any],
        *,
        count: int | None = None,
        until: Step[Any, Any] | Callable[[Any], Any] | None = None,
        name: str | None = None,
    ) -> None:
        if count is None and until is None:
            raise FlowBuildError("Loop(body) would never end: give count=, until= or both")
        if count is not None and (not isinstance(count, int) or count < 1):
            raise FlowBuildError(f"Loop(count={count!r}): a loop runs its body at least once; give 1 or more")
        inner, test = as_step(body), as_step(until) if until is not None else None
        self.freeze(
            name=name,
            body=inner,
            count=count,
            until=test,
            plain=inner.plain and (test is None or test.plain),
        )

    body: Step[Any, Any]

    def children(self) -> Sequence[Step[Any, Any]]:
        return (self.body,) if self.until is None else (self.body, self.until)

    async def execute(self, x: Any, run: Run | None, path: Path, output: bool) -> Any:
        turn = 0
        while True:
            x = await self._turn(x, run, (*path, turn), output)
            run = run or run_here()
            turn += 1
            if turn == self.count:
                return x
            if self.until is not None and await self.until.execute(x, run, path, False):
                return x
            if run is not None:
                run.raise_if_cut()

    async def _turn(self, x: Any, run: Run | None, path: Path, output: bool) -> Any:
        log = run.log if run is not None else None
        try:
            if log is not None and run is not None:
                FRAME.set((run, path))
                log.put(StepStarted(), path)
            value = await self.body.execute(x, run, path, output)
            if log is not None and run is not None:
                log.put(StepFinished(), path)
                FRAME.set((run, path[:-1]))
        except BaseException as error:
            if isinstance(self.body, FunctionStep):
                trail(error, f"{self.body.name}[{path[-1]}]")
            raise
        return value
