"""Tries: another attempt after a failure that may pass, a little later each time."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from .failures import Failure

__all__ = ["with_retries"]

T = TypeVar("T")
log = logging.getLogger("millrace.remote")

FIRST_PAUSE = 0.5
"""Seconds before the second attempt, doubled before each further one."""
LONGEST_PAUSE = 8.0
LONGEST_WAIT = 60.0
"""Seconds that a server may ask to wait; when it asks for more, its refusal is final."""


async def with_retries(attempt: Callable[[], Awaitable[T]], retries: int) -> T:
    """What the attempt gives; after a failure that may pass it is made again, `retries` times at most.

    The pause is what the server asked for, otherwise FIRST_PAUSE doubled each time, less up to a quarter by chance so
    that not all come back at once.

    Raises:
        MillraceError: the last failure's.
    """
    number = 0
    while True:
        try:
            return await attempt()
        except Failure as failure:
            pause = failure.wait
            if pause is None:
                pause = min(FIRST_PAUSE * 2**number, LONGEST_PAUSE) * random.uniform(0.75, 1.0)
            if not failure.again or number >= retries or pause > LONGEST_WAIT:
                raise failure.error from failure.__cause__
            log.info("attempt %d of %d: %s; again in %.1f s", number + 1, retries + 1, failure, pause)
        await asyncio.sleep(pause)
        number += 1
