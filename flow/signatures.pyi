"""What can stand in a flow, for type checkers alone: there is no module of this name.

A step is anything that can be called with one value. What a flow passes on is what comes of that call: a coroutine's
result, the joined text of a generator, the list of its items where they are no text, or the value itself. Where a
function stands before others, one type covers all of that, since what follows decides.
"""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from typing import Any, TypeAlias, overload

from typing_extensions import TypeVar

from ..streaming.events import Event
from .args import Args
from .flows import Flow
from .pipeline import Pipeline
from .steps import In, Out

A = TypeVar("A", default=Any)
B = TypeVar("B", default=Any)
C = TypeVar("C", default=Any)
D = TypeVar("D", default=Any)
E = TypeVar("E", default=Any)
F = TypeVar("F", default=Any)
G = TypeVar("G", default=Any)
A0 = TypeVar("A0")
B0 = TypeVar("B0")
C0 = TypeVar("C0")
D0 = TypeVar("D0")
E0 = TypeVar("E0")
F0 = TypeVar("F0")
G0 = TypeVar("G0")

NotText: TypeAlias = int | float | bytes | tuple[Any, ...] | list[Any] | dict[Any, Any] | Mapping[Any, Any]
Z = TypeVar("Z", bound=NotText, default=Any)
Z0 = TypeVar("Z0", bound=NotText)

Name: TypeAlias = str | None
Gives: TypeAlias = B0 | Coroutine[Any, Any, B0] | AsyncIterator[B0 | Event] | Iterator[B0 | Event]

Does: TypeAlias = Callable[[A0], Gives[B0]]
"""Takes an A0, and passes on a B0, or text piece by piece; a Step is one, too."""

FirstDoes: TypeAlias = Callable[[A0], Gives[B0]] | Callable[[Any], Gives[B0]]

Waits: TypeAlias = Callable[[A0], Coroutine[Any, Any, B0]]
"""An async function."""

Texts: TypeAlias = Callable[[A0], AsyncIterator[str | Event]] | Callable[[A0], Iterator[str | Event]]
"""A generator of text."""

Lists: TypeAlias = Callable[[A0], AsyncIterator[B0]] | Callable[[A0], Iterator[B0]]
"""A generator of something else."""

FirstLists: TypeAlias = Lists[A0, B0] | Lists[Any, B0]

Odd: TypeAlias = (
    Callable[..., Args] | Callable[..., AsyncIterator[NotText]] | Callable[..., Iterator[NotText]]
)
"""What it gives becomes several arguments, or a list: what may follow is not for types to say."""

Live: TypeAlias = Callable[[AsyncIterator[Any]], A0] | Callable[[Iterator[Any]], A0]
"""Takes its upstream piece by piece, of whatever step."""

LiveWaits: TypeAlias = (
    Callable[[AsyncIterator[Any]], Coroutine[Any, Any, A0]]
    | Callable[[Iterator[Any]], Coroutine[Any, Any, A0]]
)
LiveTexts: TypeAlias = (
    Callable[[AsyncIterator[Any]], AsyncIterator[str | Event]]
    | Callable[[Iterator[Any]], Iterator[str | Event]]
)
LiveLists: TypeAlias = (
    Callable[[AsyncIterator[Any]], AsyncIterator[A0]] | Callable[[Iterator[Any]], Iterator[A0]]
)
"""Live, and an async function; a generator of text; of something else."""

MYPY: bool
"""True for mypy, which needs an overload for each way in which the last step can give its value.

Other type checkers take the definition that comes last. They find their way through a union, and need one for a lambda
that stands first.
"""

# fmt: off
if MYPY:
    class TypedPipeline(Flow[In, Out]):
        """What Pipeline is made of."""

        @overload
        def __new__(cls, a: Waits[A, B], /, *, name: Name = ...) -> Pipeline[A, B]: ...
        @overload
        def __new__(cls, a: Texts[A], /, *, name: Name = ...) -> Pipeline[A, str]: ...
        @overload
        def __new__(cls, a: Lists[A, Z], /, *, name: Name = ...) -> Pipeline[A, list[Z]]: ...
        @overload
        def __new__(cls, a: Callable[[A], B], /, *, name: Name = ...) -> Pipeline[A, B]: ...
        @overload
        def __new__(cls, a: Does[A, B], b: Waits[B, C], /, *, name: Name = ...) -> Pipeline[A, C]: ...
        @overload
        def __new__(cls, a: Does[A, B], b: Texts[B], /, *, name: Name = ...) -> Pipeline[A, str]: ...
        @overload
        def __new__(cls, a: Does[A, B], b: Lists[B, Z], /, *, name: Name = ...) -> Pipeline[A, list[Z]]: ...
        @overload
        def __new__(cls, a: Does[A, B], b: Callable[[B], C], /, *, name: Name = ...) -> Pipeline[A, C]: ...
        @overload
        def __new__(cls, a: Does[A, B], b: Does[B, C], c: Waits[C, D], /, *, name: Name = ...) -> Pipeline[A, D]: ...
        @overload
        def __new__(cls, a: Does[A, B], b: Does[B, C], c: Texts[C], /, *, name: Name = ...) -> Pipeline[A, str]: ...
        @overload
        def __new__(cls,
                a: Does[A, B], b: Does[B, C], c: Lists[C, Z], /, *, name: Name = ...) -> Pipeline[A, list[Z]]: ...
        @overload
        def __new__(cls,
                a: Does[A, B], b: Does[B, C], c: Callable[[C], D], /, *, name: Name = ...) -> Pipeline[A, D]: ...
        @overload
        def __new__(cls,
                a: Does[A, B], b: Does[B, C], c: Does[C, D], d: Waits[D, E],
                /, *, name: Name = ...) -> Pipeline[A, E]: ...
        @overload
        def __new__(cls,
                a: Does[A, B], b: Does[B, C], c: Does[C, D], d: Texts[D],
                /, *, name: Name = ...) -> Pipeline[A, str]: ...
        @overload
        def __new__(cls,
                a: Does[A, B], b: Does[B, C], c: Does[C, D], d: Lists[D, Z],
                /, *, name: Name = ...) -> Pipeline[A, list[Z]]: ...
        @overload
        def __new__(cls,
                a: Does[A, B], b: Does[B, C], c: Does[C, D], d: Callable[[D], E],
                /, *, name: Name = ...) -> Pipeline[A, E]: ...
        @overload
        def __new__(cls,
                a: Does[A, B], b: Does[B, C], c: Does[C, D], d: Does[D, E], e: Waits[E, F],
                /, *, name: Name = ...) -> Pipeline[A, F]: ...
        @overload
        def __new__(cls,
                a: Does[A, B], b: Does[B, C], c: Does[C, D], d: Does[D, E], e: Texts[E],
                /, *, name: Name = ...) -> Pipeline[A, str]: ...
        @overload
        def __new__(cls,
                a: Does[A, B], b: Does[B, C], c: Does[C, D], d: Does[D, E], e: Lists[E, Z],
                /, *, name: Name = ...) -> Pipeline[A, list[Z]]: ...
        @overload
        def __new__(cls,
                a: Does[A, B], b: Does[B, C], c: Does[C, D], d: Does[D, E], e: Callable[[E], F],
                /, *, name: Name = ...) -> Pipeline[A, F]: ...
        @overload
        def __new__(cls,
                a: Does[A, B], b: Does[B, C], c: Does[C, D], d: Does[D, E], e: Does[E, F], f: Waits[F, G],
                /, *, name: Name = ...) -> Pipeline[A, G]: ...
        @overload
        def __new__(cls,
                a: Does[A, B], b: Does[B, C], c: Does[C, D], d: Does[D, E], e: Does[E, F], f: Texts[F],
                /, *, name: Name = ...) -> Pipeline[A, str]: ...
        @overload
        def __new__(cls,
                a: Does[A, B], b: Does[B, C], c: Does[C, D], d: Does[D, E], e: Does[E, F], f: Lists[F, Z],
                /, *, name: Name = ...) -> Pipeline[A, list[Z]]: ...
        @overload
        def __new__(cls,
                a: Does[A, B], b: Does[B, C], c: Does[C, D], d: Does[D, E], e: Does[E, F], f: Callable[[F], G],
                /, *, name: Name = ...) -> Pipeline[A, G]: ...
        @overload
        def __new__(cls, a: Odd, /, *rest: Any, name: Name = ...) -> Pipeline[Any, Any]: ...
        @overload
        def __new__(cls, a: Any, b: Odd, /, *rest: Any, name: Name = ...) -> Pipeline[Any, Any]: ...
        @overload
        def __new__(cls, a: Any, b: Any, c: Odd, /, *rest: Any, name: Name = ...) -> Pipeline[Any, Any]: ...
        @overload
        def __new__(cls, a: Any, b: Any, c: Any, d: Odd, /, *rest: Any, name: Name = ...) -> Pipeline[Any, Any]: ...
        @overload
        def __new__(cls,
                a: Any, b: Any, c: Any, d: Any, e: Odd, /, *rest: Any, name: Name = ...) -> Pipeline[Any, Any]: ...
        @overload
        def __new__(cls, a: Any, b: Live[Any], /, *rest: Any, name: Name = ...) -> Pipeline[Any, Any]: ...
        @overload
        def __new__(cls, a: Any, b: Any, c: Live[Any], /, *rest: Any, name: Name = ...) -> Pipeline[Any, Any]: ...
        @overload
        def __new__(cls,
                a: Any, b: Any, c: Any, d: Live[Any], /, *rest: Any, name: Name = ...) -> Pipeline[Any, Any]: ...
        @overload
        def __new__(cls,
                a: Any, b: Any, c: Any, d: Any, e: Live[Any],
                /, *rest: Any, name: Name = ...) -> Pipeline[Any, Any]: ...
        @overload
        def __new__(cls,
                a: Any, b: Any, c: Any, d: Any, e: Any, f: Live[Any],
                /, *rest: Any, name: Name = ...) -> Pipeline[Any, Any]: ...
        @overload
        def __new__(cls,
                a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any,
                /, *rest: Any, name: Name = ...) -> Pipeline[Any, Any]: ...
        @overload
        def __new__(cls, *, name: Name = ...) -> Pipeline[Any, Any]: ...

else:
    class TypedPipeline(Flow[In, Out]):
        """What Pipeline is made of."""

        @overload
        def __new__(cls, a: FirstLists[A0, Z0], /, *, name: Name = ...) -> Pipeline[A0, list[Z0]]: ...
        @overload
        def __new__(cls, a: FirstDoes[A0, B0], /, *, name: Name = ...) -> Pipeline[A0, B0]: ...
        @overload
        def __new__(cls, a: FirstDoes[A0, B0], b: Lists[B0, Z0], /, *, name: Name = ...) -> Pipeline[A0, list[Z0]]: ...
        @overload
        def __new__(cls, a: FirstDoes[A0, B0], b: Does[B0, C0], /, *, name: Name = ...) -> Pipeline[A0, C0]: ...
        @overload
        def __new__(cls,
                a: FirstDoes[A0, B0], b: Does[B0, C0], c: Lists[C0, Z0],
                /, *, name: Name = ...) -> Pipeline[A0, list[Z0]]: ...
        @overload
        def __new__(cls,
                a: FirstDoes[A0, B0], b: Does[B0, C0], c: Does[C0, D0], /, *, name: Name = ...) -> Pipeline[A0, D0]: ...
        @overload
        def __new__(cls,
                a: FirstDoes[A0, B0], b: Does[B0, C0], c: Does[C0, D0], d: Lists[D0, Z0],
                /, *, name: Name = ...) -> Pipeline[A0, list[Z0]]: ...
        @overload
        def __new__(cls,
                a: FirstDoes[A0, B0], b: Does[B0, C0], c: Does[C0, D0], d: Does[D0, E0],
                /, *, name: Name = ...) -> Pipeline[A0, E0]: ...
        @overload
        def __new__(cls,
                a: FirstDoes[A0, B0], b: Does[B0, C0], c: Does[C0, D0], d: Does[D0, E0], e: Lists[E0, Z0],
                /, *, name: Name = ...) -> Pipeline[A0, list[Z0]]: ...
        @overload
        def __new__(cls,
                a: FirstDoes[A0, B0], b: Does[B0, C0], c: Does[C0, D0], d: Does[D0, E0], e: Does[E0, F0],
                /, *, name: Name = ...) -> Pipeline[A0, F0]: ...
        @overload
        def __new__(cls,
                a: FirstDoes[A0, B0], b: Does[B0, C0], c: Does[C0, D0], d: Does[D0, E0], e: Does[E0, F0],
                f: Lists[F0, Z0], /, *, name: Name = ...) -> Pipeline[A0, list[Z0]]: ...
        @overload
        def __new__(cls,
                a: FirstDoes[A0, B0], b: Does[B0, C0], c: Does[C0, D0], d: Does[D0, E0], e: Does[E0, F0],
                f: Does[F0, G0], /, *, name: Name = ...) -> Pipeline[A0, G0]: ...
        @overload
        def __new__(cls, a: Odd, /, *rest: Any, name: Name = ...) -> Pipeline[Any, Any]: ...
        @overload
        def __new__(cls, a: Any, b: Odd, /, *rest: Any, name: Name = ...) -> Pipeline[Any, Any]: ...
        @overload
        def __new__(cls, a: Any, b: Any, c: Odd, /, *rest: Any, name: Name = ...) -> Pipeline[Any, Any]: ...
        @overload
        def __new__(cls, a: Any, b: Any, c: Any, d: Odd, /, *rest: Any, name: Name = ...) -> Pipeline[Any, Any]: ...
        @overload
        def __new__(cls,
                a: Any, b: Any, c: Any, d: Any, e: Odd, /, *rest: Any, name: Name = ...) -> Pipeline[Any, Any]: ...
        @overload
        def __new__(cls, a: Any, b: Live[Any], /, *rest: Any, name: Name = ...) -> Pipeline[Any, Any]: ...
        @overload
        def __new__(cls, a: Any, b: Any, c: Live[Any], /, *rest: Any, name: Name = ...) -> Pipeline[Any, Any]: ...
        @overload
        def __new__(cls,
                a: Any, b: Any, c: Any, d: Live[Any], /, *rest: Any, name: Name = ...) -> Pipeline[Any, Any]: ...
        @overload
        def __new__(cls,
                a: Any, b: Any, c: Any, d: Any, e: Live[Any],
                /, *rest: Any, name: Name = ...) -> Pipeline[Any, Any]: ...
        @overload
        def __new__(cls,
                a: Any, b: Any, c: Any, d: Any, e: Any, f: Live[Any],
                /, *rest: Any, name: Name = ...) -> Pipeline[Any, Any]: ...
        @overload
        def __new__(cls,
                a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any,
                /, *rest: Any, name: Name = ...) -> Pipeline[Any, Any]: ...
        @overload
        def __new__(cls, *, name: Name = ...) -> Pipeline[Any, Any]: ...
# fmt: on
