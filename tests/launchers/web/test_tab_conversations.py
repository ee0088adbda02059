"""The tabs of a chat and their conversations: asking anew, several tabs of one user, leaving and coming back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from millrace.streaming import SessionBusy
from tests.launchers.web.tab_parts import ALICE, BOB, Echo, ask, begin, follow, run, tabs_of, titles
from tests.support.leaks import eventually_async


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
