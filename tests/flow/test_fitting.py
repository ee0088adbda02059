from __future__ import annotations

import abc
import collections
import collections.abc as c
import decimal
import enum
import io
from typing import (
    IO,
    Annotated,
    Any,
    Generic,
    Literal,
    NewType,
    NoReturn,
    Optional,
    Protocol,
    TextIO,
    TypedDict,
    TypeVar,
)
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.flow.fitting import fits
from millrace.flow.hints import Named, Several


class Animal: ...


class Dog(Animal): ...


class Cat(Animal): ...


class DogCat(Dog, Cat): ...


class Stone: ...


class Speaks(Protocol):
    def speak(self) -> str: ...


class Abstract(abc.ABC):
    @abc.abstractmethod
    def work(self) -> None: ...


class Row(TypedDict):
    id: int


class Color(enum.Enum):
    RED = 1


class Name(str): ...


UserId = NewType("UserId", int)
T = TypeVar("T")

K = TypeVar("K")
V = TypeVar("V")


class Index(c.Mapping[str, V]): ...


class Inverted(c.Mapping[K, V], Generic[V, K]): ...


FITTING: list[tuple[Any, Any]] = [
    (int, int),
    (int, float),
    (float, int),  # PEP 484: a float may be an int
    (bool, int),
    (decimal.Decimal, float),
    (bytes, bytearray),
    (int, object),
    (object, int),
    (Any, int),
    (int, Any),
    (int, T),
    (T, int),
    ("Later", int),
    (Dog, Animal),
    (Animal, Dog),
    (Dog, Cat),  # there is a class that is both
    (Stone, Speaks),
    (int, Speaks),
    (Stone, c.Iterable),
    (Stone, Abstract),
    (Abstract, Stone),
    (str | None, str),
    (None, str | None),
    (int | str, str | list[int]),
    (UserId, int),
    (int, UserId),
    (Name, str),
    (Annotated[int, ["a list"]], int),
    (Literal["a"], str),
    (str, Literal["a"]),
    (Literal["a", "b"], Literal["b", "c"]),
    (Literal[1], Annotated[int, []]),
    (NoReturn, str),
    (type[Dog], c.Callable[[], Dog]),
    (c.Callable[[int], str], c.Callable[[str], int]),
    (str, c.Sequence[str]),
    (list[int], c.Sequence[float]),
    (list, list[int]),
    (list[Any], list[int]),
    (list[T], list[int]),  # type: ignore[valid-type]
    (list[list[int]], list[list[float]]),
    (tuple[int, str], tuple[Any, ...]),
    (tuple[int, ...], c.Iterable[int]),
    (dict[str, int], c.Mapping[str, object]),
    (dict[str, int], c.Iterable[str]),
    (Row, dict[str, Any]),
    (dict[str, int], Row),
    (c.AsyncIterator[str], c.AsyncIterator[str]),
    (Several((int, str)), tuple[int, str]),
    (Several((int, str)), c.Sequence[int | str]),
    (Named((("a", int),)), dict[str, int]),
    (Named((("a", int),)), Row),
    (Index[int], c.Iterable[str]),  # a class of one's own orders its parameters as it likes
    (Inverted[int, str], c.Mapping[str, int]),
    (collections.Counter[str], dict[str, int]),
    (io.StringIO, TextIO),  # a file is no subclass of it
    (IO[bytes], io.BytesIO),
    (Mock, Stone),
]

DISJOINT: list[tuple[Any, Any]] = [
    (int, str),
    (str, int),
    (float, str),
    (None, str),
    (Dog, Stone),
    (Dog, str),
    (Name, int),
    (Color, str),
    (int, c.Iterable),
    (list[str], str),
    (str, list[str]),
    (list[int], list[str]),
    (list[str], c.Sequence[int]),
    (str, c.Sequence[int]),
    (list[list[int]], list[list[str]]),
    (set[int], list[int]),
    (tuple[int, str], tuple[int, int]),
    (tuple[int, str], tuple[int, int, int]),
    (dict[str, int], dict[str, str]),
    (dict[int, str], c.Mapping[str, str]),
    (dict, str),
    (dict[str, int], list[str]),
    (collections.Counter[str], c.Iterable[int]),
    (Row, str),
    (UserId, str),
    (Literal["a"], Literal["b"]),
    (Literal["a"], int),
    (str, Literal[1]),
    (int | float, str | list[int]),
    (c.AsyncIterator[str], str),
    (c.AsyncIterator[str], c.AsyncIterator[int]),
    (Several((int, str)), str),
    (Several((int, str)), tuple[str, str]),
    (Named((("a", int),)), str),
]


@pytest.mark.parametrize(("given", "wanted"), FITTING, ids=str)
def test_these_fit(given: Any, wanted: Any) -> None:
    assert fits(given, wanted)


@pytest.mark.parametrize(("given", "wanted"), DISJOINT, ids=str)
def test_these_do_not(given: Any, wanted: Any) -> None:
    assert not fits(given, wanted)


def test_a_no_is_not_kept() -> None:
    class Walks: ...

    class Swims: ...

    assert not fits(Walks, Swims)

    class Duck(Walks, Swims): ...

    assert fits(list[Walks], list[Swims])
    assert fits(Walks, Swims)
    assert Duck


HINTS = st.sampled_from(
    [int, str, bytes, None, list[int], list[str], dict[str, int], tuple[int, str], Dog, Stone]
)


@given(HINTS, HINTS, HINTS)
def test_a_union_fits_where_one_of_its_members_does(a: Any, b: Any, wanted: Any) -> None:
    either = Optional[a] if b is None else a | b  # noqa: UP045  (None | None is no union)
    assert fits(either, wanted) == (fits(a, wanted) or fits(b, wanted))
    assert fits(wanted, either) == (fits(wanted, a) or fits(wanted, b))


@given(HINTS, HINTS)
def test_what_is_inside_of_a_list_decides(a: Any, b: Any) -> None:
    assert fits(list[a], list[b]) == fits(a, b)
    assert fits(a, b) == fits(b, a)
