"""Functions as steps: plain and async functions, generators, and objects that can be called like one of them."""

from __future__ import annotations

import asyncio
import inspect
import types
import typing
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import partial
from typing import Any, Literal

from ..streaming.errors import FlowBuildError
from ..streaming.events import Data, Event, Path
from ..streaming.runs import Run
from .args import STREAMS, UNSETTLED, Args, Call, apply, dispose
from .calls import HANDOVER, run_here
from .kinds import Kind, body_of, hints_of, kind_of, live_as, name_of
from .pumps import Pump, returning
from .steps import In, Keep, Out, Step
from .taps import aside, close, is_stream, joined, one, tap
from .threads import hop

__all__ = ["FunctionStep", "Show", "WholeStep", "as_callable", "as_step"]

Show = Literal["output", "trace", "silent"]


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
        call = body_of(function)
        self.kind: Kind = kind_of(call)
        hints = hints_of(call)
        taken = live_as(function, hints, getattr(self.resolve, "place", 0))
        self.live = taken is not None
        self.hands_on = taken is AsyncIterator and self.kind == "sync"
        """Whether it gives the stream to somebody else, as decorators of coroutine functions do."""
        if taken is Iterator and self.kind in ("async", "async generator"):
            raise FlowBuildError(
                f"{self.name} is asynchronous and takes what comes in live as an AsyncIterator, not an Iterator"
            )
        if taken is AsyncIterator and self.kind == "generator":
            raise FlowBuildError(
                f"{self.name} is not asynchronous and takes what comes in live as an Iterator, not an AsyncIterator"
            )
        self.plain = self.kind == "sync" and not self.live
        self.streams = self.kind in ("generator", "async generator")
        item = typing.get_args(hints.get("return"))
        self.says_text = bool(item) and item[0] is str

    def is_bare_coroutine(self) -> bool:
        """Whether awaiting the function is all there is to do."""
        return self.kind == "async" and self.resolve is None and not self.live

    def call(self, x: Any) -> Any:
        """The bare function, with bound arguments and Args unpacked."""
        if self.resolve is None and type(x) is not Args:
            return self.function(x)
        return apply(self.function, x if self.resolve is None else self.resolve(x))

    async def execute(self, x: Any, run: Run | None, path: Path, output: bool) -> Any:
        if self.live and not is_stream(x):
            x = one(x)
        if self.kind == "async":
            if self.resolve is None and type(x) is not Args:
                value = await self.function(x)
            else:
                value = await self.call(x)
            return value if type(value) not in UNSETTLED else await self.settle(value, run, path, output)
        if self.streams:
            assert run is not None
            return await self.drain(self.pieces(x, run), run, path, output)
        if self.live:
            assert run is not None
            return await self.take_live(x, run, path, output)
        if run is None or self.inline:
            value = self.call(x)
        else:
            _, value, _ = await hop(run, (self,), (None,), x, path, None)
        return value if type(value) not in UNSETTLED else await self.settle(value, run, path, output)

    async def settle(self, value: Any, run: Run | None, path: Path, output: bool) -> Any:
        """A function returned what is no value yet: a coroutine, a task or a generator."""
        if run is None:
            run = run_here()
            if run is None:
                try:
                    await HANDOVER
                except BaseException:  # it was stopped before it could go on
                    dispose(value)
                    raise
                run = run_here()
            assert run is not None
        if type(value) not in STREAMS:
            value = await value
            return value if type(value) not in UNSETTLED else await self.settle(value, run, path, output)
        if type(value) is types.GeneratorType:
            value = Pump(_same, value, run)
        return await self.drain(value, run, path, output)

    # ------------------------------------------------------------ streaming

    def pieces(self, x: Any, run: Run) -> Any:
        """What the step yields, as an asynchronous stream of which nobody has heard yet."""
        if self.live and not is_stream(x):
            x = one(x)
        return Pump(self.call, x, run, self.live) if self.kind == "generator" else self.call(x)

    def open(self, x: Any, run: Run, path: Path, output: bool = False, keep: Keep | None = None) -> Any:
        if not self.streams:
            return super().open(x, run, path, output, keep)
        stream = self.pieces(x, run)
        ended = None if keep is None else (lambda items: keep(self.value_of(items, stream)))
        return tap(stream, run, path, self.shows_output(output), self.show == "silent", ended)

    def shows_output(self, output: bool) -> bool:
        """Whether its pieces are the run's answer, where it stands at the flow's end or not."""
        return output if self.show is None else self.show == "output"

    async def drain(self, stream: Any, run: Run, path: Path, output: bool) -> Any:
        """Reads a stream to its end, saying each item; its value is the joined text, or the list."""
        items: list[Any] = []
        keep, log = items.append, run.log
        output = self.shows_output(output)
        try:
            if log is None or self.show == "silent":
                async for item in stream:
                    if isinstance(item, Event):
                        run.say(item if output else aside(item), path)
                    else:
                        keep(item)
                        if run.cut is not None:
                            await run.park()
                        elif not len(items) & 255:
                            await asyncio.sleep(0)  # nobody's backpressure lets a cancel in
            else:
                say_text = log.say_text if run.stop_when is None else run.say_text
                async for item in stream:
                    if type(item) is str:
                        keep(item)
                        if say_text(item, output, path):
                            await log.room()
                    elif not isinstance(item, Event):
                        keep(item)
                        if log.put(Data(item, output), path):
                            await log.room()
                    elif run.say(item if output else aside(item), path):
                        await log.room()
        finally:
            if output and items:
                run.outputs += 1
            await close(stream)
        return self.value_of(items, stream)

    def value_of(self, items: list[Any], stream: Any) -> Any:
        if type(stream) is Pump and stream.returned is not None:
            return stream.returned
        return joined(items, "" if self.says_text else None)

    async def take_live(self, x: Any, run: Run, path: Path, output: bool) -> Any:
        """A step with a live parameter that is no generator: it consumes the upstream and returns a value."""
        if self.kind == "sync" and not self.hands_on:
            pump = Pump(partial(returning, self.call), x, run, live=True)
            try:
                async for event in pump:  # it yields nothing; what comes is what it emits
                    run.say(event if self.shows_output(output) else aside(event), path)
            finally:
                await pump.aclose()
            value = pump.returned
        elif self.hands_on:
            value = self.call(x)
        else:
            value = await self.call(x)
        return value if type(value) not in UNSETTLED else await self.settle(value, run, path, output)


class WholeStep(FunctionStep[In, Out]):
    """A function of ours that is given Args as they are."""

    def call(self, x: Any) -> Any:
        return self.function(x)


# ---------------------------------------------------------------- making steps


def as_step(thing: Any) -> Step[Any, Any]:
    """A step stays what it is, a callable becomes one.

    Raises:
        FlowBuildError: it is neither; the message names the remedy.
    """
    if isinstance(thing, FunctionStep) and not hasattr(thing, "kind"):
        name = type(thing).__name__
        raise FlowBuildError(f"{name} does not say what it does; write in it: async def __call__(self, x)")
    if isinstance(thing, Step) and vars(thing).get("unfinished"):
        raise FlowBuildError(f"{thing!r} is being written; it can be a step of another flow after its block")
    return thing if isinstance(thing, Step) else FunctionStep(as_callable(thing))


def as_callable(thing: Any) -> Callable[..., Any]:
    """`thing`, if a step can be made of it.

    Raises:
        FlowBuildError: it cannot; the message names the remedy.
    """
    if isinstance(thing, Mapping):
        raise FlowBuildError("a dict is no step; for named branches use Parallel(**branches)")
    if inspect.isclass(thing) and issubclass(thing, Step):
        raise FlowBuildError(f"{thing.__name__} is a class; give an instance: {thing.__name__}(...)")
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


def _same(value: Any) -> Any:
    return value
