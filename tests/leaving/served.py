"""Work that a service does for a RemoteFlow, when the listener here leaves."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from millrace import Pipeline, RemoteFlow
from millrace.streaming import current_run
from millrace.streaming.runs import LIVE, Run
from tests.launchers.support import running
from tests.leaving.subjects import AsyncGenerator
from tests.support.leaks import eventually

__all__ = ["Served"]


class Served(AsyncGenerator):
    """A generator in a service, whose items come over HTTP; those count that it makes when it has heard there."""

    pace = 0.02

    def __init__(self) -> None:
        super().__init__()
        self.far: Run | None = None
        self.stack = ExitStack()
        self.server = self.stack.enter_context(running(self.body))
        self.remote = RemoteFlow(self.server.url)

    @property
    def flow(self) -> Pipeline[Any, Any]:
        return Pipeline(str.strip, self.remote)

    def make(self) -> None:
        self.made += 1
        self.far = current_run()
        if self.far is not None and self.far.cut is not None:
            self.made_after_the_cut += 1

    def mark(self) -> None:
        self.marked = True
        self.run = next(run for run in list(LIVE) if run.parent is None and run is not self.far)

    def stopped(self) -> None:
        super().stopped()
        eventually(self.server.idle)

    def close(self) -> None:
        super().close()
        with ThreadPoolExecutor(1) as pool:  # a test with a page has a loop running in its own thread
            pool.submit(asyncio.run, self.remote.release()).result()
        self.stack.close()
