"""Warp: one step over every item."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..streaming.errors import FlowCallError
from ..streaming.events import Path
from ..streaming.runs import Run
from .checks import refuse_misfits
from .fanout import OnError
from .fans import Fan
from .flows import label_of
from .parts import Parts, are_bare
from .pipeline import as_body
from .steps import In, Out, Step

if TYPE_CHECKING:
    from .builders import OpenWarp
    from .constructors import TypedWarp as Base
else:
    Base = Fan

__all__ = ["Warp"]


class Warp(Base[In, Out]):
    """Runs one step over every item of an iterable, all at once or `concurrency` at a time; gives a list.

    Args:
        inner: the step.
        concurrency: how many items are worked on at once; all by default.
        on_error: as for Parallel.
        collect: what to make of the list of results.
        post: a step for what `collect` has made, or for the list.

    With several steps, as a pipeline for each item::

        with Warp() as w:
            w.read = read
            w.rate = bind(rate, text=w.read, name=w.input)
    """

    def _write(
        self,
        inner: Step[Any, Any] | Callable[[Any], Any] | None = None,
        *,
        concurrency: int | None = None,
        on_error: OnError = "raise",
        collect: Callable[[list[Any]], Any] | None = None,
        post: Step[Any, Any] | Callable[[Any], Any] | None = None,
        name: str | None = None,
    ) -> None:
        self._set(collect, on_error, concurrency, post)
        self.freeze(name=name, inner=as_body(inner))
        refuse_misfits(self)

    if not TYPE_CHECKING:  # what type checkers see stands in constructors.pyi
        __init__ = _write
        __init__.__qualname__ = "Warp.__init__"

    if TYPE_CHECKING:
        inner: Step[Any, Any]

    def children(self) -> Sequence[Step[Any, Any]]:
        return (self.inner,) if self.post is None else (self.inner, self.post)

    def __enter__(self) -> OpenWarp[In, Out]:
        from .builders import OpenWarp

        return OpenWarp.opened(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from .builders import close_block

        close_block(self, kind is None)

    async def results(self, x: Any, run: Run, path: Path) -> Any:
        if not isinstance(x, Iterable) or isinstance(x, (str, bytes)):
            raise FlowCallError(
                f"{self!r} takes an iterable of items, not {type(x).__name__}; wrap it in a list"
            )
        items, label = list(x), label_of(self.inner)
        many = range(len(items))
        parts = Parts(
            [self.inner] * len(items),
            items,
            run,
            (*path, label),
            many,
            [f"{label}[{i}]" for i in many],
            concurrency=self.concurrency,
            on_error=self.on_error,
            bare=are_bare(self.inner),
        )
        await parts.run()
        return parts.results()
