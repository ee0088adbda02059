"""PolicyStep: a step around another one, which says how often, how long, or how many at once it may work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from copy import copy
from typing import Any, NoReturn, Self

from ...streaming.errors import FlowBuildError
from ...streaming.events import Path
from ...streaming.runs import Run
from ..steps import In, Keep, Out, Step
from ..taps import close, framed
from ..threads import HOLDS

__all__ = ["Dressed", "Held", "PolicyStep", "bare", "pieces_of", "show_of"]


class PolicyStep(Step[In, Out]):
    """A step with a policy, and nothing but the name of it; what it does is done by `inner`.

    A policy is written as `work`, for steps that give a value, and as `pieces`, for those that stream. Policies
    stand in each other: `step(f, retry=3, timeout=2)` is a Retrying around a Timed around `f`.
    """

    def __init__(self, inner: Step[In, Out], name: str | None = None) -> None:
        self.inner = inner
        self.name = name or inner.name
        self.mirror()

    def mirror(self) -> None:
        """Takes over from `inner` how it is called."""
        self.live = self.inner.live
        self.gathers = self.inner.gathers
        self.streams = self.inner.streams
        self.shallow = self.inner.shallow

    @property
    def label(self) -> str:
        """What messages call it."""
        return self.name or type(bare(self)).__name__

    def children(self) -> Sequence[Step[Any, Any]]:
        return (self.inner,)

    def around(self, change: Callable[[Step[Any, Any]], Step[Any, Any]]) -> Self:
        """The same policy, with the same slots and the same cache, around a changed step."""
        twin = copy(self)
        twin.inner = change(self.inner)
        twin.mirror()
        return twin

    def __enter__(self) -> NoReturn:
        raise FlowBuildError(
            f"step({self.label}, ...) cannot be written in a block; write the flow first, "
            "then give it its policies: step(flow, retry=3)"
        )

    def __exit__(self, *_: object) -> None: ...

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.inner!r}>"

    # ------------------------------------------------------------ for policies

    async def work(self, x: Any, run: Run, path: Path, output: bool) -> Any:
        """Does the work of a step that does not stream."""
        return await self.inner.execute(x, run, path, output)

    def pieces(self, x: Any, run: Run, path: Path, output: bool, keep: Keep) -> AsyncIterator[Any]:
        """Does the work of a step that streams; `keep` is called with its value at the natural end."""
        return pieces_of(self.inner, x, run, path, output, keep)

    # ------------------------------------------------------------ as a step

    async def execute(self, x: Any, run: Run | None, path: Path, output: bool) -> Any:
        assert run is not None
        if not self.streams:
            return await self.work(x, run, path, output)
        values: list[Any] = []
        stream, count = self.pieces(x, run, path, output, values.append), 0
        try:
            async for _ in stream:
                count += 1
                if run.cut is not None:
                    await run.park()
                elif not count & 255:
                    await asyncio.sleep(0)  # nobody's backpressure lets a cancel in
        finally:
            if output and count:
                run.outputs += 1
            await close(stream)
        return values[0]

    def open(
        self, x: Any, run: Run, path: Path, output: bool = False, keep: Keep | None = None
    ) -> AsyncIterator[Any]:
        if not self.streams:
            return super().open(x, run, path, output, keep)
        return framed(self.pieces(x, run, path, output, keep or _forgotten), run, path)


class Dressed(PolicyStep[In, Out]):
    """A step under another name, or with its pieces shown otherwise; without a policy."""

    def __init__(self, inner: Step[In, Out], name: str | None = None, show: str | None = None) -> None:
        self.show = show
        super().__init__(inner, name)

    def mirror(self) -> None:
        super().mirror()
        self.plain = self.inner.plain

    async def execute(self, x: Any, run: Run | None, path: Path, output: bool) -> Any:
        return await self.inner.execute(x, run, path, self._shows(output))

    def open(
        self, x: Any, run: Run, path: Path, output: bool = False, keep: Keep | None = None
    ) -> AsyncIterator[Any]:
        return self.inner.open(x, run, path, self._shows(output), keep)

    def pieces(self, x: Any, run: Run, path: Path, output: bool, keep: Keep) -> AsyncIterator[Any]:
        return super().pieces(x, run, path, self._shows(output), keep)

    def _shows(self, output: bool) -> bool:
        return output if self.show is None else self.show == "output"


def pieces_of(
    step: Step[Any, Any], x: Any, run: Run, path: Path, output: bool, keep: Keep
) -> AsyncIterator[Any]:
    """What `step` gives piece by piece, for the policy around it."""
    if isinstance(step, PolicyStep) and step.streams:
        return step.pieces(x, run, path, output, keep)  # the outermost gives all of them their frame
    return step.open(x, run, path, output, keep)


def show_of(step: Step[Any, Any]) -> str | None:
    """What becomes of the step's pieces, where it was said."""
    while isinstance(step, PolicyStep):
        if isinstance(step, Dressed) and step.show is not None:
            return step.show
        step = step.inner
    return getattr(step, "show", None)


def bare(step: Step[Any, Any]) -> Step[Any, Any]:
    """The step under all its policies."""
    while isinstance(step, PolicyStep):
        step = step.inner
    return step


class Held:
    """While something works on behalf of a hold: what it calls can see it, and tells it of abandoned functions.

    Entered once for each piece of a stream, and never twice at a time.
    """

    __slots__ = ("_hold", "_holds", "_outer")

    def __init__(self, hold: Any) -> None:
        self._hold = hold
        self._outer = self._holds = ()

    def __enter__(self) -> None:
        outer = HOLDS.get()
        if outer is not self._outer or not self._holds:
            self._outer, self._holds = outer, (*outer, self._hold)
        HOLDS.set(self._holds)

    def __exit__(self, *_: object) -> None:
        HOLDS.set(self._outer)  # never a token: it would cross a yield


def _forgotten(value: Any) -> None:
    """Nobody asks for the value."""
