from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from millrace import Pipeline, Switch
from millrace.streaming import FlowBuildError, FlowCallError, StepStarted, TextDelta


def short(text: str) -> bool:
    return len(text) < 3


async def short_async(text: str) -> bool:
    return len(text) < 3


async def answer(text: str) -> AsyncIterator[str]:
    for piece in ("it ", "is ", text):
        yield piece


def run_all(flow: Any, x: Any) -> Any:
    value = flow(x)
    assert flow.stream(x).result == asyncio.run(flow.acall(x)) == value
    return value


@pytest.mark.parametrize("predicate", [short, short_async])
def test_the_first_case_that_fits(predicate: Any) -> None:
    flow = Switch(
        {predicate: lambda x: "short", "hello": lambda x: "hello", str.isdigit: int}, default=str.upper
    )
    assert run_all(flow, "ab") == "short"
    assert run_all(flow, "hello") == "hello"
    assert run_all(flow, "123") == 123
    assert run_all(flow, "other") == "OTHER"


def test_cases_see_the_key_and_branches_the_value() -> None:
    flow = Switch({2: lambda x: ("two", x), (lambda n: n > 5): lambda x: ("long", x)}, key=len)
    assert run_all(flow, "ab") == ("two", "ab")
    assert run_all(flow, "abcdefg") == ("long", "abcdefg")


def test_a_value_that_is_falsy() -> None:
    assert run_all(Switch({0: lambda x: "zero", None: lambda x: "none"}), 0) == "zero"
    assert run_all(Switch({0: lambda x: "zero", None: lambda x: "none"}), None) == "none"


@pytest.mark.parametrize("predicate", [short, short_async])
def test_no_case_fits(predicate: Any) -> None:
    flow = Switch({predicate: str, "faq": str})
    for call in (flow, lambda x: asyncio.run(flow.acall(x))):
        with pytest.raises(FlowCallError, match=r"'too long'.*short.*faq.*default="):
            call("too long")


def test_wrong_writing() -> None:
    with pytest.raises(FlowBuildError, match="no case and no default"):
        Switch({})
    with pytest.raises(FlowBuildError, match="dict of cases"):
        Switch([str])  # type: ignore[arg-type]
    assert Switch({}, default=str)(1) == "1"


def test_the_chosen_branch_streams_the_output() -> None:
    flow = Pipeline(str.strip, Switch({short: answer}, default=lambda x: "declined"))
    assert list(flow.stream(" ab ").text()) == ["it ", "is ", "ab"]
    assert list(flow.stream("abcdef").text()) == ["declined"]
    events = list(flow.stream("ab"))
    assert ["/".join(map(str, e.path)) for e in events if isinstance(e, StepStarted)] == ["strip", "short"]
    assert all(e.output for e in events if isinstance(e, TextDelta))


def test_an_error_names_the_branch() -> None:
    def fails(x: Any) -> None:
        raise LookupError("gone")

    for call in (Switch({short: fails}), lambda x: asyncio.run(Switch({short: fails}).acall(x))):
        with pytest.raises(LookupError) as raised:
            call("a")
        assert raised.value.__notes__[0].startswith("in short (test_switch.py")


def test_no_other_branch_runs() -> None:
    ran: list[str] = []
    flow = Switch({short: lambda x: ran.append("a"), short_async: lambda x: ran.append("b")}, default=print)
    flow("x")
    assert ran == ["a"]
