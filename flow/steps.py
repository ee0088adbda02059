"""Steps: anything that turns a value into a value, possibly streaming.

What a step is, is read from its `__call__` and from what the call returns: a plain function, an async function, a
generator, an async generator, an object with such a `__call__`, a Module or a flow.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import types
import typing
from asyncio.events import _get_running_loop
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from ..streaming.errors import FlowBuildError
from ..streaming.events import Data, Event, Path, TextDelta
from ..streaming.loops import framework_loop
from ..streaming.messages import Message
from ..streaming.runs import FRAME, NO_OPTIONS, Options, Run
from ..streaming.streams import Stream, refuse_blocking
from .args import UNSETTLED, Args, Call, apply
from .calls import HANDOVER, call_async, call_blocking, call_direct, call_joined, start_body, start_detached
from .pumps import Pump, returning
from .taps import Tap, one
from .threads import hop

if TYPE_CHECKING:
    from .pipeline import Pipeline

__all__ = ["FunctionStep", "Show", "Step", "as_step", "step"]

In = TypeVar("In")
Out = TypeVar("Out")
New = TypeVar("New")
Kind = Literal["sync", "async", "generator", "async generator"]
Show = Literal["output", "trace", "silent"]


class Step(Generic[In, Out]):
    """Turns a value into a value; can be called, awaited, streamed and composed with `|`.

    `name` is None for composites that were given none: they say nothing of their own.
    """

    name: str | None = None
    plain = False
    """Whether it is made of plain functions alone, so that no loop is needed."""
    live = False
    """Whether it takes the upstream live, as an iterator."""
    streams = False
    """Whether it is a generator."""

    async def execute(self, x: Any, run: Run | None, path: Path, output: bool) -> Any:
        """Does the step's work as a part of `run`; without one, in the direct drive.

        `path` is where it stands, `output` whether its text is the run's answer.
        """
        raise NotImplementedError

    def children(self) -> Sequence[Step[Any, Any]]:
        """The steps that this one is made of."""
        return ()

    # ------------------------------------------------------------ calling

    def __call__(
        self,
        x: In,
        /,
        *,
        session: str | None = None,
        history: Sequence[Message] = (),
        timeout: float | None = None,
        sampling: Mapping[str, Any] | None = None,
    ) -> Out:
        """Runs the step and returns its value.

        Args:
            session: the session's id; by default that of the context, or a fresh one.
            history: the conversation before `x`, for models at the end.
            timeout: deadline in seconds.
            sampling: settings such as `max_tokens` for the model that gives the answer, if one does.

        Raises:
            FlowCallError: in a coroutine of a run; use `acall` there.
            RunTimeout: the deadline passed.
            Exception: what a step raised, with a note that says where.
        """
        frame = FRAME.get()
        if session is None and not history and timeout is None and not sampling:
            if frame is None:
                if self.plain:
                    return copy_context().run(call_direct, self, x)  # type: ignore[no-any-return]
            elif _get_running_loop() is None:
                return call_joined(self, x, *frame)  # type: ignore[no-any-return]
        refuse_blocking()
        parent = frame[0] if frame is not None and not frame[0].over else None
        return call_blocking(  # type: ignore[no-any-return]
            self, x, Options(session, history, timeout, sampling), parent
        )

    async def acall(
        self,
        x: In,
        /,
        *,
        session: str | None = None,
        history: Sequence[Message] = (),
        timeout: float | None = None,
        sampling: Mapping[str, Any] | None = None,
    ) -> Out:
        """As the plain call, for coroutines; inside a step it joins the step's run."""
        options = NO_OPTIONS
        if session is not None or history or timeout is not None or sampling:
            options = Options(session, history, timeout, sampling)
        return await call_async(self, x, options)  # type: ignore[no-any-return]

    def stream(
        self,
        x: In,
        /,
        *,
        session: str | None = None,
        history: Sequence[Message] = (),
        timeout: float | None = None,
        sampling: Mapping[str, Any] | None = None,
        stop_when: Callable[[str], bool] | None = None,
    ) -> Stream:
        """The run as a stream, which starts when somebody listens and stops when they leave.

        Args:
            session: the session's id; by default that of the context, or a fresh one.
            history: the conversation before `x`, for models at the end.
            timeout: deadline in seconds.
            sampling: settings such as `max_tokens` for the model that gives the answer, if one does.
            stop_when: is given the output text so far; true ends the run as done.
        """
        options = NO_OPTIONS
        if session is not None or history or timeout is not None or sampling:
            options = Options(session, history, timeout, sampling)
        return Stream(partial(start_body, self, x), options, stop_when)

    def start(
        self,
        x: In,
        /,
        *,
        session: str | None = None,
        history: Sequence[Message] = (),
        timeout: float | None = None,
        sampling: Mapping[str, Any] | None = None,
    ) -> Run:
        """Starts a run that goes on without a listener, on the framework's loop, and returns it.

        It keeps what it says, up to 16 MiB, for `run.events()`; beyond that it fails with QueueFull.
        """
        return start_detached(self, x, Options(session, history, timeout, sampling))

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

        options = Options(timeout=timeout)
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
        batch = self.abatch(xs, concurrency=concurrency, on_error=on_error, timeout=timeout)
        future = asyncio.run_coroutine_threadsafe(batch, framework_loop())
        try:
            return future.result()
        except BaseException:  # Ctrl-C, or what a run raised
            future.cancel()
            raise

    # ------------------------------------------------------------ composing

    @overload
    def __or__(self, other: Step[Out, New]) -> Pipeline[In, New]: ...  # type: ignore[overload-overlap]  # a Step can be called too

    @overload
    def __or__(self, other: Callable[[Out], Coroutine[Any, Any, New]]) -> Pipeline[In, New]: ...

    @overload
    def __or__(self, other: Callable[[Out], AsyncIterator[str]]) -> Pipeline[In, str]: ...

    @overload
    def __or__(self, other: Callable[[Out], Generator[str, Any, None]]) -> Pipeline[In, str]: ...

    @overload
    def __or__(self, other: Callable[[Out], New]) -> Pipeline[In, New]: ...

    def __or__(self, other: Any) -> Any:
        from .pipeline import Pipeline

        return Pipeline(self, other)

    def __ror__(self, other: Callable[[New], In]) -> Pipeline[New, Out]:
        from .pipeline import Pipeline

        return Pipeline(other, self)

    # ------------------------------------------------------------ resources

    async def ready(self) -> None:
        """Sets up all Modules inside, at once; what launchers do at their start."""
        await asyncio.gather(*(child.ready() for child in self.children()))

    async def release(self) -> None:
        """Closes all Modules inside that are set up; what launchers do at their end."""
        await asyncio.gather(*(child.release() for child in self.children()))


class FunctionStep(Step[In, Out]):
    """A callable as a step."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        inline: bool = False,
        show: Show | None = None,
        resolve: Callable[[Any], Call] | None = None,
    ) -> None:
        self.function = function
        self.name = name or name_of(function)
        self.inline = inline
        self.show = show
        self.resolve = resolve
        self.inspect(function)

    def inspect(self, function: Callable[..., Any]) -> None:
        """Reads from the callable what kind of step it is."""
        call = _body_of(function)
        self.kind: Kind = kind_of(call)
        hints = _hints(call)
        first = next((hint for name, hint in hints.items() if name != "return"), None)
        self.live = typing.get_origin(first) in (AsyncIterator, Iterator)
        self.plain = self.kind == "sync" and not self.live
        self.streams = self.kind in ("generator", "async generator")
        item = typing.get_args(hints.get("return"))
        self.says_text = bool(item) and item[0] is str

    def call(self, x: Any) -> Any:
        """The bare function, with bound arguments and Args unpacked."""
        if self.resolve is None and type(x) is not Args:
            return self.function(x)
        return apply(self.function, x if self.resolve is None else self.resolve(x))

    async def execute(self, x: Any, run: Run | None, path: Path, output: bool) -> Any:
        if self.live and not hasattr(x, "__anext__"):
            x = one(x)
        if self.kind == "async":
            if self.resolve is None and type(x) is not Args:
                value = await self.function(x)
            else:
                value = await self.call(x)
            return value if type(value) not in UNSETTLED else await self.settle(value, run, path, output)
        if self.streams:
            assert run is not None
            return await self.drain(self.open(x, run, path, tapped=False), run, path, output)
        if self.live:
            assert run is not None
            return await self.take_live(x, run, path, output)
        if run is None or self.inline:
            value = self.call(x)
        else:
            _, value = await hop(run, (self,), (None,), x, path, None)
        return value if type(value) not in UNSETTLED else await self.settle(value, run, path, output)

    async def settle(self, value: Any, run: Run | None, path: Path, output: bool) -> Any:
        """A function returned what is no value yet: a coroutine or a generator."""
        if run is None:
            await HANDOVER
            frame = FRAME.get()
            assert frame is not None
            run = frame[0]
        if type(value) is types.CoroutineType:
            value = await value
            return value if type(value) not in UNSETTLED else await self.settle(value, run, path, output)
        if type(value) is types.GeneratorType:
            value = Pump(_same, value, run)
        return await self.drain(value, run, path, output)

    # ------------------------------------------------------------ streaming

    def open(self, x: Any, run: Run, path: Path, tapped: bool = True) -> Any:
        """The step at work, as an asynchronous stream; tapped, what passes is said as well."""
        if self.live and not hasattr(x, "__anext__"):
            x = one(x)
        if not self.streams:
            return self._value_as_stream(x, run, path)
        stream = Pump(self.call, x, run, self.live) if self.kind == "generator" else self.call(x)
        return Tap(stream, run, path, self.show) if tapped else stream

    async def _value_as_stream(self, x: Any, run: Run, path: Path) -> AsyncIterator[Any]:
        yield await self.execute(x, run, path, False)

    async def drain(self, stream: Any, run: Run, path: Path, output: bool) -> Any:
        """Reads a stream to its end, saying each item; its value is the joined text, or the list."""
        items: list[Any] = []
        keep, log = items.append, run.log
        output = self.show == "output" or (output and self.show is None)
        try:
            if log is None or self.show == "silent":
                async for item in stream:
                    if isinstance(item, Event):
                        run.say(item, path)
                    else:
                        keep(item)
                        if run.cut is not None:
                            await run.park()
                        elif not len(items) & 255:
                            await asyncio.sleep(0)  # nobody's backpressure lets a cancel in
            else:
                say = log.put if run.stop_when is None else run.say
                async for item in stream:
                    if type(item) is str:
                        keep(item)
                        if say(TextDelta(item, output), path):
                            await log.room()
                    elif not isinstance(item, Event):
                        keep(item)
                        if say(Data(item, output), path):
                            await log.room()
                    elif run.say(item, path):
                        await log.room()
        finally:
            await close(stream)
        return self.value_of(items, stream)

    def value_of(self, items: list[Any], stream: Any) -> Any:
        if type(stream) is Pump and stream.returned is not None:
            return stream.returned
        if not items:
            return "" if self.says_text else items
        try:
            return "".join(items)
        except TypeError:
            return items

    async def take_live(self, x: Any, run: Run, path: Path, output: bool) -> Any:
        """A step with a live parameter that is no generator: it consumes the upstream and returns a value."""
        if self.kind == "sync":
            pump = Pump(partial(returning, self.call), x, run, live=True)
            try:
                async for _ in pump:
                    pass
            finally:
                await pump.aclose()
            value = pump.returned
        else:
            value = await self.call(x)
        return value if type(value) not in UNSETTLED else await self.settle(value, run, path, output)


# ---------------------------------------------------------------- making steps


@overload
def step(
    function: Callable[[In], Coroutine[Any, Any, Out]],
    /,
    *,
    name: str | None = None,
    inline: bool = False,
    show: Show | None = None,
) -> Step[In, Out]: ...


@overload
def step(
    function: Callable[[In], AsyncIterator[str] | Generator[str, Any, None]],
    /,
    *,
    name: str | None = None,
    inline: bool = False,
    show: Show | None = None,
) -> Step[In, str]: ...


@overload
def step(
    function: Callable[[In], Out],
    /,
    *,
    name: str | None = None,
    inline: bool = False,
    show: Show | None = None,
) -> Step[In, Out]: ...


@overload
def step(
    *, name: str | None = None, inline: bool = False, show: Show | None = None
) -> Callable[[Callable[[In], Any]], Step[In, Any]]: ...


def step(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    inline: bool = False,
    show: Show | None = None,
) -> Any:
    """A callable as a Step, with a name and options; also a decorator, with or without arguments.

    Args:
        name: what paths, events and notes call it; `function.__name__` by default.
        inline: a plain function stays on the loop instead of taking a hop to a thread; for cheap ones.
        show: what becomes of the pieces it streams: `"output"` (they are the run's answer), `"trace"` (events
            only) or `"silent"` (nothing). By default the last step of a flow is output and the others trace.

    Raises:
        FlowBuildError: it is not callable.
    """
    if function is None:
        return partial(step, name=name, inline=inline, show=show)
    if show is not None and show not in typing.get_args(Show):
        raise FlowBuildError(f"show={show!r}: use 'output', 'trace' or 'silent'")
    if isinstance(function, Step) and not isinstance(function, FunctionStep):
        raise FlowBuildError(f"{function!r} is a step already; give its options where it is made")
    if isinstance(function, FunctionStep):
        name = name or function.name
        function = function.function
    return FunctionStep(_callable(function), name=name, inline=inline, show=show)


def as_step(thing: Any) -> Step[Any, Any]:
    """A step stays what it is, a callable becomes one.

    Raises:
        FlowBuildError: it is neither; the message names the remedy.
    """
    return thing if isinstance(thing, Step) else FunctionStep(_callable(thing))


def _callable(thing: Any) -> Callable[..., Any]:
    if isinstance(thing, Mapping):
        raise FlowBuildError("a dict is no step; for named branches use Parallel(**branches)")
    if isinstance(thing, (list, tuple)):
        raise FlowBuildError(
            f"a {type(thing).__name__} is no step; use Pipeline(*steps) or Parallel(*branches)"
        )
    if inspect.iscoroutine(thing) or inspect.isgenerator(thing) or inspect.isasyncgen(thing):
        raise FlowBuildError(f"{thing!r} is already running; give the function, not what its call returned")
    if not callable(thing):
        raise FlowBuildError(f"{thing!r} is no step: a step is something that can be called with a value")
    made: Callable[..., Any] = thing
    return made


def _body_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function that runs when `function` is called."""
    while isinstance(function, partial):
        function = function.func
    if inspect.isroutine(function) or inspect.isclass(function):
        return function
    call: Callable[..., Any] = type(function).__call__
    return call


def kind_of(call: Callable[..., Any]) -> Kind:
    if inspect.isasyncgenfunction(call):
        return "async generator"
    if inspect.isgeneratorfunction(call):
        return "generator"
    return "async" if inspect.iscoroutinefunction(call) else "sync"


def _hints(call: Callable[..., Any]) -> dict[str, Any]:
    """Annotations, resolved where they can be; a name that cannot be found makes none of the others useless."""
    try:
        return typing.get_type_hints(call)
    except Exception:
        raw = getattr(call, "__annotations__", {})
        names = {**vars(typing), **vars(sys.modules.get(getattr(call, "__module__", ""), typing))}
        return {name: _resolved(hint, names) for name, hint in raw.items()}


def _resolved(hint: Any, names: dict[str, Any]) -> Any:
    if not isinstance(hint, str):
        return hint
    try:
        return eval(hint, names)
    except Exception:
        return None


def name_of(function: Callable[..., Any]) -> str:
    while isinstance(function, partial):
        function = function.func
    return getattr(function, "__name__", None) or type(function).__name__


def _same(value: Any) -> Any:
    return value


async def close(stream: Any) -> None:
    aclose = getattr(stream, "aclose", None)
    if aclose is not None:
        await aclose()
