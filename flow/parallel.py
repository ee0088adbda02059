"""Parallel, Diverter and Warp: several steps at once, or one step over many items."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..streaming.errors import FlowBuildError, FlowCallError
from ..streaming.events import Path
from ..streaming.runs import FRAME, Run
from .args import Args
from .fanout import OnError, branch, check_concurrency, check_on_error, fan_out
from .flows import Flow, label_of
from .functions import as_step
from .references import SCOPE
from .steps import In, Out, Step

if TYPE_CHECKING:
    from .builders import OpenDiverter, OpenParallel

__all__ = ["Diverter", "Parallel", "Warp"]


class Parallel(Flow[In, Out]):
    """Gives the same value to all branches at once; the results come in the order written.

    Args:
        branches: steps; their results are Args.
        named: steps by name; their results are a dict.
        collect: what to make of the results: a callable over the Args, such as `list`, `sum` or `"\\n".join`;
            for named branches over the dict.
        on_error: `"raise"`: the earliest failure cancels the other branches and is raised; `"keep"`: a failed
            branch gives its exception as its result.
        concurrency: how many branches run at once; all by default.

    Each branch works in a copy of the context; what it sets in context variables stays in it.
    """

    def __init__(
        self: Parallel[Any, Any],
        *branches: Step[Any, Any] | Callable[..., Any],
        collect: Callable[[Any], Any] | None = None,
        on_error: OnError = "raise",
        concurrency: int | None = None,
        name: str | None = None,
        **named: Step[Any, Any] | Callable[..., Any],
    ) -> None:
        if branches and named:
            raise FlowBuildError("Parallel: name all branches or none; the results are a dict or Args")
        check_concurrency(concurrency, type(self).__name__)
        check_on_error(on_error, type(self).__name__)
        self.freeze(collect=collect, on_error=on_error, concurrency=concurrency)
        steps = [as_step(thing) for thing in (*branches, *named.values())]
        self._build(steps, tuple(named) if named else None, name)

    def _build(
        self, steps: Sequence[Step[Any, Any]], names: Sequence[str | None] | None, name: str | None
    ) -> None:
        found = names if names is not None else self.unique_names(steps)
        self.freeze(
            name=name,
            steps=tuple(steps),
            labels=tuple(i if label is None else label for i, label in enumerate(found)),
            keys=tuple(names) if names is not None else None,
        )

    collect: Callable[[Any], Any] | None = None
    on_error: OnError = "raise"
    concurrency: int | None = None
    keys: tuple[str, ...] | None = None
    kept = False
    if TYPE_CHECKING:
        steps: tuple[Step[Any, Any], ...]
        labels: tuple[str | int, ...]
        key: object

    def children(self) -> Sequence[Step[Any, Any]]:
        return self.steps

    def __enter__(self) -> OpenParallel[In, Out]:
        from .builders import OpenParallel

        return OpenParallel.opened(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from .builders import close_block

        close_block(self, kind is None)

    def inputs(self, x: Any) -> Sequence[Any]:
        """What each branch receives."""
        return [x] * len(self.steps)

    async def execute(self, x: Any, run: Run | None, path: Path, output: bool) -> Any:
        assert run is not None
        outer = SCOPE.get()
        if self.kept:
            SCOPE.set({**outer, self.key: {"input": x}})
        try:
            values = await fan_out(
                [
                    partial(branch, step, item, run, (*path, label))
                    for step, item, label in zip(self.steps, self.inputs(x), self.labels, strict=True)
                ],
                self.labels,
                concurrency=self.concurrency,
                on_error=self.on_error,
            )
        finally:
            SCOPE.set(outer)
        if self.keys is not None:
            named = dict(zip(self.keys, values, strict=True))
            return named if self.collect is None else self.collect(named)
        collected = Args(*values)
        return collected if self.collect is None else self.collect(collected)


class Diverter(Parallel[In, Out]):
    """Gives each branch its own item: `Diverter(a, b)(Args(1, 2))` is `Args(a(1), b(2))`.

    Takes the arguments of Parallel; the value is Args, a list or a tuple with one item for each branch, or for
    named branches a dict with the same names.
    """

    def __enter__(self) -> OpenDiverter[In, Out]:  # type: ignore[override]
        from .builders import OpenDiverter

        return OpenDiverter.opened(self)

    def inputs(self, x: Any) -> Sequence[Any]:
        if self.keys is not None:
            if not isinstance(x, dict) or set(x) != set(self.keys):
                raise FlowCallError(
                    f"{self!r} takes a dict with the names {', '.join(self.keys)}, not {type(x).__name__}"
                )
            return [x[key] for key in self.keys]
        if not isinstance(x, (tuple, list)) or len(x) != len(self.steps):
            count = f"{len(x)} items" if isinstance(x, (tuple, list)) else type(x).__name__
            raise FlowCallError(
                f"{self!r} takes one item for each of its {len(self.steps)} branches, not {count}"
            )
        return x


class Warp(Flow[Iterable[In], Out]):
    """Runs one step over every item of an iterable, all at once or `concurrency` at a time; gives a list.

    Args:
        inner: the step.
        concurrency: how many items are worked on at once; all by default.
        on_error: as for Parallel.
        collect: what to make of the list of results.
    """

    concurrency: int | None = None
    collect: Callable[[list[Any]], Any] | None = None

    def __init__(
        self: Warp[Any, Any],
        inner: Step[In, Any] | Callable[[In], Any],
        *,
        concurrency: int | None = None,
        on_error: OnError = "raise",
        collect: Callable[[list[Any]], Any] | None = None,
        name: str | None = None,
    ) -> None:
        check_concurrency(concurrency, "Warp")
        check_on_error(on_error, "Warp")
        self.freeze(
            name=name, inner=as_step(inner), concurrency=concurrency, on_error=on_error, collect=collect
        )

    if TYPE_CHECKING:
        inner: Step[Any, Any]
        on_error: OnError

    def children(self) -> Sequence[Step[Any, Any]]:
        return (self.inner,)

    async def execute(self, x: Any, run: Run | None, path: Path, output: bool) -> Any:
        assert run is not None
        if not isinstance(x, Iterable) or isinstance(x, (str, bytes)):
            raise FlowCallError(
                f"{self!r} takes an iterable of items, not {type(x).__name__}; wrap it in a list"
            )
        items, where = list(x), (*path, label_of(self.inner))
        values = await fan_out(
            [partial(self._one, item, run, (*where, i)) for i, item in enumerate(items)],
            [f"{label_of(self.inner)}[{i}]" for i in range(len(items))],
            concurrency=self.concurrency,
            on_error=self.on_error,
        )
        return values if self.collect is None else self.collect(values)

    async def _one(self, item: Any, run: Run, path: Path) -> Any:
        if run.log is None:
            return await self.inner.execute(item, run, path, False)
        FRAME.set((run, path))
        return await branch(self.inner, item, run, path)
