"""The recent runs of an owner, as pictures, and what is told of one."""

from __future__ import annotations

import asyncio
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from millrace import Pipeline
from millrace.flow.calls import start_body
from millrace.launchers.owners import Owner
from millrace.launchers.web.run_records import LONGEST, Record, Shelves
from millrace.launchers.web.run_tabs import SHOWN, RunsView
from millrace.streaming import Data, FileQueue
from millrace.streaming.options import Options
from millrace.streaming.queues import Queue
from millrace.streaming.streams import Stream
from tests.flow.timelines.told import START, Told, rag
from tests.streaming.parts import Gate, count
from tests.support.leaks import eventually

ALICE, BOB = Owner("alice"), Owner("bob")


def shelved(shelves: Shelves, owner: Owner, title: str, told: Told) -> Record:
    record = shelves.begin(owner, title, "desk")
    record.asked = record.story.asked = START
    for event in told.events:
        record.take(event)
    return record


def parsed(html: str) -> ET.Element:
    return ET.fromstring(re.sub(r" data-live(?=[ >])", ' data-live=""', html))


def words(html: str) -> str:
    return " ".join(
        " ".join(parsed(re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)).itertext()).split()
    )


def titles(view: RunsView, owner: Owner) -> list[str]:
    return [record.title for record in view.runs(owner)]


class TestCards:
    def test_each_run_a_picture_the_latest_first(self) -> None:
        shelves = Shelves()
        shelved(shelves, ALICE, "What is a Warp?", rag())
        shelved(shelves, ALICE, "stop", Told().step(0, None, "llm").end(2, "cancelled", "enough")).asked += 9
        html = RunsView(shelves).cards(ALICE)
        assert html.count("<li>") == html.count('class="millrace-run bars"') == 2
        first, second = html.split("<li>")[1:]
        assert 'data-state="stopped"' in first
        assert "stopped: enough · 2.00 s" in first
        assert 'data-state="done"' in second
        assert "done · 4.00 s · 60 tokens" in second
        assert "What is a Warp?" in words(html)

    def test_nobody_sees_another_ones(self) -> None:
        shelves = Shelves()
        record = shelved(shelves, ALICE, "secret", rag())
        view = RunsView(shelves)
        for other in (BOB, Owner()):
            assert "No runs yet" in view.cards(other)
            assert view.run(other, record.key) == '<div class="mr-run-open" data-seen=""></div>'
            assert view.mark_of(other, record.key) == ""
        assert "secret" in view.run(ALICE, record.key)

    def test_the_one_that_is_open_is_marked(self) -> None:
        shelves = Shelves()
        record = shelved(shelves, ALICE, "x", rag())
        view = RunsView(shelves)
        assert 'aria-pressed="true"' in view.cards(ALICE, record.key)
        assert 'aria-pressed="true"' not in view.cards(ALICE)

    def test_the_mark_changes_with_what_there_is_to_see(self) -> None:
        shelves, told = Shelves(), Told().step(0, None, "llm")
        record = shelved(shelves, ALICE, "x", told)
        view = RunsView(shelves)
        before = view.mark(ALICE)
        assert " data-live" in view.cards(ALICE)
        assert view.mark(ALICE) == before
        for event in told.pieces(1, 2, 3, "llm").end(3).events:
            record.take(event)
        assert view.mark(ALICE) != before
        assert f'data-seen="{view.mark(ALICE)}"' in view.cards(ALICE)
        assert " data-live" not in view.cards(ALICE)

    def test_only_so_many(self) -> None:
        shelves = Shelves()
        for i in range(SHOWN + 3):
            shelved(shelves, ALICE, str(i), Told().end(1))
        assert RunsView(shelves).cards(ALICE).count("<li>") == SHOWN

    @pytest.mark.parametrize(
        "text", ["<script>alert(1)</script>", "{{value}}", "${1 + 1}", "a\"'&b", "x" * 5000]
    )
    def test_what_users_write_is_shown_and_never_run(self, text: str) -> None:
        shelves = Shelves()
        told = Told().step(0, 1, "a").say(1, Data(text), "a").end(1, "cancelled", text)
        record = shelved(shelves, ALICE, text, told)
        view = RunsView(shelves)
        for html in (view.cards(ALICE), view.run(ALICE, record.key)):
            parsed(html)
            assert "<script" not in html
            assert "{{" not in html
            assert "${" not in html
            assert len(html) < 20_000


class TestOne:
    def test_its_picture_and_its_events(self) -> None:
        shelves = Shelves()
        record = shelved(shelves, ALICE, "What is a Warp?", rag())
        html = RunsView(shelves).run(ALICE, record.key)
        said = words(html)
        assert f"{len(rag().events)} events" in said
        assert "step started notes › bm25" in said
        assert "text delta ×60 llm 0 1 2 3" in said
        assert "done, stop" in said
        assert html.count('data-path="notes/bm25"') == 1

    def test_long_texts_are_cut_with_a_note(self) -> None:
        shelves = Shelves()
        record = shelved(shelves, ALICE, "x", Told().say(0, Data("y" * (LONGEST + 1234)), "a"))
        html = RunsView(shelves).run(ALICE, record.key)
        assert "… 1,234 more characters are not shown" in html

    def test_while_it_goes_on(self) -> None:
        shelves = Shelves()
        record = shelved(shelves, ALICE, "x", Told().step(0, None, "llm"))
        view = RunsView(shelves)
        html = view.run(ALICE, record.key)
        assert " data-live" in html
        assert f'data-seen="{view.mark_of(ALICE, record.key)}"' in html

    def test_in_line_and_refused(self) -> None:
        shelves = Shelves()
        waiting, refused = shelves.begin(ALICE, "waits"), shelves.begin(ALICE, "refused")
        refused.end("error", error="Overloaded")
        view = RunsView(shelves)
        assert "in line" in view.run(ALICE, waiting.key)
        assert "failed: Overloaded" in view.cards(ALICE)


def ran(owner: Owner, flow: Any, x: Any, queue: Queue) -> str:
    """The id of a run of a service for an owner, after its end."""

    async def run() -> str:
        stream = Stream(
            lambda run: start_body(flow, x, run), Options(queue=queue, owner=owner.name), None, flow.name
        )
        async with stream:
            async for _ in stream:
                pass
        return stream.run.id

    return asyncio.run(run())


class TestQueues:
    """Runs that were not asked for in this chat, or before the server was started anew."""

    def test_those_of_the_same_owner(self, tmp_path: Path) -> None:
        queue = FileQueue(tmp_path / "runs")
        flow = Pipeline(len, count, name="counting")
        mine = ran(ALICE, flow, "four", queue)
        ran(BOB, flow, "four", queue)
        view = RunsView(Shelves(), queue)
        assert view.runs(ALICE) == []
        view.look(ALICE)
        assert [record.key for record in view.runs(ALICE)] == [mine]
        assert "counting" in view.cards(ALICE)
        html = view.run(ALICE, mine)
        assert "text delta ×4 count 0 1 2 3" in words(html)
        assert view.run(BOB, mine) == '<div class="mr-run-open" data-seen=""></div>'

    def test_those_of_the_chat_are_there_once(self, tmp_path: Path) -> None:
        queue, shelves = FileQueue(tmp_path / "runs"), Shelves()
        record = shelved(shelves, ALICE, "asked here", rag())
        record.run_id = ran(ALICE, Pipeline(count), 3, queue)
        view = RunsView(shelves, queue)
        view.look(ALICE)
        assert titles(view, ALICE) == ["asked here"]

    def test_one_that_goes_on_is_read_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("millrace.launchers.web.run_tabs.EVERY", 0.0)
        queue, gate = FileQueue(tmp_path / "runs"), Gate()
        run = Pipeline(gate.pieces, name="gated").start(2, queue=queue)
        view = RunsView(Shelves(), queue)
        gate.let()
        eventually(lambda: queue.info(run.id).events == 3)
        view.look(Owner())
        (record,) = view.runs(Owner())
        assert not record.over
        gate.let()
        run.result(5)
        view.look(Owner())
        (record,) = view.runs(Owner())
        assert record.over
        view.look(Owner())
        assert view.runs(Owner()) == [record]
