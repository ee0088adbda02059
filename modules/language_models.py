"""Language models as steps: text or messages in, streamed text out; the same stop for whatever engine is behind."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from copy import copy
from dataclasses import fields, replace
from typing import Any, Self

from ..flow.steps import Keep
from ..flow.taps import close, tap
from ..streaming.currents import emit
from ..streaming.errors import RequestRefused, RunCancelled, RunTimeout
from ..streaming.events import Logprobs, Path, Progress, ReasoningDelta, ToolCall, ToolCallDelta, Usage
from ..streaming.messages import Conversation, Message
from ..streaming.runs import Run
from .base import Module
from .local import Delta, EngineStatus, Request, Sampling
from .protocols import ModelEngine, ModelGeneration

__all__ = ["LanguageModel", "Question", "sampling_with"]

_lock = threading.Lock()
_users: dict[ModelEngine, int] = {}
"""How many models that are set up stand on each shared engine."""

Question = str | Message | Sequence[Message]
Piece = str | ReasoningDelta | Logprobs | ToolCallDelta | ToolCall


class LanguageModel(Module[Question, str]):
    """What models have in common, wherever their tokens are made.

    Given text or one message, the model sees its system prompt, the run's history and that; given a list of messages,
    exactly those. Text is streamed; reasoning, tool calls and log-probabilities are events.

    Args:
        system: the system prompt.
        sampling: how tokens are chosen, for every request unless the run says otherwise.
        tools: what the model may call, as JSON schemas of functions in OpenAI's form; its calls are events.
        owns_engine: the engine was made for models such as this one, and is closed with the last of them.
    """

    body = "answer"
    sees_history = True

    def __init__(
        self,
        *,
        system: str | None,
        sampling: Sampling | Mapping[str, Any] | None,
        owns_engine: bool,
        tools: Sequence[Mapping[str, Any]] = (),
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.system = system
        self.sampling = sampling_with(Sampling(), sampling)
        self.tools = checked_tools(tools)
        self._owns_engine = owns_engine

    @property
    def engine(self) -> ModelEngine:
        """The engine behind the model; looking at it loads nothing and connects to nothing."""
        raise NotImplementedError

    def replace(
        self,
        *,
        system: str | None = None,
        sampling: Sampling | Mapping[str, Any] | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> Self:
        """The same model on the same engine, with other settings."""
        twin = copy(self)
        vars(twin).update(_is_ready=False, _pending=None)
        twin.system = self.system if system is None else system
        twin.sampling = sampling_with(self.sampling, sampling)
        twin.tools = self.tools if tools is None else checked_tools(tools)
        return twin

    # ------------------------------------------------------------ its life

    async def setup(self) -> None:
        await self.start_engine()
        if self._owns_engine:
            with _lock:
                _users[self.engine] = _users.get(self.engine, 0) + 1

    async def start_engine(self) -> None:
        """Makes the engine ready."""
        await self.engine.ready()

    async def aclose(self) -> None:
        """Closes the engine when this is the last model on it; an engine that was given stays open."""
        if not self._owns_engine:
            return
        engine = self.engine
        with _lock:
            _users[engine] = left = _users.get(engine, 1) - 1
            if not left:
                del _users[engine]
        if not left:
            await engine.aclose()

    def status(self) -> EngineStatus:
        return self.engine.status()

    # ------------------------------------------------------------ as a step

    def value_of(self, items: list[Any], stream: Any) -> str:
        """The text; nothing but tool calls is the empty text."""
        return "".join(items)

    async def execute(self, x: Any, run: Run | None, path: Path, output: bool) -> Any:
        if not self._is_ready:
            await self.ready()
        assert run is not None
        return await self.drain(self.answer(x, run, output), run, path, output)

    def open(self, x: Any, run: Run, path: Path, output: bool = False, keep: Keep | None = None) -> Any:
        stream = self._answer_when_ready(x, run, output)
        ended = None if keep is None else (lambda items: keep("".join(items)))
        return tap(stream, run, path, self.shows_output(output), self.show == "silent", ended)

    async def _answer_when_ready(self, x: Any, run: Run, output: bool) -> AsyncIterator[Piece]:
        await self.ready()
        stream = self.answer(x, run, output)
        try:
            async for piece in stream:
                yield piece
        finally:
            await close(stream)

    async def answer(self, question: Question, run: Run, output: bool) -> AsyncIterator[Piece]:
        """The answer to a question, piece by piece; leaving it stops the engine and gives the memory back."""
        generation = self.engine.submit(self._request(question, run, output))
        shown, calls = self.shows_output(output), []
        try:
            async for delta in generation:
                if delta.logprobs and (tokens := tokens_of(delta)):
                    yield Logprobs(tokens, shown)
                if delta.reasoning:
                    yield ReasoningDelta(delta.reasoning, shown)
                if delta.text:
                    yield delta.text
                for call in delta.tool_calls:
                    if shown:
                        run.outputs += 1  # from here on no policy may try again
                    if isinstance(call, ToolCall):
                        calls.append(call)
                    yield replace(call, output=shown)
                if delta.error is not None:
                    raise self._error(delta.error, run, output)
        finally:
            await generation.aclose()
            emit(Usage(generation.usage.prompt_tokens, generation.usage.completion_tokens))
        if output:
            run.calls = calls
        self._say_end(generation, run, output)

    @staticmethod
    def _error(error: BaseException, run: Run, output: bool) -> BaseException:
        """The error of a request; it knows whether it is the fault of whoever started the run."""
        if isinstance(error, RequestRefused) and output:
            asked = {*(run.sampling if isinstance(run.sampling, Mapping) else vars(run.sampling))}
            if run.tools is not None or run.tool_choice is not None:
                asked |= {"tools", "tool_choice"}
            error.by_run = error.setting in asked or error.setting == "messages"
            error.for_clients()
        return error

    def _say_end(self, generation: ModelGeneration, run: Run, output: bool) -> None:
        if generation.dropped:
            emit(Progress(1.0, f"the oldest {generation.dropped} messages did not fit the context any more"))
        if generation.finish_reason == "cancelled":
            raise RunCancelled("the model's request was cancelled")
        if generation.finish_reason == "timeout":
            raise RunTimeout("the model's request passed its deadline")
        if output:
            run.finish_reason = generation.finish_reason

    # ------------------------------------------------------------ what the engine is asked

    def request_options(self) -> dict[str, Any]:
        """Further settings of each Request."""
        return {}

    def _request(self, question: Question, run: Run, output: bool) -> Request:
        sampling, tools, choice = self.sampling, self.tools, None
        if output:
            sampling, choice = sampling_with(sampling, run.sampling), run.tool_choice
            tools = tools if run.tools is None else checked_tools(run.tools)
        if choice == "none":
            tools, choice = (), None
        options = {
            "sampling": sampling,
            "session": run.session,
            "salt": run.owner or "",
            "tools": tools,
            "tool_choice": choice,
            "is_stopped": run.is_cut,
            **self.request_options(),
        }
        if not isinstance(question, (str, Message)):
            return Request(messages=_messages(question), **options)
        history, system = run.take_history(question), self.system
        asked = Message.user(question) if isinstance(question, str) else question
        if history and history[0].role == "system":  # the request's own, after the model's
            system = f"{system}\n\n{history[0].content}" if system else history[0].content
            history = history[1:]
        return Request(
            messages=[*([Message.system(system)] if system else []), *history, asked],
            drop_oldest=droppable(history, asked) if isinstance(run.history, Conversation) else 0,
            **options,
        )


def droppable(history: Sequence[Message], asked: Message) -> int:
    """How many of the oldest messages may be dropped: never those of the turn that a tool's result belongs to."""
    if asked.role != "tool":
        return len(history)
    users = (at for at in range(len(history) - 1, -1, -1) if history[at].role == "user")
    return next(users, 0)


def tokens_of(delta: Delta) -> list[dict[str, Any]]:
    """The log-probabilities of a delta's tokens, but for special ones, which are in no text; of a server's all."""
    return [
        report.as_dict() for report in delta.logprobs if report.data is not None or report.token_id is None
    ]


def sampling_with(base: Sampling, given: Sampling | Mapping[str, Any] | None) -> Sampling:
    """`given` itself, or `base` with the settings that a mapping gives.

    Raises:
        TypeError: a setting that there is not; it names those that there are.
    """
    if isinstance(given, Sampling):
        return given
    if not given:
        return base
    if not isinstance(given, Mapping):
        raise TypeError(f"sampling={given!r}: give a Sampling, or a dict of its settings")
    known = [field.name for field in fields(Sampling)]
    if wrong := [name for name in given if name not in known]:
        raise TypeError(f"sampling has no setting {wrong[0]!r}; it has {', '.join(known)}")
    return base.replace(**given)


def checked_tools(tools: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    for tool in tools:
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise TypeError(
                f"tools=[{tool!r}]: give OpenAI's form: "
                '{"type": "function", "function": {"name": ..., "parameters": {...}}}'
            )
    return tuple(tools)


def _messages(given: Any) -> list[Message]:
    if isinstance(given, (list, tuple)) and any(isinstance(item, Mapping) for item in given):
        raise TypeError("a model takes a list of Message: write Message.user('Hi') instead of a dict")
    if not isinstance(given, (list, tuple)) or not all(isinstance(item, Message) for item in given):
        raise TypeError(
            f"a model takes text or a list of Message, not {type(given).__name__}; "
            "put a step before it that makes text"
        )
    if not given:
        raise ValueError("an empty list of messages: a model needs at least one, such as Message.user('Hi')")
    return list(given)
