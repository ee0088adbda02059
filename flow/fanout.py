"""Several coroutines at once: the earliest failure stops the others, and everything is cleaned up before it goes on."""

from __future__ import annotations

import asyncio
from asyncio import CancelledError
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context, copy_context
from typing import Any, Literal

from ..streaming.errors import FlowBuildError
from ..streaming.notes import also_failed
from ..streaming.runs import Run
from ..streaming.tasks import Hurry, begin
from .meetings import GROUPS, stands_at_barrier

__all__ = ["Group", "OnError", "Work", "check_concurrency", "check_on_error", "fan_out"]

OnError = Literal["raise", "keep"]
Work = Callable[[], Coroutine[Any, Any, Any]]


async def fan_out(
    work: Sequence[Work],
    labels: Sequence[str | int] | None,
    *,
    concurrency: int | None = None,
    on_error: OnError = "raise",
) -> list[Any]:
    """Runs all of `work`, each in a task and a context of its own, and returns the values in the order given.

    At most `concurrency` at once. With `on_error="raise"` the earliest failure (ties: in the order given) cancels
    the others, waits for their cleanup and is raised as itself; with `"keep"` each failure takes its own place
    among the values. `labels` is what the note on an error calls those that failed as well.
    """
    check_concurrency(concurrency, "concurrent work")
    group = Group(work, concurrency, on_error)
    await group.run()
    return group.outcome(labels)


IN_TURN: AbstractContextManager[None] = nullcontext()

PATIENCE = 0.25
"""Seconds after which it is looked whether all that are at work wait for some that may not begin."""


class Group:
    """Tasks that keep their own accounts: each writes down its value and starts what comes next.

    Here that is the next in the order given; another order is for `_begin`, `_go_on` and `_fill` of a subclass. Where
    all that are at work stand at a barrier, they do not count any more, so that those they wait for can begin.
    """

    hurries = False
    """Whether what starts begins at once."""
    owner: Run | None = None
    """The run that it is a part of: once that is being stopped, nothing more starts."""
    _cut = False

    def __init__(self, work: Sequence[Work], concurrency: int | None, on_error: OnError) -> None:
        self.work = work
        self.on_error = on_error
        self.values: list[Any] = [None] * len(work)
        self.failed: list[int] = []
        self.loop = asyncio.get_running_loop()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._limit = len(work) if concurrency is None else concurrency
        self._met: set[int] = set()
        self._looking: asyncio.TimerHandle | None = None
        self._next = 0
        self._left = len(work)
        self._stopping = self._filling = False
        self._ended: asyncio.Future[None] | None = None

    async def run(self) -> None:
        if not self.work:
            return
        self._begin()
        if self._left and not self._stopping:
            self._ended = self.loop.create_future()
            if self._limit < len(self.work):
                self._look_later()
            try:
                await self._ended
            except CancelledError:
                self._stop(None)
                await self._settle()
                raise
            finally:
                if self._looking is not None:
                    self._looking.cancel()
        if self._stopping:
            await self._settle()
        if self._cut and self.owner is not None:
            await self.owner.park()

    def stands_at_barrier(self) -> bool:
        """Whether all that is left has begun, and stands at a barrier."""
        return 0 < self._left == len(self._tasks) and all(map(stands_at_barrier, self._tasks.values()))

    def outcome(self, labels: Sequence[str | int] | None) -> list[Any]:
        """The values, once `run` is over; or raises the earliest failure."""
        values, failed = self.values, self.failed
        if self.on_error == "keep":
            failed = [i for i in failed if not isinstance(values[i], (Exception, CancelledError))]
        if not failed:
            return values
        first, *others = failed
        error: BaseException = values[first]
        if labels is not None:
            for other in others:
                if values[other] is not error:
                    also_failed(error, str(labels[other]), values[other])
        raise error

    def _begin(self) -> None:
        """Starts what can start at once."""
        self._context = copy_context()
        self._fill()

    def _go_on(self, i: int) -> None:
        """The work `i` is over: starts what comes next."""
        if self._next < len(self.work):
            self._fill()

    def _fill(self) -> None:
        """Starts what may be at work now."""
        if self._filling:  # what has just begun is over already, and asks for the next
            return
        self._filling = True
        copy, count = self._context.copy, len(self.work)  # the current context may be that of another work
        for_all, owner = self._limit >= count, self.owner
        with self._hurry() as hurry:
            while self._next < count and not self._stopping and (for_all or self._has_place()):
                if owner is not None and owner.cut is not None:
                    self._halt()
                    break
                self._next += 1
                self._start(self._next - 1, copy(), hurry)
        self._filling = False

    def _hurry(self) -> AbstractContextManager[Hurry | None]:
        return Hurry(self.loop) if self.hurries else IN_TURN

    def _halt(self) -> None:
        """The run is being stopped: nothing more starts."""
        self._cut = True
        self._stop(None)

    def _has_place(self) -> bool:
        return len(self._tasks) - len(self._met) < self._limit

    def _look_later(self) -> None:
        self._looking = self.loop.call_later(PATIENCE, self._look)

    def _look(self) -> None:
        """Lets more begin, where all that count stand at a barrier."""
        if self._stopping or not self._left:
            return
        counted = {i: task for i, task in self._tasks.items() if i not in self._met}
        if counted and all(map(stands_at_barrier, counted.values())):
            self._met.update(counted)
            self._fill()
        if self._left > len(self._tasks):  # some have not begun
            self._look_later()

    def _start(self, i: int, context: Context, hurry: Hurry | None = None) -> None:
        task = begin(self.loop, self._do(i), context) if hurry is None else hurry.make(self._do(i), context)
        if not task.done():  # it may have begun, where the loop has a factory of its own
            self._tasks[i] = task
        if hurry is not None and not hurry.begin():
            self.hurries = False  # they begin in their order

    async def _do(self, i: int) -> None:
        try:
            self.values[i] = await self.work[i]()
        except BaseException as error:  # SystemExit too: in a task it would end the loop that all runs share
            self._fail(i, error)
        self._over(i)

    def _fail(self, i: int, error: BaseException) -> None:
        """The work `i` has raised."""
        if not (self._stopping and isinstance(error, CancelledError)):
            self.values[i] = error
            self.failed.append(i)
            if self.on_error == "raise" or not isinstance(error, (Exception, CancelledError)):
                self._stop(i)

    def _over(self, i: int) -> None:
        """The work `i` is over, one way or the other."""
        self._left -= 1
        self._tasks.pop(i, None)
        if self._met:
            self._met.discard(i)
        if not self._stopping:
            self._go_on(i)
        if not self._left:
            self._end()

    def _stop(self, i: int | None) -> None:
        """Cancels all that are at work, but for the work `i`, which calls."""
        if not self._stopping:
            self._stopping = True
            for at, task in self._tasks.items():
                if at != i:
                    task.cancel()  # one that has not begun never comes to its account
            self._end()

    def _end(self) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    async def _settle(self) -> None:
        """Waits for the cleanup of what was cancelled; a further cancel of the waiting task comes after it."""
        cancelled = False
        while pending := [task for task in self._tasks.values() if not task.done()]:
            try:
                await asyncio.wait(pending)
            except CancelledError:
                cancelled = True
        if cancelled:
            raise CancelledError


GROUPS.add(Group.run.__code__)


def check_concurrency(concurrency: int | None, owner: str) -> None:
    if concurrency is not None and (not isinstance(concurrency, int) or concurrency < 1):
        raise FlowBuildError(
            f"{owner}(concurrency={concurrency!r}): give a whole number of 1 or more, or None"
        )


def check_on_error(on_error: str, owner: str) -> None:
    if on_error not in ("raise", "keep"):
        raise FlowBuildError(f"{owner}(on_error={on_error!r}): use 'raise' or 'keep'")
