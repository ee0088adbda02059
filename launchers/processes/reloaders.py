"""The reloader: one worker, which another one replaces whenever the flow's files have changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ..api.patience import AFTER_DRAIN, Timings
from .changes import Changes, folder_of
from .supervisors import Supervisor, logger
from .workers import Worker, cause

__all__ = ["Reloader"]

DRAIN = 1.0
"""Seconds that requests have at most when the files have changed."""

LAST_MOMENTS = 5.0
"""Seconds that the modules of the flow have then; somebody waits at the keyboard."""


class Reloader(Supervisor):
    """Serves a flow while it is being written.

    What comes while there is no worker waits in line. A flow that cannot be served is told, and the next change
    waited for.
    """

    flags = ("-B",)  # two changes within a second would be one to the time stamps of compiled files

    def __init__(
        self, target: str, options: Mapping[str, Any], tell: Callable[[str], object] = logger.warning
    ) -> None:
        timings: Timings = options.get("timings") or Timings()
        timings = replace(timings, drain=min(timings.drain, DRAIN))
        super().__init__(target, 1, {"queue": "memory://", **options, "timings": timings}, tell)
        self._watched = folder_of(target)

    async def _keep(self, number: int) -> None:
        changes = Changes(self._watched)
        while not self._ending.is_set():
            worker = await self._start(number)
            over = asyncio.ensure_future(self._over(worker))
            changed = await self._until_changed(changes, over)
            if not over.done():
                await self._finish(worker, over)
            elif not changed and not self._ending.is_set():
                died = f"the worker has ended ({cause(over.result())})"
                if worker.was_ready and worker.failure is None:
                    self.tell(f"{died}; starting another one")
                    continue
                self.tell(f"{worker.failure or died}\nWaiting for a change.")
                changed = await self._until_changed(changes)
            if changed:
                self.tell(f"{_shown(changed)} changed; starting again")

    async def _finish(self, worker: Worker, over: asyncio.Future[int]) -> None:
        """Ends it gracefully; one that hangs is killed."""
        worker.end()
        await asyncio.wait([over], timeout=DRAIN + AFTER_DRAIN + LAST_MOMENTS)
        worker.kill()
        await over

    async def _until_changed(self, changes: Changes, *others: asyncio.Future[Any]) -> list[str]:
        """The files that have changed; none, where something else comes first, or the end of all."""
        change, ending = asyncio.ensure_future(changes.wait()), asyncio.ensure_future(self._ending.wait())
        await asyncio.wait([change, ending, *others], return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        if change.done():
            return change.result()
        change.cancel()
        return []


def _shown(changed: list[str]) -> str:
    more = f" and {len(changed) - 2} more" if len(changed) > 2 else ""
    return ", ".join(changed[:2]) + more
