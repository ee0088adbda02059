"""What a flow gives may be anything; what a client is sent is JSON, and says nothing of errors but their types."""

from __future__ import annotations

import datetime
import json
import math
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict

from millrace import Parallel
from millrace.launchers.api.values import as_json, as_text, plain, with_whole_numbers
from tests.launchers.support import PATH, RESPONSES, echo, question, running


class Model(BaseModel):
    size: int


@dataclass
class Record:
    when: datetime.date
    model: Model


@dataclass(slots=True)
class Result:
    of: Any


class Kept(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True, extra="allow")

    error: ValueError


class Mute:
    def __str__(self) -> str:
        raise RuntimeError("secret")


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def turning() -> list[Any]:
    """An error, and itself, twice."""
    value: list[Any] = [ValueError("secret")]
    value += [value, value]
    return value


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


DAY = datetime.date(2026, 1, 31)

VALUES: list[tuple[Any, Any]] = [
    (None, None),
    (True, True),
    ("é\u2028\x00", "é\u2028\x00"),
    (1.5, 1.5),
    (math.nan, None),
    ([math.inf, -math.inf], [None, None]),
    ((1, {2}), [1, [2]]),
    ({1: 2, (3, 4): None}, {"1": 2, "3,4": None}),
    (Record(DAY, Model(size=3)), {"when": "2026-01-31", "model": {"size": 3}}),
    (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (b"text", "text"),
    (b"\xff", "b'\\xff'"),
    (1j, "1j"),
    (ValueError("secret"), "ValueError"),
    ([{"a": ValueError("secret")}], [{"a": "ValueError"}]),
    (Mute(), "(a Mute that cannot be shown)"),
    ([Mute()], ["(a Mute that cannot be shown)"]),
    (endless(), "[[...]]"),
    (deep(100_000), "(a list that cannot be shown)"),
    ({"\ud800": 1}, "{'\\ud800': 1}"),
    (["\ud800"], ["\ud800"]),
    ([b"\xff", {"a": Result(ValueError("secret"))}], "[b'\\xff', {'a': {'of': 'ValueError'}}]"),
    (10**5000, "(a int that cannot be shown)"),
    ({"a": [10**5000, 7]}, {"a": ["(a int that cannot be shown)", 7]}),
]


@pytest.mark.parametrize(("value", "shown"), VALUES, ids=lambda value: type(value).__name__)
def test_as_json(value: Any, shown: Any) -> None:
    text = as_json(plain(value))
    assert text.isascii()
    assert "\n" not in text
    assert json.loads(text) == shown
    assert "secret" not in text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, ""),
        ("one", "one"),
        ([1, "a"], "[1, 'a']"),
        (ValueError("secret"), "ValueError"),
        ([1, ValueError("secret")], "[1, 'ValueError']"),
        ({"a": ValueError("secret")}, "{'a': 'ValueError'}"),
        ({"a": [(1, {"b": {ValueError("secret")}})]}, "{'a': [[1, {'b': ['ValueError']}]]}"),
        ({ValueError("secret"): 1, (2, KeyError("secret")): 3}, "{'ValueError': 1, \"[2, 'KeyError']\": 3}"),
        ([Result(ValueError("secret")), Result(1)], "[{'of': 'ValueError'}, {'of': 1}]"),
        (
            Kept(error=ValueError("secret"), more=[KeyError("secret")]),
            "{'error': 'ValueError', 'more': ['KeyError']}",
        ),
        (Result("fine"), "Result(of='fine')"),
        (turning(), "['ValueError', Ellipsis, Ellipsis]"),
        ([ValueError("secret"), deep(100)], "['ValueError', " + "[" * 49 + "Ellipsis" + "]" * 50),
        (Mute(), "(a Mute that cannot be shown)"),
    ],
)
def test_as_text(value: Any, shown: str) -> None:
    assert as_text(value) == shown


@pytest.mark.parametrize(
    "value", [endless(), deep(100_000), 10**5000, b"\xff", Mute()], ids=lambda v: type(v).__name__
)
def test_a_flow_may_give_it(value: Any) -> None:
    async def gives(text: str) -> Any:
        return value

    with running(gives) as server:
        for body in ({"input": "x"}, {"input": "x", "stream": True}):
            with server.connect() as connection:
                connection.send("POST", "/v1/runs", body)
                assert connection.reply().status == 200
                assert b"done" in connection.read()
        assert server.post(question())[0] == 200


def test_errors_that_a_parallel_keeps_are_told_by_their_types() -> None:
    async def fails(text: str) -> str:
        raise ValueError("secret")

    with running(Parallel(good=echo, bad=fails, on_error="keep")) as server:
        answer = server.post(question("hi"))[2]["choices"][0]["message"]["content"]
        assert answer == "{'good': 'hi', 'bad': 'ValueError'}"
        with server.connect() as connection:
            connection.send("POST", "/v1/runs", {"input": "hi"})
            connection.reply()
            assert connection.json()["result"] == {"good": "hi", "bad": "ValueError"}


def test_errors_that_lie_deep_are_told_by_their_types_on_every_endpoint() -> None:
    async def gives(text: str) -> Any:
        return {"a": {"b": [Result(ValueError("secret"))]}}

    with running(gives) as server:
        for path in (PATH, RESPONSES, "/v1/runs"):
            for stream in (False, True):
                with server.ask(stream=stream, path=path) as connection:
                    assert connection.reply().status == 200
                    body = connection.read()
                    assert b"ValueError" in body
                    assert b"secret" not in body


def test_whole_numbers() -> None:
    assert with_whole_numbers({"a": [3.0, 2.5, -0.0], "b": True}) == {"a": [3, 2.5, 0], "b": True}

    async def double(count: int) -> int:
        return 2 * count

    with running(double) as server:
        for number, status in ((3.0, 200), (3, 200), (2.5, 422), ("3", 422), (True, 422)):
            with server.connect() as connection:
                connection.send("POST", "/v1/runs", {"input": number, "sampling": {"top_k": 5.0}})
                assert connection.reply().status == status
                assert status == 422 or connection.json()["result"] == 6
