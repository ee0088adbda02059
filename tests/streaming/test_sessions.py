from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from millrace import Pipeline, session
from millrace.streaming import SessionError, current_session


def who(_: object) -> str | None:
    return current_session()


@pytest.mark.parametrize("name", ["alice", "alice-42", "_x", "a.b", "-", "A" * 128])
def test_ids(name: str) -> None:
    with session(name) as given:
        assert given == name == current_session()
    assert current_session() is None


@pytest.mark.parametrize(
    "name", ["", "../x", "a/b", ".hidden", "a\0b", "a" * 129, "ä", "a b", "x\n", "a" * 10_000, 7, None]
)
def test_refused_ids(name: str) -> None:
    with pytest.raises(SessionError, match="128 letters"), session(name):
        pass
    if name is not None:
        with pytest.raises(SessionError):
            Pipeline(who)(1, session=name)


def test_a_step_sees_its_session() -> None:
    flow = Pipeline(who)
    with session("alice"):
        assert flow(1) == "alice"
    assert flow(1, session="bob") == "bob"


def test_runs_without_one_get_fresh_random_ones() -> None:
    seen = {Pipeline(who)(1) for _ in range(50)}
    assert len(seen) == 50
    assert all(name is not None and len(name) == 33 for name in seen)


def test_within_a_run_it_stays_the_same() -> None:
    flow = Pipeline(lambda _: [current_session()], lambda seen: [*seen, current_session()])
    first, second = flow(1)
    assert first == second is not None


async def say_session(_: object) -> AsyncIterator[str]:
    for _ in range(3):
        yield str(current_session())
        await asyncio.sleep(0)


@pytest.mark.anyio
async def test_streams_keep_theirs_wherever_they_are_read() -> None:
    with session("alice"):
        stream = Pipeline(say_session).stream(1)
    with session("bob"):
        assert [piece async for piece in stream.text()] == ["alice"] * 3


def test_left_in_another_context_logs_and_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    import contextvars

    block = session("alice")
    contextvars.copy_context().run(block.__enter__)
    with caplog.at_level(logging.WARNING, "millrace.streaming"):
        block.__exit__(None, None, None)
    assert "alice" in caplog.text
