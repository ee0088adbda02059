"""RemoteFlow: a served flow, as a step."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import fields
from hashlib import sha256
from typing import Any, Literal

from ..flow.steps import Keep
from ..flow.taps import Valued, close, joined, tap
from ..streaming.currents import emit
from ..streaming.events import (
    Data,
    Path,
    Progress,
    RunFinished,
    RunStarted,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from ..streaming.messages import Message
from ..streaming.runs import Run
from ..streaming.usage import TokenUsage
from .base import Module
from .local import EngineStatus, Sampling
from .remote import Timeouts
from .remote.remote_runs import RemoteRun
from .remote.run_servers import RunServer

__all__ = ["RemoteFlow"]

SHORTEST = 0.001
"""Seconds that a deadline has at least."""
LONGEST_SESSION = 100
"""Characters of a session's name that services take."""


class RemoteFlow(Module[Any, Any]):
    """A flow that a service runs, as a step: `RemoteFlow("http://host:8000")("Hi")`.

    What comes in goes there as JSON, and the value of the flow there is the value of this step. Its text and items
    come piece by piece, its reasoning and tool calls as events. A stop closes the connection at once and is told to
    the service as well, so that it arrives behind proxies too, and where the run waits in line there. The session's
    name, the conversation before a text, the sampling for the answer and what is left of the deadline go along.

    A connection that breaks in the midst of a run is made again, and goes on after the last event that has come.

    Args:
        url: where the service is, without `/v1`.
        api_key: sent as `Authorization: Bearer`; never shown, logged or repeated in an error.
        api_key_env: the environment variable that has the key instead, read with the first connection.
        events: `"output"`: what the flow there answers with; `"all"`: what all of its steps say, under the path of
            this step, where the service allows it.
        on_disconnect: what becomes of the run there when the connection breaks: `"cancel"`, `"continue"`; by default
            what the service says. Only a run that goes on can be picked up again.
        resume: for how many seconds a broken connection is tried again; 0 for not at all.
        timeouts: how long the service may take: to connect, to the first word (`first_token`; to load its flow as
            well), between two words (`between_tokens`), in total. What it sends to keep the connection is a word too.
        retries: how many more attempts a run gets before it has begun, after 429 (as `Retry-After` says), 502, 503,
            504 and broken connections.
        http: options of `httpx.AsyncClient`, as for RemoteModel.

    Raises:
        ValueError: a URL, key or number that cannot be; names it.
        TypeError: what came in is no JSON.
        RemoteError: the service cannot be reached, refuses or breaks off, or the flow there has failed: `.status`,
            and `.kind`, the name of the error's type there.
        Overloaded: too many requests at once, there.
        ContextLengthExceeded, SessionBusy, RunTimeout, RunCancelled: as the flow there has ended.
    """

    body = "answer"
    sees_history = True

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        api_key_env: str | None = None,
        events: Literal["output", "all"] = "output",
        on_disconnect: Literal["cancel", "continue"] | None = None,
        resume: float = 10.0,
        timeouts: Timeouts | None = None,
        retries: int = 2,
        http: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        if events not in ("output", "all"):
            raise ValueError(f"events={events!r}: give 'output' or 'all'")
        if on_disconnect not in (None, "cancel", "continue"):
            raise ValueError(f"on_disconnect={on_disconnect!r}: give 'cancel', 'continue', or leave it out")
        if not isinstance(resume, (int, float)) or not resume >= 0:
            raise ValueError(f"resume={resume!r}: give a number of seconds from 0")
        self._server = RunServer(
            url, api_key=api_key, api_key_env=api_key_env, timeouts=timeouts, retries=retries, http=http
        )
        self._events = events
        self._on_disconnect = on_disconnect
        self._resume = resume

    @property
    def url(self) -> str:
        """Where the service is, as it may be shown."""
        return str(self._server.address)

    def configuration(self) -> dict[str, Any]:
        return {**super().configuration(), "server": self.url}

    # ------------------------------------------------------------ its life

    async def setup(self) -> None:
        """Waits until the flow there can serve, and says how far its loading is."""
        await self._server.ready(lambda progress, stage: emit(Progress(progress, stage)))

    async def aclose(self) -> None:
        """Ends what goes on as cancelled, and closes the connections."""
        await self._server.aclose()

    def status(self) -> EngineStatus:
        """How it is from here, at once: runs and their tokens; `stops` counts how they ended."""
        return self._server.status()

    # ------------------------------------------------------------ as a step

    def value_of(self, items: list[Any], stream: Any) -> Any:
        """What the flow there has returned, whatever it has streamed."""
        return stream.value if stream.known else joined(items)

    async def execute(self, x: Any, run: Run | None, path: Path, output: bool) -> Any:
        assert run is not None
        return await self.drain(self._answered(x, run, path, output), run, path, output)

    def open(self, x: Any, run: Run, path: Path, output: bool = False, keep: Keep | None = None) -> Any:
        stream = self._answered(x, run, path, output)
        ended = None if keep is None else (lambda items: keep(self.value_of(items, stream)))
        said = tap(stream, run, path, self.shows_output(output), self.show == "silent", ended)
        return _or_value(said, stream)

    def _answered(self, x: Any, run: Run, path: Path, output: bool) -> Valued:
        found = Valued()
        found.stream = self.answer(x, run, path, output, found)
        return found

    async def answer(self, x: Any, run: Run, path: Path, output: bool, found: Valued) -> AsyncIterator[Any]:
        """What the flow there says, piece by piece; leaving it stops the run there. `found` is given its value."""
        if not self._is_ready:
            await self.ready()
        remote = RemoteRun(self._server, self._asked(x, run, output), self._resume)
        said, ending, error, calls = TokenUsage(), "cancelled", "", []
        try:
            while events := await remote.more():
                for event in events:
                    if type(event) is TextDelta and event.output:
                        yield event.text
                    elif type(event) is Data and event.output:
                        yield event.value
                    elif getattr(event, "output", False):
                        if isinstance(event, (ToolCallDelta, ToolCall)) and self.shows_output(output):
                            run.outputs += 1  # from here on no policy may try again
                        if isinstance(event, ToolCall):
                            calls.append(event)
                        yield event
                    elif not isinstance(event, (RunStarted, RunFinished)):
                        if type(event) is Usage:
                            said += TokenUsage(event.prompt_tokens, event.completion_tokens)
                        await run.put(event, (*path, *event.path))
            found.keep(remote.outcome())
            if output and remote.finished is not None:
                run.finish_reason, run.calls = remote.finished.reason, calls
        except Exception as failed:
            ending, error = "error", str(failed)
            raise
        finally:
            await remote.stop(run.cut or "its caller has left")
            rest = _minus(remote.usage, said)
            if rest.total_tokens:
                run.say(Usage(rest.prompt_tokens, rest.completion_tokens), path)
            if remote.finished is not None:
                ending = remote.finished.status
            self._server.note(ending, remote.usage, error)

    # ------------------------------------------------------------ what the service is asked

    def _asked(self, x: Any, run: Run, output: bool) -> dict[str, Any]:
        """The request for a run; a text or a message goes with the conversation before it, of which it is a turn."""
        history = run.take_history(x) if isinstance(x, (str, Message)) else ()
        asked: dict[str, Any] = {
            "input": x,
            "history": [message.as_dict() for message in history],
            "stream": True,
            "events": self._events,
        }
        if run._session is not None:
            asked["session"] = _short(run._session)
        if output and run.sampling:
            asked["sampling"] = _settings(run.sampling)
        times = [seconds for seconds in (run.time_left, self._server.timeouts.total) if seconds is not None]
        if times:
            asked["timeout"] = max(SHORTEST, round(min(times), 3))
        if self._on_disconnect is not None:
            asked["on_disconnect"] = self._on_disconnect
        return asked


def _short(session: str) -> str:
    """A session's name as any service takes it, which may put a mark of 17 characters before it: of a long one the
    beginning, and the hash of the whole.
    """
    if len(session) <= LONGEST_SESSION:
        return session
    mark = sha256(session.encode()).hexdigest()
    return f"{session[: LONGEST_SESSION - len(mark) - 1]}-{mark}"


async def _or_value(stream: Any, found: Valued) -> AsyncIterator[Any]:
    """A stream for the next step; where nothing comes piece by piece, the value is the one item."""
    came = False
    try:
        async for item in stream:
            came = True
            yield item
        if not came:
            yield found.value
    finally:
        await close(stream)


def _minus(usage: TokenUsage, told: TokenUsage) -> TokenUsage:
    """What has not been told yet."""
    return TokenUsage(
        max(0, usage.prompt_tokens - told.prompt_tokens),
        max(0, usage.completion_tokens - told.completion_tokens),
    )


def _settings(sampling: Sampling | Mapping[str, Any]) -> dict[str, Any]:
    """A whole Sampling by all that it says, a few settings as they are."""
    if isinstance(sampling, Mapping):
        return dict(sampling)
    told = {field.name: getattr(sampling, field.name) for field in fields(sampling)}
    return {name: value for name, value in told.items() if value is not None}
