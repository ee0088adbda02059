"""Patience: how long the service waits for what, and waiting that costs nothing where there is nothing to wait for."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Generator
from dataclasses import dataclass, fields
from typing import Any, TypeVar

__all__ = ["AFTER_DRAIN", "Timings", "within"]

T = TypeVar("T")

AFTER_DRAIN = 5.0
"""Seconds that responses have to end once their runs were cancelled at shutdown."""


@dataclass(frozen=True, slots=True)
class Timings:
    """How long the service waits, each in seconds.

    Args:
        first_output: for the first output of a stream, before status 200 is sent all the same.
        heartbeat: of silence between two comments that keep proxies from hanging up.
        write_idle: for a client that takes nothing of what is sent; then its run is stopped.
        head: for the head of a request, from the connection's or from its first byte on.
        body: for the body of a request.
        drain: at shutdown, for what is going on; then it is cancelled.
        resume: for the client of a run that may go on without one to come back; then the run is stopped.

    Raises:
        ValueError: one is not above 0.
    """

    first_output: float = 2.0
    heartbeat: float = 15.0
    write_idle: float = 60.0
    head: float = 15.0
    body: float = 30.0
    drain: float = 10.0
    resume: float = 60.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise ValueError(
                    f"Timings({field.name}={getattr(self, field.name)}): give a number of seconds above 0"
                )


@types.coroutine
def within(seconds: float, awaitable: Awaitable[T]) -> Generator[Any, Any, T]:
    """`awaitable`, or TimeoutError after so many seconds; the clock is set only if it must wait at all.

    What is sent to a client, or has come from it with the request's head, hardly ever must.
    """
    steps = awaitable.__await__()
    try:
        pending = next(steps)
    except StopIteration as done:
        result: T = done.value
        return result
    rest: T = yield from _go_on(seconds, steps, pending).__await__()
    return rest


async def _go_on(seconds: float, steps: Any, pending: Any) -> Any:
    async with asyncio.timeout(seconds):
        return await _Rest(steps, pending)


class _Rest:
    """The rest of an awaitable that has begun and waits for `pending`."""

    __slots__ = ("pending", "steps")

    def __init__(self, steps: Any, pending: Any) -> None:
        self.steps = steps
        self.pending = pending

    def __await__(self) -> Generator[Any, Any, Any]:
        pending = self.pending
        while True:  # as `yield from` does it (PEP 380), which cannot be entered half way
            thrown: BaseException | None = None
            try:
                yield pending
            except BaseException as error:
                thrown = error
            try:
                pending = next(self.steps) if thrown is None else self.steps.throw(thrown)
            except StopIteration as done:
                return done.value
