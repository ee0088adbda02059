"""Switch: the first case that fits decides which branch runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..streaming.errors import FlowBuildError, FlowCallError
from ..streaming.events import Path, StepFinished, StepStarted
from ..streaming.notes import trail
from ..streaming.runs import FRAME, Run
from .args import UNSETTLED
from .flows import Flow
from .functions import FunctionStep, WholeStep, as_step
from .steps import In, Out, Step
from .threads import hop

__all__ = ["Switch"]


class Switch(Flow[In, Out]):
    """Runs the branch of the first case that fits, in the order written.

    Args:
        cases: `{case: branch}`. A case is a predicate (anything callable) or a value that is compared with `==`;
            both see `key(x)`, the branch sees `x`.
        key: what of `x` to decide by; `x` itself by default.
        default: the branch when no case fits.

    Raises:
        FlowCallError: no case fits and there is no default; the message names the value and the cases.
    """

    key: Step[Any, Any] | None = None
    default: Step[Any, Any] | None = None

    def __init__(
        self: Switch[Any, Any],
        cases: Mapping[Any, Step[Any, Any] | Callable[..., Any]],
        *,
        key: Step[Any, Any] | Callable[..., Any] | None = None,
        default: Step[Any, Any] | Callable[..., Any] | None = None,
        name: str | None = None,
    ) -> None:
        if not isinstance(cases, Mapping):
            raise FlowBuildError("Switch takes a dict of cases: Switch({case: branch}, default=branch)")
        if not cases and default is None:
            raise FlowBuildError("Switch({}) has no case and no default: no value could pass")
        branches = [as_step(branch) for branch in cases.values()]
        tests: list[Step[Any, Any]] = [as_step(case) if callable(case) else _equals(case) for case in cases]
        labels = [_label(case) for case in cases]
        if default is not None:
            branches.append(as_step(default))
            labels.append("default")
        deciding = [*tests, *([as_step(key)] if key is not None else [])]
        plain = [s for s in deciding if isinstance(s, FunctionStep) and s.plain]
        decider: FunctionStep[Any, Any] | None = None
        if len(plain) == len(deciding):
            decider = WholeStep(self._decide, name="switch", inline=all(s.inline for s in plain))
        self.freeze(
            name=name,
            key=as_step(key) if key is not None else None,
            tests=tuple(tests),
            branches=tuple(branches),
            names=self._unique(labels),
            default=branches[-1] if default is not None else None,
            decider=decider,
            plain=decider is not None and all(b.plain for b in branches),
        )

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

    def _decide(self, x: Any) -> int:
        """The index of the branch, where key and cases are plain functions."""
        value = self.key.call(x) if isinstance(self.key, FunctionStep) else x
        for i, test in enumerate(self.tests):
            fits = test.call(value)  # type: ignore[attr-defined]
            if type(fits) in UNSETTLED:
                getattr(fits, "close", bool)()
                raise TypeError(
                    f"the case {self.names[i]} of a Switch returned a {type(fits).__name__}, which is always true; "
                    "write it as an async function"
                )
            if fits:
                return i
        return self._otherwise(value)

    async def _decide_slowly(self, x: Any, run: Run | None, path: Path) -> int:
        """The same where deciding takes more than plain functions."""
        value = x if self.key is None else await self.key.execute(x, run, path, False)
        for i, test in enumerate(self.tests):
            if await test.execute(value, run, path, False):
                return i
        return self._otherwise(value)

    def _otherwise(self, value: Any) -> int:
        if self.default is not None:
            return len(self.branches) - 1
        shown = repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "..."
        raise FlowCallError(
            f"no case of the Switch fits {shown}; its cases: {', '.join(self.names)}; give default="
        )

    async def execute(self, x: Any, run: Run | None, path: Path, output: bool) -> Any:
        if self.decider is None:
            chosen = await self._decide_slowly(x, run, path)
        elif run is None or self.decider.inline:
            chosen = self._decide(x)
        else:
            _, chosen = await hop(run, (self.decider,), (None,), x, path, None)
        name, branch = self.names[chosen], self.branches[chosen]
        where, log = (*path, name), run.log if run is not None else None
        try:
            if log is not None:
                FRAME.set((run, where))  # type: ignore[arg-type]
                log.put(StepStarted(), where)
            value = await branch.execute(x, run, where, output)
            if log is not None:
                log.put(StepFinished(), where)
                FRAME.set((run, path))  # type: ignore[arg-type]
        except BaseException as error:
            trail(error, name)
            raise
        return value


def _equals(case: Any) -> FunctionStep[Any, bool]:
    def equals(value: Any) -> bool:
        return bool(value == case)

    return WholeStep(equals, name=repr(case), inline=True)


def _label(case: Any) -> str:
    if callable(case):
        return str(getattr(case, "name", None) or getattr(case, "__name__", None) or type(case).__name__)
    return str(case)
