"""The tabs of a chat: histories, stops, waiting for a place, the end of the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from millrace import Limits, Message, step
from millrace.launchers.admission import Admission
from millrace.launchers.web.tabs import Tab, Tabs
from millrace.launchers.web.turns import Turn
from millrace.streaming import current_run, status
from tests.support.leaks import eventually_async

MANY = 1_000_000


class Counter:
    """A flow that counts what it makes."""

    def __init__(self) -> None:
        self.made = 0
        self.cleaned = 0
        self.seen: list[tuple[Message, ...]] = []
        self.sessions: list[str] = []

    async def __call__(self, question: str) -> AsyncIterator[str]:
        run = current_run()
        assert run is not None
        self.seen.append(run.history)
        self.sessions.append(run.session)
        try:
            for i in range(int(question) if question.isdigit() else MANY):
                self.made += 1
                yield f"{i} "
                await asyncio.sleep(0)
            if question == "0":
                await asyncio.Event().wait()
        finally:
            self.cleaned += 1


def tabs_of(flow: Any, **limits: int) -> Tabs:
    return Tabs(step(flow), Admission(Limits(**{"running": 2, "waiting": 2, **limits})))


async def ask(tabs: Tabs, tab: Tab, question: str, until: Callable[[Turn], bool] | None = None) -> Turn:
    """Looks at a turn until its end; once `until` is true, what a Stop button does."""
    async for turn in tabs.ask(tab, question):
        if until is not None and until(turn):
            until = None
            tab.stop("stopped in the test")
    return tab.turns[-1]


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await asyncio.wait_for(test(), 20)
        assert status().runs == 0

    asyncio.run(main())


def test_the_next_turn_sees_the_earlier_ones_and_what_was_stopped_of_them() -> None:
    async def test() -> None:
        flow = Counter()
        tabs = tabs_of(flow)
        tab = tabs.open("a")
        await ask(tabs, tab, "2")
        await ask(tabs, tab, "endless", until=lambda turn: bool(turn.text))
        await ask(tabs, tab, "1")
        stopped = tab.turns[1].text
        assert stopped.startswith("0 ")
        assert flow.seen[2] == (
            Message.user("2"),
            Message.assistant("0 1 "),
            Message.user("endless"),
            Message.assistant(stopped, status="stopped"),
        )
        assert set(flow.sessions) == {tab.session}

    run(test)


def test_two_tabs_know_nothing_of_each_other() -> None:
    async def test() -> None:
        flow = Counter()
        tabs = tabs_of(flow)
        one, other = tabs.open("a"), tabs.open("b")
        await asyncio.gather(ask(tabs, one, "30"), ask(tabs, other, "40"))
        await ask(tabs, one, "1")
        assert [message.content for message in flow.seen[2]] == ["30", one.turns[0].text]
        assert one.session != other.session
        assert "a" not in (one.session, other.session)

    run(test)


def test_a_stop_makes_no_more_than_two_items() -> None:
    async def test() -> None:
        flow = Counter()
        tabs = tabs_of(flow)
        tab = tabs.open("a")
        at_stop: list[int] = []

        def enough(turn: Turn) -> bool:
            at_stop[:] = [flow.made]
            return flow.made > 10

        turn = await ask(tabs, tab, "endless", until=enough)
        assert turn.state == "stopped"
        assert flow.made <= at_stop[0] + 2
        assert flow.cleaned == 1

    run(test)


@pytest.mark.parametrize("leave", ["stop", "leave", "clear", "cancel_all"])
def test_a_flow_that_only_waits_is_stopped_at_once(leave: str) -> None:
    async def test() -> None:
        flow = Counter()
        tabs = tabs_of(flow)
        tab = tabs.open("a")
        answering = asyncio.create_task(ask(tabs, tab, "0"))
        await eventually_async(lambda: flow.seen)
        stops: dict[str, Callable[[], None]] = {
            "stop": lambda: tab.stop("x"),
            "leave": lambda: tabs.leave("a"),
            "clear": tab.clear,
            "cancel_all": lambda: tabs.cancel_all("x"),
        }
        turn = tab.turns[0]
        stops[leave]()
        await asyncio.wait([answering], timeout=1)
        assert (turn.state, flow.cleaned) == ("stopped", 1)

    run(test)


def test_a_page_that_stops_looking_stops_the_run() -> None:
    async def test() -> None:
        flow = Counter()
        tabs = tabs_of(flow)
        looking = tabs.ask(tabs.open("a"), "0")
        await anext(looking)
        await eventually_async(lambda: flow.seen)
        await looking.aclose()
        assert flow.cleaned == 1

    run(test)


def test_beyond_the_limits_it_waits_or_is_refused_and_says_so() -> None:
    async def test() -> None:
        flow = Counter()
        tabs = tabs_of(flow, running=1, waiting=1)
        first = asyncio.create_task(ask(tabs, tabs.open("a"), "0"))
        await eventually_async(lambda: flow.seen)
        second = asyncio.create_task(ask(tabs, tabs.open("b"), "3"))
        await eventually_async(lambda: tabs.open("b").turns)
        await eventually_async(
            lambda: tabs.open("b").turns[0].status == "waiting for a free place, 1st in line"
        )
        refused = await ask(tabs, tabs.open("c"), "3")
        assert refused.failure is not None
        assert refused.failure.what == "Busy right now"
        assert not second.done()
        tabs.leave("a")
        await first
        assert (await second).text == "0 1 2 "

    run(test)


def test_turns_are_counted_by_how_they_end() -> None:
    async def flow(question: str) -> AsyncIterator[str]:
        if question == "fail":
            raise ValueError(question)
        yield question
        while question == "endless":
            yield "."
            await asyncio.sleep(0)

    async def test() -> None:
        tabs = tabs_of(flow)
        tab = tabs.open("a")
        tally = tabs.admission.tally
        for question in ("hello", "fail", "again"):
            await ask(tabs, tab, question)
        await ask(tabs, tab, "endless", until=lambda turn: bool(turn.text))
        assert tally.ended == {"completed": 2, "failed": 1, "cancelled": 1}
        full = tabs_of(flow, running=1, waiting=0)
        with full.admission.enter():
            await ask(full, full.open("a"), "hello")
        assert full.admission.tally.ended == {"rejected": 1}
        tabs.close()
        await ask(tabs, tab, "hello")
        assert tally.ended["rejected"] == 1
        assert tally.started == tally.ended.total() == 5

    run(test)


def test_a_tab_that_waits_for_a_place_can_be_stopped() -> None:
    async def test() -> None:
        flow = Counter()
        tabs = tabs_of(flow, running=1)
        first = asyncio.create_task(ask(tabs, tabs.open("a"), "0"))
        await eventually_async(lambda: flow.seen)
        second = asyncio.create_task(ask(tabs, tabs.open("b"), "3"))
        await eventually_async(lambda: tabs.admission.waiting == 1)
        tabs.leave("b")
        assert (await second).state == "stopped"
        assert tabs.admission.waiting == 0
        tabs.leave("a")
        await first
        assert len(flow.seen) == 1

    run(test)


def test_errors_are_told_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    def broken(question: str) -> str:
        raise ValueError("secret")

    async def test() -> None:
        tabs = tabs_of(broken)
        turn = await ask(tabs, tabs.open("a"), "x")
        assert turn.failure is not None
        assert turn.failure.what == "The flow failed with ValueError"

    run(test)
    assert "secret" in caplog.text


def test_a_deadline_ends_a_turn() -> None:
    async def test() -> None:
        tabs = Tabs(step(Counter()), Admission(Limits()), timeout=0.05)
        turn = await ask(tabs, tabs.open("a"), "0")
        assert turn.failure is not None
        assert "took too long" in turn.failure.what

    run(test)


def test_a_flow_that_takes_messages_gets_them_all() -> None:
    given: list[list[Message]] = []

    def flow(messages: list[Message]) -> str:
        given.append(messages)
        return "answer"

    async def test() -> None:
        tabs = tabs_of(flow)
        await ask(tabs, tabs.open("a"), "one")
        await ask(tabs, tabs.open("a"), "two")
        assert given[1] == [Message.user("one"), Message.assistant("answer"), Message.user("two")]

    run(test)


def test_a_closing_server_takes_no_questions_and_finishes_answers() -> None:
    async def test() -> None:
        flow = Counter()
        tabs = tabs_of(flow)
        busy = asyncio.create_task(ask(tabs, tabs.open("busy"), "0"))
        await eventually_async(lambda: flow.seen)
        tabs.close()
        refused = await ask(tabs, tabs.open("idle"), "1")
        assert refused.failure is not None
        assert not busy.done()
        tabs.cancel_all("the server is shutting down")
        assert (await busy).state == "stopped"

    run(test)
