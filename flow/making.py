"""step: a function, a module or a flow as a step with options: a name, what it shows, and policies."""

from __future__ import annotations

import typing
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, Unpack, overload

from ..streaming.errors import FlowBuildError
from .functions import FunctionStep, Show, as_callable, as_step
from .policies import Dressed, Limiter, Policies, Rate, Retry
from .steps import Step

if TYPE_CHECKING:
    from .policies import Cache
    from .signatures import A0, B0, Z0, A, B, FirstDoes, FirstLists, Lists, Texts, Waits

__all__ = ["StepMaker", "StepOptions", "step"]


class StepOptions(TypedDict, total=False):
    """The options of `step`."""

    name: str | None
    inline: bool
    show: Show | None
    retry: int | Retry | None
    timeout: float | None
    fallback: Step[Any, Any] | Callable[..., Any] | None
    cache: bool | str | Cache | None
    concurrency: int | Limiter | None
    rate: float | str | Rate | None


class StepMaker(Protocol):
    """What `step(name="search")` gives, to be used as a decorator."""

    @overload
    def __call__(self, function: Step[A, B], /) -> Step[A, B]: ...  # type: ignore[overload-overlap]

    @overload
    def __call__(self, function: Waits[A, B], /) -> Step[A, B]: ...

    @overload
    def __call__(self, function: Texts[A], /) -> Step[A, str]: ...  # type: ignore[overload-overlap]

    @overload
    def __call__(self, function: Lists[A, B], /) -> Step[A, list[B]]: ...

    @overload
    def __call__(self, function: Callable[[A], B], /) -> Step[A, B]: ...


@overload
def step(function: Step[A, B], /, **options: Unpack[StepOptions]) -> Step[A, B]: ...  # type: ignore[overload-overlap]


@overload
def step(function: Texts[A], /, **options: Unpack[StepOptions]) -> Step[A, str]: ...  # type: ignore[overload-overlap]


@overload  # the next two are for pyright, which needs a union where a lambda may stand
def step(function: FirstLists[A0, Z0], /, **options: Unpack[StepOptions]) -> Step[A0, list[Z0]]: ...


@overload
def step(function: FirstDoes[A0, B0], /, **options: Unpack[StepOptions]) -> Step[A0, B0]: ...


@overload
def step(function: Waits[A, B], /, **options: Unpack[StepOptions]) -> Step[A, B]: ...


@overload
def step(function: Lists[A, B], /, **options: Unpack[StepOptions]) -> Step[A, list[B]]: ...


@overload
def step(function: Callable[[A], B], /, **options: Unpack[StepOptions]) -> Step[A, B]: ...


@overload
def step(**options: Unpack[StepOptions]) -> StepMaker: ...


def step(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    inline: bool = False,
    show: Show | None = None,
    retry: int | Retry | None = None,
    timeout: float | None = None,
    fallback: Step[Any, Any] | Callable[..., Any] | None = None,
    cache: bool | str | Cache | None = None,
    concurrency: int | Limiter | None = None,
    rate: float | str | Rate | None = None,
) -> Any:
    """A callable as a Step, with a name and options; or any Step, with policies around it. Also a decorator.

    Args:
        name: what paths, events and notes call it; `function.__name__` by default.
        inline: a plain function stays on the loop instead of taking a hop to a thread; for cheap ones.
        show: what becomes of the pieces it streams: `"output"` (they are the run's answer), `"trace"` (events
            only) or `"silent"` (nothing). By default the last step of a flow is output and the others trace.
        retry: how often it is tried in all, with growing waits in between, or a Retry; until its first piece.
        timeout: seconds that each attempt may take, to its value or its last piece; then it is stopped and a
            TimeoutError is raised. Waiting for a slot does not count.
        fallback: a step that takes over when it fails, with the same input; until its first piece.
        cache: True keeps its values for each session, `"shared"` for all; or a URL, or a Cache.
        concurrency: how many calls work at once, over all sessions, or a Limiter; the others wait in turn.
        rate: how many calls begin in a time, `10` (a second) or `"60/m"`, or a Rate; the others wait in turn.

    Raises:
        FlowBuildError: it is not callable, or an option cannot be; the message names the remedy.
    """
    if show is not None and show not in typing.get_args(Show):
        raise FlowBuildError(f"show={show!r}: use 'output', 'trace' or 'silent'")
    policies = Policies(retry, timeout, fallback, cache, concurrency, rate)
    make = partial(_made, name=name, inline=inline, show=show, policies=policies)
    return make if function is None else make(function)


def _made(
    thing: Callable[..., Any], name: str | None, inline: bool, show: Show | None, policies: Policies
) -> Step[Any, Any]:
    if isinstance(thing, Step) and type(thing) is not FunctionStep:
        return policies.around(_dressed(as_step(thing), name, inline, show), name)
    if isinstance(thing, FunctionStep):
        inner: FunctionStep[Any, Any] = FunctionStep(
            thing.function,
            name=name or thing.name,
            inline=inline or thing.inline,
            show=show or thing.show,
            resolve=thing.resolve,
        )
    else:
        inner = FunctionStep(as_callable(thing), name=name, inline=inline, show=show)
    return policies.around(inner, name)


def _dressed(inner: Step[Any, Any], name: str | None, inline: bool, show: Show | None) -> Step[Any, Any]:
    """A step that is no function, under a name or with other pieces shown; itself, where nothing is asked."""
    if inline:
        raise FlowBuildError(f"step({inner!r}, inline=True): only a plain function can stay on the loop")
    if show == "silent":
        raise FlowBuildError(
            f"step({inner!r}, show='silent'): say so of the steps inside, where they are made; "
            "of a whole flow, show is 'output' or 'trace'"
        )
    if vars(inner).get("unfinished"):
        raise FlowBuildError(
            f"step({inner!r}, ...): its block is still open; give it policies after the block"
        )
    return inner if name is None and show is None else Dressed(inner, name, show)
