"""What Parallel, Diverter, Warp, Switch, If and Loop are made of, for type checkers alone: there is no such module."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, TypeAlias, overload

from .args import Args
from .fanout import OnError
from .fans import Fan
from .flows import Flow
from .loop import If, Loop
from .parallel import Diverter, Parallel
from .signatures import A0, MYPY, A, B, C, FirstDoes, FirstLists, Lists, Live, Name, Texts, Waits, Z
from .steps import In, Out, Step
from .switch import Switch
from .warps import Warp

Count: TypeAlias = int | None
Test: TypeAlias = Callable[[Any], Any]

# fmt: off
if MYPY:
    Branch: TypeAlias = Callable[[A0], Any]

    class TypedWarp(Fan[Iterable[In], Out]):
        """What Warp is made of."""

        @overload
        def __new__(cls, *, concurrency: Count = ..., on_error: OnError = ..., collect: Any = ..., post: Any = ...,
                    name: Name = ...) -> Warp[Any, Any]: ...
        @overload
        def __new__(cls, inner: Waits[A, B],
                *, concurrency: Count = ..., on_error: OnError = ..., collect: None = ...,
                    post: None = ..., name: Name = ...) -> Warp[A, list[B]]: ...
        @overload
        def __new__(cls, inner: Texts[A], *, concurrency: Count = ..., on_error: OnError = ..., collect: None = ...,
                    post: None = ..., name: Name = ...) -> Warp[A, list[str]]: ...
        @overload
        def __new__(cls, inner: Lists[A, Z],
                *, concurrency: Count = ..., on_error: OnError = ..., collect: None = ...,
                    post: None = ..., name: Name = ...) -> Warp[A, list[list[Z]]]: ...
        @overload
        def __new__(cls, inner: Callable[[A], B],
                *, concurrency: Count = ..., on_error: OnError = ..., collect: None = ...,
                    post: None = ..., name: Name = ...) -> Warp[A, list[B]]: ...
        @overload
        def __new__(cls, inner: Branch[A], *, concurrency: Count = ..., on_error: OnError = ...,
                    collect: Callable[[list[Any]], C], post: None = ..., name: Name = ...) -> Warp[A, C]: ...
        @overload
        def __new__(cls, inner: Branch[A], *, concurrency: Count = ..., on_error: OnError = ..., collect: Any = ...,
                    post: Any, name: Name = ...) -> Warp[A, Any]: ...

    class TypedIf(Switch[In, Out]):
        """What If is made of."""

        @overload
        def __new__(cls, condition: Test, *, name: Name = ...) -> If[Any, Any]: ...
        @overload
        def __new__(cls, condition: Test, then: Waits[A, B], *, name: Name = ...) -> If[A, A | B]: ...
        @overload
        def __new__(cls, condition: Test, then: Texts[A], *, name: Name = ...) -> If[A, A | str]: ...
        @overload
        def __new__(cls, condition: Test, then: Callable[[A], B], *, name: Name = ...) -> If[A, A | B]: ...
        @overload
        def __new__(cls, condition: Test, then: Waits[A, B], otherwise: Waits[A, C],
                *, name: Name = ...) -> If[A, B | C]: ...
        @overload
        def __new__(cls, condition: Test, then: Waits[A, B], otherwise: Texts[A],
                *, name: Name = ...) -> If[A, B | str]: ...
        @overload
        def __new__(cls, condition: Test, then: Waits[A, B], otherwise: Callable[[A], C],
                *, name: Name = ...) -> If[A, B | C]: ...
        @overload
        def __new__(cls, condition: Test, then: Texts[A], otherwise: Waits[A, C],
                *, name: Name = ...) -> If[A, str | C]: ...
        @overload
        def __new__(cls, condition: Test, then: Texts[A], otherwise: Texts[A],
                *, name: Name = ...) -> If[A, str | str]: ...
        @overload
        def __new__(cls, condition: Test, then: Texts[A], otherwise: Callable[[A], C],
                *, name: Name = ...) -> If[A, str | C]: ...
        @overload
        def __new__(cls, condition: Test, then: Callable[[A], B], otherwise: Waits[A, C],
                *, name: Name = ...) -> If[A, B | C]: ...
        @overload
        def __new__(cls, condition: Test, then: Callable[[A], B], otherwise: Texts[A],
                *, name: Name = ...) -> If[A, B | str]: ...
        @overload
        def __new__(cls, condition: Test, then: Callable[[A], B], otherwise: Callable[[A], C],
                *, name: Name = ...) -> If[A, B | C]: ...

    class TypedSwitch(Flow[In, Out]):
        """What Switch is made of."""

        @overload
        def __new__(cls, *, key: Any = ..., default: Any = ..., name: Name = ...) -> Switch[Any, Any]: ...
        @overload
        def __new__(cls, cases: Mapping[Any, Step[A, B]], *, key: Any = ..., name: Name = ...) -> Switch[A, B]: ...
        @overload
        def __new__(cls, cases: Mapping[Any, Step[A, B]], *, key: Any = ..., default: Step[A, C],
                    name: Name = ...) -> Switch[A, B | C]: ...
        @overload
        def __new__(cls, cases: Mapping[Any, Waits[A, B]], *, key: Any = ..., name: Name = ...) -> Switch[A, B]: ...
        @overload
        def __new__(cls, cases: Mapping[Any, Waits[A, B]], *, key: Any = ..., default: Waits[A, C],
                    name: Name = ...) -> Switch[A, B | C]: ...
        @overload
        def __new__(cls, cases: Mapping[Any, Texts[A]], *, key: Any = ..., name: Name = ...) -> Switch[A, str]: ...
        @overload
        def __new__(cls, cases: Mapping[Any, Texts[A]], *, key: Any = ..., default: Texts[A],
                    name: Name = ...) -> Switch[A, str | str]: ...
        @overload
        def __new__(cls, cases: Mapping[Any, Callable[..., Any]],
                *, key: Any = ..., default: Callable[..., Any] | None = ...,
                    name: Name = ...) -> Switch[Any, Any]: ...

    class TypedLoop(Flow[In, Out]):
        """What Loop is made of."""

        @overload
        def __new__(cls, *, count: Count = ..., until: Test | None = ..., name: Name = ...) -> Loop[Any, Any]: ...
        @overload
        def __new__(cls, body: Waits[A, A],
                *, count: Count = ..., until: Test | None = ..., name: Name = ...) -> Loop[A, A]: ...
        @overload
        def __new__(cls, body: Texts[str],  # type: ignore[overload-overlap]
                *, count: Count = ..., until: Test | None = ..., name: Name = ...) -> Loop[str, str]: ...
        @overload
        def __new__(cls, body: Callable[[list[Z]], AsyncIterator[Z]],  # type: ignore[overload-overlap]
                *, count: Count = ..., until: Test | None = ..., name: Name = ...) -> Loop[list[Z], list[Z]]: ...
        @overload
        def __new__(cls, body: Callable[[A], A],
                *, count: Count = ..., until: Test | None = ..., name: Name = ...) -> Loop[A, A]: ...
        @overload
        def __new__(cls, body: Live[Any],
                *, count: Count = ..., until: Test | None = ..., name: Name = ...) -> Loop[Any, Any]: ...
        @overload
        def __new__(cls, body: Callable[..., Args], *, count: Count = ..., until: Test | None = ...,
                    name: Name = ...) -> Loop[Any, Args]: ...

else:
    Branch: TypeAlias = Callable[[A0], Any] | Callable[[Any], Any]

    class TypedWarp(Fan[Iterable[In], Out]):
        """What Warp is made of."""

        @overload
        def __new__(cls, *, concurrency: Count = ..., on_error: OnError = ..., collect: Any = ..., post: Any = ...,
                    name: Name = ...) -> Warp[Any, Any]: ...
        @overload
        def __new__(cls, inner: FirstLists[A, Z],
                *, concurrency: Count = ..., on_error: OnError = ..., collect: None = ...,
                    post: None = ..., name: Name = ...) -> Warp[A, list[list[Z]]]: ...
        @overload
        def __new__(cls, inner: FirstDoes[A, B],
                *, concurrency: Count = ..., on_error: OnError = ..., collect: None = ...,
                    post: None = ..., name: Name = ...) -> Warp[A, list[B]]: ...
        @overload
        def __new__(cls, inner: Branch[A], *, concurrency: Count = ..., on_error: OnError = ...,
                    collect: Callable[[list[Any]], C], post: None = ..., name: Name = ...) -> Warp[A, C]: ...
        @overload
        def __new__(cls, inner: Branch[A], *, concurrency: Count = ..., on_error: OnError = ..., collect: Any = ...,
                    post: Any, name: Name = ...) -> Warp[A, Any]: ...

    class TypedIf(Switch[In, Out]):
        """What If is made of."""

        @overload
        def __new__(cls, condition: Test, *, name: Name = ...) -> If[Any, Any]: ...
        @overload
        def __new__(cls, condition: Test, then: FirstDoes[A, B], *, name: Name = ...) -> If[A, A | B]: ...
        @overload
        def __new__(cls, condition: Test, then: FirstDoes[A, B], otherwise: FirstDoes[A, C],
                *, name: Name = ...) -> If[A, B | C]: ...

    class TypedSwitch(Flow[In, Out]):
        """What Switch is made of."""

        @overload
        def __new__(cls, *, key: Any = ..., default: Any = ..., name: Name = ...) -> Switch[Any, Any]: ...
        @overload
        def __new__(cls, cases: Mapping[Any, FirstDoes[A, B]],
                *, key: Any = ..., name: Name = ...) -> Switch[A, B]: ...
        @overload
        def __new__(cls, cases: Mapping[Any, FirstDoes[A, B]], *, key: Any = ..., default: FirstDoes[A, C],
                    name: Name = ...) -> Switch[A, B | C]: ...
        @overload
        def __new__(cls, cases: Mapping[Any, Callable[..., Any]],
                *, key: Any = ..., default: Callable[..., Any] | None = ...,
                    name: Name = ...) -> Switch[Any, Any]: ...

    class TypedLoop(Flow[In, Out]):
        """What Loop is made of."""

        @overload
        def __new__(cls, *, count: Count = ..., until: Test | None = ..., name: Name = ...) -> Loop[Any, Any]: ...
        @overload
        def __new__(cls, body: Callable[[list[Z]], AsyncIterator[Z]],
                *, count: Count = ..., until: Test | None = ..., name: Name = ...) -> Loop[list[Z], list[Z]]: ...
        @overload
        def __new__(cls, body: FirstDoes[A, A],
                *, count: Count = ..., until: Test | None = ..., name: Name = ...) -> Loop[A, A]: ...
        @overload
        def __new__(cls, body: Live[Any],
                *, count: Count = ..., until: Test | None = ..., name: Name = ...) -> Loop[Any, Any]: ...
        @overload
        def __new__(cls, body: Callable[..., Args], *, count: Count = ..., until: Test | None = ...,
                    name: Name = ...) -> Loop[Any, Args]: ...

class TypedParallel(Fan[In, Out]):
    """What Parallel is made of."""

    @overload
    def __new__(cls, *, collect: Any = ..., post: Any = ..., on_error: OnError = ..., concurrency: Count = ...,
                choose: Any = ..., name: Name = ...) -> Parallel[Any, Any]: ...
    @overload
    def __new__(cls, *branches: Branch[A], collect: None = ..., post: None = ..., on_error: OnError = ...,
                concurrency: Count = ..., choose: Any = ..., name: Name = ...) -> Parallel[A, Args]: ...
    @overload
    def __new__(cls, *, collect: None = ..., post: None = ..., on_error: OnError = ..., concurrency: Count = ...,
                choose: Any = ..., name: Name = ..., **named: Branch[A]) -> Parallel[A, dict[str, Any]]: ...
    @overload
    def __new__(cls, *branches: Branch[A], collect: Callable[[Any], C], post: None = ..., on_error: OnError = ...,
                concurrency: Count = ..., choose: Any = ..., name: Name = ...,
                **named: Branch[A]) -> Parallel[A, C]: ...
    @overload
    def __new__(cls, *branches: Branch[A], collect: Any = ..., post: Any, on_error: OnError = ...,
                concurrency: Count = ..., choose: Any = ..., name: Name = ...,
                **named: Branch[A]) -> Parallel[A, Any]: ...
    @overload  # branches that take several arguments, or different ones
    def __new__(cls, *branches: Callable[..., Any], collect: None = ..., post: None = ..., on_error: OnError = ...,
                concurrency: Count = ..., choose: Any = ..., name: Name = ...) -> Parallel[Any, Args]: ...
    @overload
    def __new__(cls, *branches: Callable[..., Any], collect: Any = ..., post: Any = ..., on_error: OnError = ...,
                concurrency: Count = ..., choose: Any = ..., name: Name = ...,
                **named: Callable[..., Any]) -> Parallel[Any, Any]: ...

class TypedDiverter(Parallel[In, Out]):
    """What Diverter is made of."""

    @overload
    def __new__(cls, *, collect: Any = ..., post: Any = ..., on_error: OnError = ..., concurrency: Count = ...,
                choose: Any = ..., name: Name = ...) -> Diverter[Any, Any]: ...
    @overload
    def __new__(cls, *branches: Callable[..., Any], collect: None = ..., post: None = ..., on_error: OnError = ...,
                concurrency: Count = ..., choose: Any = ..., name: Name = ...) -> Diverter[Any, Args]: ...
    @overload
    def __new__(cls, *, collect: None = ..., post: None = ..., on_error: OnError = ..., concurrency: Count = ...,
                choose: Any = ..., name: Name = ..., **named: Callable[..., Any]) -> Diverter[Any, dict[str, Any]]: ...
    @overload
    def __new__(cls, *branches: Callable[..., Any], collect: Callable[[Any], C], post: None = ...,
                on_error: OnError = ..., concurrency: Count = ..., choose: Any = ..., name: Name = ...,
                **named: Callable[..., Any]) -> Diverter[Any, C]: ...
    @overload
    def __new__(cls, *branches: Callable[..., Any], collect: Any = ..., post: Any, on_error: OnError = ...,
                concurrency: Count = ..., choose: Any = ..., name: Name = ...,
                **named: Callable[..., Any]) -> Diverter[Any, Any]: ...
# fmt: on
