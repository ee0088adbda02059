from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.flow.timelines.axes import grid_of, span


@pytest.mark.parametrize(
    ("seconds", "most", "marks"),
    [
        (2.7, 5, ["0", "1 s", "2 s"]),
        (2.7, 8, ["0", "0.5 s", "1.0 s", "1.5 s", "2.0 s", "2.5 s"]),
        (0.47, 5, ["0", "0.1 s", "0.2 s", "0.3 s", "0.4 s"]),
        (0.05, 5, ["0", "10 ms", "20 ms", "30 ms", "40 ms", "50 ms"]),
        (95, 4, ["0", "30 s", "1:00", "1:30"]),
        (400, 4, ["0", "2 min", "4 min", "6 min"]),
        (3 * 3600 + 1, 7, ["0", "30 min", "1 h", "1 h 30", "2 h", "2 h 30", "3 h"]),
        (0, 5, ["0"]),
    ],
)
def test_marks(seconds: float, most: int, marks: list[str]) -> None:
    assert [words for _, words in grid_of(seconds, most)] == marks


@given(st.floats(1e-4, 1e7), st.integers(1, 20))
def test_marks_lie_within_and_are_never_too_many(seconds: float, most: int) -> None:
    found = grid_of(seconds, most)
    assert 1 <= len(found) <= most + 1
    assert all(0 <= at <= seconds * 1.001 for at, _ in found)
    assert len({words for _, words in found}) == len(found)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "<1 ms"),
        (-1, "<1 ms"),
        (0.0126, "13 ms"),
        (0.9996, "1.00 s"),
        (1.234, "1.23 s"),
        (12.34, "12.3 s"),
        (125, "2 min 5 s"),
        (7300, "2 h 1 min"),
    ],
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert span(seconds) == words
