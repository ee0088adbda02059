"""Bodies: a request as OpenAI's wire format has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...streaming.messages import Message
from ..local import Request, Sampling

__all__ = ["CHAT", "COMPLETIONS", "body_of", "check_extra", "endpoint_of", "messages_of"]

CHAT = "/chat/completions"
COMPLETIONS = "/completions"

ALWAYS = ("temperature", "top_p")
"""Sent with every request: servers have defaults of their own for these, and the answer shall not depend on them."""
STANDARD = ("presence_penalty", "frequency_penalty", "max_tokens", "seed")
"""OpenAI's, sent where they are set."""
EXTRAS = ("top_k", "min_p", "repetition_penalty")
"""Fields that vLLM, SGLang, LMDeploy, llama.cpp and others share; sent where they are set."""
OURS = ("messages", "prompt", "model", "stream")
NEUTRAL = Sampling()


def endpoint_of(request: Request) -> str:
    """Where a request goes: messages to the chat, raw text and tokens to the completions."""
    return CHAT if request.messages is not None else COMPLETIONS


def body_of(request: Request, model: str, extra: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON of a request; `extra` comes last, and what is None there is left out.

    Raises:
        ValueError: the request asks for what no server can be told; names it.
    """
    _refuse(request)
    body: dict[str, Any] = {"model": model}
    if request.messages is not None:
        body["messages"] = messages_of(request.messages)
    else:
        body["prompt"] = request.prompt if request.token_ids is None else list(request.token_ids)
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    body |= _sampling(request.sampling)
    if request.tools:
        body["tools"] = [dict(tool) for tool in request.tools]
        if request.demanded:
            body["tool_choice"] = request.tool_choice
    if request.salt:
        body["cache_salt"] = request.salt
    body |= extra
    return {name: value for name, value in body.items() if value is not None}


def messages_of(messages: Iterable[Message]) -> list[dict[str, Any]]:
    return [message.as_dict() for message in messages]


def check_extra(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Further fields for the body, if they can be.

    Raises:
        ValueError: a field that the request itself has.
    """
    if wrong := next((name for name in OURS if name in extra), None):
        raise ValueError(f"extra={{{wrong!r}: ...}}: the request itself has {wrong}; leave it out")
    return dict(extra)


def _sampling(sampling: Sampling) -> dict[str, Any]:
    fields = {name: getattr(sampling, name) for name in ALWAYS}
    for name in (*STANDARD, *EXTRAS):
        value = getattr(sampling, name)
        if value != getattr(NEUTRAL, name):
            fields[name] = value
    if sampling.stops:
        fields["stop"] = list(sampling.stops)
    if sampling.stop_token_ids:
        fields["stop_token_ids"] = list(sampling.stop_token_ids)
    if sampling.json_schema is not None:
        schema = {"name": "answer", "schema": dict(sampling.json_schema), "strict": True}
        fields["response_format"] = {"type": "json_schema", "json_schema": schema}
    if sampling.logprobs is not None:
        fields["logprobs"] = True
        if sampling.logprobs:
            fields["top_logprobs"] = sampling.logprobs
    if sampling.logit_bias:
        fields["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    return fields


def _refuse(request: Request) -> None:
    if request.chat_template is not None:
        raise ValueError(
            "chat_template: a remote model has its server's; set it there, or render it and give prompt="
        )
    if request.sampling.regex is not None:
        raise ValueError(
            "Sampling(regex): OpenAI's API has none; give a json_schema, or your server's own field as extra="
        )
    if request.sampling.logprobs is not None and request.messages is None:
        raise ValueError(
            "Sampling(logprobs): of a raw prompt servers report them in forms of their own; give messages"
        )
