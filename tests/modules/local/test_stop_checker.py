from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.modules.local.stop_checker import StopChecker

ALPHABET = "abc"
stops = st.lists(st.text(ALPHABET, min_size=1, max_size=5), max_size=3)
texts = st.text(ALPHABET, max_size=30)


def cut(text: str, places: list[int]) -> list[str]:
    """The text in pieces, cut at these places (some may be empty)."""
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


def reference(text: str, stops: list[str]) -> tuple[str, bool]:
    """Character by character: the first end of a stop string; the longest of those that end there."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            return text[: end - max(map(len, found))], True
    return text, False


@given(texts, stops, st.lists(st.integers(0, 1000), max_size=8))
def test_however_the_text_is_cut_the_answer_is_the_same(
    text: str, stops: list[str], places: list[int]
) -> None:
    checker = StopChecker(stops)
    out = "".join(map(checker.push, cut(text, places)))
    if not checker.stopped:
        out += checker.flush()
    assert (out, checker.stopped) == reference(text, stops)


@given(texts, stops, st.lists(st.integers(0, 1000), max_size=8))
def test_nothing_goes_out_that_may_begin_a_stop_string(
    text: str, stops: list[str], places: list[int]
) -> None:
    checker, seen, out = StopChecker(stops), "", ""
    for piece in cut(text, places):
        seen += piece
        out += checker.push(piece)
        if checker.stopped:
            break
        held = seen[len(out) :]
        assert seen == out + held
        assert not held or any(stop.startswith(held) for stop in stops), "held without a reason"
        starts = range(len(out), len(seen))
        assert not any(
            stop.startswith(seen[at:]) for stop in stops for at in range(len(seen)) if at < len(out)
        )
        assert all(stop not in out for stop in stops), starts


def test_held_text_is_flushed_at_a_natural_end() -> None:
    checker = StopChecker(["own fox"])
    assert checker.push("br") == "br"
    assert checker.push("own") == ""
    assert checker.push(" f") == ""
    assert checker.flush() == "own f"
    assert not checker.stopped


def test_after_a_stop_nothing_goes_out() -> None:
    checker = StopChecker(["###"])
    assert checker.push("end ##") == "end "
    assert checker.push("# and more") == ""
    assert checker.stopped
    assert checker.push("more") == ""
    assert checker.flush() == ""


@pytest.mark.parametrize("text", ["", "a", "abc"])
def test_without_stop_strings_all_goes_out_at_once(text: str) -> None:
    assert StopChecker([]).push(text) == text
