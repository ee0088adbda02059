"""What can stand in a flow, for type checkers alone: the arguments of Pipeline and the other flows.

A step is anything that can be called with one value, and what a flow passes on is what comes of that call: a coroutine's
result, the joined text of a generator, the list of its items where they are no text, or the value itself. Where a
function stands before others, one type covers all of that, since what follows decides; where it stands last, it takes an
overload for each.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from typing import Any, TypeAlias, TypeVar

from ..streaming.events import Event
from .args import Args

__all__ = ["A", "B", "C", "D", "Does", "E", "F", "G", "Lists", "Live", "Name", "Odd", "Texts", "Waits"]

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")
G = TypeVar("G")

Name: TypeAlias = str | None

Does: TypeAlias = Callable[[A], B | Coroutine[Any, Any, B] | AsyncIterator[B | Event] | Iterator[B | Event]]
"""Takes an A, and passes on a B, or text piece by piece; a Step is one, too."""

Waits: TypeAlias = Callable[[A], Coroutine[Any, Any, B]]
"""An async function."""

Texts: TypeAlias = Callable[[A], AsyncIterator[str | Event]] | Callable[[A], Iterator[str | Event]]
"""A generator of text."""

Lists: TypeAlias = Callable[[A], AsyncIterator[B]] | Callable[[A], Iterator[B]]
"""A generator of something else."""

NotText: TypeAlias = int | float | bytes | tuple[Any, ...] | list[Any] | dict[Any, Any] | Mapping[Any, Any]

Odd: TypeAlias = (
    Callable[..., Args] | Callable[..., AsyncIterator[NotText]] | Callable[..., Iterator[NotText]]
)
"""What it gives becomes several arguments, or a list: what may follow is not for types to say."""

Live: TypeAlias = Callable[[AsyncIterator[Any]], A] | Callable[[Iterator[Any]], A]
"""Takes its upstream piece by piece, of whatever step."""
