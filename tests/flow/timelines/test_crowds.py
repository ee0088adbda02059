from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from millrace.flow.timelines.crowds import at_once, lanes_of, most_at_once
from millrace.flow.timelines.stories import Bout

TIMES = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20), st.booleans()), min_size=1, max_size=40)


def bouts(*spans: tuple[float, float | None]) -> list[Bout]:
    made = []
    for start, end in sorted(spans, key=lambda one: one[0]):
        made.append(Bout(start))
        made[-1].ended = end
    return made


def test_one_after_another_is_one_lane() -> None:
    some = bouts((0, 1), (1, 2), (2, 3))
    assert most_at_once(some) == 1
    assert lanes_of(some, 3) == [some]


def test_beside_each_other() -> None:
    some = bouts((0, 4), (1, 2), (3, None))
    assert most_at_once(some) == 2
    assert [len(lane) for lane in lanes_of(some, 5)] == [1, 2]
    assert at_once(some, 0, 8, 8) == [1, 2, 2, 2, 2, 1, 1, 1]


@given(TIMES)
def test_as_many_lanes_as_there_are_at_once_and_nothing_lies_over_another(
    given_times: list[tuple[int, int, bool]],
) -> None:
    some = bouts(*((start, None if on else start + long) for start, long, on in given_times))
    lanes = lanes_of(some, 100)
    assert len(lanes) == most_at_once(some)
    assert sum(map(len, lanes)) == len(some)
    for lane in lanes:
        for one, other in pairwise(lane):
            assert one.ended is not None
            assert one.ended <= (other.began or 0)
    assert max(at_once(some, 0, 100, 100)) >= most_at_once(some)
