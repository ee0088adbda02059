"""RemoteModel: a model behind an OpenAI-compatible server, as a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..streaming.limits import Limits
from .language_models import LanguageModel
from .local import Sampling
from .remote import RemoteEngine, Timeouts

__all__ = ["RemoteModel"]


class RemoteModel(LanguageModel):
    """A model that a server runs, as a step: `RemoteModel("http://host:8000/v1", "org/name")("Hi")`.

    It does what LocalModel does, with any server that speaks OpenAI's chat completions: vLLM, SGLang, LMDeploy,
    llama.cpp, Ollama, millrace's own service, OpenAI. Given text or one message, the model sees its system prompt, the
    run's history and that; given a list of messages, exactly those. A stop closes the connection at once, which is how
    servers are told to stop.

    Temperature and top_p are always sent, so that answers do not depend on a server's own defaults; the rest of
    `sampling` where it is set. `top_k`, `min_p`, `repetition_penalty` and `stop_token_ids` are no fields of OpenAI's:
    a server that does not know them refuses them by name, or ignores them.

    Args:
        url: the server's base URL; mostly ends in `/v1`. A RemoteEngine is taken as it is.
        model: the model's name there.
        api_key: sent as `Authorization: Bearer`; never shown, logged or repeated in an error.
        api_key_env: the environment variable that has the key instead, read with the first connection.
        system: the system prompt.
        sampling: how tokens are chosen, for every request unless the run says otherwise.
        tools: what the model may call, as JSON schemas of functions in OpenAI's form; its calls are events.
        limits: how many requests are with the server at once (64) and wait here (256); more are refused.
        timeouts: how long the server may take to connect, to its first token, between tokens and in total.
        retries: how many more attempts a request gets before its first token, after 429 (as `Retry-After` says), 502,
            503, 504 and broken connections.
        extra: further fields for every request's body, such as `{"top_k": 20}`; one that is
            None is left out of the body.
        http: options of `httpx.AsyncClient`: `verify`, `proxy`, `headers`, `trust_env`, ... Unless told otherwise
            the proxies and certificates of the environment are used, but never a proxy for this machine.

    Raises:
        ValueError: a URL, key or number that cannot be; names it.
        RemoteError: at the first use or later: the server cannot be reached, refuses, fails or falls silent.
        Overloaded: too many requests at once, here or there.
        ContextLengthExceeded: the server says that prompt and `max_tokens` do not fit.
    """

    def __init__(
        self,
        url: str | RemoteEngine,
        model: str | None = None,
        *,
        api_key: str | None = None,
        api_key_env: str | None = None,
        system: str | None = None,
        sampling: Sampling | Mapping[str, Any] | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        retries: int = 2,
        extra: Mapping[str, Any] | None = None,
        http: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> None:
        given = isinstance(url, RemoteEngine)
        super().__init__(system=system, sampling=sampling, tools=tools, owns_engine=not given, name=name)
        if isinstance(url, RemoteEngine):
            self._engine = url
            return
        if model is None:
            raise ValueError(
                f"RemoteModel({url!r}): give the model's name too, as the server's /models lists it"
            )
        self._engine = RemoteEngine(
            url,
            model,
            api_key=api_key,
            api_key_env=api_key_env,
            limits=limits,
            timeouts=timeouts,
            retries=retries,
            extra=extra,
            http=http,
        )

    @property
    def engine(self) -> RemoteEngine:
        """The engine behind the model; looking at it connects to nothing."""
        return self._engine

    def configuration(self) -> dict[str, Any]:
        engine = self.engine
        asked = {"server": str(engine.server.address), "model": engine.model, "extra": dict(engine._extra)}
        return {**super().configuration(), **asked}
