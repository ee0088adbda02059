"""RunServer: a service of millrace as its RemoteFlows share it, and how much of it goes on from here."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ...streaming.errors import RemoteError
from ...streaming.usage import TokenUsage
from ..local import EngineStatus
from .failures import Failure
from .run_failures import failure_of_refusal
from .servers import Server

if TYPE_CHECKING:
    from .remote_runs import RemoteRun

__all__ = ["RunServer"]

HEALTH = "/health/ready"
MODELS = "/v1/models"
"""Whoever may not look at these may not start runs either; health is told to everybody."""
ENDINGS = ("/v1", "/v1/runs", HEALTH)
"""What belongs to the endpoints, and not to the URL of a service."""
FIRST_PAUSE = 0.2
"""Seconds until a service that loads is asked again, doubled each time."""
LONGEST_PAUSE = 2.0


class RunServer(Server):
    """A service whose runs are steps here; arguments are those of Server.

    Raises:
        ValueError: a URL, key or number that cannot be.
        TypeError: an option that httpx does not have, or that belongs elsewhere.
    """

    example = "http://localhost:8000"
    refusal = staticmethod(failure_of_refusal)

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        if wrong := next((end for end in ENDINGS if str(self.address).endswith(end)), None):
            raise ValueError(f"{str(self.address)!r}: give the URL of the service, without {wrong}")
        self.live: set[RemoteRun] = set()
        self._state: Any = "cold"
        self._loading = (0.0, "")
        self._ended: Counter[str] = Counter()
        self._usage = TokenUsage()
        self._error = ""

    def __repr__(self) -> str:
        return f"RunServer({str(self.address)!r})"

    # ------------------------------------------------------------ life

    async def ready(self, tell: Callable[[float, str], object] | None = None) -> None:
        """Waits until the flow there can serve, as long as `Timeouts(first_token)` says.

        `tell` is given how far its loading is, from 0 to 1, and what it is at.

        Raises:
            RemoteError: it cannot be reached, does not know the key, its flow cannot be loaded, or that takes too long.
        """
        try:
            await self._loaded(tell)
            await self.tried(partial(self.look, MODELS))
        except BaseException:
            await super().aclose()  # who is not set up is not closed by others
            raise
        self._state = "ready"

    async def _loaded(self, tell: Callable[[float, str], object] | None) -> None:
        patience, pause = self.timeouts.first_token, FIRST_PAUSE
        until = None if patience is None else asyncio.get_running_loop().time() + patience
        while (loading := await self.tried(self._look)) is not None:
            if loading != self._loading and tell is not None:
                tell(*loading)
            self._state, self._loading = "loading", loading
            if until is not None and asyncio.get_running_loop().time() + pause > until:
                raise RemoteError(
                    f"{self.address} has not loaded its flow within {patience:g} s, which is Timeouts(first_token)",
                    503,
                )
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _look(self) -> tuple[float, str] | None:
        """How far the loading is; None when there is none any more."""
        found = await self.look(HEALTH, answers=(200, 503))
        if found is None or found[0] == 200:
            return None
        try:
            told = dict(json.loads(found[1]))
        except (ValueError, TypeError):
            told = {}
        match told.get("status"):
            case "starting" | "loading":
                return float(told.get("progress") or 0.0), str(told.get("stage") or "starting")
            case "failed":
                why = self.address.hide(str(told.get("error") or told.get("stage") or "its log says why"))
                raise Failure(RemoteError(f"{self.address} cannot serve: its flow has failed ({why})", 503))
        raise Failure(RemoteError(f"{self.address} is not up: it answered 503", 503), again=True)

    async def aclose(self) -> None:
        """Ends what goes on as cancelled, there too, and closes the connections; they open when they are needed."""
        await asyncio.gather(*(run.end("the RemoteFlow was closed") for run in list(self.live)))
        await super().aclose()
        self._state = "closed"

    # ------------------------------------------------------------ figures

    def note(self, ending: str, usage: TokenUsage, error: str = "") -> None:
        """A run is over: how it ended here, and what it has cost."""
        self._ended[ending] += 1
        self._usage += usage
        if error:
            self._error = error
        else:
            self._state = "ready"

    def status(self) -> EngineStatus:
        """How it is from here, at once."""
        progress, stage = self._loading
        ready = self._state == "ready"
        return EngineStatus(
            state=self._state,
            model=f"the flow at {self.address}",
            stage=stage if self._state == "loading" else "",
            progress=1.0 if ready else progress,
            running=len(self.live),
            tokens_read=self._usage.prompt_tokens,
            tokens_produced=self._usage.completion_tokens,
            stops=dict(self._ended),
            error=self._error,
        )
