"""Readiness: the modules of a flow are set up in the background, and whoever asks is told how far that is."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Literal

from ...flow.steps import Step
from ...modules.models import LocalModel
from ...streaming.errors import MillraceError
from ...streaming.events import Progress
from ...streaming.runs import Run
from ...streaming.streams import Stream
from ..inputs import modules_of

__all__ = ["Readiness"]

logger = logging.getLogger("millrace.service")

READY = {"status": "ready"}
State = Literal["starting", "loading", "ready", "failed", "stopping"]


class Readiness:
    """Whether a flow can serve: all its modules are set up, and none has died since."""

    def __init__(self, flow: Step[Any, Any]) -> None:
        self.modules = list(modules_of(flow))
        self.state: State = "starting"
        self.stage = ""
        self.progress = 0.0
        self.error: BaseException | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> asyncio.Task[None]:
        """Starts to load, the first time; the task ends when it is ready or has failed, and never raises."""
        if self._task is None:
            self.state = "loading"
            self._task = asyncio.get_running_loop().create_task(self._load())
        return self._task

    async def end(self) -> None:
        """Gives back what the modules hold, also half loaded."""
        self.state = "stopping"
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        for module in self.modules:
            try:
                await module.release()
            except Exception:
                logger.exception("%r could not be ended", module)

    def report(self) -> tuple[bool, dict[str, Any]]:
        """Whether it can serve, and that in words for a client."""
        if self.state == "ready":
            dead = [module.name for module in self.modules if has_died(module)]
            if dead:
                return False, {"status": "failed", "stage": f"{dead[0]} has died"}
            for status in (module.status() for module in self.modules):
                if getattr(status, "state", None) == "loading":  # after a crash
                    stage, progress = status.stage, round(status.progress, 3)
                    return False, {"status": "loading", "stage": stage, "progress": progress}
            return True, {"status": "ready"}
        told: dict[str, Any] = {"status": self.state}
        if self.state == "loading":
            told |= {"stage": self.stage, "progress": round(self.progress, 3)}
        if self.error is not None:
            told["error"] = type(self.error).__name__
        return False, told

    async def _load(self) -> None:
        try:
            async with Stream(self._set_up) as stream:
                async for event in stream:
                    if isinstance(event, Progress):
                        self.stage, self.progress = event.message, event.fraction
        except Exception as error:
            self.state, self.error = "failed", error
            unexpected = None if isinstance(error, MillraceError) else error
            logger.error("the flow cannot serve: %s", error, exc_info=unexpected)
        else:
            self.state = "ready"

    async def _set_up(self, run: Run) -> None:
        run.name = "setup"
        for module in self.modules:
            if isinstance(module, LocalModel):
                module.prefer_process()
        await asyncio.gather(*(module.ready() for module in self.modules))


def has_died(module: Any) -> bool:
    """Whether a module that was set up can serve no more; an engine that was idle or crashed loads again."""
    status = module.status()
    return not getattr(status, "ready", True) and getattr(status, "state", None) not in ("cold", "loading")
