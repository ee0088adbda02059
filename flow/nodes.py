"""A graph's nodes at work, in one call of it: each as soon as what it waits for is there."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import Any

from ..streaming.events import Path
from ..streaming.runs import Run
from .chains import run_chain, stream_chain
from .fanout import Group, OnError
from .performing import leaving, perform
from .taps import came_from, close, is_stream
from .tees import Branch, Tee
from .threads import changed
from .units import Layout, Unit
from .wiring import INPUT

__all__ = ["Nodes"]

Changes = Mapping[ContextVar[Any], tuple[int, Any]]
"""Context variables that were set on the way to a node: by which unit, and to what."""

NONE: Changes = {}


class Nodes(Group):
    """All units of a layout but the last, which runs when they are over.

    Each runs in a context of its own, in which it finds what was set by the nodes that lead to it; where several have
    set the same variable, the one that is last in order counts. A node whose pieces several others take as they
    come runs as a Tee.
    """

    owner: Run

    def __init__(
        self,
        layout: Layout,
        constants: Mapping[str, Any],
        x: Any,
        run: Run,
        path: Path,
        concurrency: int | None,
        on_error: OnError,
    ) -> None:
        super().__init__([partial(self._work, unit) for unit in layout.units], concurrency, on_error)
        self.layout = layout
        self.owner = run
        self.hurries = layout.bare
        self.path = path
        self.found: dict[str, Any] = {**constants, INPUT: x}
        """What is known so far, by name."""
        self._waiting = list(layout.waiting)
        self._ready: deque[Unit] = deque()
        self._contexts: dict[int, tuple[Context, Context]] = {}
        self._changes: list[Changes] = [NONE] * len(layout.units)
        self._tees: dict[int, Tee] = {}
        self._ended_well: set[int] = set()

    # ------------------------------------------------------------ in the graph's own task

    async def run(self) -> None:
        """Runs all but the last; raises the earliest failure."""
        units, last = self.layout.units, self.layout.last
        self._base = copy_context()
        self._left -= last is not None
        for unit in units[1:]:
            if not self._waiting[unit.index] and unit is not last:
                self._ready.append(unit)
        first, x = units[0], self.found[INPUT]
        if is_stream(x) and (first.kept or len(first.readers) > 1):
            self._ready.append(first)
        else:
            self._left -= 1
            self._release(first.users)
            self._release(first.readers)
        if self._left:
            await super().run()
        self.outcome([unit.name for unit in units])

    def enter_last(self) -> Unit | None:
        """The last one, after taking over what was set on the way to the output; what is behind the graph finds it."""
        last = self.layout.last
        leading = self.layout.gives if last is None else last.needs
        for variable, (_, value) in self._merged(leading).items():
            variable.set(value)
        return last

    def input_of(self, unit: Unit) -> Any:
        """What the unit's first node is called with."""
        try:
            return unit.inputs.take(self.found)
        except BaseException as error:
            raise leaving(error, unit.links[0].label)  # noqa: B904

    # ------------------------------------------------------------ who starts when

    def _begin(self) -> None:
        self._start_ready()

    def _start_ready(self) -> None:
        if self._filling:
            return
        self._filling = True
        with self._hurry() as hurry:
            while self._ready and self._has_place() and not self._stopping:
                if self.owner.cut is not None:
                    self._halt()
                    break
                unit = self._ready.popleft()
                context = self._base.copy()
                for variable, (_, value) in self._merged(_leading_to(unit)).items():
                    context.run(variable.set, value)
                self._contexts[unit.index] = context, context.copy()
                self._start(unit.index, context, hurry)
        self._filling = False

    def _fill(self) -> None:
        self._start_ready()

    def _go_on(self, i: int) -> None:
        unit = self.layout.units[i]
        self.found[unit.name] = self.values[i]
        self._note_changes(unit)
        self._release(unit.users)
        self._start_ready()

    def _release(self, units: Sequence[int]) -> None:
        """One thing that these units have waited for is there."""
        for i in units:
            self._waiting[i] -= 1
            unit = self.layout.units[i]
            if not self._waiting[i] and unit is not self.layout.last:
                self._ready.append(unit)

    # ------------------------------------------------------------ context variables

    def _note_changes(self, unit: Unit) -> None:
        context, before = self._contexts[unit.index]
        changes = dict(self._merged(_leading_to(unit)))
        for variable, value in changed(context, before):
            changes[variable] = (unit.index, value)
        self._changes[unit.index] = changes or NONE

    def _merged(self, units: Sequence[int]) -> Changes:
        """What was set by these units and by all that led to them."""
        given = [self._changes[i] for i in units if self._changes[i]]
        if len(given) < 2:
            return given[0] if given else NONE
        merged: dict[ContextVar[Any], tuple[int, Any]] = {}
        for changes in given:
            for variable, mark in changes.items():
                if variable not in merged or merged[variable][0] < mark[0]:
                    merged[variable] = mark
        return merged

    # ------------------------------------------------------------ in the task of a unit

    async def _work(self, unit: Unit) -> Any:
        tee = None if unit.upstream is None else self._tees.get(unit.upstream)
        if tee is None:
            return await self._run_unit(unit, self.input_of(unit))
        upstream = self.layout.units[unit.upstream or 0]
        branch = tee.readers[upstream.readers.index(unit.index)]
        with branch.at_work():
            return await self._run_unit(unit, self._pieces_of(upstream, branch))

    async def _run_unit(self, unit: Unit, x: Any) -> Any:
        if unit.readers:
            return await self._feed(unit, x)
        if len(unit.links) > 1:
            return await run_chain(unit.links, x, self.owner, self.path, False)
        link = unit.links[0]
        return await perform(link.step, x, self.owner, self.path, link.name, False)

    async def _feed(self, unit: Unit, x: Any) -> Any:
        """Runs a unit whose pieces others take as they come; under a limit they may not all be at work at once."""
        value: list[Any] = []
        stream = x
        if unit.links:
            stream = stream_chain(unit.links, x, self.owner, self.path, False, value.append)
        at_once = self._limit >= len(self.work)
        tee = Tee(self._marked(unit, stream), len(unit.readers), unit.kept, at_once)
        self._tees[unit.index] = tee
        self._release(unit.readers)
        self._start_ready()
        await tee.feed()
        try:
            whole = await tee.value()
        except Exception:
            if unit.kept:
                raise
            return None  # those who read it have it, and may go on without the rest
        if value:
            return value[0]
        return stream.value if getattr(stream, "known", False) else whole

    async def _marked(self, unit: Unit, stream: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """The stream of a unit; its error is told from those of its readers."""
        try:
            async for item in stream:
                yield item
            self._ended_well.add(unit.index)
        except Exception as error:
            if unit.links:
                came_from(error, (*self.path, unit.name))
            raise
        finally:
            await close(stream)

    async def _pieces_of(self, unit: Unit, branch: Branch) -> AsyncIterator[Any]:
        """What one reader is given."""
        async for item in branch:
            yield item
        if unit.index not in self._ended_well:
            # The stream was left by SystemExit or the like: this is no end, and the cancel is on its way.
            await self.loop.create_future()


def _leading_to(unit: Unit) -> Sequence[int]:
    return unit.needs if unit.upstream is None else (unit.upstream,)
