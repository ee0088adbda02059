from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from typing import Any, TextIO, TypedDict, TypeVar
from unittest.mock import MagicMock, Mock

import pytest

from millrace import Args, If, Parallel, Pipeline, Switch, Warp, bind
from millrace.streaming import FlowBuildError

T = TypeVar("T")


class Row(TypedDict):
    id: int
    of: Undefined  # type: ignore[name-defined]  # noqa: F821


class Client:
    def ask(self, question: str) -> str: ...


def count(text: str) -> int:
    return len(text)


def words(text: str) -> list[str]:
    return text.split()


def joined(texts: list[str]) -> str:
    return " ".join(texts)


def show(number: int) -> str: ...
def same(x: T) -> T: ...
def nothing() -> str: ...
def is_text(x: object) -> bool: ...
def is_row(row: list[str]) -> bool: ...
def takes_dict(found: dict[str, str]) -> str: ...
def takes_tuple(found: tuple[str, str]) -> str: ...
def takes_args(found: Args) -> str: ...
def takes_list(found: list[str]) -> str: ...
def takes_kept(found: list[str | Exception]) -> str: ...
def with_client(x: str, client: Client) -> str: ...
def opened(path: str) -> io.StringIO: ...
def read(file: TextIO) -> str: ...
def promised(x: str) -> asyncio.Future[str]: ...
def gives_object(x: str) -> object: ...
def gives_row(x: str) -> Row: ...
def gives_tuple(x: str) -> tuple[str, str]: ...
def gives_dict(x: str) -> dict[str, str]: ...
def gives_error(x: str) -> Exception: ...


# ---------------------------------------------------------------- branches


def test_a_branch_may_be_for_other_values_than_those_that_come() -> None:
    tidy = Switch({lambda x: isinstance(x, str): str.strip, lambda x: isinstance(x, list): joined})
    assert Pipeline(str.lower, tidy)(" A ") == "a"
    assert Pipeline(words, tidy)("a  b") == "a b"
    assert Pipeline(words, If(lambda x: isinstance(x, str), count, len)).check(str)("a b") == 2
    assert Pipeline(str.lower, Switch({is_text: words, is_row: joined})).check()


def test_no_branch_can_take_what_comes() -> None:
    with pytest.raises(FlowBuildError) as raised:
        Pipeline(count, Switch({1: words}, default=count))
    assert [line[:5] for line in str(raised.value).splitlines()[1:]] == ["  1. ", "  2. "]
    assert "words (case 1) takes str" in str(raised.value)
    assert "count (case default) takes str" in str(raised.value)


def test_a_branch_that_can_take_nothing_is_refused_beside_others() -> None:
    with pytest.raises(FlowBuildError, match=r"nothing \(case 1\) takes no value"):
        Pipeline(count, Switch({is_text: show, 1: nothing}))


# ---------------------------------------------------------------- what `collect` is given


COLLECTS: list[Callable[[], Any]] = [
    lambda: Parallel(str.upper, str.lower, collect=takes_tuple),
    lambda: Parallel(str.upper, str.lower, collect=takes_args),
    lambda: Parallel(str.upper, str.lower, collect=takes_list),
    lambda: Parallel(str.upper, str.lower, collect=takes_tuple, choose=lambda x: [0]),
    lambda: Parallel(a=str.upper, b=str.lower, collect=takes_dict, choose=lambda x: ["a"]),
    lambda: Parallel(joined, show, collect=takes_kept, on_error="keep"),
    lambda: Warp(show, collect=takes_list),
]


@pytest.mark.parametrize("build", COLLECTS)
def test_collect_may_call_the_results_a_tuple_or_a_list(build: Callable[[], Any]) -> None:
    flow = build()
    assert flow.check() is flow


def test_collect_cannot_take_the_results() -> None:
    with pytest.raises(FlowBuildError, match=r"gives tuple\[int, list\[str\]\], and takes_dict takes dict"):
        Parallel(count, words, collect=takes_dict)
    with pytest.raises(FlowBuildError, match=r"Warp\(count\) gives list\[int\], and takes_dict takes dict"):
        Warp(count, collect=takes_dict)


# ---------------------------------------------------------------- values of other classes than they seem


def test_a_stand_in_is_taken_for_what_it_stands_for() -> None:
    assert bind(with_client, client=Mock()).check()
    assert Pipeline(bind(with_client, client=MagicMock(spec=Client)), Mock(return_value="a"), count).check()
    assert Pipeline(opened, read, count).check()


def test_what_is_awaited_gives_what_stands_in_its_brackets() -> None:
    assert Pipeline(promised, count).check()
    with pytest.raises(FlowBuildError, match="promised gives str, and show takes int"):
        Pipeline(promised, show)


@pytest.mark.parametrize("gives", [gives_object, gives_tuple, gives_dict, gives_error])
def test_a_class_of_ones_own_may_have_more_attributes(gives: Callable[..., Any]) -> None:
    with Pipeline() as p:
        p.a = gives
        p.b = bind(same, p.a.code)
    assert p.check() is p


def test_a_typed_dict_is_known_by_its_keys_though_not_all_types_are() -> None:
    with Pipeline() as p:
        p.row = gives_row
        p.b = bind(count, p.row["of"])
    assert p.check() is p
    with (
        pytest.raises(FlowBuildError, match=r"refers to p.row\['name'\], and row gives Row"),
        Pipeline() as q,
    ):
        q.row = gives_row
        q.b = bind(same, q.row["name"])
