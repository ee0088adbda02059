from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.flow.timelines.pulses import MOST, Pulses


def pulses(*times: float) -> Pulses:
    made = Pulses()
    for time in times:
        made.add(time)
    return made


def test_pieces_stand_in_the_column_of_their_time() -> None:
    assert pulses(10.01, 10.02, 12.5, 19.99).columns(10, 20, 4) == [2, 1, 0, 1]


def test_what_lies_outside_is_at_the_ends() -> None:
    assert pulses(1, 99).columns(10, 20, 2) == [1, 1]


def test_no_time_at_all_is_one_column() -> None:
    assert pulses(10, 10).columns(10, 10, 3) == [2, 0, 0]


@given(st.lists(st.floats(1.7e9, 1.7e9 + 1e5), min_size=1, max_size=3000), st.integers(1, 400))
def test_none_is_lost_and_the_room_is_bounded(times: list[float], count: int) -> None:
    made = pulses(*times)
    assert len(made.counts) <= MOST
    assert sum(made.columns(1.7e9, 1.7e9 + 1e5, count)) == made.total == len(times)
    first, last = made.extent()
    assert first <= min(times) + 1e-6
    assert last >= max(times) - 1e-6


def test_a_day_of_pieces_takes_no_more_room() -> None:
    made = Pulses()
    for second in range(86_400):
        made.add(1.7e9 + second)
    assert len(made.counts) <= MOST
    columns = made.columns(1.7e9, 1.7e9 + 86_400, 24)
    assert max(columns) - min(columns) <= 2 * made.grain


def test_several_are_one() -> None:
    both = Pulses.joined((pulses(1, 2), pulses(2, 3)))
    assert both.total == 4
    assert both.columns(0.5, 3.5, 3) == pytest.approx([1, 2, 1])
