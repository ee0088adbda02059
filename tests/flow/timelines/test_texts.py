from __future__ import annotations

from asyncio import CancelledError

import pytest

from millrace import explain
from millrace.flow.drawing.diagrams import cells
from millrace.flow.timelines import Story, Timeline
from millrace.streaming import StepStarted
from tests.flow.timelines.told import START, Told, rag


def lines(told: Told, width: int = 80, **options: bool) -> list[str]:
    return explain(told.events).text(width, **options).splitlines()


def test_a_run() -> None:
    told = rag()
    drawn = explain(told.events).text(80)
    assert drawn.startswith("done  4.00 s  first piece after 2.40 s  35 + 60 tokens\n\n")
    names = [line.split()[0] for line in drawn.splitlines()[4:]]
    assert names == ["clean", "notes", "bm25", "dense", "sharper", "llm"]


def bar(line: str, line_of_axis: str) -> str:
    start = line_of_axis.index("┴")
    return line[start : start + len(line_of_axis.strip())]


def test_bars_stand_where_their_times_are() -> None:
    found = lines(rag())
    axis, plot = found[3], len(found[3].strip())

    def at(seconds: float) -> int:
        return min(plot - 1, int(seconds / 4 * plot))

    by_name = {line.split()[0]: bar(line, axis) for line in found[4:]}
    assert near(by_name["bm25"].index("━"), at(0.1))
    assert near(by_name["bm25"].rindex("━"), at(0.6))
    assert near(by_name["notes"].index("╶"), at(0.1))
    assert near(by_name["notes"].index("╴"), at(0.9))
    turns = [i for i, sign in enumerate(by_name["sharper"]) if sign == "┝"]
    assert all(map(near, turns, (at(1), at(1.2), at(1.4))))
    llm = by_name["llm"]
    assert near(llm.index("░"), at(1.6))
    assert near(llm.index("◆"), at(2.4))
    assert set(llm[at(2.4) + 2 : at(3.9) - 1]) <= set("▂▃▄▅▆▇█")


def near(column: int, other: int) -> bool:
    """Times since the epoch are not exact."""
    return abs(column - other) <= 1


def test_how_steps_end() -> None:
    told = Told().step(0, 1, "failed", error=ValueError("secret")).step(0, 1, "cut", error=CancelledError())
    told.step(0, None, "going")
    found = {line.split()[0]: line for line in lines(told.step(2, 3, "last"))[4:]}
    assert "✗" in found["failed"]
    assert found["failed"].endswith("ValueError")
    assert "■" in found["cut"]
    assert "▶" in found["going"]
    assert "secret" not in "".join(found.values())


def test_why_it_was_stopped() -> None:
    told = Told().step(0, None, "llm").end(2, "cancelled", "stopped in the chat")
    first, *rest = lines(told)
    assert first == "stopped: stopped in the chat  2.00 s"
    assert rest[-1].rstrip().endswith("■  2.00 s")


def test_many_at_once_are_drawn_as_how_many() -> None:
    told = Told().say(0, StepStarted(), "w")
    for i in range(40):
        told.step(i % 4, i % 4 + 2, "w", i)
    row = lines(told.end(6))[4]
    assert row.startswith("w ×40")
    assert row.endswith("20 at once")
    assert "█" in row


def test_in_line() -> None:
    story = Story.of(Told().step(0, 1, "a").end(1).events, asked=START - 1)
    drawn = Timeline(story).text(80)
    assert drawn.startswith("done  2.00 s")
    assert "in line  ····" in drawn


def test_what_is_missing_is_said_and_its_bars_have_no_start() -> None:
    found = lines(Told().step(1, 2, "a").step(2, 3, "b").end(3)) and explain(
        Told().step(1, 2, "a").step(2, 3, "b").end(3).events[2:]
    ).text(80)
    assert "2 events are not kept" in found
    (row,) = (line for line in found.splitlines() if line.startswith("a "))
    assert "┄" in row
    assert "━" not in row


@pytest.mark.parametrize("width", [20, 40, 72, 100, 200])
@pytest.mark.parametrize("ascii", [False, True])
def test_no_line_is_wider_than_asked(width: int, ascii: bool) -> None:
    told = rag().step(1, 2, "a step whose name is longer than any line could take, 中文名字也是")
    told.step(1, 2, "x", error=type("AnErrorWithAVeryLongNameIndeed", (Exception,), {})())
    for line in lines(told, width, ascii=ascii)[2:]:
        assert cells(line) <= max(width, 40)
        assert line.isascii() or not ascii


def test_ascii_alone() -> None:
    told = rag().step(1, 2, "größe").step(2, None, "going").step(0, 1, "bad", error=ValueError())
    drawn = explain(told.events).text(80, ascii=True)
    assert drawn.isascii()
    assert "gr\\xf6\\xdfe" in drawn
    assert "sharper x3" in drawn


def test_control_characters_of_names_are_not_written() -> None:
    drawn = explain(Told().step(0, 1, "\x1b[31mred\n").end(1, "cancelled", "\x1b[2J").events).text(80)
    assert "\x1b" not in drawn


def test_nothing_said() -> None:
    assert Timeline(Story()).text(80) == "queued  <1 ms so far\n\nIt has said nothing yet.\n"
