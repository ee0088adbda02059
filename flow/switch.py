"""Switch: the first case that fits decides which branch runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from ..streaming.errors import FlowBuildError, FlowCallError
from ..streaming.events import Path
from ..streaming.runs import Run
from .args import UNSETTLED
from .calls import run_here
from .chains import Link, stream_chain
from .checks import refuse_misfits
from .flows import Flow, kind_of
from .functions import FunctionStep, WholeStep, as_step
from .performing import leaving, perform
from .steps import In, Keep, Out, Step
from .taps import close, framed
from .threads import hop

if TYPE_CHECKING:
    from .builders import OpenSwitch
    from .constructors import TypedSwitch as Base
else:
    Base = Flow

__all__ = ["Switch"]

KEY = -1
"""The index of the key among the steps that decide."""


class Undecided(NamedTuple):
    """A plain function that was to decide gave no answer yet, but something to await or to read."""

    i: int
    value: Any
    pending: Any


class Switch(Base[In, Out]):
    """Runs the branch of the first case that fits, in the order written.

    Args:
        cases: `{case: branch}`. A case is a predicate (anything callable) or a value that is compared with `==`;
            both see `key(x)`, the branch sees `x`.
        key: what of `x` to decide by; `x` itself by default.
        default: the branch when no case fits.

    It can be written in a block::

        with Switch(key=classify) as switch:
            switch["faq"] = look_up
            switch[is_short] = answer
            switch.default = decline

    Raises:
        FlowCallError: no case fits and there is no default; the message names the value and the cases.
    """

    key: Step[Any, Any] | None = None
    default: Step[Any, Any] | None = None

    def _write(
        self,
        cases: Mapping[Any, Step[Any, Any] | Callable[..., Any]] | None = None,
        *,
        key: Step[Any, Any] | Callable[..., Any] | None = None,
        default: Step[Any, Any] | Callable[..., Any] | None = None,
        name: str | None = None,
    ) -> None:
        if cases is not None and not isinstance(cases, Mapping):
            raise FlowBuildError("Switch takes a dict of cases: Switch({case: branch}, default=branch)")
        if cases is not None and not cases and default is None:
            raise FlowBuildError("Switch({}) has no case and no default: no value could pass")
        self.freeze(name=name)
        self._build(cases or {}, default, key)

    if not TYPE_CHECKING:  # what type checkers see stands in constructors.pyi
        __init__ = _write
        __init__.__qualname__ = "Switch.__init__"

    def _build(
        self,
        cases: Mapping[Any, Step[Any, Any] | Callable[..., Any]],
        default: Step[Any, Any] | Callable[..., Any] | None,
        key: Step[Any, Any] | Callable[..., Any] | None,
    ) -> None:
        branches = [as_step(branch) for branch in cases.values()]
        tests: list[Step[Any, Any]] = [as_step(case) if callable(case) else _equals(case) for case in cases]
        labels = [_label(case) for case in cases]
        if default is not None:
            branches.append(as_step(default))
            labels.append("default")
        decides = as_step(key) if key is not None else None
        deciding = [*tests, *([decides] if decides is not None else [])]
        plain = [s for s in deciding if isinstance(s, FunctionStep) and s.plain]
        decider: FunctionStep[Any, Any] | None = None
        if len(plain) == len(deciding):
            decider = WholeStep(self._decide, name="switch", inline=all(s.inline for s in plain))
        self.freeze(
            key=decides,
            tests=tuple(tests),
            branches=tuple(branches),
            names=self._unique(labels),
            default=branches[-1] if default is not None else None,
            decider=decider,
            plain=decider is not None and all(b.plain for b in branches),
            streams=any(b.streams for b in branches),
        )
        refuse_misfits(self)

    def __enter__(self) -> OpenSwitch[In, Out]:
        from .builders import OpenSwitch

        return OpenSwitch.opened(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from .builders import close_block

        close_block(self, kind is None)

    tests: tuple[Step[Any, Any], ...]
    branches: tuple[Step[Any, Any], ...]
    names: tuple[str, ...]
    decider: FunctionStep[Any, Any] | None = None

    @staticmethod
    def _unique(labels: Sequence[str]) -> tuple[str, ...]:
        return tuple(
            label if label not in labels[:i] else f"{label}-{labels[: i + 1].count(label)}"
            for i, label in enumerate(labels)
        )

    def children(self) -> Sequence[Step[Any, Any]]:
        return (*([self.key] if self.key is not None else []), *self.tests, *self.branches)

    def _decide(self, x: Any) -> int | Undecided:
        """The index of the branch, where key and cases are plain functions; or how far that came."""
        value, i = x, KEY
        try:
            if self.key is not None:
                value = self.key.call(x)  # type: ignore[attr-defined]
                if type(value) in UNSETTLED:
                    return Undecided(KEY, None, value)
            for i, test in enumerate(self.tests):
                fits = test.call(value)  # type: ignore[attr-defined]
                if type(fits) in UNSETTLED:
                    return Undecided(i, value, fits)
                if fits:
                    return i
        except BaseException as error:
            raise leaving(error, self.deciding(i))  # noqa: B904
        return self._otherwise(value)

    def deciding(self, i: int) -> str:
        """What the note on an error calls a case, or the key."""
        return "key" if i == KEY else f"case {self.names[i]}"

    async def _decide_slowly(
        self, x: Any, run: Run | None, path: Path, undecided: Undecided | None = None
    ) -> int:
        """The same where deciding takes more than plain functions; or from where they could not go on."""
        value, i = x, KEY
        try:
            if undecided is not None:
                i, value, pending = undecided
                step = self.key if i == KEY else self.tests[i]
                assert isinstance(step, FunctionStep)
                answer = await step.settle(pending, run, path, False)
                run = run or run_here()
                if i == KEY:
                    value = answer
                elif answer:
                    return i
            elif self.key is not None:
                value = await self.key.execute(x, run, path, False)
            for i in range(i + 1, len(self.tests)):  # noqa: B020
                if await self.tests[i].execute(value, run, path, False):
                    return i
        except BaseException as error:
            raise leaving(error, self.deciding(i))  # noqa: B904
        return self._otherwise(value)

    def _otherwise(self, value: Any) -> int:
        if self.default is not None:
            return len(self.branches) - 1
        shown = repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "..."
        if not self.branches:
            raise FlowCallError(f"this {kind_of(self)} has no case yet; its block has not been written")
        raise FlowCallError(
            f"no case of the Switch fits {shown}; its cases: {', '.join(self.names)}; give default="
        )

    async def choose(self, x: Any, run: Run | None, path: Path) -> int:
        """The index of the branch for `x`."""
        if self.decider is None:
            return await self._decide_slowly(x, run, path)
        if run is None or self.decider.inline:
            chosen: int | Undecided = self._decide(x)
        else:
            _, chosen, _ = await hop(run, (self.decider,), (None,), x, path, None)
        if type(chosen) is Undecided:
            return await self._decide_slowly(x, run, path, chosen)
        return int(chosen)  # type: ignore[arg-type]

    async def execute(self, x: Any, run: Run | None, path: Path, output: bool) -> Any:
        chosen: int | Undecided
        if run is None and self.decider is not None:
            chosen = self._decide(x)
            if type(chosen) is Undecided:
                chosen = await self._decide_slowly(x, run, path, chosen)
        else:
            chosen = await self.choose(x, run, path)
        if run is None:
            run = run_here()
        assert isinstance(chosen, int)
        name, branch = self.names[chosen], self.branches[chosen]
        if run is not None:
            return await perform(branch, x, run, path, name, output)
        try:
            return await branch.execute(x, None, path, output)
        except BaseException as error:
            raise leaving(error, name)  # noqa: B904

    def open(
        self, x: Any, run: Run, path: Path, output: bool = False, keep: Keep | None = None
    ) -> AsyncIterator[Any]:
        if not self.streams:
            return super().open(x, run, path, output, keep)
        return framed(self._stream(x, run, path, output, keep), run, path)

    async def _stream(
        self, x: Any, run: Run, path: Path, output: bool, keep: Keep | None
    ) -> AsyncIterator[Any]:
        chosen = await self.choose(x, run, path)
        link = Link(self.branches[chosen], self.names[chosen], self.names[chosen])
        stream = stream_chain([link], x, run, path, output, keep)
        try:
            async for item in stream:
                yield item
        finally:
            await close(stream)


def _equals(case: Any) -> FunctionStep[Any, bool]:
    def equals(value: Any) -> bool:
        return bool(value == case)

    return WholeStep(equals, name=repr(case), inline=True)


def _label(case: Any) -> str:
    if callable(case):
        return str(getattr(case, "name", None) or getattr(case, "__name__", None) or type(case).__name__)
    return str(case)
