from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from millrace import MillraceError, Parallel, Pipeline, explain
from millrace.flow.timelines import Timeline
from millrace.streaming import (
    FileQueue,
    MemoryQueue,
    QueueError,
    RunUnknown,
    TextDelta,
    attach,
    emit,
)
from millrace.streaming.options import Options
from millrace.streaming.runs import Run
from tests.flow.timelines.told import START, Told, rag
from tests.streaming.parts import Gate, count
from tests.support.leaks import eventually


def steps(timeline: Timeline) -> list[str]:
    return [row.name for row in timeline.rows]


async def slow(x: Any) -> Any:
    await asyncio.sleep(0.02)
    return x


FLOW = Pipeline(slow, Parallel(a=slow, b=slow, collect=lambda found: found["a"]), count, name="counting")


class TestWhere:
    def test_a_detached_run(self) -> None:
        run = FLOW.start(3)
        run.result(5)
        timeline = explain(run)
        assert (timeline.name, timeline.status) == ("counting", "done")
        assert steps(timeline) == ["slow", "a", "b", "count"]
        assert timeline.took >= 0.04

    def test_by_its_id_in_this_process(self) -> None:
        run = FLOW.start(3)
        run.result(5)
        assert steps(explain(run.id)) == steps(explain(run))

    def test_a_stream_that_was_read(self) -> None:
        with FLOW.stream(3) as stream:
            for _ in stream:
                pass
        assert steps(explain(stream)) == steps(explain(stream.run)) == ["slow", "a", "b", "count"]

    def test_in_a_queue_on_disk(self, tmp_path: Path) -> None:
        queue = FileQueue(tmp_path / "runs")
        with FLOW.stream(300, queue=queue) as stream:
            for _ in stream:
                pass
        for timeline in (
            explain(stream),
            explain(stream.run.id, queue),
            explain(stream.run.id, queue.url),
            explain(attach(stream.run.id, queue)),
        ):
            assert (timeline.name, steps(timeline)) == ("counting", ["slow", "a", "b", "count"])
            assert timeline.story.missing == 0
            assert not timeline.notes

    def test_its_events(self) -> None:
        run = FLOW.start(3)
        run.result(5)
        assert steps(explain(list(run.events()))) == steps(explain(run))
        assert steps(explain(run.events())) == steps(explain(run))

    def test_a_queue_of_ones_own(self) -> None:
        queue = MemoryQueue()
        run = FLOW.start(3, queue=queue)
        run.result(5)
        assert steps(explain(run.id, queue)) == steps(explain(run)) == ["slow", "a", "b", "count"]


class TestRefusing:
    def test_a_call_whose_events_nobody_keeps(self) -> None:
        async def main() -> Run:
            from millrace.streaming import current_run

            found: list[Run] = []

            async def look(x: Any) -> Any:
                run = current_run()
                assert run is not None
                found.append(run)
                return x

            await Pipeline(look).acall(1)
            return found[0]

        with pytest.raises(QueueError, match="nobody keeps what this run says"):
            explain(asyncio.run(main()))

    def test_no_such_run(self) -> None:
        with pytest.raises(RunUnknown):
            explain("f" * 32)

    @pytest.mark.parametrize("thing", [3, None, ["x"], {"a": 1}])
    def test_something_else(self, thing: Any) -> None:
        with pytest.raises(MillraceError, match=r"explain\(\) got .*; give it a run"):
            explain(thing)

    def test_an_event_that_nobody_said(self) -> None:
        with pytest.raises(MillraceError, match="has no time"):
            explain([TextDelta("x")])


class TestHowFar:
    def test_a_run_that_goes_on(self) -> None:
        gate = Gate()
        run = Pipeline(slow, gate.pieces).start(5)
        gate.let(2)
        eventually(lambda: explain(run).story.root.children.get("pieces") is not None and gate.made == 2)
        timeline = explain(run)
        assert timeline.status == "running"
        assert "so far" in timeline.text(100)
        assert "▶" in timeline.text(100)
        gate.let(3)
        run.result(5)
        assert explain(run).status == "done"

    def test_in_line(self) -> None:
        gate = asyncio.Event()
        run = Run()
        loop = asyncio.new_event_loop()

        async def body(run: Run) -> int:
            return 1

        async def main() -> None:
            run.adopt(Options(admission=gate.wait), None, loop)
            run.open(body, loop, __import__("contextvars").copy_context())
            await asyncio.sleep(0.05)
            waiting = explain(run)
            assert (waiting.status, steps(waiting)) == ("queued", ["in line"])
            assert waiting.notes == ["It has said nothing yet."]
            gate.set()
            await run.wait()

        loop.run_until_complete(main())
        loop.close()
        timeline = explain(run)
        assert (timeline.status, steps(timeline)) == ("done", ["in line"])
        assert timeline.took >= 0.05

    def test_a_failure_is_told_by_its_type(self) -> None:
        async def fail(x: Any) -> Any:
            raise ValueError("secret")

        run = Pipeline(slow, fail).start(1)
        with pytest.raises(ValueError, match="secret"):
            run.result(5)
        timeline = explain(run)
        assert timeline.outcome == "failed: ValueError"
        assert "secret" not in timeline.text(100) + timeline.svg()

    def test_a_long_stream_in_memory_says_what_is_missing(self) -> None:
        with FLOW.stream(600) as stream:
            for _ in stream:
                pass
        timeline = explain(stream)
        assert timeline.story.missing > 300
        assert "events are not kept" in timeline.text(100)
        assert timeline.status == "done"
        assert timeline.begin == pytest.approx(explain(stream.run).begin, abs=0.05)

    def test_what_was_emitted_in_a_step(self) -> None:
        from millrace.streaming import Usage

        async def speak(x: Any) -> AsyncIterator[str]:
            yield "a"
            emit(Usage(3, 7))

        run = Pipeline(slow, speak).start(1)
        run.result(5)
        assert explain(run).rows[-1].usage.completion_tokens == 7


def test_in_words() -> None:
    timeline = explain(rag().events)
    assert (timeline.status, timeline.outcome, timeline.took) == ("done", "done", 4)
    assert timeline.first == pytest.approx(2.4)
    assert timeline.usage.total_tokens == 95
    assert repr(timeline) == "<Timeline done, 4.00 s>"
    assert str(timeline) == timeline.text()
    assert timeline._repr_svg_() == timeline.svg()


@pytest.mark.parametrize(
    ("status", "reason", "outcome"),
    [
        ("done", None, "done"),
        ("done", "stop", "done"),
        ("done", "length", "done (length)"),
        ("cancelled", "cancelled", "stopped: cancelled"),
        ("cancelled", "a\nb", "stopped: a b"),
        ("timeout", "deadline passed", "timed out: deadline passed"),
    ],
)
def test_outcomes(status: str, reason: str | None, outcome: str) -> None:
    assert explain(Told().end(1, status, reason).events).outcome == outcome.replace(": cancelled", "")


def test_a_list_without_an_end_is_drawn_as_far_as_it_goes() -> None:
    timeline = explain(Told().step(0, None, "a").step(1, 2, "b").events)
    assert timeline.end == START + 2
    assert timeline.status == "running"
