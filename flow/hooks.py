"""Hooks: functions of the user's that hear of each step when it starts, finishes or fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from ..streaming.errors import FlowBuildError
from ..streaming.events import Path
from ..streaming.runs import HOOKS, Run

__all__ = ["Hooks", "StepCall", "hooks"]

logger = logging.getLogger("millrace.flow")

Hook = Callable[["StepCall"], object]


class StepCall:
    """One step at work in one run, as hooks see it.

    `run`, `path` and `input` are known from the start (`input` of a step that takes its upstream live is an
    iterator, which is not yours to read). `value` or `error`, and `seconds`, are there once the step is over;
    `value` of a step that was left before its end is None. Whatever a hook wants to remember of the call goes into
    `note`.
    """

    __slots__ = ("_born", "error", "input", "note", "path", "run", "seconds", "value")

    def __init__(self, run: Run, path: Path, x: Any) -> None:
        self.run = run
        self.path = path
        self.input = x
        self.value: Any = None
        self.error: BaseException | None = None
        self.seconds = 0.0
        self.note: Any = None
        self._born = perf_counter()

    def __repr__(self) -> str:
        return f"<StepCall {'/'.join(map(str, self.path))}>"


class Hooks:
    """The functions of one `with hooks(...)` block, and those of the blocks around it."""

    __slots__ = ("failed", "finished", "started")
    started: tuple[Hook, ...]
    finished: tuple[Hook, ...]
    failed: tuple[Hook, ...]

    def __init__(
        self, started: Hook | None, finished: Hook | None, failed: Hook | None, outer: Hooks | None
    ) -> None:
        self.started = _joined(outer.started if outer else (), started)
        self.finished = _joined(outer.finished if outer else (), finished)
        self.failed = _joined(outer.failed if outer else (), failed)

    def begin(self, run: Run, path: Path, x: Any) -> StepCall:
        call = StepCall(run, path, x)
        _tell(self.started, call)
        return call

    def end(self, call: StepCall, value: Any) -> None:
        call.seconds = perf_counter() - call._born
        call.value = value
        _tell(self.finished, call)

    def fail(self, call: StepCall, error: BaseException) -> None:
        call.seconds = perf_counter() - call._born
        call.error = error
        _tell(self.failed, call)


def _joined(outer: tuple[Hook, ...], hook: Hook | None) -> tuple[Hook, ...]:
    if hook is None:
        return outer
    if not callable(hook):
        raise FlowBuildError(f"hooks(... {hook!r}): a hook is a function of one argument, the StepCall")
    return (*outer, hook)


def _tell(listeners: tuple[Hook, ...], call: StepCall) -> None:
    for listener in listeners:
        try:
            listener(call)
        except Exception:
            logger.exception("a hook failed at the step %s; the run goes on", "/".join(map(str, call.path)))


@contextmanager
def hooks(
    *, started: Hook | None = None, finished: Hook | None = None, failed: Hook | None = None
) -> Iterator[None]:
    """Lets functions hear of every named step of the runs that are started inside of the block.

    Args:
        started: called before a step begins.
        finished: called after a step has given its value.
        failed: called when an error, or a stop (`asyncio.CancelledError`), has left a step.

    Each is called with a `StepCall`, where the step works: on the loop, or in the step's thread; it should be
    quick. What a hook raises is logged and does no harm. Blocks nest: all their hooks are called, outer ones first.

    Raises:
        FlowBuildError: a hook cannot be called.
    """
    token = HOOKS.set(Hooks(started, finished, failed, HOOKS.get()))
    try:
        yield
    finally:
        try:
            HOOKS.reset(token)
        except ValueError:
            logger.warning("a block of hooks was left in another context than it was entered in")
