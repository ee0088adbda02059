from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.streaming.units import bytes_of, pace_of, seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (90, 90.0),
        (0.5, 0.5),
        ("90", 90.0),
        ("250ms", 0.25),
        ("1.5h", 5400.0),
        ("2 D", 172800.0),
        ("1w", 604800.0),
    ],
)
def test_times(text: Any, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [(1, 1), ("4096", 4096), ("512k", 524288), ("1.5G", 1610612736), ("3b", 3), ("1t", 1 << 40)],
)
def test_sizes(text: Any, size: int) -> None:
    assert bytes_of(text) == size


@pytest.mark.parametrize(
    ("text", "count", "seconds"),
    [
        ("10/s", 10, 1),
        ("1.5 / Second", 1.5, 1),
        ("100/min", 100, 60),
        ("5/30s", 5, 30),
        ("10k/hour", 10_000, 3600),
        ("1M/day", 1_000_000, 86400),
        (" 2 g / 1.5d ", 2_000_000_000, 129600),
    ],
)
def test_paces(text: str, count: float, seconds: float) -> None:
    assert pace_of(text) == (count, seconds)


@pytest.mark.parametrize(
    "text",
    ["", "10", "/s", "10/", "10/x", "1x/s", "1kk/s", "0/s", "10/0s", "-1/s", "1/s/s", "1/s\n2/s", 10, None],
)
def test_what_is_no_pace(text: Any) -> None:
    with pytest.raises(ValueError, match=r"is (not a|no) |lets nothing through"):
        pace_of(text)


@pytest.mark.parametrize(
    "text", ["", "h", "1x", "-1", "1h30", "1e3", 0, -1, "0", float("inf"), float("nan"), True, None, "١"]
)
def test_what_is_neither_is_refused_by_name(text: Any) -> None:
    for read in (seconds_of, bytes_of):
        with pytest.raises(ValueError, match=r"is (not a|no|less)"):
            read(text)


@given(st.integers(1, 10**6), st.sampled_from("kmgt"))
def test_units_are_powers_of_1024(count: int, unit: str) -> None:
    assert bytes_of(f"{count}{unit}") == count * 1024 ** (" kmgt".index(unit))
