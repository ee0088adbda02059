"""Pipeline: steps one after another, the value of each going into the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..streaming.events import Path, StepFinished, StepStarted
from ..streaming.notes import trail
from ..streaming.runs import FRAME, Run
from .args import ODD, UNSETTLED, Args
from .calls import run_here
from .flows import Flow
from .functions import FunctionStep, as_step
from .references import SCOPE
from .steps import In, Out, Step
from .taps import close_all
from .threads import hop, stop_iteration

if TYPE_CHECKING:
    from .builders import OpenPipeline

__all__ = ["Pipeline"]


class Segment(NamedTuple):
    """Neighbours that are run together: plain functions in one hop, a stream through live steps, or one step."""

    kind: Literal["hop", "live", "step"]
    start: int
    end: int


class Pipeline(Flow[In, Out]):
    """Runs its steps one after another; each receives the value of the one before. Without steps: the identity.

    `Pipeline(a, b)`, `step(a) | b`, or with names and references::

        with Pipeline() as p:
            p.search = search
            p.answer = bind(answer, question=p.input, notes=p.search)
    """

    kept = False
    """Whether the values of its steps are kept while it runs, for references."""

    def __init__(
        self: Pipeline[Any, Any], *steps: Step[Any, Any] | Callable[..., Any], name: str | None = None
    ) -> None:
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
        names = tuple(names) if names is not None else self.unique_names(steps)
        self.freeze(
            name=name,
            steps=steps,
            names=names,
            labels=tuple(n or type(s).__name__ for n, s in zip(names, steps, strict=True)),
            plain=all(s.plain for s in steps),
            functions=functions,
            plan=_plan(steps),
        )

    if TYPE_CHECKING:
        steps: tuple[Step[Any, Any], ...]
        names: tuple[str | None, ...]
        labels: tuple[str, ...]
        functions: tuple[Callable[..., Any], ...] | None
        plan: tuple[Segment, ...]
        key: object

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

    async def execute(self, x: Any, run: Run | None, path: Path, output: bool) -> Any:
        if self.kept:
            return await self._keeping(x, run, path, output)
        if run is not None:
            return await self._run(x, run, path, output, None)
        functions = self.functions
        if functions is None or type(x) is Args:
            return await self._direct(x, path, output, None)
        i = -1
        try:
            for i, function in enumerate(functions):  # noqa: B007
                x = function(x)
                if type(x) in ODD:
                    break
            else:
                return x
        except (StopIteration, StopAsyncIteration) as error:
            raise stop_iteration(self.labels[i], error) from error
        except BaseException as error:
            trail(error, self.labels[i])
            raise
        return await self._direct(x, path, output, None, i)

    async def _keeping(self, x: Any, run: Run | None, path: Path, output: bool) -> Any:
        """With the values of the steps kept for references, in a scope of this call's own."""
        outer, values = SCOPE.get(), {"input": x}
        SCOPE.set({**outer, self.key: values})
        try:
            if run is not None:
                return await self._run(x, run, path, output, values)
            return await self._direct(x, path, output, values)
        finally:
            SCOPE.set(outer)

    async def _direct(
        self, x: Any, path: Path, output: bool, kept: dict[str, Any] | None, i: int = -1
    ) -> Any:
        """The direct drive, step by step, after step `i`; on a loop as soon as there is something to await."""
        if type(x) in UNSETTLED:
            step = self.steps[i]
            assert isinstance(step, FunctionStep)
            x = await step.settle(x, None, path, output)
        for i in range(i + 1, len(self.steps)):  # noqa: B020
            run = run_here()
            try:
                x = await self.steps[i].execute(x, run, path, output and i == len(self.steps) - 1)
            except (StopIteration, StopAsyncIteration) as error:
                raise stop_iteration(self.labels[i], error) from error
            except BaseException as error:
                trail(error, self.labels[i])
                raise
            if kept is not None:
                kept[self.labels[i]] = x
        return x

    async def _run(self, x: Any, run: Run, path: Path, output: bool, kept: dict[str, Any] | None) -> Any:
        count, silent = len(self.steps), run.log is None
        for kind, start, end in self.plan:
            if kind == "hop":
                x = await self._hop(Segment(kind, start, end), x, run, path, output and end == count, kept)
                continue
            if kind == "live":
                x = await self._stream_through(
                    Segment(kind, start, end), x, run, path, output and end == count
                )
            elif silent:
                try:  # nobody hears of paths here
                    x = await self.steps[start].execute(x, run, path, output and end == count)
                except BaseException as error:
                    raise self._trailed(error, self.names[start])  # noqa: B904
            else:
                x = await self._one(start, x, run, path, output and end == count)
            if kept is not None:
                kept[self.labels[end - 1]] = x
        return x

    @staticmethod
    def _trailed(error: BaseException, name: str | None) -> BaseException:
        """The error as it leaves the step `name`."""
        if isinstance(error, (StopIteration, StopAsyncIteration)):
            error = stop_iteration(name or "step", error)
        if name is not None:
            trail(error, name)
        return error

    async def _one(self, i: int, x: Any, run: Run, path: Path, output: bool) -> Any:
        """One step, with its events."""
        name, log = self.names[i], run.log
        where = path if name is None else (*path, name)
        said = log is not None and name is not None
        try:
            if said:
                FRAME.set((run, where))
                log.put(StepStarted(), where)  # type: ignore[union-attr]
            x = await self.steps[i].execute(x, run, where, output)
            if said:
                log.put(StepFinished(), where)  # type: ignore[union-attr]
                FRAME.set((run, path))
        except (StopIteration, StopAsyncIteration) as error:
            raise stop_iteration(self.labels[i], error) from error
        except BaseException as error:
            if name is not None:
                trail(error, name)
            raise
        return x

    async def _hop(
        self, segment: Segment, x: Any, run: Run, path: Path, output: bool, kept: dict[str, Any] | None
    ) -> Any:
        start, end = segment.start, segment.end
        done, x = await hop(run, self.steps[start:end], self.labels[start:end], x, path, kept)  # type: ignore[arg-type]
        at = start + done
        if (
            type(x) in UNSETTLED
        ):  # rare: a lambda that returned a coroutine; go on from where the chain stopped
            step = self.steps[at]
            assert isinstance(step, FunctionStep)
            x = await step.settle(x, run, (*path, self.labels[at]), output and at == end - 1)
            if kept is not None:
                kept[self.labels[at]] = x
            if run.log is not None:
                run.log.put(StepFinished(), (*path, self.labels[at]))
            if at + 1 < end:
                x = await self._hop(Segment("hop", at + 1, end), x, run, path, output, kept)
        return x

    async def _stream_through(self, segment: Segment, x: Any, run: Run, path: Path, output: bool) -> Any:
        """A head and the live steps behind it, all at work at once, in one task."""
        log, open_streams = run.log, []
        steps, labels = self.steps[segment.start : segment.end], self.labels[segment.start : segment.end]
        paths = [(*path, label) for label in labels]
        last, i = len(steps) - 1, 0
        try:
            for i, step in enumerate(steps):
                if log is not None:
                    FRAME.set((run, paths[i]))
                    log.put(StepStarted(), paths[i])
                if i == last:
                    x = await step.execute(x, run, paths[i], output)
                else:
                    assert isinstance(step, FunctionStep)
                    x = step.open(x, run, paths[i])
                    open_streams.append(x)
        except BaseException as error:
            trail(error, labels[i])
            raise
        finally:
            await close_all(reversed(open_streams))  # returning early stops the upstream
        if log is not None:
            for where in paths:
                log.put(StepFinished(), where)
            FRAME.set((run, path))
        return x


def _plan(steps: Sequence[Step[Any, Any]]) -> tuple[Segment, ...]:
    plan: list[Segment] = []
    for i, step in enumerate(steps):
        last = plan[-1] if plan else None
        if step.live and last is not None and _can_head(steps[last.start]) and last.kind != "hop":
            plan[-1] = Segment("live", last.start, i + 1)
        elif type(step) is FunctionStep and step.plain and not step.inline:
            if last is not None and last.kind == "hop":
                plan[-1] = Segment("hop", last.start, i + 1)
            else:
                plan.append(Segment("hop", i, i + 1))
        else:
            plan.append(Segment("live" if step.live else "step", i, i + 1))
    return tuple(plan)


def _can_head(step: Step[Any, Any]) -> bool:
    return step.live or step.streams
