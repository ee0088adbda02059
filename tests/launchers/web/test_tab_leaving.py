"""Leaving a chat and coming back: what stops, what goes on, and what a page finds again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from millrace import Message, Pipeline
from millrace.streaming import TextDelta, attach, current_run
from millrace.streaming.queues import open_queue
from tests.launchers.web.tab_parts import ALICE, BOB, Echo, ask, begin, follow, run, tabs_of
from tests.support.leaks import eventually_async


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
