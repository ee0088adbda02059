"""If and Loop: one branch or the other, and one body again and again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..streaming.errors import FlowBuildError
from ..streaming.events import Path
from ..streaming.runs import Run
from ..streaming.tasks import gives_way
from .calls import run_here
from .chains import Link, run_chain, stream_chain
from .checks import refuse_misfits
from .flows import Flow, label_of
from .functions import WholeStep, as_step
from .performing import leaving, perform
from .pipeline import as_body
from .steps import In, Keep, Out, Step
from .switch import Switch
from .taps import close, framed

if TYPE_CHECKING:
    from .builders import OpenIf, OpenLoop
    from .constructors import TypedIf as IfBase
    from .constructors import TypedLoop as LoopBase
else:
    IfBase, LoopBase = Switch, Flow

__all__ = ["If", "Loop"]


class If(IfBase[In, Out]):
    """Runs `then` where `condition(x)` is true, else `otherwise`; without that the value passes as it is.

    A Switch with one case. It can be written in a block::

        with If(is_long) as shorten:
            shorten.then = summarize
            shorten.otherwise = clean
    """

    def _write(  # type: ignore[override]
        self,
        condition: Step[Any, Any] | Callable[[Any], Any],
        then: Step[Any, Any] | Callable[[Any], Any] | None = None,
        otherwise: Step[Any, Any] | Callable[[Any], Any] | None = None,
        *,
        name: str | None = None,
    ) -> None:
        if not callable(condition):
            raise FlowBuildError(
                f"If({condition!r}, ...): the condition is a predicate, something that can be called"
            )
        if then is None and otherwise is not None:
            raise FlowBuildError(
                "If(condition, otherwise=...): give then= as well; the identity is Pipeline()"
            )
        self.freeze(name=name)
        if then is None:  # to be written in a block
            self._build({}, None, None)
        else:
            self._build({condition: then}, otherwise if otherwise is not None else WholeStep(_pass), None)
        self.freeze(condition=condition)

    if not TYPE_CHECKING:  # what type checkers see stands in constructors.pyi
        __init__ = _write
        __init__.__qualname__ = "If.__init__"

    def deciding(self, i: int) -> str:
        return "condition"

    if TYPE_CHECKING:
        condition: Step[Any, Any] | Callable[[Any], Any]

    def __enter__(self) -> OpenIf[In, Out]:  # type: ignore[override]
        from .builders import OpenIf

        return OpenIf.opened(self)


def _pass(x: Any) -> Any:
    return x


class Loop(LoopBase[In, Out]):
    """Runs its body again and again, each turn on the value of the one before, and at least once.

    Args:
        body: the step.
        count: how many turns at most.
        until: a predicate on the value of each turn; true ends the loop.

    One of `count` and `until` is needed. Each turn's text is output, as the last step's of a Pipeline is. Where the
    body takes its upstream live and there is no `until`, all turns are at work at once, each on the pieces of the one
    before, and the last one's text is the output.

    With several steps, as a pipeline for each turn::

        with Loop(count=3) as draft:
            draft.write = write
            draft.better = bind(improve, text=draft.write, notes=draft.input)
    """

    count: int | None = None
    chained = False
    """Whether each turn takes the pieces of the one before as they come."""
    until: Step[Any, Any] | None = None

    def _write(
        self,
        body: Step[Any, Any] | Callable[..., Any] | None = None,
        *,
        count: int | None = None,
        until: Step[Any, Any] | Callable[[Any], Any] | None = None,
        name: str | None = None,
    ) -> None:
        if count is None and until is None:
            raise FlowBuildError("Loop(body) would never end: give count=, until= or both")
        if count is not None and (not isinstance(count, int) or count < 1):
            raise FlowBuildError(f"Loop(count={count!r}): a loop runs its body at least once; give 1 or more")
        self.freeze(name=name, count=count, until=as_step(until) if until is not None else None)
        self._set_body(as_body(body))

    if not TYPE_CHECKING:  # what type checkers see stands in constructors.pyi
        __init__ = _write
        __init__.__qualname__ = "Loop.__init__"

    def _set_body(self, body: Step[Any, Any]) -> None:
        free = self.until is None
        self.freeze(
            body=body,
            plain=body.plain and (self.until is None or self.until.plain),
            live=body.live,
            gathers=body.gathers,
            chained=body.live and free,
            streams=body.streams and free,
        )
        refuse_misfits(self)

    body: Step[Any, Any]

    def children(self) -> Sequence[Step[Any, Any]]:
        return (self.body,) if self.until is None else (self.body, self.until)

    def __enter__(self) -> OpenLoop[In, Out]:
        from .builders import OpenLoop

        return OpenLoop.opened(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from .builders import close_block

        close_block(self, kind is None)

    async def execute(self, x: Any, run: Run | None, path: Path, output: bool) -> Any:
        if run is not None and self.chained:
            return await run_chain(self._links(), x, run, path, output)
        turn = 0
        while True:
            x = await self._turn(turn, x, run, path, output)
            run = run or run_here()
            turn += 1
            if turn == self.count:
                return x
            if self.until is not None and await self._is_enough(x, run, path):
                return x
            if run is not None:
                run.raise_if_cut()
                if run.loop is not None and gives_way(run.loop):
                    await asyncio.sleep(0)

    async def _is_enough(self, x: Any, run: Run | None, path: Path) -> bool:
        assert self.until is not None
        try:
            return bool(await self.until.execute(x, run, path, False))
        except BaseException as error:
            raise leaving(error, "until")  # noqa: B904

    async def _turn(self, turn: int, x: Any, run: Run | None, path: Path, output: bool) -> Any:
        if run is not None:
            return await perform(self.body, x, run, path, turn, output, self._label(turn))
        try:
            return await self.body.execute(x, None, path, output)
        except BaseException as error:
            raise leaving(error, self._label(turn))  # noqa: B904

    def _label(self, turn: int) -> str:
        """What the note on an error calls a turn."""
        return f"{label_of(self.body)}[{turn}]"

    def _links(self) -> list[Link]:
        assert self.count is not None
        return [Link(self.body, turn, self._label(turn)) for turn in range(self.count)]

    # ------------------------------------------------------------ the last turn's pieces, as they come

    def open(
        self, x: Any, run: Run, path: Path, output: bool = False, keep: Keep | None = None
    ) -> AsyncIterator[Any]:
        if not self.streams:
            return super().open(x, run, path, output, keep)
        return framed(self._stream(x, run, path, output, keep), run, path)

    async def _stream(
        self, x: Any, run: Run, path: Path, output: bool, keep: Keep | None
    ) -> AsyncIterator[Any]:
        links = self._links()
        if not self.chained:
            for turn in range(len(links) - 1):
                x = await self._turn(turn, x, run, path, output)
            links = links[-1:]
        stream = stream_chain(links, x, run, path, output, keep)
        try:
            async for item in stream:
                yield item
        finally:
            await close(stream)
