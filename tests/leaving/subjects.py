"""What can be at work when its listener leaves: every kind of step, brought to a known point.

A subject has a flow, says which events a loop may leave at, waits until the work stands where it shall be stopped,
and checks afterwards that it was: at most so many more items, one cleanup, nothing running, waiting or held.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from millrace import Pipeline, step
from millrace.flow.policies import Limiter, Retry
from millrace.streaming import Event, StepStarted, TextDelta, current_run, status
from millrace.streaming.runs import LIVE, Run
from tests.support.leaks import eventually, eventually_async

MANY = 1_000_000_000


class Subject:
    """Base: a step that streams without end and counts what it makes."""

    pieces = True
    """Whether text has come before the stop; a loop over `.text()` can only be left from its body."""
    more = 2
    """How many items may still be made after the cut."""

    pace = 0.0
    """Seconds between two items; a browser cannot draw hundreds of thousands a second."""

    def __init__(self) -> None:
        self.made = 0
        self.made_after_the_cut = 0
        self.cleaned = 0
        self.later = 0
        self.marked = False
        self.closed = False
        self.patience = 20.0
        """Seconds, for ways that end by a deadline."""
        self.run: Run | None = None

    @property
    def flow(self) -> Pipeline[Any, Any]:
        raise NotImplementedError

    def make(self) -> None:
        """Counts an item that the step makes."""
        self.made += 1
        run = current_run()
        while run is not None:
            if run.cut is not None:
                self.made_after_the_cut += 1
                break
            run = run.parent

    def after(self, x: Any) -> Any:
        """A later step, which must never start."""
        self.later += 1
        return x

    def may_leave(self, event: Event) -> bool:
        return type(event) is (TextDelta if self.pieces else StepStarted)

    def stands(self) -> bool:
        """The work is where it shall be stopped."""
        return self.made > 0

    def reach(self) -> None:
        eventually(self.stands, timeout=20)
        self.mark()

    def reach_in_time(self) -> None:
        """For a deadline, which may pass before the work stands where it shall be stopped; then nothing is marked."""
        eventually(lambda: self.stands() or self.closed, timeout=60)
        if LIVE and not self.closed:
            self.mark()

    async def areach(self) -> None:
        await eventually_async(self.stands, timeout=20)
        self.mark()

    def mark(self) -> None:
        """Right before the listener leaves."""
        self.marked = True
        self.run = max(LIVE, key=lambda run: run.parent is None)

    def stopped(self) -> None:
        """Checks that it was."""
        eventually(lambda: status() == type(status())(0, 0), message=lambda: [(run, run.cut) for run in LIVE])
        assert self.marked
        assert self.made_after_the_cut <= self.more, f"{self.made_after_the_cut} items after the cut"
        assert self.made < MANY / 2
        assert self.cleaned == 1
        assert self.later == 0

    def close(self) -> None:
        self.closed = True


class AsyncGenerator(Subject):
    async def body(self, x: Any) -> AsyncIterator[str]:
        try:
            for i in range(MANY):
                self.make()
                yield f"{i} "
                await asyncio.sleep(self.pace)
        finally:
            self.cleaned += 1

    @property
    def flow(self) -> Pipeline[Any, Any]:
        return Pipeline(self.body)


class Intermediate(AsyncGenerator):
    """The same on the way to a later step, so that its pieces are no output."""

    pieces = False

    def may_leave(self, event: Event) -> bool:
        return type(event) is TextDelta

    @property
    def flow(self) -> Pipeline[Any, Any]:
        return Pipeline(self.body, self.after)


class WithPolicies(AsyncGenerator):
    """Under every policy at once; its slot is free afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.limiter = Limiter(1)

    @property
    def flow(self) -> Pipeline[Any, Any]:
        return Pipeline(
            step(
                self.body,
                retry=3,
                timeout=100,
                fallback=str,
                cache=True,
                concurrency=self.limiter,
                rate="1000/s",
            )
        )

    def stopped(self) -> None:
        super().stopped()
        eventually(lambda: (self.limiter.working, self.limiter.waiting) == (0, 0))


class InLine(Subject):
    """It waits for a slot that somebody else holds; it never begins."""

    pieces = False
    more = 0

    def __init__(self) -> None:
        super().__init__()
        self.limiter = Limiter(1)
        with ThreadPoolExecutor(1) as pool:  # a test with a page has a loop running in its own thread
            self.permit = pool.submit(asyncio.run, self.limiter.enter()).result()

    @property
    def flow(self) -> Pipeline[Any, Any]:
        async def body(x: Any) -> None:
            self.make()

        return Pipeline(step(body, concurrency=self.limiter), self.after)

    def stands(self) -> bool:
        return self.limiter.waiting == 1

    def stopped(self) -> None:
        eventually(lambda: (status().runs, self.limiter.waiting, self.limiter.working) == (0, 0, 1))
        self.permit.release()
        assert (self.limiter.working, self.made, self.later) == (0, 0, 0)


class BetweenAttempts(Subject):
    """It has failed, and waits to be tried again."""

    pieces = False
    more = 0

    @property
    def flow(self) -> Pipeline[Any, Any]:
        async def body(x: Any) -> None:
            try:
                self.make()
                raise ConnectionError
            finally:
                self.cleaned += 1

        return Pipeline(step(body, retry=Retry(3, wait=1000, most=1000)), self.after)


class Awaiting(AsyncGenerator):
    """It awaits and says nothing more."""

    more = 0

    async def body(self, x: Any) -> AsyncIterator[str]:
        try:
            self.make()
            yield "0 "
            await asyncio.Event().wait()
        finally:
            self.cleaned += 1


class SyncGenerator(Subject):
    """In its thread."""

    def body(self, x: Any) -> Iterator[str]:
        try:
            for i in range(MANY):
                self.make()
                yield f"{i} "
                if self.pace:
                    time.sleep(self.pace)
        finally:
            self.cleaned += 1

    @property
    def flow(self) -> Pipeline[Any, Any]:
        return Pipeline(self.body)


class Nested(AsyncGenerator):
    """A step that reads another flow's stream: a child run."""

    @property
    def flow(self) -> Pipeline[Any, Any]:
        inner = Pipeline(self.body, name="inner")

        async def outer(x: Any) -> AsyncIterator[str]:
            async for piece in inner.stream(x).text():
                yield piece

        return Pipeline(outer)


class Joined(Subject):
    """A step that awaits another flow, which joins its run."""

    pieces = False

    @property
    def flow(self) -> Pipeline[Any, Any]:
        async def inner(x: Any) -> None:
            try:
                self.make()
                await asyncio.Event().wait()
            finally:
                self.cleaned += 1

        async def outer(x: Any) -> None:
            await Pipeline(inner).acall(x)

        return Pipeline(outer, self.after)


class PlainFunction(Subject):
    """It blocks its thread: the run ends at once, the function is abandoned until it returns."""

    pieces = False
    more = 0

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    @property
    def flow(self) -> Pipeline[Any, Any]:
        def body(x: Any) -> str:
            self.make()
            try:
                self.go_on.wait(30)
            finally:
                self.cleaned += 1
            return "late"

        return Pipeline(body, self.after)

    def stopped(self) -> None:
        eventually(lambda: status().runs == 0)
        assert status().abandoned == 1
        assert self.cleaned == 0
        self.go_on.set()
        super().stopped()

    def close(self) -> None:
        super().close()
        self.go_on.set()
