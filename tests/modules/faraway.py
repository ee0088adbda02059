"""A flow behind the real service, and RemoteFlows of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from millrace import RemoteFlow
from millrace.streaming import (
    ContextLengthExceeded,
    Overloaded,
    RemoteError,
    RunCancelled,
    RunTimeout,
    SessionBusy,
)
from tests.launchers.support import Running, running

__all__ = ["Far", "anything", "far"]


class Far:
    """The service, and a RemoteFlow of it for whoever asks; all are released at the end."""

    def __init__(self, server: Running) -> None:
        self.server = server
        self.made: list[RemoteFlow] = []

    def flow(self, url: str | None = None, **options: Any) -> RemoteFlow:
        """`url`: where it is reached, if not directly."""
        self.made.append(RemoteFlow(url or self.server.url, **{"retries": 0, **options}))
        return self.made[-1]


@contextmanager
def far(flow: Any, **options: Any) -> Iterator[Far]:
    """Serves the flow until the block is left; `options` are the service's."""
    with running(flow, **options) as server:
        made = Far(server)
        yield made
        for each in made.made:
            asyncio.run(each.release())


async def anything(asked: Any) -> Any:
    """What the flow there is: it does what the input says."""
    match asked:
        case {"do": "value", "value": value}:
            return value
        case {"do": "fail", "with": name}:
            raise {
                "KeyError": KeyError("secret"),
                "Overloaded": Overloaded("it is full", 7.0),
                "ContextLengthExceeded": ContextLengthExceeded("it does not fit"),
                "SessionBusy": SessionBusy("somebody has it"),
                "RunCancelled": RunCancelled("secret"),
                "RunTimeout": RunTimeout("too late"),
                "RemoteError": RemoteError("even further away", 502, "IndexError"),
            }[name]
        case {"do": "wait"}:
            await asyncio.Event().wait()
    return asked
