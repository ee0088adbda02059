"""The clock of idle connections, on real loops."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from weakref import ref

import pytest

from millrace.launchers.api.idling import IdleClock
from tests.launchers.support import echo, question, running
from tests.support.leaks import eventually

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
def done() -> list[str]:
    return []


async def test_what_was_asked_for_last_is_done_in_its_time(done: list[str]) -> None:
    clock = IdleClock(asyncio.get_running_loop())
    clock.call_later(0.05, lambda: done.append("first")).cancel()
    await asyncio.sleep(0.03)
    clock.call_later(0.05, lambda: done.append("second"))
    await asyncio.sleep(0.035)
    assert not done
    await asyncio.sleep(0.06)
    assert done == ["second"]
    clock.call_later(0.01, lambda: done.append("third"))
    await asyncio.sleep(0.05)
    assert done == ["second", "third"]


async def test_it_may_be_asked_for_something_sooner(done: list[str]) -> None:
    clock = IdleClock(asyncio.get_running_loop())
    clock.call_later(60, lambda: done.append("late")).cancel()
    clock.call_later(0.01, lambda: done.append("soon"))
    await asyncio.sleep(0.05)
    assert done == ["soon"]


async def test_what_is_cancelled_or_stopped_is_not_done(done: list[str]) -> None:
    clock = IdleClock(asyncio.get_running_loop())
    clock.call_later(0.01, lambda: done.append("cancelled")).cancel()
    await asyncio.sleep(0.03)
    clock.call_later(0.01, lambda: done.append("stopped"))
    clock.stop()
    clock.stop()
    await asyncio.sleep(0.03)
    assert not done


async def test_one_that_was_stopped_holds_nothing() -> None:
    class Held:
        def act(self) -> None: ...

    held = Held()
    there, clock = ref(held), IdleClock(asyncio.get_running_loop())
    clock.call_later(60, held.act)
    clock.stop()
    del held
    assert there() is None


async def test_in_all_else_it_is_the_loop() -> None:
    loop = asyncio.get_running_loop()
    clock: Any = IdleClock(loop)
    assert clock.get_debug() == loop.get_debug()
    assert await clock.create_task(asyncio.sleep(0, "done")) == "done"


@pytest.mark.slow
@pytest.mark.parametrize("on_uvloop", [False, True])
def test_idle_connections_are_closed_and_those_in_use_are_not(on_uvloop: bool) -> None:
    """After the five seconds that are uvicorn's own."""
    with running(echo, on_uvloop=on_uvloop) as server, server.connect() as idle, server.connect() as used:
        began = time.monotonic()
        for connection in (idle, used):
            connection.send("POST", "/v1/chat/completions", question("hi"))
            assert connection.reply().status == 200
            connection.read()
        while time.monotonic() - began < 7:
            used.send("POST", "/v1/chat/completions", question("hi"))
            assert used.reply().status == 200
            used.read()
            time.sleep(0.2)
        assert idle.closed_by_server()
        last = time.monotonic()
        assert used.closed_by_server()
        assert 4 < time.monotonic() - last < 8
        eventually(server.idle)
