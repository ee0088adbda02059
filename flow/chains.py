"""A step and the live steps behind it, all at work at once, in one task: each takes the pieces of the one before."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from ..streaming.events import Path, StepFinished, StepStarted
from ..streaming.runs import FRAME, Run
from .hooks import StepCall
from .performing import leaving
from .taps import Remembered, Valued, close_all, is_from_upstream, origin_of

if TYPE_CHECKING:
    from .steps import Keep, Step

__all__ = ["Link", "run_chain", "stream_chain"]


class Link(NamedTuple):
    """One step of a chain: what its path and the note on an error call it; without a name it says nothing."""

    step: Step[Any, Any]
    name: str | int | None
    label: str


async def run_chain(
    links: Sequence[Link], x: Any, run: Run, path: Path, output: bool, kept: dict[str, Any] | None = None
) -> Any:
    """Runs a chain and returns the value of its last step; those of the others go into `kept`, if given."""
    chain = Chain(run, path, kept)
    try:
        for link, behind in pairwise(links):
            x = chain.open(link, x, False, wanted=behind.step.gathers)
        last = links[-1]
        where = chain.begin(last, x)
        x = await last.step.execute(x, run, where, output)
    except BaseException as error:
        await chain.close(error)
    await chain.close()  # returning early stops the upstream
    chain.finish(x)
    return x


async def stream_chain(
    links: Sequence[Link],
    x: Any,
    run: Run,
    path: Path,
    output: bool,
    keep: Keep | None = None,
    kept: dict[str, Any] | None = None,
) -> AsyncIterator[Any]:
    """The pieces of a chain's last step; `keep` is given its value."""
    chain, values = Chain(run, path, kept), [None]
    wanted = None if keep is None and run.hooks is None else partial(values.__setitem__, 0)
    try:
        for link, behind in pairwise(links):
            x = chain.open(link, x, False, wanted=behind.step.gathers)
        stream = chain.open(links[-1], x, output, wanted)
        async for item in stream:
            yield item
    except BaseException as error:
        await chain.close(error)
    await chain.close()
    chain.finish(values[0])
    if keep is not None:
        keep(values[0])


class Chain:
    """The steps of a chain that are at work."""

    def __init__(self, run: Run, path: Path, kept: dict[str, Any] | None) -> None:
        self.run = run
        self.path = path
        self.kept = kept
        self.opened: list[Any] = []
        self.links: list[tuple[Link, Path, StepCall | None]] = []
        self.values: dict[int, Any] = {}

    def begin(self, link: Link, x: Any) -> Path:
        """Says that a step starts; returns its path."""
        run, call = self.run, None
        where = self.path if link.name is None else (*self.path, link.name)
        FRAME.set((run, where))
        if link.name is not None:
            if run.log is not None:
                run.log.put(StepStarted(), where)
            if run.hooks is not None:
                call = run.hooks.begin(run, where, x)
        self.links.append((link, where, call))
        return where

    def open(
        self, link: Link, x: Any, output: bool, keep: Keep | None = None, wanted: bool = False
    ) -> AsyncIterator[Any]:
        """Sets a step to work on `x`; its pieces are for the next one, and with `wanted` its value too."""
        where = self.begin(link, x)
        valued = Valued() if wanted else None
        if keep is None and (valued is not None or self.kept is not None or self.run.hooks is not None):
            keep = self._keeper(link, len(self.links) - 1, valued)
        stream: Any = link.step.open(x, self.run, where, output, keep)
        if valued is not None:
            valued.stream, stream = stream, valued
        if self.kept is not None:  # where the next step leaves it early: what has come of it
            stream = Remembered(stream, partial(self.kept.setdefault, link.label))
        self.opened.append(stream)
        return stream  # type: ignore[no-any-return]

    def _keeper(self, link: Link, i: int, valued: Valued | None) -> Callable[[Any], None]:
        def keep(value: Any) -> None:
            self.values[i] = value
            if valued is not None:
                valued.keep(value)
            if self.kept is not None:
                self.kept[link.label] = value

        return keep

    async def close(self, error: BaseException | None = None) -> None:
        """Closes what was opened, from the end, and raises the error, or what a cleanup has raised."""
        try:
            await close_all(reversed(self.opened), error)
        except BaseException as first:
            raise self.failed(first)  # noqa: B904

    def finish(self, value: Any) -> None:
        """All are over; `value` is that of the last."""
        self.values[len(self.links) - 1] = value
        for i in range(len(self.links)):
            self._end(i)
        FRAME.set((self.run, self.path))

    def failed(self, error: BaseException) -> BaseException:
        """The error as it leaves the chain: with the name of the step that it arose in, if it was one of these.

        All are over: with the error, where it is their own or a stop; the others as if they had been left early.
        """
        cut, at = self.run.cut is not None, self._origin(error)
        stopped = isinstance(error, CancelledError) or (cut and isinstance(error, GeneratorExit))
        if isinstance(error, (CancelledError, GeneratorExit)):
            at = None
        elif at is not None:
            link = self.links[at][0]
            error = leaving(error, None if link.name is None else link.label)
        for i in range(len(self.links)):
            self._end(i, error if stopped or i == at else None, says=i == at or not cut)
        FRAME.set((self.run, self.path))
        return error

    def _end(self, i: int, error: BaseException | None = None, says: bool = True) -> None:
        """A step is over; in a run that is being stopped, nobody needs to hear of each."""
        link, where, call = self.links[i]
        if says and link.name is not None and self.run.log is not None:
            self.run.log.put(StepFinished(error), where)
        if call is not None and error is not None:
            self.run.hooks.fail(call, error)
        elif call is not None:
            self.run.hooks.end(call, self.values.get(i))

    def _origin(self, error: BaseException) -> int | None:
        """Which step the error arose in; None where it came with the pieces that the first one takes."""
        within = [i for i, (_, where, _) in enumerate(self.links) if not is_from_upstream(error, where)]
        if not within:
            return None
        return within[-1] if origin_of(error) is None else within[0]
