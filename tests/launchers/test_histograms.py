"""Histograms: nothing is lost in classes and sums, and quantiles are right to within a class."""

from __future__ import annotations

import math
from bisect import bisect_left

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.launchers.histograms import BOUNDS, Histogram, quantile

SECONDS = st.floats(0, 2000, allow_nan=False)


def histogram_of(*seconds: float) -> Histogram:
    histogram = Histogram()
    for each in seconds:
        histogram.add(each)
    return histogram


def test_bounds_grow_and_are_what_they_look_like() -> None:
    assert list(BOUNDS) == sorted(set(BOUNDS))
    assert (BOUNDS[0], BOUNDS[-1]) == (0.0001, 1000.0)
    assert {0.002, 0.05, 1.0, 10.0, 500.0} <= set(BOUNDS)


def test_a_bound_belongs_to_its_class() -> None:
    histogram = histogram_of(0.0001, 0.00011, 1000.0, 1000.1)
    assert histogram.counts == [1, 1, *[0] * (len(BOUNDS) - 3), 1, 1]


def test_many_at_once() -> None:
    histogram = Histogram()
    histogram.add(0.25, 8)
    assert (sum(histogram.counts), histogram.sum) == (8, 2.0)


@given(st.lists(SECONDS), st.lists(SECONDS))
@settings(deadline=None)
def test_two_become_one(some: list[float], more: list[float]) -> None:
    both, together = histogram_of(*some), histogram_of(*some, *more)
    both.merge(histogram_of(*more))
    assert both.counts == together.counts
    assert math.isclose(both.sum, together.sum)


@given(st.lists(SECONDS, min_size=1), st.sampled_from([0.05, 0.5, 0.95, 1.0]))
@settings(deadline=None)
def test_quantiles_are_in_the_class_of_the_true_one(seconds: list[float], share: float) -> None:
    true = sorted(seconds)[math.ceil(share * len(seconds)) - 1]
    found = quantile(histogram_of(*seconds).figures(), share)
    assert found is not None
    assert 0 < found <= BOUNDS[-1]
    assert bisect_left(BOUNDS, found) == min(bisect_left(BOUNDS, true), len(BOUNDS) - 1)


def test_quantiles() -> None:
    assert quantile(histogram_of().figures(), 0.5) is None
    assert quantile(histogram_of(*[1.5] * 100).figures(), 0.5) == pytest.approx(1.5)
    assert quantile(histogram_of(5000.0).figures(), 0.5) == 1000.0
