"""Parts: several steps at work at once, each on a value of its own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from ..streaming.events import Path
from ..streaming.runs import Run
from .args import UNSETTLED, Args
from .fanout import Group, OnError
from .functions import FunctionStep
from .performing import leaving, perform
from .steps import Step

__all__ = ["Parts", "are_bare"]


def are_bare(*steps: Step[Any, Any]) -> bool:
    """Whether all are coroutine functions, of which there is nothing to do but to await them."""
    return all(type(step) is FunctionStep and step.is_bare_coroutine() for step in steps)


class Parts(Group):
    """Steps at work at once, `steps[i]` on `inputs[i]` as the part `names[i]` of the flow at `path`.

    None of their text is the run's answer. `labels` is what notes on errors call them. With `bare`, where all of them
    are and nobody hears of the run's steps, they take the shortest way.
    """

    owner: Run

    def __init__(
        self,
        steps: Sequence[Step[Any, Any]],
        inputs: Sequence[Any],
        run: Run,
        path: Path,
        names: Sequence[str | int],
        labels: Sequence[str | int],
        *,
        concurrency: int | None,
        on_error: OnError,
        bare: bool,
    ) -> None:
        bare = bare and run.log is None and run.hooks is None
        work: Any = (
            steps
            if bare
            else [
                partial(perform, step, x, run, path, name, False, str(label))
                for step, x, name, label in zip(steps, inputs, names, labels, strict=True)
            ]
        )
        super().__init__(work, concurrency, on_error)
        self.bare = self.hurries = bare
        self.steps, self.inputs, self.labels = steps, inputs, labels
        self.owner, self.path = run, path

    def results(self) -> list[Any]:
        """The values in the order given, once `run` is over; or raises the earliest failure."""
        return self.outcome(self.labels) if self.failed else self.values

    async def _do(self, i: int) -> None:
        try:
            if self.owner.cut is not None:
                await self.owner.park()  # no step begins in a run that is being stopped
            if self.bare:
                step: Any = self.steps[i]
                x = self.inputs[i]
                value = await (step.function(x) if type(x) is not Args else step.call(x))
                if type(value) in UNSETTLED:
                    value = await step.settle(value, self.owner, self.path, False)
            else:
                value = await self.work[i]()
            self.values[i] = value
        except BaseException as error:
            self._fail(i, leaving(error, str(self.labels[i]), self.path) if self.bare else error)
        self._over(i)
