"""LocalModel: a model on this machine, as a step."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path as FilePath
from typing import Any

from ..streaming.errors import ModelError
from ..streaming.limits import Limits
from .demo import weights_path
from .language_models import LanguageModel
from .listeners import telling_progress
from .local import KV, Engine, Sampling, shared_engine

__all__ = ["LocalModel"]


class LocalModel(LanguageModel):
    """A model on this machine, as a step: `model("Hi")`, `model([Message.user("Hi")])`.

    Given text or one message, the model sees its system prompt, the run's history and that; given a list of messages,
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
        tools: what the model may call, as JSON schemas of functions in OpenAI's form; its calls are events.
        adapter: the directory of a LoRA adapter, merged into the weights when they load.
        idle: seconds without any request after which the weights are unloaded; the next request loads them again.
        process: whether the engine runs in a process of its own; by default a thread in a script, and a process in
            a service and a chat.

    Raises:
        ModelError: at the first use: no such weights, an unsupported architecture, no chat template. The message
            names the cure.
        RequestRefused: what was asked cannot be: a schema that is none, tools that the chat template does not know.
        Overloaded: too many requests at once.
        ContextLengthExceeded: prompt and `max_tokens` do not fit.
    """

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
        tools: Sequence[Mapping[str, Any]] = (),
        adapter: str | FilePath | None = None,
        idle: float | None = None,
        process: bool | None = None,
        name: str | None = None,
    ) -> None:
        if not isinstance(source, (str, os.PathLike, Engine)) or not str(source):
            raise ModelError(
                f"LocalModel({source!r}): give the path of a directory with weights, or a name such as 'org/name'"
            )
        given = isinstance(source, Engine)
        super().__init__(system=system, sampling=sampling, tools=tools, owns_engine=not given, name=name)
        self.chat_template = chat_template
        self._engine = source if isinstance(source, Engine) else None
        if not isinstance(source, Engine):
            self._make = partial(
                shared_engine,
                source,
                device=device,
                dtype=dtype,
                quantization=quantization,
                kv=kv or KV(),
                limits=limits or Limits(),
                adapter=adapter,
                idle=idle,
                process=process,
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

    def configuration(self) -> dict[str, Any]:
        if not self._owns_engine:
            return {**super().configuration(), "engine": self._engine}
        told = ("device", "dtype", "quantization", "adapter")
        chosen = {name: value for name, value in self._make.keywords.items() if name in told}
        return {**super().configuration(), "source": str(self._make.args[0]), **chosen}

    def prefer_process(self) -> None:
        """Lets the engine run in a process of its own when it starts; what launchers ask for before they serve."""
        self.engine.prefer_process()

    async def start_engine(self) -> None:
        with telling_progress(self.engine):
            self.engine.start()
            await self.engine.ready()

    def request_options(self) -> dict[str, Any]:
        return {"chat_template": self.chat_template}
