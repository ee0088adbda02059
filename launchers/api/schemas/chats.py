"""/v1/chat/completions, described: what a request may have, the whole answer, and the chunks of a stream."""

from __future__ import annotations

import json
from typing import Any

from ...abilities import Abilities
from ..chat_requests import CUTS, HARMLESS, NEUTRAL, NUMBERS
from ..refusals import Refusal
from .answers import COUNT, LIKELY, TEXT, either, json_answer, nullable, one_of, stream_answer
from .chat_forms import CALLS, forms_of
from .components import Components, Schema
from .refusals import ERROR, Refused, refusals
from .requests import (
    body,
    harmless,
    logit_bias,
    message,
    model_name,
    neutral,
    request_of,
    run_id_header,
    stop,
    stream_flag,
    stream_options,
    unbound,
)

__all__ = ["CREATED", "MODEL_REFUSED", "NO_MODEL", "describe_chats"]

MESSAGES = [{"role": "user", "content": "What is a Warp?"}]
STREAM = {"stream": True, "stream_options": {"include_usage": True}}
ID, CREATED = "chatcmpl-2f0c5a1e7d544d5e9d0a5b2f1c3e4a6b", 1793534400

NO_MODEL = Refused(
    "No such model",
    Refusal(404, "the model 'gpt' does not exist; this server has 'answer'", "model_not_found", "model"),
)
MODEL_REFUSED = (400, NO_MODEL, 408, 409, 413, 415, 429, 500, 503, 504)
"""What may be wrong where the flow is asked as a model."""
FINISH = ("stop", "length", "tool_calls", "content_filter")


def describe_chats(components: Components, model: str, longest: float, able: Abilities) -> dict[str, Any]:
    """The paths of chat completions, for a flow that can do so much; `longest` is the deadline, in seconds, that may be
    asked for at most.
    """
    request = components.name("ChatCompletionRequest", _request(components, model, longest, able))
    chunk = components.name("ChatCompletionChunk", _chunk(components))
    completion = components.name("ChatCompletion", _completion(components))
    asked = {"model": model, "messages": MESSAGES}
    whole = json_answer(
        'The answer. With `"stream": true` its chunks, as server-sent events: the last has a finish reason, and '
        "`[DONE]` follows it. A run that fails in the middle sends an error instead of both",
        completion,
        _example(model, "A mill for lists."),
    )
    piece = {"anyOf": [chunk, components.name("Error", ERROR)]}
    streamed = stream_answer("", piece, _stream(model), "[DONE]")
    return {
        "/v1/chat/completions": {
            "post": {
                "operationId": "create_chat_completion",
                "tags": ["OpenAI"],
                "summary": "Runs the flow on the last message; those before it are its history",
                "parameters": [run_id_header()],
                "requestBody": body(
                    request,
                    {
                        "whole": ("The whole answer at once", asked),
                        "stream": ("Streamed, with the tokens counted at the end", {**asked, **STREAM}),
                    },
                ),
                "responses": {"200": either(whole, streamed), **refusals(components, *MODEL_REFUSED)},
            }
        }
    }


def _request(components: Components, model: str, longest: float, able: Abilities) -> Schema:
    fields: dict[str, Schema] = {
        "model": model_name(model),
        "stream": stream_flag(),
        "stream_options": stream_options(include_usage="a last chunk has the tokens"),
        "stop": stop(),
        "logit_bias": logit_bias(-100, 100),
        **{name: number.schema() for name, number in NUMBERS.items()},
        **harmless(HARMLESS),
        **forms_of(able),
        **{name: neutral(values) for name, values in NEUTRAL.items()},
    }
    if not able.settings:
        fields |= unbound([name for name in CUTS if name in fields], able)
    messages = {
        "type": "array",
        "minItems": 1,
        "items": message(components),
        "description": "The last one must be of role user, or of role tool where the flow begins with a model",
    }
    return request_of("messages", messages, longest, fields)


# ---------------------------------------------------------------- answers


def usage(components: Components) -> Schema:
    """Tokens, as OpenAI counts them."""
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    told = {"type": "object", "required": list(names), "properties": dict.fromkeys(names, COUNT)}
    return components.name("Tokens", told)


def _answer(kind: str, choice: Schema, tokens: Schema) -> Schema:
    properties = {
        "id": TEXT,
        "object": one_of(kind),
        "created": COUNT,
        "model": TEXT,
        "choices": {"type": "array", "items": choice},
    }
    return {"type": "object", "required": list(properties), "properties": {**properties, "usage": tokens}}


REASONING: Schema = {**TEXT, "description": "What a model has thought before it answers"}

CALL_PIECE: Schema = {
    "type": "object",
    "required": ["index", "function"],
    "properties": {
        "index": COUNT,
        "id": TEXT,
        "type": one_of("function"),
        "function": {"type": "object", "properties": {"name": TEXT, "arguments": TEXT}},
    },
}
"""A piece of a tool call; the first of each has its id and its name."""


def _choice(**more: Schema) -> Schema:
    tokens = {"type": ["array", "null"], "items": LIKELY}
    logprobs = {"type": ["object", "null"], "properties": {"content": tokens}}
    properties = {"index": COUNT, **more, "logprobs": logprobs}
    return {"type": "object", "required": list(properties), "properties": properties}


def _completion(components: Components) -> Schema:
    answer = {
        "type": "object",
        "required": ["role", "content"],
        "properties": {
            "role": one_of("assistant"),
            "content": {"type": ["string", "null"]},
            "refusal": {"type": "null"},
            "tool_calls": CALLS,
            "reasoning_content": REASONING,
        },
    }
    choice = _choice(message=answer, finish_reason=one_of(*FINISH))
    return _answer("chat.completion", choice, usage(components))


def _chunk(components: Components) -> Schema:
    delta = {
        "type": "object",
        "properties": {
            "role": one_of("assistant"),
            "content": {"type": ["string", "null"]},
            "tool_calls": {"type": "array", "items": CALL_PIECE},
            "reasoning_content": REASONING,
        },
    }
    choice = _choice(delta=delta, finish_reason={"enum": [*FINISH, None]})
    return _answer("chat.completion.chunk", choice, nullable(usage(components)))


def _example(model: str, text: str) -> dict[str, Any]:
    answer = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": answer, "logprobs": None, "finish_reason": "stop"}
    return {
        "id": ID,
        "object": "chat.completion",
        "created": CREATED,
        "model": model,
        "choices": [choice],
        "usage": {"prompt_tokens": 12, "completion_tokens": 6, "total_tokens": 18},
    }


def _stream(model: str) -> str:
    head = {"id": ID, "object": "chat.completion.chunk", "created": CREATED, "model": model}
    pieces: list[tuple[dict[str, str], str | None]] = [
        ({"role": "assistant", "content": ""}, None),
        ({"content": "A mill for lists."}, None),
        ({}, "stop"),
    ]
    chunks = [
        {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": end}]}
        for delta, end in pieces
    ]
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
