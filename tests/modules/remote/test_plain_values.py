"""What a step was given, as JSON."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass, field
from enum import Enum
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from pydantic import BaseModel

from millrace import Args, Message
from millrace.modules.remote.plain_values import as_json


class Colour(Enum):
    RED = "red"


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Question:
    text: str
    tags: set[str] = field(default_factory=set)
    when: datetime.date | None = None


class Note(BaseModel):
    title: str
    when: datetime.date
    inner: list[Note] = []


DAY = datetime.date(2026, 11, 3)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("Hi \ud83d", "Hi \ud83d"),
        (None, None),
        ([1, 2.5, True, {"a": None}], [1, 2.5, True, {"a": None}]),
        (Args(1, "b"), [1, "b"]),
        (Point(1, 2), [1, 2]),
        (Question("Hi", {"a"}, DAY), {"text": "Hi", "tags": ["a"], "when": "2026-11-03"}),
        ({"note": Note(title="t", when=DAY)}, {"note": {"title": "t", "when": "2026-11-03", "inner": []}}),
        ([Message.user("Hi"), Message.assistant("x", status="cancelled")], [
            {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "x"}
        ]),
        (Colour.RED, "red"),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (PurePosixPath("a/b"), "a/b"),
        (datetime.datetime(2026, 11, 3, 4, 5), "2026-11-03T04:05:00"),
    ],
)  # fmt: skip
def test_values(value: Any, found: Any) -> None:
    assert json.loads(as_json(value)) == found


@pytest.mark.parametrize("value", [b"bytes", object(), {"a": [object]}, Note, Question, {(1, 2): 3}])
def test_what_json_has_not(value: Any) -> None:
    with pytest.raises(TypeError, match=r"is no JSON|keys must be"):
        as_json(value)


def test_numbers_that_are_none_and_values_without_end() -> None:
    within: list[Any] = []
    within.append(within)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (float("nan"), within, deep):
        with pytest.raises(ValueError):
            as_json(value)
