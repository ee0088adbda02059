"""Models as steps: text or messages in, streamed text out; the same stop for whatever engine is behind."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextvars import copy_context
from copy import copy
from dataclasses import fields
from functools import partial
from pathlib import Path as FilePath
from typing import Any, Self

from ..flow.steps import Keep
from ..flow.taps import close, tap
from ..streaming.currents import emit
from ..streaming.errors import ModelError, RunCancelled, RunTimeout
from ..streaming.events import Path, Progress, Usage
from ..streaming.limits import Limits
from ..streaming.messages import Conversation, Message
from ..streaming.runs import Run
from .base import Module
from .demo import weights_path
from .local import KV, Engine, EngineStatus, Generation, Request, Sampling, shared_engine

__all__ = ["LocalModel"]

_lock = threading.Lock()
_users: dict[Engine, int] = {}
"""How many models that are set up stand on each shared engine."""

Question = str | Sequence[Message]


class LocalModel(Module[Question, str]):
    """A model on this machine, as a step: `model("Hi")`, `model([Message.user("Hi")])`.

    Given text, the model sees its system prompt, the run's history and the text; given a list of messages,
    exactly those. It loads at its first use, or when a launcher starts; two LocalModels on the same weights,
    dtype and device share one engine.

    Args:
        source: a directory with weights (safetensors), or `org/name` from the local cache of the model hub; an
            Engine is taken as it is.
        system: the system prompt.
        chat_template: Jinja source; the tokenizer's own by default.
        sampling: how tokens are chosen, for every request unless the run says otherwise.
        device: `"auto"`, `"cpu"`, `"cuda"`, `"cuda:1"`.
        dtype: `"auto"` (the weights' own; float32 for float16 weights on a CPU), `"float32"`, `"bfloat16"`,
            `"float16"`, `"float64"`.
        quantization: passed to the quantisation library of transformers.
        kv: how much memory is reserved for keys and values.
        limits: how many requests run and wait.

    Raises:
        ModelError: at the first use: no such weights, an unsupported architecture, no chat template. The message
            names the cure.
        Overloaded: too many requests at once.
        ContextLengthExceeded: prompt and `max_tokens` do not fit.
    """

    body = "answer"

    def __init__(
        self,
        source: str | FilePath | Engine,
        *,
        system: str | None = None,
        chat_template: str | None = None,
        sampling: Sampling | Mapping[str, Any] | None = None,
        device: str = "auto",
        dtype: str = "auto",
        quantization: Any = None,
        kv: KV | None = None,
        limits: Limits | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        if not isinstance(source, (str, os.PathLike, Engine)) or not str(source):
            raise ModelError(
                f"LocalModel({source!r}): give the path of a directory with weights, or a name such as 'org/name'"
            )
        self.system = system
        self.sampling = sampling_with(Sampling(), sampling)
        self.chat_template = chat_template
        self._engine = source if isinstance(source, Engine) else None
        self._made = self._engine is None
        if not isinstance(source, Engine):
            self._make = partial(
                shared_engine,
                source,
                device=device,
                dtype=dtype,
                quantization=quantization,
                kv=kv or KV(),
                limits=limits or Limits(),
            )

    @classmethod
    def demo(cls, **changes: Any) -> LocalModel:
        """The bundled tiny model, which knows millrace's own documentation and nothing else."""
        options: dict[str, Any] = {"sampling": Sampling(temperature=0.0), "name": "demo model", **changes}
        return cls(weights_path(), **options)

    @property
    def engine(self) -> Engine:
        """The engine behind the model; looking at it loads nothing."""
        if self._engine is None:
            self._engine = self._make()
        return self._engine

    def replace(
        self, *, system: str | None = None, sampling: Sampling | Mapping[str, Any] | None = None
    ) -> Self:
        """The same model on the same engine, with other settings."""
        twin = copy(self)
        vars(twin).update(_is_ready=False, _pending=None)
        twin.system = self.system if system is None else system
        twin.sampling = sampling_with(self.sampling, sampling)
        return twin

    # ------------------------------------------------------------ its life

    async def setup(self) -> None:
        engine = self.engine
        remove = engine.add_progress_listener(_say_progress(emit))
        try:
            engine.start()
            await engine.ready()
        finally:
            remove()
        if self._made:
            with _lock:
                _users[engine] = _users.get(engine, 0) + 1

    async def aclose(self) -> None:
        """Closes the engine when this is the last model on it; an engine that was given stays open."""
        if not self._made:
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

    async def execute(self, x: Any, run: Run | None, path: Path, output: bool) -> Any:
        if not self._is_ready:
            await self.ready()
        assert run is not None
        return await self.drain(self.answer(x, run, output), run, path, output)

    def open(self, x: Any, run: Run, path: Path, output: bool = False, keep: Keep | None = None) -> Any:
        stream = self._answer_when_ready(x, run, output)
        ended = None if keep is None else (lambda items: keep("".join(items)))
        return tap(stream, run, path, self.shows_output(output), self.show == "silent", ended)

    async def _answer_when_ready(self, x: Any, run: Run, output: bool) -> AsyncIterator[str]:
        await self.ready()
        stream = self.answer(x, run, output)
        try:
            async for text in stream:
                yield text
        finally:
            await close(stream)

    async def answer(self, question: Question, run: Run, output: bool) -> AsyncIterator[str]:
        """The answer to a question, piece by piece; leaving it stops the engine and gives the memory back."""
        generation = self.engine.submit(self._request(question, run, output))
        try:
            async for delta in generation:
                if delta.text:
                    yield delta.text
                if delta.error is not None:
                    raise delta.error
        finally:
            await generation.aclose()
            emit(Usage(generation.usage.prompt_tokens, generation.usage.completion_tokens))
        self._say_end(generation, run, output)

    def _say_end(self, generation: Generation, run: Run, output: bool) -> None:
        if generation.dropped:
            emit(Progress(1.0, f"the oldest {generation.dropped} messages did not fit the context any more"))
        if generation.finish_reason == "cancelled":
            raise RunCancelled("the model's request was cancelled")
        if generation.finish_reason == "timeout":
            raise RunTimeout("the model's request passed its deadline")
        if output:
            run.finish_reason = generation.finish_reason

    def _request(self, question: Question, run: Run, output: bool) -> Request:
        sampling = self.sampling
        if output and run.sampling:
            sampling = sampling_with(sampling, run.sampling)
        if not isinstance(question, str):
            return Request(
                messages=_messages(question),
                sampling=sampling,
                chat_template=self.chat_template,
                is_stopped=run.is_cut,
            )
        history, system = run.history, self.system
        if history and history[0].role == "system":  # the request's own, after the model's
            system = f"{system}\n\n{history[0].content}" if system else history[0].content
            droppable = len(history) - 1
            history = history[1:]
        else:
            droppable = len(history)
        messages = [*([Message.system(system)] if system else []), *history, Message.user(question)]
        return Request(
            messages=messages,
            sampling=sampling,
            chat_template=self.chat_template,
            drop_oldest=droppable if isinstance(run.history, Conversation) else 0,
            is_stopped=run.is_cut,
        )


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


def _say_progress(say: Any) -> Any:
    """A listener that tells the run whose turn it was to load."""
    context = copy_context()

    def listener(fraction: float, stage: str) -> None:
        context.copy().run(say, Progress(fraction, stage))

    return listener
