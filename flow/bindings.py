"""bind: arguments given ahead, by value, by reference to an earlier step, or by position in what comes in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

from ..streaming.errors import FlowBuildError, FlowCallError
from ..streaming.events import Path
from ..streaming.runs import Run
from .args import Args, Call
from .functions import FunctionStep, as_step
from .policies import PolicyStep
from .references import Reference, value_of
from .steps import Keep, Step

__all__ = ["arg", "bind"]


class Arg:
    """`arg[i]`: the i-th of the values that come in; `arg[0]` is the value itself where it is no Args."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index

    def __repr__(self) -> str:
        return f"arg[{self.index}]"


class _ArgMaker:
    """Marks, inside of `bind`, the place of what comes in: `arg[0]` is the first value, `arg[1]` the second.

    `bind(f, 10, arg[0])` called with `y` is `f(10, y)`. Several values come in where the step before returned
    `Args`; otherwise there is one, `arg[0]`.

    Raises:
        FlowBuildError: the index is no whole number of 0 or above.
    """

    def __getitem__(self, index: int) -> Arg:
        if not isinstance(index, int) or isinstance(index, bool) or index < 0:
            raise FlowBuildError(f"arg[{index!r}]: the index is 0 or above")
        return Arg(index)

    def __repr__(self) -> str:
        return "arg"


arg = _ArgMaker()

STANDING = frozenset((Reference, Arg))
"""Types of what stands for a value in the arguments of `bind`."""


class Binding:
    """Makes the arguments of one call from what comes in and from the flow's values."""

    def __init__(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.name = name
        self.args = args
        self.kwargs = kwargs
        given = (*args, *kwargs.values())
        if any(value is arg for value in given):
            raise FlowBuildError(f"bind({name}, ... arg): say which of the values that come in: arg[0]")
        hidden = next((one for value in given for one in _items(value) if type(one) in STANDING), None)
        if hidden is not None:
            raise FlowBuildError(
                f"bind({name}, ...): {hidden!r} has no value inside of a list or a dict; give it by itself, and let "
                "the function put it there"
            )
        self.upstream_first = not any(isinstance(value, (Reference, Arg)) for value in given)
        self.leaves_upstream = not self.upstream_first and not any(isinstance(value, Arg) for value in given)
        """Whether what comes in goes nowhere: there are references alone."""
        self.place = self._place()
        """Where the value that comes in stands in the call, by position or name; None: nowhere, or in parts."""
        self.passes_upstream = not given or (len(given) == 1 and isinstance(given[0], Arg))
        """Whether what comes in is all that goes on."""

    def _place(self) -> int | str | None:
        if self.upstream_first:
            return 0
        given: list[tuple[int | str, Any]] = [*enumerate(self.args), *self.kwargs.items()]
        places = [place for place, value in given if isinstance(value, Arg)]
        return places[0] if len(places) == 1 else None

    def __call__(self, x: Any) -> Call:
        incoming = x if type(x) is Args else (x,)
        if self.upstream_first:
            return Call((*incoming, *self.args), self.kwargs)
        known, kwargs = self._known, self.kwargs
        args = tuple([known(v, incoming) if type(v) in STANDING else v for v in self.args])
        if kwargs:
            kwargs = {k: known(v, incoming) if type(v) in STANDING else v for k, v in kwargs.items()}
        return Call(args, kwargs)

    def _known(self, value: Any, incoming: tuple[Any, ...]) -> Any:
        if type(value) is Reference:
            return value_of(value)
        if value.index >= len(incoming):
            raise FlowCallError(f"{value!r} in bind({self.name}, ...): only {len(incoming)} came in")
        return incoming[value.index]


def _items(value: Any) -> Iterable[Any]:
    if type(value) is dict:
        return value.values()
    return value if type(value) in (list, tuple, Args) else ()


class BoundFlow(Step[Any, Any]):
    """A flow with bound arguments: they become its input, several as Args."""

    def __init__(self, inner: Step[Any, Any], binding: Binding) -> None:
        self.inner = inner
        self.binding = binding
        self.name = inner.name
        self.plain = inner.plain
        self.streams = inner.streams
        self.live = inner.live and binding.passes_upstream
        self.gathers = inner.gathers
        self.shallow = inner.shallow
        if binding.kwargs:
            raise FlowBuildError(
                f"bind({binding.name}, {', '.join(binding.kwargs)}=...): a flow takes values by position only"
            )

    def children(self) -> Sequence[Step[Any, Any]]:
        return (self.inner,)

    async def execute(self, x: Any, run: Run | None, path: Path, output: bool) -> Any:
        return await self.inner.execute(self._input(x), run, path, output)

    def open(
        self, x: Any, run: Run, path: Path, output: bool = False, keep: Keep | None = None
    ) -> AsyncIterator[Any]:
        return self.inner.open(self._input(x), run, path, output, keep)

    def _input(self, x: Any) -> Any:
        args = self.binding(x).args
        return args[0] if len(args) == 1 else Args(*args)


def bind(function: Callable[..., Any] | Step[Any, Any], /, *args: Any, **kwargs: Any) -> Step[Any, Any]:
    """A step with arguments given ahead.

    Without a reference or `arg[i]` among them the upstream value goes first, as with `functools.partial`;
    otherwise the call is exactly what is written. References to a flow's input and earlier steps are made inside
    of its `with` block: `bind(make_prompt, question=p.input, notes=p.notes["bm25"])`.

    Raises:
        FlowBuildError: it is not callable, or a flow is given keyword arguments.
    """
    inner = as_step(function)
    return _bound(inner, Binding(inner.name or type(inner).__name__, args, kwargs))


def _bound(inner: Step[Any, Any], binding: Binding) -> Step[Any, Any]:
    if isinstance(inner, PolicyStep):  # its cache has to see the arguments, its fallback is given the same
        return inner.around(lambda step: _bound(step, binding))
    if type(inner) is FunctionStep and inner.resolve is None:
        return FunctionStep(
            inner.function, name=inner.name, inline=inner.inline, show=inner.show, resolve=binding
        )
    return BoundFlow(inner, binding)
