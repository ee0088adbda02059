"""SystemExit and KeyboardInterrupt raised by a step: in a task they would end the loop that all runs share."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["Escape", "contained"]


class Escape(Exception):
    """Carries SystemExit or KeyboardInterrupt out of a task, where they would end the loop."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


async def contained(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    try:
        return await work()
    except (SystemExit, KeyboardInterrupt) as error:
        raise Escape(error) from None
