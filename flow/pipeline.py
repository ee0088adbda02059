"""Pipeline: steps one after another, the value of each going into the next."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from functools import partial
from operator import length_hint
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..streaming.events import Path
from ..streaming.runs import FRAME, Run
from .args import ODD, UNSETTLED, Args
from .calls import run_here
from .chains import Link, run_chain, stream_chain
from .checks import refuse_misfits
from .flows import Flow
from .functions import FunctionStep, as_step
from .performing import failed, finished, leaving, perform
from .references import SCOPE
from .segments import Segment, plan
from .steps import In, Keep, Out, Step
from .taps import Remembered, close, framed, gathered, is_stream
from .threads import hop, stop_iteration

if TYPE_CHECKING:
    from .builders import OpenPipeline
    from .signatures import TypedPipeline as Base
else:
    Base = Flow

__all__ = ["Pipeline", "as_body"]


class Pipeline(Base[In, Out]):
    """Runs its steps one after another; each receives the value of the one before. Without steps: the identity.

    `Pipeline(a, b)`, `step(a) | b`, or with names and references::

        with Pipeline() as p:
            p.search = search
            p.answer = bind(answer, question=p.input, notes=p.search)
    """

    kept = False
    """Whether the values of its steps are kept while it runs, for references."""

    if not TYPE_CHECKING:  # what type checkers see stands in signatures.pyi

        def __init__(self, *steps: Any, name: str | None = None) -> None:
            self._write(steps, name)

    def _write(self, steps: Sequence[Step[Any, Any] | Callable[..., Any]], name: str | None) -> None:
        flat: list[Step[Any, Any]] = []
        for thing in steps:
            made = as_step(thing)
            if type(made) is Pipeline and made.name is None and not made.kept:
                flat.extend(made.steps)  # `|` is associative
            else:
                flat.append(made)
        self._build(flat, None, name)

    def _build(
        self, steps: Sequence[Step[Any, Any]], names: Sequence[str | None] | None, name: str | None
    ) -> None:
        steps = tuple(steps)
        functions = None
        if all(type(s) is FunctionStep and s.plain and s.resolve is None for s in steps):
            functions = tuple(s.function for s in steps)  # type: ignore[attr-defined]
        coroutines = None
        if steps and all(type(s) is FunctionStep and s.is_bare_coroutine() for s in steps):
            coroutines = tuple(s.function for s in steps)  # type: ignore[attr-defined]
        names = tuple(names) if names is not None else self.unique_names(steps)
        self.freeze(
            name=name,
            steps=steps,
            names=names,
            labels=tuple(n or type(s).__name__ for n, s in zip(names, steps, strict=True)),
            plain=all(s.plain for s in steps),
            live=not steps or steps[0].live,
            gathers=not steps or steps[0].gathers or self.kept,
            streams=not steps or steps[-1].streams,
            functions=functions,
            coroutines=coroutines,
            plan=plan(steps),
        )
        refuse_misfits(self)

    if TYPE_CHECKING:
        steps: tuple[Step[Any, Any], ...]
        names: tuple[str | None, ...]
        labels: tuple[str, ...]
        functions: tuple[Callable[..., Any], ...] | None
        coroutines: tuple[Callable[..., Any], ...] | None
        plan: tuple[Segment, ...]
        scope: object

    def children(self) -> Sequence[Step[Any, Any]]:
        return self.steps

    # ------------------------------------------------------------ written with `with`

    def __enter__(self) -> OpenPipeline[In, Out]:
        from .builders import OpenPipeline

        return OpenPipeline.opened(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from .builders import close_block

        close_block(self, kind is None)

    # ------------------------------------------------------------ running

    def execute(self, x: Any, run: Run | None, path: Path, output: bool) -> Coroutine[Any, Any, Any]:
        if self.kept:
            return self._keeping(x, run, path, output)
        if run is None:
            return self._call_all(x, path, output)
        if self.coroutines is not None and run.log is None and run.hooks is None:
            return self._await_all(x, run, path)
        return self._run(x, run, path, output, None) if self.steps else _settled(x)

    async def _call_all(self, x: Any, path: Path, output: bool) -> Any:
        """The shortest way through steps that all are plain functions, as a direct drive."""
        functions = self.functions
        if functions is None or type(x) is Args:
            return await self._direct(x, path, output, None)
        left = iter(functions)
        try:
            for function in left:
                x = function(x)
                if type(x) in ODD:
                    break
            else:
                return x
        except BaseException as error:
            raise leaving(error, self.labels[-1 - length_hint(left)])  # noqa: B904
        return await self._direct(x, path, output, None, len(functions) - 1 - length_hint(left))

    async def _keeping(self, x: Any, run: Run | None, path: Path, output: bool) -> Any:
        """With the values of the steps kept for references, in a scope of this call's own."""
        outer = SCOPE.get()
        values: dict[str, Any] = {}
        x = self._as_input(x, values)
        SCOPE.set({**outer, self.scope: values})
        try:
            if run is not None:
                return await self._run(x, run, path, output, values)
            return await self._direct(x, path, output, values)
        finally:
            SCOPE.set(outer)

    @staticmethod
    def _as_input(x: Any, kept: dict[str, Any]) -> Any:
        """Keeps what the flow is called with; what comes live is known when it has been read."""
        if is_stream(x):
            return Remembered(x, partial(kept.__setitem__, "input"))
        kept["input"] = x
        return x

    async def _direct(
        self, x: Any, path: Path, output: bool, kept: dict[str, Any] | None, i: int = -1
    ) -> Any:
        """The direct drive, step by step, after step `i`; on a loop as soon as there is something to await."""
        if type(x) in UNSETTLED:
            step = self.steps[i]
            assert isinstance(step, FunctionStep)
            try:
                x = await step.settle(x, None, path, output)
            except BaseException as error:
                raise leaving(error, self.labels[i])  # noqa: B904
        for i in range(i + 1, len(self.steps)):  # noqa: B020
            run = run_here()
            try:
                x = await self.steps[i].execute(x, run, path, output and i == len(self.steps) - 1)
            except (StopIteration, StopAsyncIteration) as error:
                raise stop_iteration(self.labels[i], error) from error
            except BaseException as error:
                raise leaving(error, self.names[i])  # noqa: B904
            if kept is not None:
                kept[self.labels[i]] = x
        return x

    async def _run(
        self,
        x: Any,
        run: Run,
        path: Path,
        output: bool,
        kept: dict[str, Any] | None,
        plan: Sequence[Segment] | None = None,
    ) -> Any:
        count, silent = len(self.steps), run.log is None and run.hooks is None
        given = x if self.live and is_stream(x) else None
        for kind, start, end in self.plan if plan is None else plan:
            last = output and end == count
            if kind == "hop":
                x = await self._hop(Segment(kind, start, end), x, run, path, last, kept)
            elif kind == "live":
                x = await run_chain(self._links(start, end), x, run, path, last, kept)
            elif silent:  # nobody hears of paths here
                try:
                    if kind == "await" and type(x) is not Args:
                        x = await self.steps[start].function(x)  # type: ignore[attr-defined]
                        if type(x) in UNSETTLED:
                            x = await self.steps[start].settle(x, run, path, last)  # type: ignore[attr-defined]
                    else:
                        x = await self.steps[start].execute(x, run, path, last)
                except BaseException as error:
                    raise leaving(error, self.names[start])  # noqa: B904
            else:
                x = await perform(self.steps[start], x, run, path, self.names[start], last)
            if given is not None:
                upstream, given = given, None
                await close(upstream)  # also where it was left early: no later step reads it
            if kept is not None:
                kept[self.labels[end - 1]] = x
            if run.cut is not None:
                await run.park()  # no step begins in a run that is being stopped
        return x

    async def _await_all(self, x: Any, run: Run, path: Path) -> Any:
        """The shortest way through steps that all are coroutine functions, where nobody hears of them."""
        assert self.coroutines is not None
        left = iter(self.coroutines)
        try:
            for function in left:
                x = await (function(*x) if type(x) is Args else function(x))
                if type(x) in UNSETTLED:
                    at = len(self.steps) - 1 - length_hint(left)
                    x = await self.steps[at].settle(x, run, path, False)  # type: ignore[attr-defined]
                if run.cut is not None:
                    await run.park()  # no step begins in a run that is being stopped
        except BaseException as error:
            raise leaving(error, self.labels[-1 - length_hint(left)])  # noqa: B904
        return x

    def _links(self, start: int, end: int) -> Sequence[Link]:
        return [Link(self.steps[i], self.names[i], self.labels[i]) for i in range(start, end)]

    # ------------------------------------------------------------ its last step's pieces, as they come

    def open(
        self, x: Any, run: Run, path: Path, output: bool = False, keep: Keep | None = None
    ) -> AsyncIterator[Any]:
        if not self.steps and is_stream(x):
            return x if keep is None else Remembered(x, keep)
        if not self.steps or not self.streams:
            return super().open(x, run, path, output, keep)
        return framed(self._stream(x, run, path, output, keep), run, path)

    async def _stream(
        self, x: Any, run: Run, path: Path, output: bool, keep: Keep | None
    ) -> AsyncIterator[Any]:
        kept: dict[str, Any] | None = None
        if self.kept:
            kept = {}
            x = self._as_input(x, kept)
            SCOPE.set({**SCOPE.get(), self.scope: kept})  # `framed` keeps it to this flow
        *before, (_, start, end) = self.plan
        x = await self._run(x, run, path, False, kept, before)
        stream = stream_chain(self._links(start, end), x, run, path, output, keep, kept)
        try:
            async for item in stream:
                yield item
        finally:
            await close(stream)

    async def _hop(
        self, segment: Segment, x: Any, run: Run, path: Path, output: bool, kept: dict[str, Any] | None
    ) -> Any:
        start, end = segment.start, segment.end
        done, x, call = await hop(run, self.steps[start:end], self.labels[start:end], x, path, kept)  # type: ignore[arg-type]
        at = start + done
        if type(x) not in UNSETTLED:
            return x
        # Rare: a lambda that returned a coroutine; go on from where the chain stopped.
        step, label = self.steps[at], self.labels[at]
        assert isinstance(step, FunctionStep)
        where = (*path, label)
        FRAME.set((run, where))
        try:
            x = await step.settle(x, run, where, output and at == end - 1)
        except BaseException as error:
            raise failed(error, run, where, call, label)  # noqa: B904
        finished(x, run, where, call)
        FRAME.set((run, path))
        if kept is not None:
            kept[label] = x
        if at + 1 < end:
            x = await self._hop(Segment("hop", at + 1, end), x, run, path, output, kept)
        return x


async def _settled(x: Any) -> Any:
    return await gathered(x) if is_stream(x) else x


def as_body(thing: Step[Any, Any] | Callable[..., Any] | None) -> Step[Any, Any]:
    """The step that a flow repeats; without any, the identity, until a `with` block has written it."""
    return Pipeline() if thing is None else as_step(thing)
