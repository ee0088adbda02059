"""The frame of the benchmarks: which parts there are, and how figures are shown."""

from __future__ import annotations

from dataclasses import asdict
from xml.etree import ElementTree

import pytest

from benchmarks.__main__ import main, parts
from benchmarks.tables import Row, chart, number, table

FAST = Row("fast & good", 12.3456, "us", floor=10, ratio=1.23456, goal="< 20 us", ok=True)
SLOW = Row("slow", 1234567, "ms", goal="< 150 ms", ok=False)
PLAIN = Row("no goal at all", 0.5, "")


def test_the_parts_are_the_files_that_run() -> None:
    assert "imports" in parts()
    assert "tables" not in parts()


def test_an_unknown_part_is_named_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nonsense"]) == 2
    said = capsys.readouterr().err
    assert "nonsense" in said
    assert "imports" in said


def test_a_row_must_have_the_agreed_keys() -> None:
    with pytest.raises(TypeError, match="valeu"):
        Row.of({"name": "x", "valeu": 1, "unit": "s"})


def test_the_table_is_aligned() -> None:
    lines = table(["first", FAST, PLAIN, "second", asdict(SLOW)]).splitlines()
    assert lines[2].split("   ")[0].strip() == "fast & good"
    assert "12.3 us" in lines[2]
    assert "1.23x" in lines[2]
    assert lines[2].endswith("ok")
    assert lines[5].endswith("MISSED")
    assert "1,234,567 ms" in lines[5]
    assert {line.find(unit) + len(unit) for line, unit in ((lines[2], " us"), (lines[5], " ms"))} == {
        lines[0].find("value") + len("value")
    }


@pytest.mark.parametrize(
    ("goal", "share"),
    [
        ("< 20 us", 0.5),
        ("ratio < 1.6", 2.0),
        ("< 1.6x", 2.0),
        ("> 80 %", 4.0),
        ("as low as can be", None),
        (None, None),
    ],
)
def test_the_share_of_a_goal_comes_from_its_words(goal: str | None, share: float | None) -> None:
    row = Row("r", 10.0, "us", ratio=3.2, goal=goal)
    assert row.goal_share == pytest.approx(share) if share else row.goal_share is None


def test_the_chart_is_a_picture_of_the_rows_with_goals() -> None:
    picture = ElementTree.fromstring(chart([FAST, SLOW, PLAIN], "today"))
    texts = [element.text or "" for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert "fast & good" in texts
    assert "no goal at all" not in texts
    colours = [element.get("fill") for element in picture.iter("{http://www.w3.org/2000/svg}rect")]
    assert colours == ["white", "#2a7", "#c33"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.5, "0.5"), (1.23456, "1.23"), (99.96, "100"), (1234.5, "1,234"), (0.00012, "0.000120")],
)
def test_numbers_have_three_figures(value: float, text: str) -> None:
    assert number(value) == text
