"""The tabs of a chat and their conversations: asking anew, several tabs of one user, leaving and coming back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from millrace import Limits, Message, Pipeline, step
from millrace.launchers.admission import Admission
from millrace.launchers.web.archives import FileArchives
from millrace.launchers.web.identities import Identity
from millrace.launchers.web.tabs import Tab, Tabs
from millrace.launchers.web.turns import Turn
from millrace.streaming import SessionBusy, TextDelta, attach, current_run, status
from millrace.streaming.queues import Queue, open_queue
from tests.support.leaks import eventually_async

ALICE, BOB = Identity.of_browser("cookie", "alice"), Identity.of_browser("cookie", "bob")


class Echo:
    """Answers with the question; to "wait" it says a word, and waits until it is stopped or let go."""

    def __init__(self) -> None:
        self.histories: list[tuple[Message, ...]] = []
        self.owners: list[str | None] = []
        self.stopped = 0
        self.go = asyncio.Event()

    async def __call__(self, question: str) -> AsyncIterator[str]:
        run = current_run()
        assert run is not None
        self.histories.append(run.history)
        self.owners.append(run.owner)
        yield f"{question}!"
        if question == "wait":
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.stopped += 1
                raise


def tabs_of(
    flow: Any,
    directory: Path | None = None,
    resume: float | None = None,
    queue: Queue | None = None,
    **limits: int,
) -> Tabs:
    archives = None if directory is None else FileArchives(directory)
    admission = Admission(Limits(**{"running": 2, "waiting": 2, **limits}))
    return Tabs(step(flow), admission, archives=archives, resume=resume, queue=queue)


async def ask(tabs: Tabs, tab: Tab, question: str) -> Turn:
    async for _ in tabs.ask(tab, question):
        pass
    return tab.turns[-1]


async def begin(tabs: Tabs, tab: Tab, question: str = "wait") -> Turn:
    """Asks, and returns once there is the first word."""
    turn = tabs.begin(tab, question).turn
    await eventually_async(lambda: turn.text)
    return turn


def titles(tab: Tab) -> list[str]:
    return [heading.title for heading in tab.conversations.headings()]


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await asyncio.wait_for(test(), 20)
        await eventually_async(lambda: status().runs == 0)

    asyncio.run(main())


class TestAskingAnew:
    def test_cutting_stops_what_goes_on_and_takes_the_turns_away(self) -> None:
        async def test() -> None:
            flow = Echo()
            tabs = tabs_of(flow)
            tab = tabs.open("a", ALICE)
            await ask(tabs, tab, "one")
            turn = await begin(tabs, tab)
            assert await tab.cut(1) == "wait"
            assert (turn.state, turn.text, flow.stopped) == ("stopped", "wait!", 1)
            assert [turn.question for turn in tab.turns] == ["one"]
            await ask(tabs, tab, "two")
            assert [message.content for message in flow.histories[-1]] == ["one", "one!"]
            assert await tab.cut(0) == "one"
            assert tab.turns == []
            assert await tab.cut(0) == await tab.cut(-1) == ""

        run(test)

    def test_a_stop_before_the_first_step_ends_the_turn(self) -> None:
        async def test() -> None:
            flow = Echo()
            tabs = tabs_of(flow)
            tab = tabs.open("a", ALICE)
            live = tabs.begin(tab, "wait")
            tab.stop("at once")
            await live.ended.wait()
            assert (live.turn.state, flow.histories, tab.busy) == ("stopped", [], False)

        run(test)

    def test_a_cleared_conversation_is_gone_from_the_disk(self, tmp_path: Path) -> None:
        async def test() -> None:
            tabs = tabs_of(Echo(), tmp_path)
            tab = tabs.open("a", ALICE)
            turn = await begin(tabs, tab)
            session = tab.session
            assert list(tmp_path.rglob("*.jsonl"))
            tab.clear()
            await eventually_async(lambda: turn.over)
            assert (tab.turns, titles(tab), list(tmp_path.rglob("*.jsonl"))) == ([], [], [])
            assert tab.session != session

        run(test)


class TestSeveralTabs:
    def test_two_tabs_of_one_user_have_one_list_and_others_have_none_of_it(self) -> None:
        async def test() -> None:
            flow = Echo()
            tabs = tabs_of(flow)
            one, two, theirs = tabs.open("a", ALICE), tabs.open("b", ALICE), tabs.open("a", BOB)
            await ask(tabs, one, "mine")
            assert (titles(one), titles(two), titles(theirs)) == (["mine"], ["mine"], [])
            assert two.show(one.conversation.id)
            assert not theirs.show(one.conversation.id)
            assert two.turns == one.turns
            assert theirs.turns == []
            await ask(tabs, theirs, "yours")
            assert flow.owners == [ALICE.owner.name, BOB.owner.name]

        run(test)

    def test_a_conversation_that_answers_is_busy_in_the_other(self) -> None:
        async def test() -> None:
            flow = Echo()
            tabs = tabs_of(flow)
            one, two = tabs.open("a", ALICE), tabs.open("b", ALICE)
            turn = await begin(tabs, one)
            two.show(one.conversation.id)
            assert two.busy
            assert two.conversations.busy(one.conversation.id)
            with pytest.raises(SessionBusy, match="'wait' is being answered"):
                tabs.begin(two, "another")
            assert two.turns == [turn]
            followed = asyncio.create_task(follow(tabs, two))
            flow.go.set()
            assert (await followed).text == "wait!"
            assert not two.busy
            await ask(tabs, two, "another")

        run(test)

    def test_turning_to_another_conversation_lets_the_answer_go_on(self) -> None:
        async def test() -> None:
            flow = Echo()
            tabs = tabs_of(flow)
            tab = tabs.open("a", ALICE)
            following = asyncio.create_task(ask(tabs, tab, "wait"))
            await eventually_async(lambda: tab.turns and tab.turns[0].text)
            waiting = tab.conversation
            tab.begin()
            flow.go.set()
            await eventually_async(lambda: not waiting.busy)
            await asyncio.wait([following])
            assert (waiting.turns[0].state, tab.turns) == ("done", [])

        run(test)

    def test_coming_back_to_an_answer_that_is_silent_is_not_being_told_of_it(self) -> None:
        async def test() -> None:
            tabs = tabs_of(Echo())
            tab = tabs.open("a", ALICE)
            asking = asyncio.create_task(ask(tabs, tab, "wait"))
            await eventually_async(lambda: tab.turns and tab.turns[0].text)
            assert tab.follows
            waiting = tab.conversation
            tab.begin()
            assert tab.show(waiting.id)
            assert tab.busy
            assert not tab.follows, "its page would not draw it"
            again = asyncio.create_task(follow(tabs, tab))
            await eventually_async(lambda: tab.follows)
            tab.stop("enough")
            assert (await again).state == "stopped"
            await asking
            assert not tab.follows

        run(test)

    def test_what_another_tab_deleted_is_not_asked_again(self) -> None:
        async def test() -> None:
            tabs = tabs_of(Echo())
            one, two = tabs.open("a", ALICE), tabs.open("b", ALICE)
            await ask(tabs, one, "first")
            two.show(one.conversation.id)
            one.clear()
            await ask(tabs, two, "second")
            assert [turn.question for turn in two.turns] == ["second"]
            assert titles(one) == ["second"]

        run(test)


async def follow(tabs: Tabs, tab: Tab) -> Turn:
    live = tab.conversation.live
    assert live is not None
    async for _ in tabs.follow(tab, live):
        pass
    return live.turn


class TestLeaving:
    def test_without_resume_it_stops_at_once_and_the_partial_answer_is_kept(self, tmp_path: Path) -> None:
        async def test() -> None:
            flow = Echo()
            tabs = tabs_of(flow, tmp_path)
            tab = tabs.open("a", ALICE)
            tabs.arrive("a", ALICE)
            turn = await begin(tabs, tab)
            tabs.depart("a", ALICE)
            await eventually_async(lambda: turn.over)
            assert (turn.state, flow.stopped) == ("stopped", 1)
            again = tabs_of(flow, tmp_path)
            back = again.open("other page", ALICE)
            assert back.show(tab.conversation.id)
            assert (back.turns[0].text, back.turns[0].state) == ("wait!", "stopped")
            await ask(again, back, "next")
            assert flow.histories[-1][1] == Message.assistant("wait!", status="stopped")

        run(test)

    def test_with_resume_a_page_that_comes_back_follows_the_same_answer(self) -> None:
        async def test() -> None:
            flow = Echo()
            tabs = tabs_of(flow, resume=60.0)
            tab = tabs.open("a", ALICE)
            tabs.arrive("a", ALICE)
            first = asyncio.create_task(ask(tabs, tab, "wait"))
            await eventually_async(lambda: tab.turns and tab.turns[0].text)
            tabs.leave("a", ALICE)
            tabs.depart("a", ALICE)
            first.cancel()
            await asyncio.wait([first])
            back = tabs.open("b", ALICE)
            assert back.show(tab.conversation.id)
            assert back.busy
            following = asyncio.create_task(follow(tabs, back))
            flow.go.set()
            assert ((await following).state, flow.stopped) == ("done", 0)

        run(test)

    @pytest.mark.parametrize("kind", ["memory", "file"])
    def test_with_resume_a_page_that_comes_back_reads_the_run_from_its_queue(
        self, kind: str, tmp_path: Path
    ) -> None:
        async def test() -> None:
            ids: list[str] = []
            more = asyncio.Event()

            async def think(question: str) -> AsyncIterator[str]:
                yield f"about {question}"

            async def answer(thought: str) -> AsyncIterator[str]:
                for number in range(300):  # more than a stream keeps behind its listener
                    yield f"\n{number}: 河 <é>"
                run = current_run()
                assert run is not None
                ids.append(run.id)
                for piece in ("and ", "more"):
                    await more.wait()
                    more.clear()
                    yield piece
                await more.wait()

            def in_the_queue() -> str:
                with attach(ids[0], queue) as said:
                    return "".join(
                        event.text
                        for event in iter(said.take, None)
                        if type(event) is TextDelta and event.output
                    )

            queue = None if kind == "memory" else open_queue(f"file://{tmp_path}")
            tabs = tabs_of(Pipeline(think, answer), resume=60.0, queue=queue)
            tab = tabs.open("a", ALICE)
            tabs.arrive("a", ALICE)
            live = tabs.begin(tab, "rivers")
            await eventually_async(lambda: ids and "299" in live.turn.text)
            tabs.depart("a", ALICE)
            live.turn.add("this was never said")
            back = tabs.open("b", ALICE)
            assert back.show(tab.conversation.id)
            for ending in ("é>", "and ", "more"):
                await eventually_async(lambda ending=ending: back.turns[-1].text.endswith(ending))
                assert back.turns[-1].text == in_the_queue()
                assert [part.text for part in back.turns[-1].parts] == ["about rivers"]
                assert back.turns[-1].parts[0].seconds == live.turn.parts[0].seconds
                assert not live.turn.over
                more.set()
            await live.ended.wait()
            assert back.turns[-1] is live.turn
            assert live.turn.state == "done"

        run(test)

    def test_all_that_was_asked_in_the_page_stops(self) -> None:
        async def test() -> None:
            flow = Echo()
            tabs = tabs_of(flow, running=3)
            tab = tabs.open("a", ALICE)
            tabs.arrive("a", ALICE)
            turns = [await begin(tabs, tab)]
            tab.begin()
            turns.append(await begin(tabs, tab))
            others = await begin(tabs, tabs.open("b", ALICE))
            tabs.depart("a", ALICE)
            await eventually_async(lambda: all(turn.over for turn in turns))
            assert (flow.stopped, others.state) == (2, "running")
            tabs.cancel_all("the end")

        run(test)

    def test_a_page_that_has_heard_all_has_not_left(self) -> None:
        async def test() -> None:
            flow = Echo()
            tabs = tabs_of(flow)
            tabs.arrive("a", ALICE)
            turn = await begin(tabs, tabs.open("a", ALICE))
            tabs.depart("a", ALICE, left=False)
            await asyncio.sleep(0)
            assert turn.state == "running"
            tabs.leave("a", ALICE)
            await eventually_async(lambda: turn.over)

        run(test)

    def test_with_resume_one_that_comes_back_and_leaves_again_stops_it(self) -> None:
        async def test() -> None:
            flow = Echo()
            tabs = tabs_of(flow, resume=0.2)
            tab = tabs.open("a", ALICE)
            tabs.arrive("a", ALICE)
            turn = await begin(tabs, tab)
            back = tabs.open("b", ALICE)
            tabs.arrive("b", ALICE)
            back.show(tab.conversation.id)
            following = asyncio.create_task(follow(tabs, back))
            await eventually_async(lambda: back.follows)
            tabs.depart("a", ALICE)
            absence = tab.visitor.absence
            assert absence is not None
            await eventually_async(lambda: tab.visitor.absence is None)
            assert turn.state == "running"
            tabs.depart("b", ALICE)
            await eventually_async(lambda: turn.over)
            assert (await following, turn.state, flow.stopped) == (turn, "stopped", 1)

        run(test)

    def test_with_resume_one_that_stays_away_stops_it(self) -> None:
        async def test() -> None:
            flow = Echo()
            tabs = tabs_of(flow, resume=0.01)
            tabs.arrive("a", ALICE)
            turn = await begin(tabs, tabs.open("a", ALICE))
            tabs.depart("a", ALICE)
            await eventually_async(lambda: turn.over)
            assert (turn.state, flow.stopped) == ("stopped", 1)

        run(test)

    def test_a_page_is_known_by_its_user_too(self) -> None:
        async def test() -> None:
            flow = Echo()
            tabs = tabs_of(flow)
            turn = await begin(tabs, tabs.open("a", ALICE))
            tabs.leave("a", BOB)
            tabs.leave("a")
            await asyncio.sleep(0)
            assert not turn.over
            tabs.cancel_all("the end")

        run(test)


def test_the_place_in_line_is_told_as_it_changes() -> None:
    async def test() -> None:
        flow = Echo()
        tabs = tabs_of(flow, running=1, waiting=3)
        await begin(tabs, tabs.open("a", ALICE))
        second = tabs.open("b", ALICE)
        tabs.begin(second, "x")
        third = tabs.open("c", ALICE)
        seen: list[str] = []
        async for turn in tabs.ask(third, "y"):
            if turn.status and turn.status not in seen:
                seen.append(turn.status)
            if "2nd" in turn.status:
                second.stop("gone")
            elif "1st" in turn.status:
                flow.go.set()
        assert seen == [
            "waiting for a free place, 2nd in line",
            "waiting for a free place, 1st in line",
        ]
        assert third.turns[0].text == "y!"

    run(test)


def test_twenty_tabs_of_one_user_do_not_keep_another_waiting() -> None:
    async def test() -> None:
        flow = Echo()
        tabs = tabs_of(flow, running=2, waiting=6)
        turns = []
        for number in range(20):
            tab = tabs.open(f"tab {number}", ALICE)
            turns.append(tabs.begin(tab, "wait" if number < 2 else f"{number}").turn)
        await eventually_async(lambda: len(flow.histories) == 2)
        assert sum(turn.failure is not None for turn in turns) == 12
        theirs = tabs.open("a", BOB)
        asked = tabs.begin(theirs, "mine").turn
        await eventually_async(lambda: asked.status)
        assert asked.failure is None
        assert "1st in line" in asked.status
        flow.go.set()
        await eventually_async(lambda: asked.over)
        assert asked.text == "mine!"
        await eventually_async(lambda: not tabs.lives)
        assert flow.owners.index(BOB.owner.name) <= 3

    run(test)
