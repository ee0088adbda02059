"""Parallel and Diverter: several steps at once."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from copy import copy
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ..streaming.errors import FlowBuildError, FlowCallError
from ..streaming.events import Path
from ..streaming.runs import Run
from .args import Args
from .checks import refuse_misfits
from .fanout import OnError, fan_out
from .fans import Fan
from .functions import as_step
from .parts import Parts, are_bare
from .performing import perform
from .references import SCOPE
from .steps import In, Out, Step
from .taps import gathered, is_stream
from .tees import Tee

if TYPE_CHECKING:
    from .builders import OpenDiverter, OpenParallel
    from .constructors import TypedDiverter
    from .constructors import TypedParallel as Base
else:
    Base = Fan

__all__ = ["Diverter", "Parallel"]


class Parallel(Base[In, Out]):
    """Gives the same value to all branches at once; the results come in the order written.

    Args:
        branches: steps; their results are Args.
        named: steps by name; their results are a dict.
        collect: what to make of the results: a callable over the Args, such as `list`, `sum` or `"\\n".join`;
            for named branches over the dict.
        post: a step for what `collect` has made, or for the results; its text is output where the flow's is.
        on_error: `"raise"`: the earliest failure cancels the other branches and is raised; `"keep"`: a failed
            branch gives its exception as its result.
        concurrency: how many branches run at once; all by default.
        choose: is given the value and returns which branches it goes to, by name or index; all by default.

    Each branch works in a copy of the context; what it sets in context variables stays in it. Branches that take
    their upstream live share it: each reads all of it as it comes, and the slowest sets the pace.
    """

    def _write(
        self,
        *branches: Step[Any, Any] | Callable[..., Any],
        collect: Callable[[Any], Any] | None = None,
        post: Step[Any, Any] | Callable[[Any], Any] | None = None,
        on_error: OnError = "raise",
        concurrency: int | None = None,
        choose: Step[Any, Any] | Callable[[Any], Iterable[str | int]] | None = None,
        name: str | None = None,
        **named: Step[Any, Any] | Callable[..., Any],
    ) -> None:
        if branches and named:
            raise FlowBuildError("Parallel: name all branches or none; the results are a dict or Args")
        self._set(collect, on_error, concurrency, post)
        self.freeze(choose=as_step(choose) if choose is not None else None)
        steps = [as_step(thing) for thing in (*branches, *named.values())]
        self._build(steps, tuple(named) if named else None, name)

    if not TYPE_CHECKING:  # what type checkers see stands in constructors.pyi
        __init__ = _write
        __init__.__qualname__ = "Parallel.__init__"

    def _build(
        self, steps: Sequence[Step[Any, Any]], names: Sequence[str | None] | None, name: str | None
    ) -> None:
        found = names if names is not None else self.unique_names(steps)
        self.freeze(
            name=name,
            steps=tuple(steps),
            labels=tuple(i if label is None else label for i, label in enumerate(found)),
            keys=tuple(names) if names is not None else None,
            chosen=tuple(range(len(steps))),
            live=self.shared and any(s.live for s in steps),
            bare=are_bare(*steps),
            gathers=self.kept or self.choose is not None or any(s.gathers or not s.live for s in steps),
        )
        refuse_misfits(self)

    shared = True
    """Whether all branches are given the same value."""
    choose: Step[Any, Any] | None = None
    keys: tuple[str, ...] | None = None
    kept = bare = False
    if TYPE_CHECKING:
        steps: tuple[Step[Any, Any], ...]
        labels: tuple[str | int, ...]
        chosen: tuple[int, ...]
        scope: object

    def children(self) -> Sequence[Step[Any, Any]]:
        return (*self.steps, *(s for s in (self.choose, self.post) if s is not None))

    def __enter__(self) -> OpenParallel[In, Out]:
        from .builders import OpenParallel

        return OpenParallel.opened(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from .builders import close_block

        close_block(self, kind is None)

    # ------------------------------------------------------------ some of the branches

    def keep(self, *which: str | int) -> Self:
        """The same flow with these branches only, by name or index; `flow.keep("bm25")(x)`.

        Raises:
            FlowBuildError: there is no such branch.
        """
        return self._with(sorted(self._indices(which)))

    def skip(self, *which: str | int) -> Self:
        """The same flow without these branches, by name or index; their results are missing from the value.

        Raises:
            FlowBuildError: there is no such branch.
        """
        left_out = self._indices(which)
        return self._with([i for i in self.chosen if i not in left_out])

    def _with(self, chosen: Sequence[int]) -> Self:
        made = copy(self)
        vars(made).update(chosen=tuple(i for i in chosen if i in self.chosen))
        return made

    def _indices(self, which: Iterable[str | int]) -> set[int]:
        found = set()
        for one in which:
            if (
                isinstance(one, int)
                and not isinstance(one, bool)
                and -len(self.steps) <= one < len(self.steps)
            ):
                found.add(one % len(self.steps))
            elif isinstance(one, str) and one in self.labels:
                found.add(self.labels.index(one))
            else:
                known = ", ".join(map(str, self.labels)) or "none"
                raise FlowBuildError(
                    f"{self!r} has no branch {one!r}; its branches: {known}, or by index from 0"
                )
        return found

    async def _chosen(self, x: Any, run: Run, path: Path) -> Sequence[int]:
        if self.choose is None:
            return self.chosen
        which = await perform(self.choose, x, run, path, "choose", False)
        if isinstance(which, (str, int)):
            which = (which,)
        try:
            wanted = self._indices(which)
        except (FlowBuildError, TypeError) as error:
            raise FlowCallError(f"choose= of {self!r} returned {which!r}: {error}") from None
        return [i for i in self.chosen if i in wanted]

    # ------------------------------------------------------------ running

    def inputs(self, x: Any) -> Sequence[Any]:
        """What each branch receives."""
        return [x] * len(self.steps)

    def results(self, x: Any, run: Run, path: Path) -> Coroutine[Any, Any, Any]:
        return self._keeping(x, run, path) if self.kept else self._results(x, run, path)

    async def _keeping(self, x: Any, run: Run, path: Path) -> Any:
        """With what the flow is called with kept for references, in a scope of this call's own."""
        outer = SCOPE.get()
        if is_stream(x):
            x = await gathered(x)  # whoever refers to it wants all of it
        SCOPE.set({**outer, self.scope: {"input": x}})
        try:
            return await self._results(x, run, path)
        finally:
            SCOPE.set(outer)

    async def _results(self, x: Any, run: Run, path: Path) -> Any:
        """As Args, or by name."""
        if is_stream(x):
            chosen, found = await self._live(x, run, path)
        else:
            chosen = self.chosen if self.choose is None else await self._chosen(x, run, path)
            parts = self._parts(chosen, self.inputs(x), run, path)
            await parts.run()
            found = parts.results()
        if self.keys is not None:
            return dict(zip([self.keys[i] for i in chosen], found, strict=True))
        return Args(*found)

    def _parts(self, chosen: Sequence[int], inputs: Sequence[Any], run: Run, path: Path) -> Parts:
        """The chosen branches, about to be at work at once."""
        steps, labels = self.steps, self.labels
        if len(chosen) < len(steps):
            steps, labels = tuple(steps[i] for i in chosen), tuple(labels[i] for i in chosen)
            inputs = [inputs[i] for i in chosen]
        return Parts(
            steps,
            inputs,
            run,
            path,
            labels,
            labels,
            concurrency=self.concurrency,
            on_error=self.on_error,
            bare=self.bare,
        )

    def _branch(self, i: int, x: Any, run: Run, path: Path) -> Coroutine[Any, Any, Any]:
        return perform(self.steps[i], x, run, path, self.labels[i], False)

    async def _live(self, stream: Any, run: Run, path: Path) -> tuple[Sequence[int], list[Any]]:
        """All branches on one upstream: those that take it live as it comes, the others on the whole of it."""
        if self.choose is not None:
            value = await gathered(stream)
            chosen = await self._chosen(value, run, path)
            parts = self._parts(chosen, self.inputs(value), run, path)
            await parts.run()
            return chosen, parts.results()
        chosen = self.chosen
        live = [i for i in chosen if self.steps[i].live]
        at_once = self.concurrency is None or self.concurrency >= len(chosen)
        tee = Tee(stream, len(live), len(live) < len(chosen), at_once)
        readers = dict(zip(live, tee.readers, strict=True))
        async with tee:
            return chosen, await fan_out(
                [partial(self._live_branch, i, tee, readers.get(i), run, path) for i in chosen],
                [self.labels[i] for i in chosen],
                concurrency=self.concurrency,
                on_error=self.on_error,
            )

    async def _live_branch(self, i: int, tee: Tee, reader: Any, run: Run, path: Path) -> Any:
        if reader is None:
            return await self._branch(i, await tee.value(), run, path)
        with reader.at_work():
            return await self._branch(i, reader, run, path)


if not TYPE_CHECKING:
    TypedDiverter = Parallel


class Diverter(TypedDiverter[In, Out]):
    """Gives each branch its own item: `Diverter(a, b)(Args(1, 2))` is `Args(a(1), b(2))`.

    Takes the arguments of Parallel; the value is Args, a list or a tuple with one item for each branch, or for
    named branches a dict with the same names.
    """

    shared = False

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
