"""Steps: anything that turns a value into a value, possibly streaming, and the ways to call one."""

from __future__ import annotations

import asyncio
import threading
from asyncio.events import _get_running_loop
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar, overload

from ..streaming.blocking import acquire
from ..streaming.events import Path
from ..streaming.loops import framework_loop
from ..streaming.messages import Message
from ..streaming.options import NO_OPTIONS, Options
from ..streaming.queues import Queue
from ..streaming.runs import FRAME, HOOKS, Run
from ..streaming.streams import Stream, refuse_blocking
from .calls import call_async, call_blocking, call_direct, call_joined, start_body, start_detached
from .escapes import Escape, contained
from .taps import framed

if TYPE_CHECKING:
    from .args import Args
    from .pipeline import Pipeline
    from .signatures import Lists, Live, LiveLists, LiveTexts, LiveWaits, Texts, Waits

__all__ = ["Step"]

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)
New = TypeVar("New")
Item = TypeVar("Item")

Keep = Callable[[Any], None]
"""Is given the value of a step whose pieces went on live."""


class Step(Generic[In, Out]):
    """Turns a value into a value; can be called, awaited, streamed and composed with `|`.

    `name` is None for composites that were given none: they say nothing of their own.
    """

    name: str | None = None
    plain = False
    """Whether it is made of plain functions alone, so that no loop is needed."""
    live = False
    """Whether it takes the upstream live: given an asynchronous stream, it reads it as its items come."""
    gathers = False
    """Whether it may want the value of the stream that it takes, beside its pieces."""
    streams = False
    """Whether its value can be had piece by piece, by `open`."""
    shallow = True
    """Whether so few flows stand in each other there that a run of it may begin on its caller's stack."""

    async def execute(self, x: Any, run: Run | None, path: Path, output: bool) -> Any:
        """Does the step's work as a part of `run`; without one, in the direct drive.

        `path` is where it stands, `output` whether its text is the run's answer.
        """
        raise NotImplementedError

    def open(
        self, x: Any, run: Run, path: Path, output: bool = False, keep: Keep | None = None
    ) -> AsyncIterator[Any]:
        """The step at work as a part of `run`, as a stream; closing it (`taps.close`) stops the work.

        What passes is said, as output or not. `keep` is given the step's value at the stream's natural end. A step
        that does not stream gives its value as the one item.
        """
        return framed(self._value_as_stream(x, run, path, output, keep), run, path)

    async def _value_as_stream(
        self, x: Any, run: Run, path: Path, output: bool, keep: Keep | None
    ) -> AsyncIterator[Any]:
        value = await self.execute(x, run, path, output)
        if keep is not None:
            keep(value)
        yield value

    def children(self) -> Sequence[Step[Any, Any]]:
        """The steps that this one is made of."""
        return ()

    def __repr__(self) -> str:
        name = self.name
        return f"<{type(self).__name__}{f' {name}' if name and name != type(self).__name__ else ''}>"

    # ------------------------------------------------------------ calling

    def __call__(
        self,
        x: In,
        /,
        *,
        session: str | None = None,
        history: Sequence[Message] | None = None,
        timeout: float | None = None,
        sampling: Any = None,
        queue: Queue | str | None = None,
    ) -> Out:
        """Runs the step and returns its value.

        Args:
            session: the session's id; by default that of the context, or a fresh one.
            history: the conversation before `x`, for models at the end; by default that of a session with a name.
            timeout: deadline in seconds.
            sampling: a Sampling, or a dict of some of its settings, for the model that gives the answer.
            queue: where its events are kept for other readers, by URL or object; by default nowhere.

        Raises:
            FlowCallError: in a coroutine of a run; use `acall` there.
            RunTimeout: the deadline passed.
            Exception: what a step raised, with a note that says where.
        """
        frame = FRAME.get()
        if session is None and history is None and timeout is None and not sampling and queue is None:
            if frame is None:
                if self.plain and HOOKS.get() is None:
                    return copy_context().run(call_direct, self, x)  # type: ignore[no-any-return]
            elif frame[0].loop is None or _get_running_loop() is None:
                return call_joined(self, x, *frame)  # type: ignore[no-any-return]
        refuse_blocking()
        parent = frame[0] if frame is not None and not frame[0].over else None
        return call_blocking(  # type: ignore[no-any-return]
            self, x, Options(session, history, timeout, sampling, queue), parent
        )

    async def acall(
        self,
        x: In,
        /,
        *,
        session: str | None = None,
        history: Sequence[Message] | None = None,
        timeout: float | None = None,
        sampling: Any = None,
        queue: Queue | str | None = None,
    ) -> Out:
        """As the plain call, for coroutines; inside a step it joins the step's run."""
        options = NO_OPTIONS
        if session is not None or history is not None or timeout is not None or sampling or queue is not None:
            options = Options(session, history, timeout, sampling, queue)
        return await call_async(self, x, options)  # type: ignore[no-any-return]

    def stream(
        self,
        x: In,
        /,
        *,
        session: str | None = None,
        history: Sequence[Message] | None = None,
        timeout: float | None = None,
        sampling: Any = None,
        queue: Queue | str | None = None,
        stop_when: Callable[[str], bool] | None = None,
    ) -> Stream:
        """The run as a stream, which starts when somebody listens and stops when they leave.

        Args:
            session: the session's id; by default that of the context, or a fresh one.
            history: the conversation before `x`, for models at the end; by default that of a session with a name.
            timeout: deadline in seconds.
            sampling: a Sampling, or a dict of some of its settings, for the model that gives the answer.
            queue: where its events are kept for other readers, by URL or object; by default in memory.
            stop_when: is given the output text so far; true ends the run as done.
        """
        options = NO_OPTIONS
        if session is not None or history is not None or timeout is not None or sampling or queue is not None:
            options = Options(session, history, timeout, sampling, queue)
        return Stream(partial(start_body, self, x), options, stop_when, self.name)

    def start(
        self,
        x: In,
        /,
        *,
        session: str | None = None,
        history: Sequence[Message] | None = None,
        timeout: float | None = None,
        sampling: Any = None,
        queue: Queue | str | None = None,
    ) -> Run:
        """Starts a run that goes on without a listener, on the framework's loop, and returns it.

        It keeps what it says, up to 16 MiB, for `run.events()`; beyond that it fails with QueueFull. Given a `queue` on
        disk it keeps all of it there.
        """
        return start_detached(self, x, Options(session, history, timeout, sampling, queue))

    async def abatch(
        self,
        xs: Iterable[In],
        /,
        *,
        concurrency: int | None = None,
        on_error: Literal["raise", "keep"] = "raise",
        timeout: float | None = None,
    ) -> list[Out]:
        """Runs the step for each of `xs`, each in a run of its own; the values come in the order given.

        Args:
            concurrency: how many run at once; all by default.
            on_error: `"raise"`: the earliest failure cancels the others and is raised; `"keep"`: a failure takes
                its place among the values.
            timeout: deadline of each run, in seconds.
        """
        from .fanout import fan_out

        # Items of a batch are no turns of one conversation; inside of a run they take part in its turn.
        options = Options(timeout=timeout, history=() if FRAME.get() is None else None)
        work = [partial(call_async, self, x, options) for x in xs]
        return await fan_out(work, None, concurrency=concurrency, on_error=on_error)

    def batch(
        self,
        xs: Iterable[In],
        /,
        *,
        concurrency: int | None = None,
        on_error: Literal["raise", "keep"] = "raise",
        timeout: float | None = None,
    ) -> list[Out]:
        """`abatch` for synchronous callers."""
        refuse_blocking()
        batch = partial(self.abatch, xs, concurrency=concurrency, on_error=on_error, timeout=timeout)
        future = asyncio.run_coroutine_threadsafe(contained(batch), framework_loop())
        try:
            ended = threading.Lock()
            ended.acquire()
            future.add_done_callback(lambda _: ended.release())
            acquire(ended)
            return future.result()  # type: ignore[no-any-return]
        except Escape as escape:
            raise escape.error from None
        except BaseException:  # Ctrl-C, or what a run raised
            future.cancel()
            raise

    # ------------------------------------------------------------ composing

    @overload
    def __or__(self, other: Waits[Out, New]) -> Pipeline[In, New]: ...

    @overload
    def __or__(self, other: Texts[Out]) -> Pipeline[In, str]: ...  # type: ignore[overload-overlap]

    @overload
    def __or__(self, other: Lists[Out, New]) -> Pipeline[In, list[New]]: ...  # type: ignore[overload-overlap]

    @overload
    def __or__(self, other: Callable[[Out], New]) -> Pipeline[In, New]: ...  # type: ignore[overload-overlap]

    @overload
    def __or__(self, other: LiveWaits[New]) -> Pipeline[In, New]: ...

    @overload
    def __or__(self, other: LiveTexts) -> Pipeline[In, str]: ...  # type: ignore[overload-overlap]

    @overload
    def __or__(self, other: LiveLists[New]) -> Pipeline[In, list[New]]: ...

    @overload
    def __or__(self, other: Live[New]) -> Pipeline[In, New]: ...

    @overload
    def __or__(self: Step[Item, Args], other: Callable[..., New]) -> Pipeline[Item, New]: ...

    def __or__(self, other: Any) -> Any:
        from .pipeline import Pipeline

        return Pipeline(self, other)

    def __ror__(self, other: Callable[[New], In]) -> Pipeline[New, Out]:
        from .pipeline import Pipeline

        return Pipeline(other, self)

    # ------------------------------------------------------------ looking at it

    def check(self, given: Any = Any) -> Self:
        """Checks the step as a whole and returns it; every flow has checked itself already when it was built.

        What the build could not see is looked at again: annotations that named what was not defined yet, and
        references to flows that are not around it. `given` is the type that it is called with, such as `str`.

        Raises:
            FlowBuildError: all problems, numbered, each with the steps, their types and the cure.
        """
        from .checks import check_flow

        check_flow(self, given)
        return self

    @overload
    def draw(self, form: Literal["mermaid", "text", "svg"] = "mermaid", *, width: int = 100) -> str: ...

    @overload
    def draw(self, form: Literal["png"], *, width: int = 100) -> bytes: ...

    def draw(self, form: Literal["mermaid", "text", "svg", "png"] = "mermaid", *, width: int = 100) -> Any:
        """A drawing of the step and of all steps inside, made without a network.

        Args:
            form: `"mermaid"`, Mermaid text; `"text"`, lines for a terminal; `"svg"`, one SVG element, in which each
                step carries its path as `data-path`; `"png"`, the bytes of a picture.
            width: columns that a text takes at most, if that can be.

        Raises:
            FlowBuildError: there is no such form.
            MissingExtra: a PNG needs the extra `draw`.
        """
        from .drawing import draw

        return draw(self, form, width)

    # ------------------------------------------------------------ resources

    async def ready(self) -> None:
        """Sets up all Modules inside, at once; what launchers do at their start."""
        await asyncio.gather(*(child.ready() for child in self.children()))

    async def release(self) -> None:
        """Closes all Modules inside that are set up; what launchers do at their end."""
        await asyncio.gather(*(child.release() for child in self.children()))
