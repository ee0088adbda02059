"""How a flow runs one of its steps: at its place, with its events, and its name in the note on an error."""

from __future__ import annotations

from asyncio import CancelledError
from typing import TYPE_CHECKING, Any

from ..streaming.events import Path, StepFinished, StepStarted
from ..streaming.notes import trail
from ..streaming.runs import FRAME, Run
from .taps import is_from_upstream
from .threads import stop_iteration

if TYPE_CHECKING:
    from .hooks import StepCall
    from .steps import Step

__all__ = ["failed", "finished", "leaving", "perform"]


async def perform(
    step: Step[Any, Any],
    x: Any,
    run: Run,
    path: Path,
    name: str | int | None,
    output: bool,
    label: str | None = None,
) -> Any:
    """Runs `step` as the part `name` of the flow at `path`, and says so; without a name it says nothing.

    `output`: whether its text is the run's answer. `label` is what the note on an error calls it, by default
    `name`.
    """
    if label is None and name is not None:
        label = str(name)
    log, hooks = run.log, run.hooks
    where = path if name is None else (*path, name)
    if name is None or (log is None and hooks is None):
        try:
            return await step.execute(x, run, where, output)
        except BaseException as error:
            raise leaving(error, label, where)  # noqa: B904
    FRAME.set((run, where))
    if log is not None:
        log.put(StepStarted(), where)
    call = hooks.begin(run, where, x) if hooks is not None else None
    try:
        x = await step.execute(x, run, where, output)
    except BaseException as error:
        raise failed(error, run, where, call, label)  # noqa: B904
    finished(x, run, where, call)
    FRAME.set((run, path))
    return x


def finished(value: Any, run: Run, where: Path, call: StepCall | None) -> None:
    """Says that the step at `where` is over."""
    if run.log is not None:
        run.log.put(StepFinished(), where)
    if call is not None:
        run.hooks.end(call, value)


def failed(
    error: BaseException, run: Run, where: Path, call: StepCall | None, label: str | None
) -> BaseException:
    """Says so of the step at `where`, and returns the error as it leaves it."""
    error = leaving(error, label, where)
    if run.log is not None and (isinstance(error, Exception) or run.cut is None):
        run.log.put(StepFinished(error), where)  # also when it was stopped in a run that goes on
    if call is not None:
        run.hooks.fail(call, error)
    FRAME.set((run, where[:-1]))
    return error


def leaving(error: BaseException, label: str | None, where: Path = ()) -> BaseException:
    """The error as it leaves the step at `where` that the note calls `label`; it is named where it arose in it."""
    if isinstance(error, (StopIteration, StopAsyncIteration)):
        error = stop_iteration(label or "step", error)
    if label is not None and not isinstance(error, CancelledError) and not is_from_upstream(error, where):
        trail(error, label)
    return error
