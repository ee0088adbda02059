"""All ways of leaving, over all kinds of steps, as one generated table; a cell that cannot be says why."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.leaving.composed import COMPOSED
from tests.leaving.kinds import KINDS as PLAIN
from tests.leaving.recorded import RECORDED
from tests.leaving.subjects import Subject
from tests.leaving.ways import ASYNC, BY_TIME, NEEDS_TEXT, SYNC

WAYS: list[Any] = [*SYNC, *ASYNC]
KINDS = {**PLAIN, **COMPOSED, **RECORDED}


def impossible(kind: str, way: str) -> str | None:
    """Why a kind cannot be left in a way; None where it can."""
    if way in NEEDS_TEXT and not KINDS[kind].pieces:  # type: ignore[attr-defined]
        return "no output text has come, so nothing in a loop over text has run"
    if (kind, way) == ("plain function", "ctrl_c_in_a_call"):
        return "nobody listens, so the function runs in the caller's own thread, where Ctrl-C interrupts it"
    return None


CELLS = [(kind, way) for kind in KINDS for way in WAYS if impossible(kind, way.__name__) is None]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "way"), CELLS, ids=[f"{kind}: {way.__name__}" for kind, way in CELLS])
def test_leaving(kind: str, way: Any) -> None:
    for patience in (0.2, 1.0, 5.0, 25.0) if way.__name__ in BY_TIME else (20.0,):
        subject = KINDS[kind]()
        subject.patience = patience
        try:
            leave(subject, way)
            if subject.marked:
                return
        finally:
            subject.close()
    raise AssertionError("the work never came to the point where it shall be stopped")


def leave(subject: Subject, way: Any) -> None:
    if asyncio.iscoroutinefunction(way):
        asyncio.run(leave_on_a_loop(subject, way))
    else:
        way(subject)
        if subject.marked:
            subject.stopped()


async def leave_on_a_loop(subject: Subject, way: Any) -> None:
    """The loop goes on until the work has been seen to stop: its end would stop everything."""
    await way(subject)
    if subject.marked:
        await asyncio.to_thread(subject.stopped)


def test_every_cell_is_there_or_says_why() -> None:
    missing = {
        (kind, way.__name__): impossible(kind, way.__name__)
        for kind in KINDS
        for way in WAYS
        if (kind, way) not in CELLS
    }
    assert len(CELLS) + len(missing) == len(KINDS) * len(WAYS)
    assert all(missing.values())
