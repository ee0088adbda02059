from __future__ import annotations

import datetime
import decimal
import enum
import subprocess
import sys
import uuid
from collections import namedtuple
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace import Args
from millrace.flow.policies.keys import Unkeyable, digest
from millrace.streaming import Message

Point = namedtuple("Point", "x y")


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Size(enum.IntEnum):
    ONE = 1


@dataclass
class Question:
    text: str
    top: int = 3


@dataclass(frozen=True, slots=True)
class Slotted:
    text: str
    top: int = 3


DIFFERENT: list[Any] = [
    None,
    False,
    0,
    0.0,
    -0.0,
    1,
    True,
    1.0,
    "",
    "1",
    b"1",
    bytearray(b"1"),
    [],
    (),
    Args(),
    {},
    set(),
    frozenset(),
    [1],
    (1,),
    Args(1),
    [[1]],
    ["1"],
    [1, 2],
    [12],
    ["1", "2"],
    ["12"],
    {"a": 1},
    {"a": 1, "b": 2},
    {"b": 2, "a": 1},
    {1: "a"},
    {"1": "a"},
    {1},
    {1, 2},
    Point(1, 2),
    Colour.RED,
    Colour.BLUE,
    Size.ONE,
    Question("a"),
    Question("a", 4),
    Slotted("a"),
    Message.user("a"),
    Message.system("a"),
    datetime.date(2026, 1, 1),
    datetime.datetime(2026, 1, 1),
    datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    datetime.timedelta(1),
    decimal.Decimal("1"),
    decimal.Decimal("1.0"),
    uuid.UUID(int=1),
    PurePosixPath("a"),
    Path("a"),
    1j,
    range(3),
    float("nan"),
    float("inf"),
    "\ud800",
    2**100000,
]


def test_values_of_other_types_or_content_have_other_keys() -> None:
    keys = [digest(value) for value in DIFFERENT]
    assert len(set(keys)) == len(DIFFERENT)
    assert keys == [digest(value) for value in DIFFERENT]


def test_sets_have_no_order_and_equal_values_one_key() -> None:
    assert digest({"a", "b", "c"}) == digest({"c", "a", "b"})
    assert digest([Question("a"), {"k": (1, 2)}]) == digest([Question("a"), {"k": (1, 2)}])


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
)


def written(value: Any) -> str:
    """What tells values apart by type, content and order; `1 == True == 1.0` does not."""
    return repr(value)


@given(values, values)
def test_one_key_for_one_value(one: Any, other: Any) -> None:
    assert (digest(one) == digest(other)) == (written(one) == written(other))


def test_keys_are_the_same_in_every_process() -> None:
    code = (
        "from millrace.flow.policies.keys import digest;"
        "print(digest([{'a', 'b', 'c', 'd'}, frozenset('xyz'), {'k': 1.5}, 'text', b'bytes', None]))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert found == {
        digest([{"a", "b", "c", "d"}, frozenset("xyz"), {"k": 1.5}, "text", b"bytes", None]) + "\n"
    }


class Custom:
    pass


class Name(str):
    pass


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Custom(), r"it is a tests\.flow.*Custom"),
        ([1, {"db": Custom()}], r"\[1\]\['db'\] is a .*Custom"),
        (Question("a", Custom()), r"\.top is a "),  # type: ignore[arg-type]
        (Name("a"), "Name"),
        (lambda: 1, "it is a function"),
        ({Custom(): 1}, r"a key <"),
        (iter([]), "list_iterator"),
        (Question, "it is a type"),
        (object(), "it is a object"),
    ],
)
def test_what_is_no_key_is_named(value: Any, message: str) -> None:
    with pytest.raises(Unkeyable, match=message):
        digest(value)


def test_what_contains_itself_or_is_too_deep() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(Unkeyable):
        digest(loop)
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(Unkeyable):
        digest(deep)
    twice = [1]
    assert digest([twice, twice]) == digest([[1], [1]])
