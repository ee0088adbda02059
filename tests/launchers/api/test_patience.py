"""Waiting with a limit that costs nothing where there is nothing to wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

import pytest

from millrace.launchers.api.patience import within

pytestmark = pytest.mark.anyio


async def test_what_is_there_is_returned_without_a_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def there() -> int:
        return 7

    monkeypatch.setattr(asyncio, "timeout", None)  # would fail if it were looked at
    assert await within(1, there()) == 7


async def test_what_comes_later_is_waited_for() -> None:
    async def later() -> int:
        for _ in range(5):
            await asyncio.sleep(0.001)
        return 7

    assert await within(5, later()) == 7


async def test_any_awaitable_will_do() -> None:
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_soon(future.set_result, 7)
    assert await within(5, future) == 7


async def test_errors_come_out_as_they_are() -> None:
    async def at_once() -> None:
        raise KeyError

    async def later() -> None:
        await asyncio.sleep(0)
        raise KeyError

    for fails in (at_once, later):
        with pytest.raises(KeyError):
            await within(5, fails())


async def test_the_limit_cancels_what_it_waits_for() -> None:
    seen: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.sleep(0)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        finally:
            await asyncio.sleep(0)
            seen.append("cleaned")

    with pytest.raises(TimeoutError):
        await within(0.01, forever())
    assert seen == ["cancelled", "cleaned"]
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


async def test_a_cancel_from_outside_goes_in_and_comes_out() -> None:
    entered, seen = asyncio.Event(), []

    async def forever() -> None:
        try:
            entered.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def limited() -> None:
        await within(60, forever())

    task = asyncio.create_task(limited())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cancelled"]


async def test_what_swallows_the_limit_has_its_way() -> None:
    class Stubborn:
        def __await__(self) -> Generator[Any, Any, int]:
            try:
                yield from asyncio.Event().wait().__await__()
            except asyncio.CancelledError:
                pass
            return 7

    assert await within(0.01, Stubborn()) == 7
