"""RemoteEngine: a model behind an OpenAI-compatible server, asked as the local engine is asked."""

from __future__ import annotations

import asyncio
import threading
import time
from asyncio.events import _get_running_loop
from collections import Counter
from collections.abc import Mapping
from contextvars import Context
from functools import partial
from typing import Any, cast

from ...streaming.errors import ContextLengthExceeded, RemoteError
from ...streaming.limits import Limits
from ...streaming.loops import framework_loop
from ..local import Delta, EngineStatus, Generation, Request
from ..local.admission import FirstTokens, RateMeter
from ..local.generations import Waiter, wake
from .attempts import Attempt
from .bodies import body_of, check_extra
from .generations import RemoteGeneration
from .servers import Server
from .timeouts import Timeouts
from .turns import Turns

__all__ = ["RemoteEngine"]

USAGE = "stream_options"


class RemoteEngine:
    """Runs requests on a server, many at once, each of which can be stopped.

    Making one connects to nothing. All methods may be called from any thread and any event loop: a request lives in
    the loop in which it is submitted, or in the framework's own where there is none.

    Args:
        url: the server's base URL; mostly ends in `/v1`.
        model: the model's name there.
        api_key: sent as `Authorization: Bearer`; never shown.
        api_key_env: the environment variable that has the key instead.
        limits: how many requests are with the server at once, how many more wait here, and how long.
        timeouts: how long the server may take.
        retries: how many more attempts a request gets before its first token.
        extra: further fields for every request's body, such as `{"top_k": 20}`; one that is
            None is left out of the body.
        http: options of `httpx.AsyncClient`: `verify`, `proxy`, `headers`, `trust_env`, ...

    Raises:
        ValueError: a URL, key or number that cannot be; names it.
        TypeError: an option that httpx does not have.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key: str | None = None,
        api_key_env: str | None = None,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        retries: int = 2,
        extra: Mapping[str, Any] | None = None,
        http: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(model, str) or not model:
            raise ValueError(f"model={model!r}: give the model's name, as the server's /models lists it")
        self.server = Server(
            url, api_key=api_key, api_key_env=api_key_env, timeouts=timeouts, retries=retries, http=http
        )
        self.model = model
        self.limits = limits or Limits(running=64, waiting=256)
        self._extra = check_extra(extra or {})
        self._turns = Turns(self.limits)
        self._lock = threading.Lock()
        self._live: set[RemoteGeneration] = set()
        self._status = EngineStatus(model=f"{model} at {self.server.address}")
        self._stops: Counter[str] = Counter()
        self._rate = RateMeter()
        self._first_tokens = FirstTokens()
        self._pieces = self._read = self._produced = 0

    def __repr__(self) -> str:
        return f"RemoteEngine({str(self.server.address)!r}, {self.model!r})"

    # ------------------------------------------------------------ life

    async def ready(self) -> None:
        """Asks whether the server is there.

        Raises:
            RemoteError: it cannot be reached, fails, or does not know the key.
        """
        await self.server.ready()
        self._note("ready")

    def status(self) -> EngineStatus:
        """How it is from here, at once: requests, tokens, and the last error; of blocks nothing is known."""
        with self._lock:
            live = [generation.usage for generation in self._live]
            return EngineStatus(
                state=self._status.state,
                model=self._status.model,
                progress=1.0 if self._status.ready else 0.0,
                running=self._turns.running,
                waiting=self._turns.waiting,
                running_limit=self.limits.running,
                waiting_limit=self.limits.waiting,
                tokens_per_second=self._rate.rate(self._pieces),
                time_to_first_token=self._first_tokens.mean,
                tokens_read=self._read + sum(usage.prompt_tokens for usage in live),
                tokens_produced=self._produced + sum(usage.completion_tokens for usage in live),
                stops=dict(self._stops),
                error=self._status.error,
            )

    async def aclose(self) -> None:
        """Ends all requests as cancelled and closes the connections; again and again."""
        with self._lock:
            live = list(self._live)
        await asyncio.gather(*(generation.aclose() for generation in live))
        await self.server.aclose()
        self._note("closed")

    def _note(self, state: Any, error: str = "") -> None:
        with self._lock:
            self._status = EngineStatus(state=state, model=self._status.model, error=error)

    # ------------------------------------------------------------ requests

    def submit(self, request: Request) -> Generation:
        """Takes a request in; cheap, from any thread.

        Raises:
            Overloaded: as many are with the server and wait as `limits` allow; nothing was sent.
            ValueError: it asks for what no server can be told.
        """
        body = body_of(request, self.model, self._extra)
        generation = RemoteGeneration(request, body, self._turns.enter(), self._on_end)
        generation.on_first = self._first_tokens.note
        with self._lock:
            self._live.add(generation)
        if _get_running_loop() is not None:
            self._start(generation)
        else:
            framework_loop().call_soon_threadsafe(self._start, generation)
        return generation

    def _start(self, generation: RemoteGeneration) -> None:
        """In the loop in which the request is to live, and with nothing of its caller's context."""
        loop = asyncio.get_running_loop()
        generation.task = loop.create_task(self._serve(generation), context=Context())
        generation.task.add_done_callback(partial(self._ended, generation))

    def _on_end(self, generation: Generation) -> None:
        """It was cancelled: its task ends, and with it its connection."""
        remote = cast(RemoteGeneration, generation)
        if remote.finish_reason is not None:  # nothing had been sent
            self._settle(remote)
        task = remote.task
        if task is None:
            return
        loop = task.get_loop()
        if loop is _get_running_loop():
            task.cancel()
            return
        try:
            loop.call_soon_threadsafe(task.cancel)
        except RuntimeError:  # the loop is closed, and nothing of the request is left
            self._end(remote, Delta(finish_reason="cancelled", usage=remote.usage))

    def _ended(self, generation: RemoteGeneration, task: asyncio.Task[Delta]) -> None:
        """The one place where a request that was begun ends, whatever has ended it."""
        if task.cancelled():
            last = Delta(finish_reason="cancelled", usage=generation.usage)
        elif (error := task.exception()) is not None:
            last = Delta(finish_reason="error", usage=generation.usage, error=error)
        else:
            last = task.result()
        self._end(generation, last)

    def _end(self, generation: RemoteGeneration, last: Delta) -> None:
        """Whoever sees the end finds the place free."""
        generation.turn.leave()
        waiters = generation.push(last)
        self._settle(generation)
        if isinstance(last.error, RemoteError):
            self._note(self._status.state, str(last.error))
        elif last.finish_reason in ("stop", "length", "tool_calls"):
            self._note("ready")
        wake(waiters)

    def _settle(self, generation: RemoteGeneration) -> None:
        """Counts a request that is over; a second time does nothing."""
        generation.turn.leave()
        with self._lock:
            if generation in self._live:
                self._live.discard(generation)
                self._stops[generation.finish_reason or "error"] += 1
                self._read += generation.usage.prompt_tokens
                self._produced += generation.usage.completion_tokens

    # ------------------------------------------------------------ one request

    async def _serve(self, generation: RemoteGeneration) -> Delta:
        """A request from the line to its last delta."""
        loop, seconds = asyncio.get_running_loop(), self._seconds_left(generation)
        try:
            async with asyncio.timeout_at(None if seconds is None else loop.time() + seconds) as deadline:
                await generation.turn.wait()
                if generation.is_stopped() or not generation.begin():
                    return Delta(finish_reason="cancelled", usage=generation.usage)
                return await self._answer(generation)
        except TimeoutError:
            if not deadline.expired():
                raise
            return Delta(finish_reason="timeout", usage=generation.usage)

    def _seconds_left(self, generation: RemoteGeneration) -> float | None:
        """Until the request's deadline or Timeouts(total), whichever is first."""
        now, total = time.monotonic(), self.server.timeouts.total
        ends = [generation.request.deadline, None if total is None else generation.submitted + total]
        return min((end - now for end in ends if end is not None), default=None)

    async def _answer(self, generation: RemoteGeneration) -> Delta:
        """The last delta of a request; the attempts push the others."""
        while True:
            try:
                return await self.server.tried(lambda: Attempt(self.server, generation, self._push).run())
            except ContextLengthExceeded:
                if not generation.shorten():
                    raise
            except RemoteError as error:
                if error.status not in (400, 422) or not self._leave_out_usage(generation, str(error)):
                    raise

    def _leave_out_usage(self, generation: RemoteGeneration, refusal: str) -> bool:
        """Some servers do not know how to be asked for the usage, and are not any more; false if it is not that."""
        if USAGE not in refusal or USAGE not in generation.body:
            return False
        self._extra[USAGE] = None
        del generation.body[USAGE]
        return True

    def _push(self, generation: RemoteGeneration, deltas: list[Delta]) -> None:
        """What has come at once goes out at once, with one wake-up."""
        waiters: list[Waiter] = []
        for delta in deltas:
            waiters += generation.push(delta)
        with self._lock:
            self._pieces += len(deltas)
            self._rate.note(self._pieces)
        wake(waiters)
