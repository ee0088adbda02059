"""What holds for every test: order, one torch thread, and nothing left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial

import hypothesis
import pytest

from tests.support.leaks import Snapshot, forget_live_runs, nothing_beyond

# How long a case takes says nothing where others are at work; `too_slow` would be about that as well.
hypothesis.settings.register_profile(
    "millrace", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("millrace")

pytest_plugins = ["tests.support.browser"]

# Before torch is loaded, here or in a child: two teams of threads on two cores are ten times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

FAILED_TO = os.environ.get("FAILED_TO")
"""A file for the names of the tests that have failed, one a line, in a form that pytest takes as `@file`."""

LATER = ("slow", "browser", "gpu")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Fast tests first; those marked `soak` only when asked for by `-m`."""
    if "soak" not in config.getoption("markexpr"):
        soak = [item for item in items if item.get_closest_marker("soak")]
        config.hook.pytest_deselected(items=soak)
        items[:] = [item for item in items if item not in soak]
    items.sort(key=lateness)


def lateness(item: pytest.Item) -> int:
    return max((1 + LATER.index(mark.name) for mark in item.iter_markers() if mark.name in LATER), default=0)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Writes down what has failed; where several processes run the tests, the one that hears of all does."""
    if FAILED_TO and report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        with open(FAILED_TO, "a", encoding="utf-8") as names:
            names.write(f"{report.nodeid}\n")


@pytest.fixture
def anyio_backend() -> str:
    """Tests marked `anyio` run on asyncio alone: it is what millrace is built on."""
    return "asyncio"


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """After each test: no run goes on, no task is pending, no new thread keeps the interpreter alive."""
    take = partial(Snapshot.take, daemons=False, descriptors=False)
    before = take()
    yield
    try:
        nothing_beyond(before, take)
    except AssertionError:
        forget_live_runs()  # the tests after this one shall not fail for it
        raise
