"""step: a callable as a Step, with a name and options."""

from __future__ import annotations

import typing
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from functools import partial
from typing import Any, overload

from ..streaming.errors import FlowBuildError
from .functions import FunctionStep, Show, as_callable
from .steps import In, Out, Step

__all__ = ["step"]


@overload
def step(
    function: Callable[[In], Coroutine[Any, Any, Out]],
    /,
    *,
    name: str | None = None,
    inline: bool = False,
    show: Show | None = None,
) -> Step[In, Out]: ...


@overload
def step(
    function: Callable[[In], AsyncIterator[str] | Generator[str, Any, None]],
    /,
    *,
    name: str | None = None,
    inline: bool = False,
    show: Show | None = None,
) -> Step[In, str]: ...


@overload
def step(
    function: Callable[[In], Out],
    /,
    *,
    name: str | None = None,
    inline: bool = False,
    show: Show | None = None,
) -> Step[In, Out]: ...


@overload
def step(
    *, name: str | None = None, inline: bool = False, show: Show | None = None
) -> Callable[[Callable[[In], Any]], Step[In, Any]]: ...


def step(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    inline: bool = False,
    show: Show | None = None,
) -> Any:
    """A callable as a Step, with a name and options; also a decorator, with or without arguments.

    Args:
        name: what paths, events and notes call it; `function.__name__` by default.
        inline: a plain function stays on the loop instead of taking a hop to a thread; for cheap ones.
        show: what becomes of the pieces it streams: `"output"` (they are the run's answer), `"trace"` (events
            only) or `"silent"` (nothing). By default the last step of a flow is output and the others trace.

    Raises:
        FlowBuildError: it is not callable.
    """
    if function is None:
        return partial(step, name=name, inline=inline, show=show)
    if show is not None and show not in typing.get_args(Show):
        raise FlowBuildError(f"show={show!r}: use 'output', 'trace' or 'silent'")
    if isinstance(function, Step) and not isinstance(function, FunctionStep):
        raise FlowBuildError(f"{function!r} is a step already; give its options where it is made")
    if isinstance(function, FunctionStep):
        name = name or function.name
        function = function.function
    return FunctionStep(as_callable(function), name=name, inline=inline, show=show)
